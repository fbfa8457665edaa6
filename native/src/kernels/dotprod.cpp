// SPDX-License-Identifier: Apache-2.0
// AArch64 with dot products: sdot adds four s8 x s8 products to a 32-bit lane. Codes are unsigned: 128 is taken off by
// flipping their top bit, and the packed bias gives it back (KernelSet::input_offset).
#include "neon_body.hpp"

namespace headrace {
namespace {

using BandElement = uint8_t;
using WeightElement = int8_t;
constexpr int kStep = 4;

inline int8x16_t four_codes(const uint8_t* p) {
  uint32_t value;
  memcpy(&value, p, sizeof value);
  return vreinterpretq_s8_u32(vdupq_n_u32(value ^ 0x80808080u));
}

template <int kBlocks, int kPixels>
void inner_product(const BandElement* a, int64_t pixel_stride, const int64_t* offsets, int64_t segments, int64_t length,
                   const WeightElement* w, int64_t /*block_elements*/, const int32_t* bias, int32_t* sums) {
  static_assert(kBlocks == 1, "one block fills the registers");
  Sums<kPixels> acc(bias);
  for (int64_t s = 0; s < segments; ++s) {
    const BandElement* from = a + offsets[s];
    for (int64_t k = 0; k < length; k += kStep, w += kStep * kColumns) {
      const int8x16_t weights[4] = {vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
      repeat<kPixels>([&](auto p) HEADRACE_INLINE {
        const int8x16_t x = four_codes(from + p * pixel_stride + k);
        repeat<4>([&](auto i) HEADRACE_INLINE { acc.at[p][i] = vdotq_s32(acc.at[p][i], weights[i], x); });
      });
    }
  }
  acc.store(sums);
}

}  // namespace
}  // namespace headrace

#include "body.hpp"

namespace headrace {

const KernelSet kDotprodKernels = {"dotprod",       kStep, sizeof(BandElement), sizeof(WeightElement), false,
                                   false,           128,   convolution_tile,    depthwise_tile,        elementwise_row,
                                   requantise_block};

}  // namespace headrace
