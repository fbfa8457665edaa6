// SPDX-License-Identifier: Apache-2.0
// Sizes and bounds of what a program names, without overflow.
#pragma once

#include <cstdint>

#include "microcode_generated.hpp"

namespace headrace {

// Saturating arithmetic: a hostile size stays "too big" instead of wrapping.
inline uint64_t sat_add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }
inline uint64_t sat_mul(uint64_t a, uint64_t b) {
  if (a >> 32 == 0 && b >> 32 == 0) return a * b;
  return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

inline uint64_t elements(const microcode::TensorRecord& t) { return sat_mul(sat_mul(t.height, t.width), t.channels); }
inline uint64_t bytes_of(const microcode::TensorRecord& t) { return sat_mul(elements(t), t.element_bytes); }
inline int64_t top_code(const microcode::TensorRecord& t) { return t.element_bytes == 1 ? 255 : 65535; }
// Largest |code - zero_point| of a tensor.
inline int64_t reach(const microcode::TensorRecord& t) {
  return t.zero_point > top_code(t) - t.zero_point ? t.zero_point : top_code(t) - t.zero_point;
}

// Positions of a window that lie inside the input, along one axis: taps first .. first + count - 1.
struct Covered {
  int64_t first = 0;
  int64_t count = 0;
};
inline Covered covered(int64_t position, int64_t stride, int64_t pad, int64_t taps, int64_t dilation, int64_t size) {
  const int64_t start = position * stride - pad;
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  if (start >= size) return {first, 0};
  const int64_t last = (size - 1 - start) / dilation;  // last tap at or before the end
  const int64_t stop = last < taps - 1 ? last : taps - 1;
  return {first, stop >= first ? stop - first + 1 : 0};
}

}  // namespace headrace
