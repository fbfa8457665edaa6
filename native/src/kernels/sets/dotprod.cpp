// SPDX-License-Identifier: Apache-2.0
#define HEADRACE_DOTPROD
#include "kernels/neon_body.hpp"

HEADRACE_KERNEL_SET(dotprod, kDotProduct)
