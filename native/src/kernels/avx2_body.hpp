// SPDX-License-Identifier: Apache-2.0
// 256-bit kernels. AVX2: 16-bit multiply-add of widened codes; vpmaddwd cannot overflow on products of 9 and 8 bits.
// With HEADRACE_AVXVNNI: vpdpbusd adds four u8 x s8 products to a 32-bit lane, without saturation.
// Internal linkage, see kernels.hpp.
#include <immintrin.h>
#include <string.h>

#include "kernels.hpp"
#include "repeat.hpp"
#include "scalar.hpp"
#include "store_some.hpp"

namespace headrace {
namespace {

#if defined(HEADRACE_AVXVNNI)
using BandElement = uint8_t;
using WeightElement = int8_t;
constexpr int kStep = 4;
inline __m256i add_products(__m256i sum, __m256i codes, __m256i weights) {
  return _mm256_dpbusd_avx_epi32(sum, codes, weights);
}
#else
using BandElement = int16_t;
using WeightElement = int16_t;
constexpr int kStep = 2;
inline __m256i add_products(__m256i sum, __m256i codes, __m256i weights) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, weights));
}
#endif
constexpr int kMaxBlocks = 1;
constexpr int kHalfBlock = 0;
constexpr int kMaxPixels(int) { return 6; }
constexpr bool kRowGroups = false, kLineTables = false;
constexpr int kInputOffset = 0;

template <class T>
inline __m256i load(const T* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline int32_t load_step(const BandElement* p) {  // the codes of one step, 32 bits
  int32_t value;
  memcpy(&value, p, sizeof value);
  return value;
}

template <int kPixels>
struct Sums {
  __m256i low[kPixels], high[kPixels];

  HEADRACE_INLINE explicit Sums(const int32_t* bias) {
    const __m256i first = load(bias), second = load(bias + 8);
    repeat<kPixels>([&](auto p) HEADRACE_INLINE {
      low[p] = first;
      high[p] = second;
    });
  }
  HEADRACE_INLINE void store(int32_t* sums) const {
    repeat<kPixels>([&](auto p) HEADRACE_INLINE {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + p * kColumns), low[p]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + p * kColumns + 8), high[p]);
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
      const __m256i w0 = load(w), w1 = load(w + kStep * kColumns / 2);
      repeat<kPixels>([&](auto p) HEADRACE_INLINE {
        const __m256i x = _mm256_set1_epi32(load_step(from + p * pixel_stride + k));
        acc.low[p] = add_products(acc.low[p], x, w0);
        acc.high[p] = add_products(acc.high[p], x, w1);
      });
    }
  }
  acc.store(sums);
}

// The upper half of each 32-bit lane of x is zero, so vpmaddwd gives the plain product.
template <int kPixels>
inline void depthwise_run(const uint8_t* x, int64_t pixel_stride, const int64_t* offsets, int64_t taps,
                          const int32_t* w, const int32_t* bias, int32_t* sums) {
  Sums<kPixels> acc(bias);
  for (int64_t t = 0; t < taps; ++t) {
    const __m256i w0 = load(w + t * kColumns), w1 = load(w + t * kColumns + 8);
    repeat<kPixels>([&](auto p) HEADRACE_INLINE {
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + p * pixel_stride + offsets[t]));
      acc.low[p] = _mm256_add_epi32(acc.low[p], _mm256_madd_epi16(_mm256_cvtepu8_epi32(codes), w0));
      acc.high[p] =
          _mm256_add_epi32(acc.high[p], _mm256_madd_epi16(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)), w1));
    });
  }
  acc.store(sums);
}

void depthwise_pixels(const WindowOp& op, int64_t block, const uint8_t* x, int pixels, int32_t* sums) {
  const int64_t pixel_stride = op.pixel_stride, taps = op.segments;
  const int64_t* offsets = op.segment_offset;
  const auto* w = static_cast<const int32_t*>(op.weights) + block * op.block_elements;
  const int32_t* bias = op.bias + block * kColumns;
  int p = 0;
  for (; p + 4 <= pixels; p += 4) {
    depthwise_run<4>(x + p * pixel_stride, pixel_stride, offsets, taps, w, bias, sums + p * kColumns);
  }
  for (; p < pixels; ++p) {
    depthwise_run<1>(x + p * pixel_stride, pixel_stride, offsets, taps, w, bias, sums + p * kColumns);
  }
}

// Constants of four 64-bit lanes.
struct Lanes {
  __m256i m0, m1, shift, round, offset;
};

inline Lanes make_lanes(__m256i m0, __m256i m1, __m256i shift) {
  const __m256i one = _mm256_set1_epi64x(1);
  Lanes l;
  l.m0 = m0;
  l.m1 = m1;
  l.shift = _mm256_and_si256(shift, _mm256_set1_epi64x(0xFFFFFFFF));
  l.round = _mm256_sllv_epi64(one, _mm256_sub_epi64(l.shift, one));
  l.offset = _mm256_srlv_epi64(_mm256_set1_epi64x(int64_t{1} << 62), l.shift);
  return l;
}

inline __m256i clamp64(__m256i v, __m256i low, __m256i high) {
  v = _mm256_blendv_epi8(v, low, _mm256_cmpgt_epi64(low, v));
  return _mm256_blendv_epi8(v, high, _mm256_cmpgt_epi64(v, high));
}

// AVX2 has no 64-bit arithmetic shift: 2^62 is added, shifted along and taken off again; the sum is below 2^62.
inline __m256i requantize_lanes(const Lanes& l, __m256i a, __m256i r, bool two, __m256i zero, __m256i low,
                                __m256i high) {
  __m256i sum = _mm256_mul_epi32(a, l.m0);
  if (two) sum = _mm256_add_epi64(sum, _mm256_mul_epi32(r, l.m1));
  sum = _mm256_add_epi64(sum, l.round);
  sum = _mm256_srlv_epi64(_mm256_add_epi64(sum, _mm256_set1_epi64x(int64_t{1} << 62)), l.shift);
  sum = _mm256_add_epi64(_mm256_sub_epi64(sum, l.offset), zero);
  return clamp64(sum, low, high);
}

void requantize_block(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                      uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const __m256i zero = _mm256_set1_epi64x(q.zero), low = _mm256_set1_epi64x(q.low), high = _mm256_set1_epi64x(q.high);
  const __m256i residual_zero = _mm256_set1_epi32(q.residual_zero);
  const bool two = q.multiplier1 != nullptr;
  Lanes even[2], odd[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i m0 = load(q.multiplier0 + 8 * half), shift = load(q.shift + 8 * half);
    const __m256i m1 = two ? load(q.multiplier1 + 8 * half) : _mm256_setzero_si256();
    even[half] = make_lanes(m0, m1, shift);
    odd[half] = make_lanes(_mm256_srli_epi64(m0, 32), _mm256_srli_epi64(m1, 32), _mm256_srli_epi64(shift, 32));
  }
  for (int p = 0; p < pixels; ++p) {
    __m256i result[2];
    for (int half = 0; half < 2; ++half) {
      const __m256i sums = load(a + p * a_stride + 8 * half);
      __m256i res = _mm256_min_epi32(sums, _mm256_setzero_si256());
      if (r) {
        const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(r + p * r_stride + 8 * half));
        res = _mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), residual_zero);
      }
      const __m256i e = requantize_lanes(even[half], sums, res, two, zero, low, high);
      const __m256i o =
          requantize_lanes(odd[half], _mm256_srli_epi64(sums, 32), _mm256_srli_epi64(res, 32), two, zero, low, high);
      __m256i v = _mm256_blend_epi32(e, _mm256_slli_epi64(o, 32), 0xAA);
      if (q.table_base) v = _mm256_add_epi32(v, load(q.table_base + 8 * half));
      if (q.table) {
        v = _mm256_i32gather_epi32(reinterpret_cast<const int*>(q.table), v, 1);
        v = _mm256_and_si256(v, _mm256_set1_epi32(0xFF));
      }
      result[half] = v;
    }
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(result[0], result[1]), 0xD8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    if (columns == kColumns)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + p * out_stride), bytes);
    else
      store_some(out + p * out_stride, bytes, columns);
  }
}

}  // namespace
}  // namespace headrace

#include "body.hpp"
