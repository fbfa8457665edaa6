// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VNNI: vpdpbusd adds four u8 x s8 products to a 32-bit lane, without saturation. Included by one kernel
// file with HEADRACE_VBMI (byte permutes across a whole register) and by one without. Internal linkage, see
// kernels.hpp.

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

#if defined(HEADRACE_VBMI)
// Four rows of one column, interleaved: byte r of each 32-bit lane is row r's code of that lane's channel.
inline __m512i four_rows(const uint8_t* const* rows, int64_t at) {
  const __m512i order =
      _mm512_set_epi32(0x5F4F1F0F, 0x5E4E1E0E, 0x5D4D1D0D, 0x5C4C1C0C, 0x5B4B1B0B, 0x5A4A1A0A, 0x59491909, 0x58481808,
                       0x57471707, 0x56461606, 0x55451505, 0x54441404, 0x53431303, 0x52421202, 0x51411101, 0x50401000);
  const auto codes = [&](int r) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + at)); };
  const __m256i upper = _mm256_inserti128_si256(_mm256_castsi128_si256(codes(0)), codes(1), 1);
  const __m256i lower = _mm256_inserti128_si256(_mm256_castsi128_si256(codes(2)), codes(3), 1);
  return _mm512_permutex2var_epi8(_mm512_castsi256_si512(upper), order, _mm512_castsi256_si512(lower));
}

// The columns of neighbouring windows overlap: each is interleaved once and used by every window that holds it.
template <int kWidth, int kStride, int kPixels>
void depthwise_by_rows(const WindowOp& op, int64_t block, const uint8_t* x, int32_t* sums) {
  const int64_t height = op.kernel_height, channels = op.in_channels, groups = (height + 3) / 4;
  const int64_t pitch = height == 1 ? 0 : op.segment_offset[kWidth];
  const int8_t* w = op.row_weights + block * groups * kWidth * 4 * kColumns;
  __m512i acc[kPixels];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) acc[p] = load(op.bias + block * kColumns);
  for (int64_t g = 0; g < groups; ++g, w += kWidth * 4 * kColumns) {
    const uint8_t* rows[4];
    for (int64_t r = 0; r < 4; ++r) rows[r] = x + (4 * g + r < height ? 4 * g + r : height - 1) * pitch;
    __m512i weights[kWidth];
#pragma GCC unroll 5
    for (int j = 0; j < kWidth; ++j) weights[j] = load(w + j * 4 * kColumns);
#pragma GCC unroll 32
    for (int c = 0; c < (kPixels - 1) * kStride + kWidth; ++c) {
      const __m512i codes = four_rows(rows, c * channels);
#pragma GCC unroll 5
      for (int j = 0; j < kWidth; ++j) {
        const int p = (c - j) / kStride;
        if (c >= j && (c - j) % kStride == 0 && p < kPixels) acc[p] = _mm512_dpbusd_epi32(acc[p], codes, weights[j]);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) _mm512_store_si512(sums + p * kColumns, acc[p]);
}

template <int kWidth, int kStride>
void depthwise_rows_run(const WindowOp& op, int64_t block, const uint8_t* x, int pixels, int32_t* sums) {
  const auto run = [&](int count, auto kernel) {  // the last run may overlap the one before it
    for (int p = 0;; p = p + 2 * count <= pixels ? p + count : pixels - count) {
      kernel(op, block, x + p * op.pixel_stride, sums + p * kColumns);
      if (p + count == pixels) break;
    }
  };
  if (pixels >= 8)
    run(8, depthwise_by_rows<kWidth, kStride, 8>);
  else if (pixels >= 4)
    run(4, depthwise_by_rows<kWidth, kStride, 4>);
  else
    run(1, depthwise_by_rows<kWidth, kStride, 1>);
}
#endif

void depthwise_pixels(const WindowOp& op, int64_t block, const uint8_t* x, int pixels, int32_t* sums) {
  const int64_t pixel_stride = op.pixel_stride, taps = op.segments;
  const int64_t* offsets = op.segment_offset;
  const auto* w = static_cast<const int32_t*>(op.weights) + block * op.block_elements;
  const int32_t* bias = op.bias + block * kColumns;
#if defined(HEADRACE_VBMI)
  if (op.row_weights) {
    const auto run = op.kernel_width == 3
                         ? (op.stride_width == 1 ? depthwise_rows_run<3, 1> : depthwise_rows_run<3, 2>)
                         : (op.stride_width == 1 ? depthwise_rows_run<5, 1> : depthwise_rows_run<5, 2>);
    return run(op, block, x, pixels, sums);
  }
#endif
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

// The second term of a requantisation: none, a residual's codes, or the negative part of the first.
enum Second { kNone, kResidual, kNegative };

inline Second second_of(const Requantise& q, const uint8_t* r) {
  return q.multiplier1 == nullptr ? kNone : r ? kResidual : kNegative;
}

template <Second kSecond>
inline __m512i requantise_lanes(const Lanes& l, const Bounds& b, __m512i a, __m512i r) {
  __m512i sum = _mm512_add_epi64(_mm512_mul_epi32(a, l.m0), l.round);
  if (kSecond != kNone) sum = _mm512_add_epi64(sum, _mm512_mul_epi32(r, l.m1));
  sum = _mm512_add_epi64(_mm512_srav_epi64(sum, l.shift), b.zero);
  return _mm512_min_epi64(_mm512_max_epi64(sum, b.low), b.high);
}

inline void store_row(uint8_t* to, __m128i codes, int columns) {
  if (columns == kColumns)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), codes);
  else  // no masked store: some CPUs run it in microcode
    store_some(to, codes, columns);
}

// Measured: sixteen scalar loads are slower than the gather.
inline __m128i gathered(const uint8_t* table, __m512i indices) {
  return _mm512_cvtepi32_epi8(_mm512_i32gather_epi32(indices, table, 1));  // keeps the lowest byte
}

#if defined(HEADRACE_VBMI)
// Codes of 64 indices below 128 << kBits, given as their low and high bytes: a permute of two registers looks up 128
// entries, a tree of blends chooses between them by the upper bits.
template <int kBits>
inline __m512i permuted(const uint8_t* table, __m512i low, __m512i high) {
  const __m512i first = permuted<kBits - 1>(table, low, high);
  const __m512i second = permuted<kBits - 1>(table + (int64_t{64} << kBits), low, high);
  const __m512i bit = kBits == 1 ? low : _mm512_slli_epi16(high, kBits == 1 ? 0 : 9 - kBits);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(bit), first, second);
}
template <>
inline __m512i permuted<0>(const uint8_t* table, __m512i low, __m512i) {
  return _mm512_permutex2var_epi8(load(table), low, load(table + 64));
}

using LookUp = __m512i (*)(const uint8_t* table, __m512i low, __m512i high);
template <int kBits>
__m512i look_up(const uint8_t* table, __m512i low, __m512i high) {
  return permuted<kBits>(table, low, high);
}
inline LookUp look_up_of(int64_t most) {
  return most < 256    ? look_up<1>
         : most < 512  ? look_up<2>
         : most < 1024 ? look_up<3>
         : most < 2048 ? look_up<4>
                       : look_up<5>;
}
constexpr int64_t kMostPermuted = 4096;  // entries
#else
constexpr int64_t kMostPermuted = 0;
#endif

// Any shift, zero point and table.
template <Second kSecond>
void requantise_any(const Requantise& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                    uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const Bounds bounds = {_mm512_set1_epi64(q.zero), _mm512_set1_epi64(q.low), _mm512_set1_epi64(q.high)};
  const __m512i residual_zero = _mm512_set1_epi32(q.residual_zero);
  const __m512i m0 = load(q.multiplier0), shift = load(q.shift);
  const __m512i m1 = kSecond != kNone ? load(q.multiplier1) : _mm512_setzero_si512();
  const Lanes even = make_lanes(m0, m1, shift);
  const Lanes odd = make_lanes(_mm512_srli_epi64(m0, 32), _mm512_srli_epi64(m1, 32), _mm512_srli_epi64(shift, 32));
  const __m512i base = q.table_base ? load(q.table_base) : _mm512_setzero_si512();
  const auto mask = static_cast<__mmask16>((1u << columns) - 1);
  for (int p = 0; p < pixels; ++p) {
    const __m512i sums = load(a + p * a_stride);
    __m512i res = _mm512_setzero_si512();
    if (kSecond == kNegative) res = _mm512_min_epi32(sums, res);
    if (kSecond == kResidual) {
      const __m128i codes = _mm_maskz_loadu_epi8(mask, r + p * r_stride);
      res = _mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), residual_zero);
    }
    const __m512i e = requantise_lanes<kSecond>(even, bounds, sums, res);
    const __m512i o = requantise_lanes<kSecond>(odd, bounds, _mm512_srli_epi64(sums, 32), _mm512_srli_epi64(res, 32));
    __m512i v = _mm512_mask_blend_epi32(0xAAAA, e, _mm512_slli_epi64(o, 32));
    if (q.table_base) v = _mm512_add_epi32(v, base);
    store_row(out + p * out_stride, q.table ? gathered(q.table, v) : _mm512_cvtepi32_epi8(v), columns);
  }
}

// Every shift is at most 50 and the zero point small (Requantise::high_half): zero and rounding are one addend, and
// only the upper half of each 64-bit sum is needed; it stays below 2^31, and the narrowing to 16 and 8 bits saturates.
template <Second kSecond>
struct HighHalf {
  __m512i m0_even, m0_odd, m1_even, m1_odd, add_even, add_odd, before, shift;

  explicit HighHalf(const Requantise& q) {
    const __m512i zero = _mm512_set1_epi64(q.zero);
    const __m512i shifts = _mm512_max_epi32(load(q.shift), _mm512_set1_epi32(32));
    before = _mm512_sub_epi32(shifts, load(q.shift));  // a shift below 32 is made up for in the accumulators
    m0_even = load(q.multiplier0);
    m0_odd = _mm512_srli_epi64(m0_even, 32);
    m1_even = kSecond != kNone ? load(q.multiplier1) : _mm512_setzero_si512();
    m1_odd = _mm512_srli_epi64(m1_even, 32);
    const __m512i residual_zero = _mm512_set1_epi64(q.residual_zero);
    const auto addend = [&](__m512i s, __m512i m1, __m512i more) {
      const __m512i one = _mm512_set1_epi64(1);
      const __m512i half = _mm512_sllv_epi64(one, _mm512_sub_epi64(s, one));
      const __m512i sum = _mm512_add_epi64(half, _mm512_sllv_epi64(zero, s));
      if (kSecond != kResidual) return sum;
      return _mm512_sub_epi64(sum, _mm512_sllv_epi64(_mm512_mul_epi32(residual_zero, m1), more));
    };
    const __m512i lower = _mm512_set1_epi64(0xFFFFFFFF);
    add_even = addend(_mm512_and_si512(shifts, lower), m1_even, _mm512_and_si512(before, lower));
    add_odd = addend(_mm512_srli_epi64(shifts, 32), m1_odd, _mm512_srli_epi64(before, 32));
    shift = _mm512_sub_epi32(shifts, _mm512_set1_epi32(32));
  }

  __m512i operator()(__m512i sums, __m128i residual) const {
    sums = _mm512_sllv_epi32(sums, before);
    __m512i e = _mm512_add_epi64(_mm512_mul_epi32(sums, m0_even), add_even);
    __m512i o = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(sums, 32), m0_odd), add_odd);
    if (kSecond != kNone) {
      const __m512i r = kSecond == kResidual ? _mm512_sllv_epi32(_mm512_cvtepu8_epi32(residual), before)
                                             : _mm512_min_epi32(sums, _mm512_setzero_si512());
      e = _mm512_add_epi64(e, _mm512_mul_epi32(r, m1_even));
      o = _mm512_add_epi64(o, _mm512_mul_epi32(_mm512_srli_epi64(r, 32), m1_odd));
    }
    return _mm512_srav_epi32(_mm512_mask_shuffle_epi32(o, 0x5555, e, _MM_PERM_DDBB), shift);
  }
};

template <Second kSecond, bool kTable>
void requantise_high(const Requantise& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                     uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const HighHalf<kSecond> high_half(q);
  const auto mask = static_cast<__mmask16>((1u << columns) - 1);
  const __m512i low = _mm512_set1_epi16(static_cast<int16_t>(q.low));
  const __m512i high = _mm512_set1_epi16(static_cast<int16_t>(q.high));
  // Narrowing works inside 128-bit lanes: puts each pixel's four quarters side by side again.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#if defined(HEADRACE_VBMI)
  const LookUp look = kTable ? look_up_of(q.high) : nullptr;
#endif
  for (int p = 0; p < pixels; p += 4) {
    const int left = pixels - p;
    const auto value = [&](int i) {  // the last rows stand in for rows past the end
      const int at = p + (i < left ? i : left - 1);
      const __m128i residual =
          kSecond == kResidual ? _mm_maskz_loadu_epi8(mask, r + at * r_stride) : _mm_setzero_si128();
      return high_half(load(a + at * a_stride), residual);
    };
    __m512i first = _mm512_packs_epi32(value(0), value(1)), second = _mm512_packs_epi32(value(2), value(3));
    first = _mm512_min_epi16(_mm512_max_epi16(first, low), high);
    second = _mm512_min_epi16(_mm512_max_epi16(second, low), high);
    __m512i codes;
#if defined(HEADRACE_VBMI)
    if (kTable) {
      const __m512i byte = _mm512_set1_epi16(0xFF);
      codes = look(q.table, _mm512_packus_epi16(_mm512_and_si512(first, byte), _mm512_and_si512(second, byte)),
                   _mm512_packus_epi16(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8)));
    } else
#endif
      codes = _mm512_packus_epi16(first, second);
    codes = _mm512_permutexvar_epi32(order, codes);
    uint8_t* to = out + p * out_stride;
    store_row(to, _mm512_castsi512_si128(codes), columns);
    if (left > 1) store_row(to + out_stride, _mm512_extracti32x4_epi32(codes, 1), columns);
    if (left > 2) store_row(to + 2 * out_stride, _mm512_extracti32x4_epi32(codes, 2), columns);
    if (left > 3) store_row(to + 3 * out_stride, _mm512_extracti32x4_epi32(codes, 3), columns);
  }
}

// The same with a table that is not permuted: channels with tables of their own (measured on Zen 4: a gather for each
// pixel is faster than permuting through every table of the block), or no VBMI.
template <Second kSecond>
void requantise_gathered(const Requantise& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                         ptrdiff_t r_stride, uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const HighHalf<kSecond> high_half(q);
  const auto mask = static_cast<__mmask16>((1u << columns) - 1);
  const __m512i low = _mm512_set1_epi32(static_cast<int32_t>(q.low));
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(q.high));
  const __m512i base = q.table_base ? load(q.table_base) : _mm512_setzero_si512();
  for (int p = 0; p < pixels; ++p) {
    const __m128i residual = kSecond == kResidual ? _mm_maskz_loadu_epi8(mask, r + p * r_stride) : _mm_setzero_si128();
    __m512i v = high_half(load(a + p * a_stride), residual);
    v = _mm512_add_epi32(_mm512_min_epi32(_mm512_max_epi32(v, low), high), base);
    store_row(out + p * out_stride, gathered(q.table, v), columns);
  }
}

void requantise_block(const Requantise& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                      uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  static const RequantiseBlock any[] = {requantise_any<kNone>, requantise_any<kResidual>, requantise_any<kNegative>};
  static const RequantiseBlock high[][3] = {
      {requantise_high<kNone, false>, requantise_high<kNone, true>, requantise_gathered<kNone>},
      {requantise_high<kResidual, false>, requantise_high<kResidual, true>, requantise_gathered<kResidual>},
      {requantise_high<kNegative, false>, requantise_high<kNegative, true>, requantise_gathered<kNegative>}};
  const Second second = second_of(q, r);
  const bool permuted = !q.table_base && q.high < kMostPermuted;
  const RequantiseBlock rows = q.high_half ? high[second][!q.table ? 0 : permuted ? 1 : 2] : any[second];
  rows(q, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

}  // namespace
}  // namespace headrace

#include "body.hpp"
