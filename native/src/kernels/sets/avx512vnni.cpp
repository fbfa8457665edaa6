// SPDX-License-Identifier: Apache-2.0
#include "kernels/avx512_body.hpp"

HEADRACE_KERNEL_SET(avx512vnni, kAvx512Vnni)
