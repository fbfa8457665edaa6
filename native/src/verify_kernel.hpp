// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "program.hpp"

namespace headrace {

// Checks shapes, constants and arithmetic bounds of one kernel whose operands exist; returns its weight bytes.
uint64_t verify_kernel(const Program& program, size_t index);

}  // namespace headrace
