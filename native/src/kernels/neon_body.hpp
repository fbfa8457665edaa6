// SPDX-License-Identifier: Apache-2.0
// AArch64. NEON: products of 16-bit values added to 32-bit lanes. With HEADRACE_DOTPROD: sdot adds four s8 x s8
// products to a 32-bit lane; codes are unsigned, so 128 is taken off by flipping their top bit, and the packed bias
// gives it back (KernelSet::input_offset). Internal linkage, see kernels.hpp.
#include <arm_neon.h>
#include <string.h>

#include "kernels.hpp"
#include "repeat.hpp"
#include "scalar.hpp"

namespace headrace {
namespace {

constexpr int kMaxBlocks = 1;
constexpr int kHalfBlock = 0;
constexpr int kMaxPixels(int) { return 6; }
constexpr bool kRowGroups = false, kLineTables = false;

// The weights of one step, and their products with the codes of one pixel, added to its four vectors of sums.
#if defined(HEADRACE_DOTPROD)
using BandElement = uint8_t;
using WeightElement = int8_t;
constexpr int kStep = 4;
constexpr int kInputOffset = 128;
struct StepWeights {
  int8x16_t at[4];

  HEADRACE_INLINE explicit StepWeights(const WeightElement* w)
      : at{vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)} {}
  HEADRACE_INLINE void add_products(int32x4_t* sums, const BandElement* codes) const {
    uint32_t value;
    memcpy(&value, codes, sizeof value);
    const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(value ^ 0x80808080u));
    repeat<4>([&](auto i) HEADRACE_INLINE { sums[i] = vdotq_s32(sums[i], at[i], x); });
  }
};
#else
using BandElement = int16_t;
using WeightElement = int16_t;
constexpr int kStep = 1;
constexpr int kInputOffset = 0;
struct StepWeights {
  int16x8_t first, second;

  HEADRACE_INLINE explicit StepWeights(const WeightElement* w) : first(vld1q_s16(w)), second(vld1q_s16(w + 8)) {}
  HEADRACE_INLINE void add_products(int32x4_t* sums, const BandElement* codes) const {
    const int16_t x = *codes;
    sums[0] = vmlal_n_s16(sums[0], vget_low_s16(first), x);
    sums[1] = vmlal_n_s16(sums[1], vget_high_s16(first), x);
    sums[2] = vmlal_n_s16(sums[2], vget_low_s16(second), x);
    sums[3] = vmlal_n_s16(sums[3], vget_high_s16(second), x);
  }
};
#endif

template <int kPixels>
struct Sums {
  int32x4_t at[kPixels][4];

  HEADRACE_INLINE explicit Sums(const int32_t* bias) {
    repeat<4>([&](auto i) HEADRACE_INLINE {
      const int32x4_t start = vld1q_s32(bias + 4 * i);
      repeat<kPixels>([&](auto p) HEADRACE_INLINE { at[p][i] = start; });
    });
  }
  HEADRACE_INLINE void store(int32_t* sums) const {
    repeat<kPixels>([&](auto p) HEADRACE_INLINE {
      repeat<4>([&](auto i) HEADRACE_INLINE { vst1q_s32(sums + p * kColumns + 4 * i, at[p][i]); });
    });
  }
};

template <int kBlocks, int kPixels>
void inner_product(const BandElement* a, int64_t pixel_stride, const int64_t* offsets, int64_t segments, int64_t length,
                   const WeightElement* w, int64_t /*block_elements*/, const int32_t* bias, int32_t* sums) {
  static_assert(kBlocks == 1, "one block fills the registers");
  Sums<kPixels> acc(bias);
  for (int64_t s = 0; s < segments; ++s) {
    const BandElement* from = a + offsets[s];
    for (int64_t k = 0; k < length; k += kStep, w += kStep * kColumns) {
      const StepWeights weights(w);
      repeat<kPixels>([&](auto p) HEADRACE_INLINE { weights.add_products(acc.at[p], from + p * pixel_stride + k); });
    }
  }
  acc.store(sums);
}

void depthwise_pixels(const WindowOp& op, int64_t block, const uint8_t* x, int pixels, int32_t* sums) {
  const auto* w = static_cast<const int32_t*>(op.weights) + block * op.block_elements;
  const int32_t* bias = op.bias + block * kColumns;
  for (int p = 0; p < pixels; ++p) {
    Sums<1> acc(bias);
    for (int64_t t = 0; t < op.segments; ++t) {
      const uint8x16_t codes = vld1q_u8(x + p * op.pixel_stride + op.segment_offset[t]);
      const uint16x8_t low = vmovl_u8(vget_low_u8(codes)), high = vmovl_u8(vget_high_u8(codes));
      const uint16x4_t parts[4] = {vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)};
      repeat<4>([&](auto i) HEADRACE_INLINE {
        const int32x4_t value = vreinterpretq_s32_u32(vmovl_u16(parts[i]));
        acc.at[0][i] = vmlaq_s32(acc.at[0][i], value, vld1q_s32(w + t * kColumns + 4 * i));
      });
    }
    acc.store(sums + p * kColumns);
  }
}

// Four requantized values, saturated to 32 bits: the clamp bounds fit those.
struct Quarter {
  int32x2_t m0[2], m1[2];
  int64x2_t round[2], right[2], zero;

  Quarter(const Requantize& q, int first, bool two) : zero(vdupq_n_s64(q.zero)) {
    for (int i = 0; i < 2; ++i) {
      const int at = first + 2 * i;
      m0[i] = vld1_s32(q.multiplier0 + at);
      m1[i] = two ? vld1_s32(q.multiplier1 + at) : vdup_n_s32(0);
      const int64x2_t shift = vmovl_s32(vld1_s32(q.shift + at));
      right[i] = vnegq_s64(shift);
      round[i] = vshlq_s64(vdupq_n_s64(1), vsubq_s64(shift, vdupq_n_s64(1)));
    }
  }
  int32x4_t operator()(int32x4_t a, int32x4_t r) const {
    const int32x2_t as[2] = {vget_low_s32(a), vget_high_s32(a)}, rs[2] = {vget_low_s32(r), vget_high_s32(r)};
    int32x2_t out[2];
    for (int i = 0; i < 2; ++i) {
      const int64x2_t sum = vmlal_s32(vmlal_s32(round[i], as[i], m0[i]), rs[i], m1[i]);
      out[i] = vqmovn_s64(vaddq_s64(vshlq_s64(sum, right[i]), zero));
    }
    return vcombine_s32(out[0], out[1]);
  }
};

void requantize_block(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                      uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const bool two = q.multiplier1 != nullptr;
  const Quarter quarters[4] = {{q, 0, two}, {q, 4, two}, {q, 8, two}, {q, 12, two}};
  const int32x4_t low = vdupq_n_s32(static_cast<int32_t>(q.low)), high = vdupq_n_s32(static_cast<int32_t>(q.high));
  const int32x4_t residual_zero = vdupq_n_s32(q.residual_zero);
  for (int p = 0; p < pixels; ++p) {
    uint8_t codes[kColumns] = {};
    if (r) memcpy(codes, r + p * r_stride, static_cast<size_t>(columns));
    int32_t values[kColumns];
    for (int i = 0; i < 4; ++i) {
      const int32x4_t sums = vld1q_s32(a + p * a_stride + 4 * i);
      int32x4_t second = vminq_s32(sums, vdupq_n_s32(0));
      if (r) {
        const int32_t spread[4] = {codes[4 * i], codes[4 * i + 1], codes[4 * i + 2], codes[4 * i + 3]};
        second = vsubq_s32(vld1q_s32(spread), residual_zero);
      }
      const int32x4_t v = quarters[i](sums, second);
      vst1q_s32(values + 4 * i, vminq_s32(vmaxq_s32(v, low), high));
    }
    uint8_t* to = out + p * out_stride;
    if (q.table) {
      for (int c = 0; c < columns; ++c) to[c] = q.table[values[c] + (q.table_base ? q.table_base[c] : 0)];
      continue;
    }
    const uint16x8_t first = vcombine_u16(vqmovun_s32(vld1q_s32(values)), vqmovun_s32(vld1q_s32(values + 4)));
    const uint16x8_t second = vcombine_u16(vqmovun_s32(vld1q_s32(values + 8)), vqmovun_s32(vld1q_s32(values + 12)));
    vst1q_u8(codes, vcombine_u8(vqmovn_u16(first), vqmovn_u16(second)));
    memcpy(to, codes, static_cast<size_t>(columns));
  }
}

}  // namespace
}  // namespace headrace

#include "body.hpp"
