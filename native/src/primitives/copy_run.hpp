// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace headrace {

// Runs of a few channels, one per pixel: for those the call of memcpy costs more than the copy.
inline void copy_run(uint8_t* to, const uint8_t* from, size_t n) {
  if (n > 64) {
    std::memcpy(to, from, n);
    return;
  }
  for (; n >= 16; n -= 16, to += 16, from += 16) std::memcpy(to, from, 16);
  if (n >= 8) {  // two copies that may overlap
    std::memcpy(to, from, 8);
    std::memcpy(to + n - 8, from + n - 8, 8);
  } else if (n >= 4) {
    std::memcpy(to, from, 4);
    std::memcpy(to + n - 4, from + n - 4, 4);
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

template <class T>
void copy_elements(T* to, const T* from, int64_t count) {
  copy_run(reinterpret_cast<uint8_t*>(to), reinterpret_cast<const uint8_t*>(from),
           static_cast<size_t>(count) * sizeof(T));
}

}  // namespace headrace
