// SPDX-License-Identifier: Apache-2.0
#include "avx512_body.hpp"

namespace headrace {

const KernelSet kAvx512VnniKernels = {
    "avx512vnni",     kStep,          sizeof(BandElement), sizeof(WeightElement), false, false, 0,
    convolution_tile, depthwise_tile, elementwise_row,     requantise_block};

}  // namespace headrace
