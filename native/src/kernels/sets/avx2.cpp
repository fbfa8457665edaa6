// SPDX-License-Identifier: Apache-2.0
#include "kernels/avx2_body.hpp"

HEADRACE_KERNEL_SET(avx2, kAvx2)
