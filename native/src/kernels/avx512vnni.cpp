// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VNNI: vpdpbusd adds four u8 x s8 products to a 32-bit lane, without saturation.
#include <immintrin.h>
#include <string.h>

#include "kernels.hpp"
#include "scalar.hpp"
#include "store_some.hpp"

namespace headrace {
namespace {

using BandElement = uint8_t;
using WeightElement = int8_t;
constexpr int kStep = 4;
constexpr int kMaxBlocks = 4;
constexpr int kMaxPixels(int blocks) { return blocks == 4 ? 6 : blocks == 2 ? 12 : 16; }

template <class T>
inline __m512i load(const T* p) {
  return _mm512_loadu_si512(p);
}
inline int32_t load_four(const uint8_t* p) {
  int32_t value;
  memcpy(&value, p, sizeof value);
  return value;
}

template <int kBlocks, int kPixels>
void inner_product(const BandElement* a, int64_t pixel_stride, const int64_t* offsets, int64_t segments, int64_t length,
                   const WeightElement* w, int64_t block_elements, const int32_t* bias, int32_t* sums) {
  __m512i acc[kPixels][kBlocks];
  for (int p = 0; p < kPixels; ++p) {
    for (int b = 0; b < kBlocks; ++b) acc[p][b] = load(bias + b * kColumns);
  }
  for (int64_t s = 0; s < segments; ++s) {
    const BandElement* from = a + offsets[s];
    for (int64_t k = 0; k < length; k += kStep, w += kStep * kColumns) {
      __m512i weights[kBlocks];
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) weights[b] = load(w + b * block_elements);
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p) {
        const __m512i x = _mm512_set1_epi32(load_four(from + p * pixel_stride + k));
#pragma GCC unroll 4
        for (int b = 0; b < kBlocks; ++b) acc[p][b] = _mm512_dpbusd_epi32(acc[p][b], x, weights[b]);
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int b = 0; b < kBlocks; ++b) _mm512_store_si512(sums + (p * kBlocks + b) * kColumns, acc[p][b]);
  }
}

template <int kPixels>
inline void depthwise_run(const uint8_t* x, int64_t pixel_stride, const int64_t* offsets, int64_t taps,
                          const int32_t* w, const int32_t* bias, int32_t* sums) {
  __m512i acc[kPixels];
  for (int p = 0; p < kPixels; ++p) acc[p] = load(bias);
  for (int64_t t = 0; t < taps; ++t) {
    const __m512i weight = load(w + t * kColumns);
    for (int p = 0; p < kPixels; ++p) {
      // The upper half of each lane of codes is zero, so the two-product instruction adds the plain product.
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + p * pixel_stride + offsets[t]));
      acc[p] = _mm512_dpwssd_epi32(acc[p], _mm512_cvtepu8_epi32(codes), weight);
    }
  }
  for (int p = 0; p < kPixels; ++p) _mm512_store_si512(sums + p * kColumns, acc[p]);
}

void depthwise_pixels(const uint8_t* x, int64_t pixel_stride, const int64_t* offsets, int64_t taps, const int32_t* w,
                      const int32_t* bias, int32_t* sums, int pixels) {
  int p = 0;
  for (; p + 8 <= pixels; p += 8) {
    depthwise_run<8>(x + p * pixel_stride, pixel_stride, offsets, taps, w, bias, sums + p * kColumns);
  }
  for (; p < pixels; ++p) {
    depthwise_run<1>(x + p * pixel_stride, pixel_stride, offsets, taps, w, bias, sums + p * kColumns);
  }
}

// Constants of eight 64-bit lanes.
struct Lanes {
  __m512i m0, m1, shift, round;
};

inline Lanes make_lanes(__m512i m0, __m512i m1, __m512i shift) {
  const __m512i one = _mm512_set1_epi64(1);
  Lanes l;
  l.m0 = m0;
  l.m1 = m1;
  l.shift = _mm512_and_si512(shift, _mm512_set1_epi64(0xFFFFFFFF));
  l.round = _mm512_sllv_epi64(one, _mm512_sub_epi64(l.shift, one));
  return l;
}

struct Bounds {
  __m512i zero, low, high;
};

template <bool kTwo>
inline __m512i requantise_lanes(const Lanes& l, const Bounds& b, __m512i a, __m512i r) {
  __m512i sum = _mm512_add_epi64(_mm512_mul_epi32(a, l.m0), l.round);
  if (kTwo) sum = _mm512_add_epi64(sum, _mm512_mul_epi32(r, l.m1));
  sum = _mm512_add_epi64(_mm512_srav_epi64(sum, l.shift), b.zero);
  return _mm512_min_epi64(_mm512_max_epi64(sum, b.low), b.high);
}

// Measured: sixteen scalar loads are slower than the gather.
inline __m128i look_up(const uint8_t* table, __m512i indices) {
  return _mm512_cvtepi32_epi8(_mm512_i32gather_epi32(indices, table, 1));  // keeps the lowest byte
}

template <bool kTwo, bool kTable>
void requantise_rows(const Requantise& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                     uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const Bounds bounds = {_mm512_set1_epi64(q.zero), _mm512_set1_epi64(q.low), _mm512_set1_epi64(q.high)};
  const __m512i residual_zero = _mm512_set1_epi32(q.residual_zero);
  const __m512i m0 = load(q.multiplier0), shift = load(q.shift);
  const __m512i m1 = kTwo ? load(q.multiplier1) : _mm512_setzero_si512();
  const Lanes even = make_lanes(m0, m1, shift);
  const Lanes odd = make_lanes(_mm512_srli_epi64(m0, 32), _mm512_srli_epi64(m1, 32), _mm512_srli_epi64(shift, 32));
  const auto mask = static_cast<__mmask16>((1u << columns) - 1);
  for (int p = 0; p < pixels; ++p) {
    const __m512i sums = load(a + p * a_stride);
    __m512i res = _mm512_setzero_si512();
    if (kTwo) {
      const __m128i codes = _mm_maskz_loadu_epi8(mask, r + p * r_stride);
      res = _mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), residual_zero);
    }
    const __m512i e = requantise_lanes<kTwo>(even, bounds, sums, res);
    const __m512i o = requantise_lanes<kTwo>(odd, bounds, _mm512_srli_epi64(sums, 32), _mm512_srli_epi64(res, 32));
    __m512i v = _mm512_mask_blend_epi32(0xAAAA, e, _mm512_slli_epi64(o, 32));
    __m128i codes = _mm512_cvtepi32_epi8(v);
    if (kTable) codes = look_up(q.table, v);
    // No masked store: some CPUs run it in microcode.
    if (columns == kColumns)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + p * out_stride), codes);
    else
      store_some(out + p * out_stride, codes, columns);
  }
}

void requantise_block(const Requantise& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                      uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const auto rows = r ? (q.table ? requantise_rows<true, true> : requantise_rows<true, false>)
                      : (q.table ? requantise_rows<false, true> : requantise_rows<false, false>);
  rows(q, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

}  // namespace
}  // namespace headrace

#include "body.hpp"

namespace headrace {

const KernelSet kAvx512VnniKernels = {"avx512vnni",     kStep,          sizeof(BandElement), sizeof(WeightElement),
                                      convolution_tile, depthwise_tile, elementwise_row,     requantise_block};

}  // namespace headrace
