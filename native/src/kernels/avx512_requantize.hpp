// SPDX-License-Identifier: Apache-2.0
// AVX-512: 32-bit sums to codes. Internal linkage, see kernels.hpp; HEADRACE_VBMI as in avx512_body.hpp.
#pragma once

#include <immintrin.h>

#include "kernels.hpp"
#include "scalar.hpp"
#include "store_some.hpp"

namespace headrace {
namespace {

template <class T>
inline __m512i load(const T* p) {
  return _mm512_loadu_si512(p);
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

// The second term of a requantization: none, a residual's codes, or the negative part of the first.
enum Second { kNone, kResidual, kNegative };

inline Second second_of(const Requantize& q, bool residual) {
  return q.multiplier1 == nullptr ? kNone : residual ? kResidual : kNegative;
}

template <Second kSecond>
inline __m512i requantize_lanes(const Lanes& l, const Bounds& b, __m512i a, __m512i r) {
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
constexpr int kMostLongTables = 4;       // of 256 lines in a block; with more the gather is faster (measured on Zen 4)

// Lines (see kernels.hpp) of the tables of a block's channels: three permutes for each table of the block, whatever its
// length.
struct LineLookUp {
  Lines lines;
  int tables;
  const uint8_t* parts[kColumns];
  __mmask64 channels[kColumns];  // where, among the narrowed codes of four pixels, each table's channels lie

  void prepare(const Requantize& q) {
    lines = q.lines;
    tables = 0;
    for (int c = 0; c < kColumns; ++c) {
      const int64_t number = q.table_base ? q.table_base[c] / (int64_t{lines.segments} << lines.step) : 0;
      const uint8_t* from = lines.parts + number * 3 * lines.segments;
      int t = 0;
      while (t < tables && parts[t] != from) ++t;
      if (t == tables) {
        parts[tables] = from;
        channels[tables++] = 0;
      }
      channels[t] |= __mmask64{0x1111} << (16 * (c / 4) + c % 4);
    }
  }

  template <bool kLong>
  static __m512i part(const uint8_t* from, __m512i segment) {
    const __m512i first = _mm512_permutex2var_epi8(load(from), segment, load(from + 64));
    if (!kLong) return first;
    const __m512i second = _mm512_permutex2var_epi8(load(from + 128), segment, load(from + 192));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(segment), first, second);
  }

  // Codes of 64 indices in 16-bit lanes, narrowed as by packus.
  template <bool kLong>
  __m512i codes(__m512i first, __m512i second) const {
    const __m128i step = _mm_cvtsi32_si128(lines.step), shift = _mm_cvtsi32_si128(lines.shift);
    const __m512i inside = _mm512_set1_epi16(static_cast<int16_t>((1 << lines.step) - 1));
    const __m512i offset = _mm512_set1_epi16(static_cast<int16_t>(lines.offset));
    first = _mm512_subs_epu16(first, offset);
    second = _mm512_subs_epu16(second, offset);
    const __m512i segment = _mm512_packus_epi16(_mm512_srl_epi16(first, step), _mm512_srl_epi16(second, step));
    const int64_t segments = kLong ? 256 : 128;
    __m512i low = part<kLong>(parts[0], segment), high = part<kLong>(parts[0] + segments, segment);
    __m512i slope = part<kLong>(parts[0] + 2 * segments, segment);
    for (int t = 1; t < tables; ++t) {
      low = _mm512_mask_mov_epi8(low, channels[t], part<kLong>(parts[t], segment));
      high = _mm512_mask_mov_epi8(high, channels[t], part<kLong>(parts[t] + segments, segment));
      slope = _mm512_mask_mov_epi8(slope, channels[t], part<kLong>(parts[t] + 2 * segments, segment));
    }
    const __m512i zero = _mm512_setzero_si512();
    const auto value = [&](__m512i index, __m512i slopes, __m512i base) {
      const __m512i rise = _mm512_maddubs_epi16(_mm512_and_si512(index, inside), slopes);
      return _mm512_srl_epi16(_mm512_add_epi16(base, rise), shift);
    };
    return _mm512_packus_epi16(value(first, _mm512_unpacklo_epi8(slope, zero), _mm512_unpacklo_epi8(low, high)),
                               value(second, _mm512_unpackhi_epi8(slope, zero), _mm512_unpackhi_epi8(low, high)));
  }
};
#else
constexpr int64_t kMostPermuted = 0;
constexpr int kMostLongTables = 0;
struct LineLookUp {
  int tables = 0;
  void prepare(const Requantize&) {}
};
#endif

// How a requantized value becomes a code: it is one, or an index into a table that is looked up by a tree of permutes,
// or as 128 or 256 lines.
enum Form { kCode, kTree, kLines, kLongLines };

// Every shift is at most 50 and the zero point small (Requantize::high_half): zero and rounding are one addend, and
// only the upper half of each 64-bit sum is needed; it stays below 2^31, and the narrowing to 16 and 8 bits saturates.
struct HighHalf {
  __m512i m0_even, m0_odd, m1_even, m1_odd, add_even, add_odd, before, shift;

  void prepare(const Requantize& q, Second second) {
    const __m512i zero = _mm512_set1_epi64(q.zero);
    const __m512i shifts = _mm512_max_epi32(load(q.shift), _mm512_set1_epi32(32));
    before = _mm512_sub_epi32(shifts, load(q.shift));  // a shift below 32 is made up for in the accumulators
    m0_even = load(q.multiplier0);
    m0_odd = _mm512_srli_epi64(m0_even, 32);
    m1_even = second != kNone ? load(q.multiplier1) : _mm512_setzero_si512();
    m1_odd = _mm512_srli_epi64(m1_even, 32);
    const __m512i residual_zero = _mm512_set1_epi64(second == kResidual ? q.residual_zero : 0);
    const auto addend = [&](__m512i s, __m512i m1, __m512i more) {
      const __m512i one = _mm512_set1_epi64(1);
      const __m512i half = _mm512_sllv_epi64(one, _mm512_sub_epi64(s, one));
      const __m512i sum = _mm512_add_epi64(half, _mm512_sllv_epi64(zero, s));
      return _mm512_sub_epi64(sum, _mm512_sllv_epi64(_mm512_mul_epi32(residual_zero, m1), more));
    };
    const __m512i lower = _mm512_set1_epi64(0xFFFFFFFF);
    add_even = addend(_mm512_and_si512(shifts, lower), m1_even, _mm512_and_si512(before, lower));
    add_odd = addend(_mm512_srli_epi64(shifts, 32), m1_odd, _mm512_srli_epi64(before, 32));
    shift = _mm512_sub_epi32(shifts, _mm512_set1_epi32(32));
  }

  template <Second kSecond>
  __m512i value(__m512i sums, __m128i residual) const {
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

// What the sums of one block of channels need to become codes, prepared once for many pixels.
struct Scaling {
  using Rows = void (*)(const Scaling&, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                        uint8_t* out, ptrdiff_t out_stride, int pixels, int columns);
  // The forms that a convolution computes without storing its sums.
  enum class InRegisters { kNo, kPlain, kAdds };

  HighHalf high_half;
  LineLookUp lines;
  Requantize q;
  InRegisters in_registers;
  Rows rows;

  void prepare(const Requantize& requantize, bool residual);
};

// The codes of four pixels, in four lanes of 128 bits. Constants are copied: stores of codes might otherwise change
// them, for all the compiler knows.
template <Second kSecond, Form kForm>
struct FourPixels {
  const HighHalf high_half;
  const __m512i low, high;
  const uint8_t* const table;
#if defined(HEADRACE_VBMI)
  const LookUp look;
  const LineLookUp& lines;
#endif

  explicit FourPixels(const Scaling& s)
      : high_half(s.high_half),
        low(_mm512_set1_epi16(static_cast<int16_t>(s.q.low))),
        high(_mm512_set1_epi16(static_cast<int16_t>(s.q.high))),
        table(s.q.table)
#if defined(HEADRACE_VBMI)
        ,
        look(kForm == kTree ? look_up_of(s.q.high) : nullptr),
        lines(s.lines)
#endif
  {
  }

  // `left` pixels are there: the last stands in for pixels past the end. A residual row is read to 16 codes.
  __m512i operator()(__m512i s0, __m512i s1, __m512i s2, __m512i s3, const uint8_t* r, ptrdiff_t r_stride,
                     int left) const {
    const auto value = [&](__m512i sums, int i) {
      if (kSecond != kResidual) return high_half.value<kSecond>(sums, _mm_setzero_si128());
      const uint8_t* from = r + (i < left ? i : left - 1) * r_stride;
      return high_half.value<kSecond>(sums, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    };
    __m512i first = _mm512_packs_epi32(value(s0, 0), value(s1, 1)),
            second = _mm512_packs_epi32(value(s2, 2), value(s3, 3));
    first = _mm512_min_epi16(_mm512_max_epi16(first, low), high);
    second = _mm512_min_epi16(_mm512_max_epi16(second, low), high);
    __m512i codes;
#if defined(HEADRACE_VBMI)
    if (kForm == kLines) {
      codes = lines.codes<false>(first, second);
    } else if (kForm == kLongLines) {
      codes = lines.codes<true>(first, second);
    } else if (kForm == kTree) {
      const __m512i byte = _mm512_set1_epi16(0xFF);
      codes = look(table, _mm512_packus_epi16(_mm512_and_si512(first, byte), _mm512_and_si512(second, byte)),
                   _mm512_packus_epi16(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8)));
    } else
#endif
      codes = _mm512_packus_epi16(first, second);
    // Narrowing works inside 128-bit lanes: puts each pixel's four quarters side by side again.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, codes);
  }
};

inline void store_four(uint8_t* to, ptrdiff_t stride, __m512i codes, int left, int columns) {
  if (stride == kColumns && columns == kColumns && left >= 4) return _mm512_storeu_si512(to, codes);
  store_row(to, _mm512_castsi512_si128(codes), columns);
  if (left > 1) store_row(to + stride, _mm512_extracti32x4_epi32(codes, 1), columns);
  if (left > 2) store_row(to + 2 * stride, _mm512_extracti32x4_epi32(codes, 2), columns);
  if (left > 3) store_row(to + 3 * stride, _mm512_extracti32x4_epi32(codes, 3), columns);
}

template <Second kSecond, Form kForm>
void requantise_high(const Scaling& s, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                     uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const FourPixels<kSecond, kForm> codes(s);
  for (int p = 0; p < pixels; p += 4) {
    const int left = pixels - p;
    const auto sums = [&](int i) { return load(a + (p + (i < left ? i : left - 1)) * a_stride); };
    const __m512i four = codes(sums(0), sums(1), sums(2), sums(3), r ? r + p * r_stride : r, r_stride, left);
    store_four(out + p * out_stride, out_stride, four, left, columns);
  }
}

// The same with a table that is not permuted: channels with tables of their own (measured on Zen 4: a gather for each
// pixel is faster than permuting through every table of the block), or no VBMI.
template <Second kSecond>
void requantize_gathered(const Scaling& s, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                         uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const HighHalf high_half = s.high_half;
  const uint8_t* table = s.q.table;
  const __m512i low = _mm512_set1_epi32(static_cast<int32_t>(s.q.low));
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(s.q.high));
  const __m512i base = s.q.table_base ? load(s.q.table_base) : _mm512_setzero_si512();
  for (int p = 0; p < pixels; ++p) {
    const __m128i residual = kSecond == kResidual ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(r + p * r_stride))
                                                  : _mm_setzero_si128();
    __m512i v = high_half.value<kSecond>(load(a + p * a_stride), residual);
    v = _mm512_add_epi32(_mm512_min_epi32(_mm512_max_epi32(v, low), high), base);
    store_row(out + p * out_stride, gathered(table, v), columns);
  }
}

// Any shift, zero point and table.
template <Second kSecond>
void requantize_any(const Scaling& scaling, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                    uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  const Requantize& q = scaling.q;
  const Bounds bounds = {_mm512_set1_epi64(q.zero), _mm512_set1_epi64(q.low), _mm512_set1_epi64(q.high)};
  const __m512i residual_zero = _mm512_set1_epi32(q.residual_zero);
  const __m512i m0 = load(q.multiplier0), shift = load(q.shift);
  const __m512i m1 = kSecond != kNone ? load(q.multiplier1) : _mm512_setzero_si512();
  const Lanes even = make_lanes(m0, m1, shift);
  const Lanes odd = make_lanes(_mm512_srli_epi64(m0, 32), _mm512_srli_epi64(m1, 32), _mm512_srli_epi64(shift, 32));
  const __m512i base = q.table_base ? load(q.table_base) : _mm512_setzero_si512();
  for (int p = 0; p < pixels; ++p) {
    const __m512i sums = load(a + p * a_stride);
    __m512i res = _mm512_setzero_si512();
    if (kSecond == kNegative) res = _mm512_min_epi32(sums, res);
    if (kSecond == kResidual) {
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(r + p * r_stride));
      res = _mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), residual_zero);
    }
    const __m512i e = requantize_lanes<kSecond>(even, bounds, sums, res);
    const __m512i o = requantize_lanes<kSecond>(odd, bounds, _mm512_srli_epi64(sums, 32), _mm512_srli_epi64(res, 32));
    __m512i v = _mm512_mask_blend_epi32(0xAAAA, e, _mm512_slli_epi64(o, 32));
    if (q.table_base) v = _mm512_add_epi32(v, base);
    store_row(out + p * out_stride, q.table ? gathered(q.table, v) : _mm512_cvtepi32_epi8(v), columns);
  }
}

void Scaling::prepare(const Requantize& requantize, bool residual) {
  static const Rows any[] = {requantize_any<kNone>, requantize_any<kResidual>, requantize_any<kNegative>};
#if defined(HEADRACE_VBMI)
#define HEADRACE_FORMS(second)                                                                  \
  {requantise_high<second, kCode>, requantize_gathered<second>, requantise_high<second, kTree>, \
   requantise_high<second, kLines>, requantise_high<second, kLongLines>}
#else
#define HEADRACE_FORMS(second)                                  \
  {                                                             \
    requantise_high<second, kCode>, requantize_gathered<second> \
  }
#endif
  static const Rows high[][5] = {HEADRACE_FORMS(kNone), HEADRACE_FORMS(kResidual), HEADRACE_FORMS(kNegative)};
#undef HEADRACE_FORMS
  q = requantize;
  const Second second = second_of(q, residual);
  in_registers = InRegisters::kNo;
  if (q.out_bytes != 1) {
    rows = [](const Scaling& s, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
              uint8_t* out, ptrdiff_t out_stride, int pixels,
              int columns) { requantize_wide(s.q, a, a_stride, r, r_stride, out, out_stride, pixels, columns); };
    return;
  }
  if (!q.high_half) {
    rows = any[second];
    return;
  }
  high_half.prepare(q, second);
  int form = q.table ? 1 : 0;
  if (q.table && q.lines.parts && kMostPermuted) {
    lines.prepare(q);
    form = q.lines.segments == 128 ? 3 : lines.tables <= kMostLongTables ? 4 : 1;
  } else if (q.table && !q.table_base && q.high < kMostPermuted) {
    form = 2;
  }
  rows = high[second][form];
  if (form == 0 && second == kNone) in_registers = InRegisters::kPlain;
  if (form == 0 && second == kResidual) in_registers = InRegisters::kAdds;
}

inline void requantize_rows(const Scaling& scaling, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                            ptrdiff_t r_stride, uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  scaling.rows(scaling, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

void requantize_block(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                      uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  Scaling scaling;
  scaling.prepare(q, r != nullptr);
  requantize_rows(scaling, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

}  // namespace
}  // namespace headrace
