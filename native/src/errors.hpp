// SPDX-License-Identifier: Apache-2.0
// Internal failures: thrown inside the library, turned into a status and a text at the C boundary.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "headrace/headrace.h"

namespace headrace {

struct Failure {
  headrace_status status;
  std::string text;
};

// One problem, complete: where it is, the rule, what was found, what would be accepted.
[[noreturn]] inline void fail(headrace_status status, const std::string& where, const std::string& rule,
                              const std::string& got = {}, const std::string& need = {}) {
  std::string text = where.empty() ? rule : where + ": " + rule;
  if (!got.empty()) text += "\n  got:  " + got;
  if (!need.empty()) text += "\n  need: " + need;
  throw Failure{status, std::move(text)};
}

inline std::string str(uint64_t value) { return std::to_string(value); }
inline std::string str(int64_t value) { return std::to_string(value); }
inline std::string str(uint32_t value) { return std::to_string(value); }
inline std::string str(int32_t value) { return std::to_string(value); }

// Text from a file, safe to show: printable ASCII kept, everything else replaced, length bounded.
std::string printable(const std::string& text, size_t limit = 127);

}  // namespace headrace
