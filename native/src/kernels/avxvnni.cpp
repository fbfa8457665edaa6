// SPDX-License-Identifier: Apache-2.0
#define HEADRACE_AVXVNNI
#include "avx2_body.hpp"

namespace headrace {

const KernelSet kAvxVnniKernels = {"avxvnni",       kStep, sizeof(BandElement), sizeof(WeightElement), false,
                                   false,           0,     convolution_tile,    depthwise_tile,        elementwise_row,
                                   requantise_block};

}  // namespace headrace
