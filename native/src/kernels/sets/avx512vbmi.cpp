// SPDX-License-Identifier: Apache-2.0
#define HEADRACE_VBMI
#include "kernels/avx512_body.hpp"

HEADRACE_KERNEL_SET(avx512vbmi, kAvx512Vnni | kAvx512Vbmi)
