// SPDX-License-Identifier: Apache-2.0
// Which kernel sets this processor can run, and which of them a device takes.
#pragma once

#include <vector>

#include "kernels.hpp"

namespace headrace {

// Kernel sets this CPU has, slowest first.
const std::vector<const KernelSet*>& kernel_sets();
// By name; nullptr or "": $HEADRACE_KERNELS, else the best. Throws Failure 2.
const KernelSet& choose_kernels(const char* name);

}  // namespace headrace
