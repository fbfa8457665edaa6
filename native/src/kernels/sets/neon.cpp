// SPDX-License-Identifier: Apache-2.0
#include "kernels/neon_body.hpp"

HEADRACE_KERNEL_SET(neon, kBaseline)
