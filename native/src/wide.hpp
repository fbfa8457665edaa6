// SPDX-License-Identifier: Apache-2.0
// Unsigned numbers of 128 bits: the compiler's own where it has them, else the same in two words.
#pragma once

#include <cstdint>

#include "compiler.hpp"

namespace headrace {

class TwoWords {
 public:
  constexpr TwoWords() = default;
  constexpr TwoWords(uint64_t low) : low_(low) {}  // NOLINT: implicit on purpose
  explicit constexpr operator uint64_t() const { return low_; }

  friend constexpr TwoWords operator+(TwoWords a, TwoWords b) {
    const uint64_t low = a.low_ + b.low_;
    return {a.high_ + b.high_ + (low < a.low_ ? 1 : 0), low};
  }
  friend constexpr TwoWords operator-(TwoWords a, TwoWords b) {
    return {a.high_ - b.high_ - (a.low_ < b.low_ ? 1 : 0), a.low_ - b.low_};
  }
  friend constexpr TwoWords operator*(TwoWords a, TwoWords b) {
    const uint64_t a0 = a.low_ & kHalf, a1 = a.low_ >> 32, b0 = b.low_ & kHalf, b1 = b.low_ >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & kHalf);
    const uint64_t high = a1 * b1 + (middle >> 32) + (other >> 32) + a.high_ * b.low_ + a.low_ * b.high_;
    return {high, a.low_ * b.low_};
  }
  // By what is not 0.
  friend constexpr TwoWords operator/(TwoWords a, TwoWords b) {
    if (a.high_ == 0 && b.high_ == 0) return a.low_ / b.low_;
    TwoWords quotient, rest;
    for (int i = 127; i >= 0; --i) {
      rest = rest + rest;
      if (a.bit(i)) rest.low_ |= 1;
      if (rest < b) continue;
      rest = rest - b;
      (i < 64 ? quotient.low_ : quotient.high_) |= uint64_t{1} << (i % 64);
    }
    return quotient;
  }
  friend constexpr bool operator<(TwoWords a, TwoWords b) {
    return a.high_ != b.high_ ? a.high_ < b.high_ : a.low_ < b.low_;
  }
  friend constexpr bool operator>(TwoWords a, TwoWords b) { return b < a; }

 private:
  static constexpr uint64_t kHalf = 0xFFFFFFFF;
  constexpr TwoWords(uint64_t high, uint64_t low) : low_(low), high_(high) {}
  constexpr bool bit(int i) const { return ((i < 64 ? low_ : high_) >> (i % 64) & 1) != 0; }

  uint64_t low_ = 0, high_ = 0;
};

#if defined(HEADRACE_UINT128)
using Wide = HEADRACE_UINT128;
#else
using Wide = TwoWords;
#endif

}  // namespace headrace
