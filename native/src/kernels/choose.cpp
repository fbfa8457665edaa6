// SPDX-License-Identifier: Apache-2.0
#include "choose.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "errors.hpp"

namespace headrace {
namespace {

std::string names_of_sets() {
  std::string names;
  for (const KernelSet* set : kernel_sets()) names += (names.empty() ? "" : ", ") + std::string(set->name);
  return names;
}

// Those of other processors too.
bool is_known(const char* name) {
#define HEADRACE_SET(known) #known,
  static const char* const names[] = {
#include "kernel_sets_known.inc"
  };
#undef HEADRACE_SET
  return std::any_of(std::begin(names), std::end(names), [&](const char* n) { return std::strcmp(name, n) == 0; });
}

}  // namespace

const std::vector<const KernelSet*>& kernel_sets() {
  static const std::vector<const KernelSet*> sets = [] {
#define HEADRACE_SET(name) &kernel_set_##name,
    const KernelSet* const built[] = {
#include "kernel_sets_built.inc"
    };
#undef HEADRACE_SET
    const uint32_t has = cpu_features();
    std::vector<const KernelSet*> found;
    for (const KernelSet* set : built) {
      if ((set->needs & ~has) == 0) found.push_back(set);
    }
    return found;
  }();
  return sets;
}

const KernelSet& choose_kernels(const char* name) {
  std::string where = "kernels";
  if (name == nullptr || *name == '\0') {
    name = std::getenv("HEADRACE_KERNELS");
    where = "HEADRACE_KERNELS";
  }
  if (name == nullptr || *name == '\0') return *kernel_sets().back();
  for (const KernelSet* set : kernel_sets()) {
    if (std::strcmp(set->name, name) == 0) return *set;
  }
  fail(HEADRACE_INVALID_ARGUMENT, where,
       is_known(name) ? "this CPU does not have the kernel set" : "there is no kernel set of this name",
       printable(name), "one this CPU has: " + names_of_sets());
}

}  // namespace headrace
