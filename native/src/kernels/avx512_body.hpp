// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VNNI: vpdpbusd adds four u8 x s8 products to a 32-bit lane, without saturation. Included by one kernel
// file with HEADRACE_VBMI (byte permutes across a whole register) and by one without. Internal linkage, see
// kernels.hpp.

#include <immintrin.h>
#include <string.h>

#include "avx512_requantize.hpp"
#include "repeat.hpp"
#include "requantize_run.hpp"

#define HEADRACE_OWN_RUNS

namespace headrace {
namespace {

using BandElement = uint8_t;
using WeightElement = int8_t;
constexpr int kStep = 4;
constexpr int kMaxBlocks = 4;
constexpr int kHalfBlock = kColumns / 2;  // so many channels take half the time of a block
constexpr int kMaxPixels(int blocks) { return blocks == 4 ? 6 : blocks == 2 ? 12 : 16; }
#if defined(HEADRACE_VBMI)
constexpr bool kRowGroups = true, kLineTables = true;
#else
constexpr bool kRowGroups = false, kLineTables = false;
#endif
constexpr int kInputOffset = 0;

inline int32_t load_four(const uint8_t* p) {
  int32_t value;
  memcpy(&value, p, sizeof value);
  return value;
}

// A block's channels, and the first half of them: 256-bit operations take half the time where 512-bit ones are two.
struct WholeBlock {
  using Vector = __m512i;
  static Vector load(const void* from) { return _mm512_loadu_si512(from); }
  static Vector spread(int32_t codes) { return _mm512_set1_epi32(codes); }
  static Vector add_products(Vector sums, Vector codes, Vector w) { return _mm512_dpbusd_epi32(sums, codes, w); }
};
struct HalfBlock {
  using Vector = __m256i;
  static Vector load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static Vector spread(int32_t codes) { return _mm256_set1_epi32(codes); }
  static Vector add_products(Vector sums, Vector codes, Vector w) { return _mm256_dpbusd_epi32(sums, codes, w); }
};

// The sums of a run stay in registers until they are codes.
template <int kBlocks, int kPixels, class Block = WholeBlock>
struct Sums {
  typename Block::Vector at[kPixels][kBlocks];
};

template <int kBlocks, int kPixels, class Block>
HEADRACE_INLINE inline void inner_product(const WindowOp& op, const BandElement* a, const WeightElement* w,
                                          const int32_t* bias, Sums<kBlocks, kPixels, Block>& sums) {
  const int64_t stride = op.pixel_stride, length = op.segment_padded, block_elements = op.block_elements;
  repeat<kBlocks>([&](auto b) HEADRACE_INLINE {
    const auto start = Block::load(bias + b * kColumns);
    repeat<kPixels>([&](auto p) HEADRACE_INLINE { sums.at[p][b] = start; });
  });
  // An address is a base and no, one or two strides: what one instruction can add up.
  constexpr int kBases = (kPixels + 2) / 3;
  for (int64_t s = 0; s < op.segments; ++s) {
    const BandElement* bases[kBases];
    repeat<kBases>([&](auto g) HEADRACE_INLINE { bases[g] = a + op.segment_offset[s] + 3 * g * stride; });
    for (int64_t k = 0; k < length; k += kStep, w += kStep * kColumns) {
      typename Block::Vector weights[kBlocks];
      repeat<kBlocks>([&](auto b) HEADRACE_INLINE { weights[b] = Block::load(w + b * block_elements); });
      repeat<kPixels>([&](auto p) HEADRACE_INLINE {
        const auto x = Block::spread(load_four(bases[p / 3] + p % 3 * stride));
        repeat<kBlocks>([&](auto b)
                            HEADRACE_INLINE { sums.at[p][b] = Block::add_products(sums.at[p][b], x, weights[b]); });
      });
      repeat<kBases>([&](auto g) HEADRACE_INLINE {
        bases[g] += kStep;
        HEADRACE_HOLD_REGISTER(bases[g]);  // else the addresses are computed anew in more registers than there are
      });
    }
  }
}

template <int kPixels>
inline void depthwise_run(const uint8_t* x, int64_t pixel_stride, const int64_t* offsets, int64_t taps,
                          const int32_t* w, const int32_t* bias, int32_t* sums) {
  __m512i acc[kPixels];
  const __m512i start = load(bias);
  repeat<kPixels>([&](auto p) HEADRACE_INLINE { acc[p] = start; });
  for (int64_t t = 0; t < taps; ++t) {
    const __m512i weight = load(w + t * kColumns);
    repeat<kPixels>([&](auto p) HEADRACE_INLINE {
      // The upper half of each lane of codes is zero, so the two-product instruction adds the plain product.
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + p * pixel_stride + offsets[t]));
      acc[p] = _mm512_dpwssd_epi32(acc[p], _mm512_cvtepu8_epi32(codes), weight);
    });
  }
  repeat<kPixels>([&](auto p) HEADRACE_INLINE { _mm512_store_si512(sums + p * kColumns, acc[p]); });
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
  const __m512i start = load(op.bias + block * kColumns);
  repeat<kPixels>([&](auto p) HEADRACE_INLINE { acc[p] = start; });
  for (int64_t g = 0; g < groups; ++g, w += kWidth * 4 * kColumns) {
    const uint8_t* rows[4];
    for (int64_t r = 0; r < 4; ++r) rows[r] = x + (4 * g + r < height ? 4 * g + r : height - 1) * pitch;
    __m512i weights[kWidth];
    repeat<kWidth>([&](auto j) HEADRACE_INLINE { weights[j] = load(w + j * 4 * kColumns); });
    repeat<(kPixels - 1) * kStride + kWidth>([&](auto c) HEADRACE_INLINE {
      const __m512i codes = four_rows(rows, c * channels);
      repeat<kWidth>([&](auto j) HEADRACE_INLINE {
        constexpr int kPast = c - j, kPixel = kPast / kStride;
        if constexpr (kPast >= 0 && kPast % kStride == 0 && kPixel < kPixels) {
          acc[kPixel] = _mm512_dpbusd_epi32(acc[kPixel], codes, weights[j]);
        }
      });
    });
  }
  repeat<kPixels>([&](auto p) HEADRACE_INLINE { _mm512_store_si512(sums + p * kColumns, acc[p]); });
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

// A run's sums to codes, the convolution's last step.
template <Second kSecond, int kBlocks, int kPixels>
HEADRACE_INLINE inline void store_run(const Sums<kBlocks, kPixels>& sums, const Scaling* scalings, const Target& to) {
  repeat<kBlocks>([&](auto b) HEADRACE_INLINE {
    const FourPixels<kSecond, kCode> codes(scalings[b]);
    const int columns = b + 1 < kBlocks ? kColumns : to.last_columns;
    repeat<(kPixels + 3) / 4>([&](auto quad) HEADRACE_INLINE {
      constexpr int kFirst = 4 * quad, kLast = kPixels - 1;
      const int64_t at = kFirst * to.stride + b * kColumns;
      const __m512i four = codes(sums.at[kFirst][b], sums.at[kFirst + 1 < kLast ? kFirst + 1 : kLast][b],
                                 sums.at[kFirst + 2 < kLast ? kFirst + 2 : kLast][b],
                                 sums.at[kFirst + 3 < kLast ? kFirst + 3 : kLast][b],
                                 kSecond == kResidual ? to.residual + at : nullptr, to.stride, kPixels - kFirst);
      store_four(to.out + at, to.stride, four, kPixels - kFirst, columns);
    });
  });
}

template <int kBlocks, int kPixels>
HEADRACE_INLINE inline void finish_run(const Sums<kBlocks, kPixels>& sums, const Scaling* scalings, const Target& to) {
  switch (scalings->in_registers) {
    case Scaling::InRegisters::kPlain:
      return store_run<kNone>(sums, scalings, to);
    case Scaling::InRegisters::kAdds:
      return store_run<kResidual>(sums, scalings, to);
    default:
      break;
  }
  alignas(64) int32_t stored[kPixels * kBlocks * kColumns];
  repeat<kPixels>([&](auto p) HEADRACE_INLINE {
    repeat<kBlocks>([&](auto b)
                        HEADRACE_INLINE { _mm512_store_si512(stored + (p * kBlocks + b) * kColumns, sums.at[p][b]); });
  });
  requantize_run<kBlocks, kPixels>(stored, scalings, to);
}

// Not inlined: where its sums and those of a whole block meet, both would be copied from register to register.
template <int kPixels>
HEADRACE_NOINLINE void convolve_half_block(const WindowOp& op, const BandElement* a, const WeightElement* w,
                                           const int32_t* bias, const Scaling* scalings, const Target& to) {
  Sums<1, kPixels, HalfBlock> half;
  inner_product(op, a, w, bias, half);
  Sums<1, kPixels> sums;
  repeat<kPixels>([&](auto p) HEADRACE_INLINE {
    HEADRACE_HOLD_VECTOR(half.at[p][0]);  // else they are copied from register to register in every step
    sums.at[p][0] = _mm512_castsi256_si512(half.at[p][0]);
  });
  finish_run(sums, scalings, to);
}

template <int kBlocks, int kPixels>
void convolve_run(const WindowOp& op, const BandElement* a, const WeightElement* w, const int32_t* bias,
                  const Scaling* scalings, const Target& to) {
  if (kBlocks == 1 && to.last_columns <= kHalfBlock) {
    return convolve_half_block<kPixels>(op, a, w, bias, scalings, to);
  }
  Sums<kBlocks, kPixels> sums;
  inner_product(op, a, w, bias, sums);
  finish_run(sums, scalings, to);
}

// Element-wise results without storing sums. The second operand of an addition is the requantization's residual.
template <Second kSecond, bool kMultiply>
void elementwise_run(const ElementwiseOp& op, const Scaling& scaling, const uint8_t* x, int64_t x_pixel,
                     const uint8_t* y, int64_t y_pixel, uint8_t* out, int64_t stride, int64_t pixels, int columns) {
  const FourPixels<kSecond, kCode> codes(scaling);
  const __m512i x_zero = _mm512_set1_epi32(op.x_zero), y_zero = _mm512_set1_epi32(op.y_zero);
  const __m512i lower_half = _mm512_set1_epi32(0xFFFF);
  const auto centred = [](const uint8_t* from, __m512i zero) {
    return _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), zero);
  };
  for (int64_t p = 0; p < pixels; p += 4) {
    const int left = pixels - p < 4 ? static_cast<int>(pixels - p) : 4;
    const auto sum = [&](int i) {
      const int64_t at = p + (i < left ? i : left - 1);
      const __m512i value = centred(x + at * x_pixel, x_zero);
      if (!kMultiply) return value;
      // Both fit 16 bits: a multiply-add of 16-bit halves with the upper half of one zero is their product.
      return _mm512_madd_epi16(_mm512_and_si512(value, lower_half), centred(y + at * y_pixel, y_zero));
    };
    const __m512i four =
        codes(sum(0), sum(1), sum(2), sum(3), kSecond == kResidual ? y + p * y_pixel : nullptr, y_pixel, left);
    store_four(out + p * stride, stride, four, left, columns);
  }
}

inline ElementwiseRun elementwise_in_registers(const ElementwiseOp& op, const Scaling& scaling) {
  if (op.x_channel != 1 || (op.two_inputs && op.y_channel != 1)) return nullptr;
  if (scaling.in_registers == Scaling::InRegisters::kAdds) return elementwise_run<kResidual, false>;
  if (scaling.in_registers != Scaling::InRegisters::kPlain) return nullptr;
  return op.multiply ? elementwise_run<kNone, true> : elementwise_run<kNone, false>;
}

}  // namespace
}  // namespace headrace

#include "body.hpp"
