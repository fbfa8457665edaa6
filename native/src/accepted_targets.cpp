// SPDX-License-Identifier: Apache-2.0
#include "accepted_targets.hpp"

#include <sstream>

#include "errors.hpp"

namespace headrace {

AcceptedTargets::AcceptedTargets(const char* arch, const char* runs) {
  if (arch == nullptr) return;
  arch_ = arch;
  if (arch_.empty() || arch_.size() > microcode::kNameLimit) {
    fail(HEADRACE_INVALID_ARGUMENT, "device", "the target name is not valid", printable(arch_), "1 to 127 bytes");
  }
  if (runs != nullptr) runs_ = runs;
  for (const auto& built_in : microcode::kBuiltInTargets) {
    if (!runs_ && arch_ == built_in.name) runs_ = built_in.runs;
  }
}

std::string AcceptedTargets::arch() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return arch_;
}

void AcceptedTargets::accept(const Program& program) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (arch_.empty()) arch_ = program.target_name;
  if (arch_ == program.target_name) {
    if (!runs_) runs_ = program.target_runs;
    return;
  }
  std::string accepted = printable(arch_);
  std::istringstream others(runs_.value_or(""));
  for (std::string name; others >> name;) {
    if (name == program.target_name) return;
    accepted += " or " + printable(name);
  }
  fail(HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE, "device", "the HEF was compiled for another target",
       printable(program.target_name), accepted, "compile for this target, or open a device of that one");
}

}  // namespace headrace
