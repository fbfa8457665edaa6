// SPDX-License-Identifier: Apache-2.0
// Proves at load that a program can be executed without a further check.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "program.hpp"

namespace headrace {

constexpr uint64_t kDefaultMemoryLimit = uint64_t{8} << 30;
constexpr uint32_t kDimensionLimit = 1u << 24;
constexpr uint32_t kWindowLimit = 1u << 16;
constexpr int32_t kZeroPointLimit = (1 << 24) - (1 << 16);  // code - zero point is then exact in float32
constexpr int64_t kAccumulatorLimit = INT32_MAX;

// Saturating arithmetic: a hostile size stays "too big" instead of wrapping.
inline uint64_t sat_mul(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}
inline uint64_t sat_add(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  return __builtin_add_overflow(a, b, &out) ? UINT64_MAX : out;
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

inline bool is_window(microcode::Opcode op) {
  using microcode::Opcode;
  return op == Opcode::kConvolution || op == Opcode::kDepthwise || op == Opcode::kPoolMax || op == Opcode::kPoolSum;
}

// The scales per channel of a verified program.
std::vector<ChannelScales> read_channel_scales(const Program& program);

// Throws Failure 26 (or 7 for what this device does not do yet).
void verify_program(const Program& program, uint64_t memory_limit);

}  // namespace headrace
