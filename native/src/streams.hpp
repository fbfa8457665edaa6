// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "program.hpp"
#include "step.hpp"

namespace headrace {

// Between reals and the codes of a tensor. q = clamp(rint_half_even(x / scale) + zero_point); NaN becomes the zero
// point. All in float32.
void quantize(const float* from, uint8_t* codes, const Place& to, float scale);
// x = scale * (q - zero_point), with each channel's own where `own` has them.
void dequantize(const uint8_t* codes, const Place& from, float* to, float scale, const ChannelScales& own);

}  // namespace headrace
