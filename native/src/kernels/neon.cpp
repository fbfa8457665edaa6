// SPDX-License-Identifier: Apache-2.0
// NEON: products of 16-bit values added to 32-bit lanes.
#include "neon_body.hpp"

namespace headrace {
namespace {

using BandElement = int16_t;
using WeightElement = int16_t;
constexpr int kStep = 1;

template <int kBlocks, int kPixels>
void inner_product(const BandElement* a, int64_t pixel_stride, const int64_t* offsets, int64_t segments, int64_t length,
                   const WeightElement* w, int64_t /*block_elements*/, const int32_t* bias, int32_t* sums) {
  static_assert(kBlocks == 1, "one block fills the registers");
  Sums<kPixels> acc(bias);
  for (int64_t s = 0; s < segments; ++s) {
    const BandElement* from = a + offsets[s];
    for (int64_t k = 0; k < length; ++k, w += kColumns) {
      const int16x8_t first = vld1q_s16(w), second = vld1q_s16(w + 8);
      repeat<kPixels>([&](auto p) HEADRACE_INLINE {
        const int16_t x = from[p * pixel_stride + k];
        acc.at[p][0] = vmlal_n_s16(acc.at[p][0], vget_low_s16(first), x);
        acc.at[p][1] = vmlal_n_s16(acc.at[p][1], vget_high_s16(first), x);
        acc.at[p][2] = vmlal_n_s16(acc.at[p][2], vget_low_s16(second), x);
        acc.at[p][3] = vmlal_n_s16(acc.at[p][3], vget_high_s16(second), x);
      });
    }
  }
  acc.store(sums);
}

}  // namespace
}  // namespace headrace

#include "body.hpp"

namespace headrace {

const KernelSet kNeonKernels = {"neon",          kStep, sizeof(BandElement), sizeof(WeightElement), false,
                                false,           0,     convolution_tile,    depthwise_tile,        elementwise_row,
                                requantise_block};

}  // namespace headrace
