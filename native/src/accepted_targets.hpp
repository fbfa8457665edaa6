// SPDX-License-Identifier: Apache-2.0
// Whose programs a device runs: those for its own target, and those for the targets that its target's file names.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "program.hpp"

namespace headrace {

class AcceptedTargets {
 public:
  // As headrace_device_options has them: null where they are left open. Throws Failure 2.
  AcceptedTargets(const char* arch, const char* runs);

  std::string arch() const;
  // Adopts the target of the first program where none is named. Throws Failure 93.
  void accept(const Program& program);

 private:
  mutable std::mutex mutex_;
  std::string arch_;
  std::optional<std::string> runs_;  // names with spaces between; unknown until a program for arch_ says
};

}  // namespace headrace
