// SPDX-License-Identifier: Apache-2.0
// Internal failures: thrown inside the library, turned into a status and a diagnostic at the C boundary.
#pragma once

#include <cstdint>
#include <string>

#include "headrace/headrace.h"

namespace headrace {

// One problem, complete: where it is, the rule, what was found, what would be accepted, what can be done.
struct Problem {
  std::string where, rule, got, need, lever;

  std::string text() const;
};

struct Failure {
  headrace_status status;
  Problem problem;
};

[[noreturn]] inline void fail(headrace_status status, const std::string& where, const std::string& rule,
                              const std::string& got = {}, const std::string& need = {},
                              const std::string& lever = {}) {
  throw Failure{status, {where, rule, got, need, lever}};
}

// What a thread's calls report (headrace_last_error, headrace_diagnostic_at). Fixed storage: reporting never allocates.
headrace_status report(headrace_status status, const Problem& problem) noexcept;
headrace_status report(headrace_status status, const char* rule) noexcept;
const char* reported_text() noexcept;
size_t reported_count() noexcept;
headrace_diagnostic reported() noexcept;  // valid until the thread's next report

inline std::string str(uint64_t value) { return std::to_string(value); }
inline std::string str(int64_t value) { return std::to_string(value); }
inline std::string str(uint32_t value) { return std::to_string(value); }
inline std::string str(int32_t value) { return std::to_string(value); }

// Text from a file, safe to show: printable ASCII kept, everything else replaced, length bounded.
std::string printable(const std::string& text, size_t limit = 127);

}  // namespace headrace
