// SPDX-License-Identifier: Apache-2.0
#define HEADRACE_AVXVNNI
#include "kernels/avx2_body.hpp"

HEADRACE_KERNEL_SET(avxvnni, kAvx2 | kAvxVnni)
