// SPDX-License-Identifier: Apache-2.0
// Portable kernels: plain C++, the behaviour the vector sets must equal.
#include <string.h>

#include "kernels/kernels.hpp"
#include "kernels/scalar.hpp"

namespace headrace {
namespace {

using BandElement = uint8_t;
using WeightElement = int16_t;
constexpr int kStep = 1;
constexpr int kMaxBlocks = 1;
constexpr int kHalfBlock = 0;
constexpr int kMaxPixels(int) { return 4; }
constexpr bool kRowGroups = false, kLineTables = false;
constexpr int kInputOffset = 0;

// sums[pixel][kColumns] = bias + sum over k of a * w. Sums wrap modulo 2^32; the verifier proved that the result fits.
template <int kBlocks, int kPixels>
void inner_product(const BandElement* a, int64_t pixel_stride, const int64_t* offsets, int64_t segments, int64_t length,
                   const WeightElement* w, int64_t /*block_elements*/, const int32_t* bias, int32_t* sums) {
  static_assert(kBlocks == 1, "the portable kernels work on one block");
  uint32_t acc[kPixels][kColumns];
  for (int p = 0; p < kPixels; ++p) {
    for (int c = 0; c < kColumns; ++c) acc[p][c] = static_cast<uint32_t>(bias[c]);
  }
  for (int64_t s = 0; s < segments; ++s) {
    const BandElement* from = a + offsets[s];
    for (int64_t k = 0; k < length; ++k, w += kColumns) {
      for (int p = 0; p < kPixels; ++p) {
        // The product of an unsigned and a signed byte fits 16 bits, which every vector unit multiplies fast.
        const int16_t value = from[p * pixel_stride + k];
        for (int c = 0; c < kColumns; ++c) acc[p][c] += static_cast<uint32_t>(static_cast<int16_t>(value * w[c]));
      }
    }
  }
  memcpy(sums, acc, sizeof acc);
}

void depthwise_pixels(const WindowOp& op, int64_t block, const uint8_t* x, int pixels, int32_t* sums) {
  const int64_t pixel_stride = op.pixel_stride, taps = op.segments;
  const int64_t* offsets = op.segment_offset;
  const auto* w = static_cast<const int32_t*>(op.weights) + block * op.block_elements;
  const int32_t* bias = op.bias + block * kColumns;
  for (int p = 0; p < pixels; ++p) {
    uint32_t acc[kColumns];
    for (int c = 0; c < kColumns; ++c) acc[c] = static_cast<uint32_t>(bias[c]);
    for (int64_t t = 0; t < taps; ++t) {
      const uint8_t* from = x + p * pixel_stride + offsets[t];
      for (int c = 0; c < kColumns; ++c) acc[c] += static_cast<uint32_t>(from[c] * w[t * kColumns + c]);
    }
    memcpy(sums + p * kColumns, acc, sizeof acc);
  }
}

void requantize_block(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r, ptrdiff_t r_stride,
                      uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  requantize_scalar(q, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

}  // namespace
}  // namespace headrace

#include "kernels/body.hpp"

HEADRACE_KERNEL_SET(generic, kBaseline)
