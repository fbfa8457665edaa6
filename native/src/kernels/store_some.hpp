// SPDX-License-Identifier: Apache-2.0
// Internal linkage, see kernels.hpp.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace headrace {
namespace {

// Stores the first `columns` (1 to 15) bytes: sizes of fixed length, which compile to single instructions.
inline void store_some(uint8_t* to, __m128i bytes, int columns) {
  auto low = static_cast<uint64_t>(_mm_cvtsi128_si64(bytes));
  if (columns & 8) {
    memcpy(to, &low, 8);
    to += 8;
    low = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_srli_si128(bytes, 8)));
  }
  if (columns & 4) {
    memcpy(to, &low, 4);
    to += 4;
    low >>= 32;
  }
  if (columns & 2) {
    memcpy(to, &low, 2);
    to += 2;
    low >>= 16;
  }
  if (columns & 1) *to = static_cast<uint8_t>(low);
}

}  // namespace
}  // namespace headrace
