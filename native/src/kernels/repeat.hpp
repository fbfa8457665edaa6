// SPDX-License-Identifier: Apache-2.0
// Internal linkage, see kernels.hpp.
#pragma once

#include "compiler.hpp"

namespace headrace {
namespace {

// Calls f with Constant<0> … Constant<n - 1>. Unlike a loop that is unrolled later, the indices are constants from the
// start, without which GCC keeps arrays of registers in memory.
template <int kValue>
struct Constant {
  constexpr operator int() const { return kValue; }
};
template <int kCount, class F>
HEADRACE_INLINE inline void repeat(const F& f) {
  if constexpr (kCount > 0) {
    repeat<kCount - 1>(f);
    f(Constant<kCount - 1>{});
  }
}

}  // namespace
}  // namespace headrace
