// SPDX-License-Identifier: Apache-2.0
#define HEADRACE_VBMI
#include "avx512_body.hpp"

namespace headrace {

const KernelSet kAvx512VbmiKernels = {
    "avx512vbmi",     kStep,          sizeof(BandElement), sizeof(WeightElement), true, true, 0,
    convolution_tile, depthwise_tile, elementwise_row,     requantise_block};

}  // namespace headrace
