// SPDX-License-Identifier: Apache-2.0
#include "avx2_body.hpp"

namespace headrace {

const KernelSet kAvx2Kernels = {"avx2",          kStep, sizeof(BandElement), sizeof(WeightElement), false,
                                false,           0,     convolution_tile,    depthwise_tile,        elementwise_row,
                                requantise_block};

}  // namespace headrace
