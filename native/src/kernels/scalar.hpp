// SPDX-License-Identifier: Apache-2.0
// The scalar requantize: the reference every vector version must equal. Internal linkage, see kernels.hpp.
#pragma once

#include <string.h>

#include "kernels.hpp"

namespace headrace {
namespace {

// Arithmetic right shift without implementation-defined behaviour.
[[maybe_unused]] inline int64_t shift_right(int64_t value, int shift) {
  return value >= 0 ? value >> shift : ~(~value >> shift);
}

[[maybe_unused]] inline int64_t requantize_value(int64_t sum, int shift, int64_t zero, int64_t low, int64_t high) {
  const int64_t value = zero + shift_right(sum + (int64_t{1} << (shift - 1)), shift);
  return value < low ? low : value > high ? high : value;
}

// Code of a requantized value: through the table where there is one. Table entries are little-endian.
[[maybe_unused]] inline uint32_t code_of(const Requantize& q, int64_t value) {
  if (!q.table) return static_cast<uint32_t>(value);
  if (q.table_bytes == 1) return q.table[value];
  return static_cast<uint32_t>(q.table[2 * value] | (q.table[2 * value + 1] << 8));
}

// Code is uint8_t or uint16_t; strides count elements.
template <class Code>
[[maybe_unused]] void requantize_to(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                                    ptrdiff_t r_stride, Code* out, ptrdiff_t out_stride, int pixels, int columns) {
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < columns; ++c) {
      const int64_t first = a[p * a_stride + c];
      int64_t sum = first * q.multiplier0[c];
      if (r)
        sum += int64_t{r[p * r_stride + c] - q.residual_zero} * q.multiplier1[c];
      else if (q.multiplier1 && first < 0)
        sum += first * q.multiplier1[c];
      int64_t value = requantize_value(sum, q.shift[c], q.zero, q.low, q.high);
      if (q.table_base) value += q.table_base[c];
      out[p * out_stride + c] = static_cast<Code>(code_of(q, value));
    }
  }
}

[[maybe_unused]] void requantize_scalar(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                                        ptrdiff_t r_stride, uint8_t* out, ptrdiff_t out_stride, int pixels,
                                        int columns) {
  requantize_to(q, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

// Codes of 16 bits are graph outputs and what softmax reads: few, and computed one by one. Strides count elements.
[[maybe_unused]] void requantize_wide(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                                      ptrdiff_t r_stride, uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  requantize_to(q, a, a_stride, r, r_stride, reinterpret_cast<uint16_t*>(out), out_stride, pixels, columns);
}

}  // namespace
}  // namespace headrace
