// SPDX-License-Identifier: Apache-2.0
// The sums of a run of pixels and neighbouring blocks, [pixel][block][kColumns], to codes. Included after the kernel
// set's Scaling and requantize_rows. Internal linkage, see kernels.hpp.
#pragma once

#include "kernels.hpp"

namespace headrace {
namespace {

// Element-wise results of `pixels` by `columns` codes; null where a kernel set has no such way for an operation.
using ElementwiseRun = void (*)(const ElementwiseOp&, const Scaling&, const uint8_t* x, int64_t x_pixel,
                                const uint8_t* y, int64_t y_pixel, uint8_t* out, int64_t stride, int64_t pixels,
                                int columns);

template <int kBlocks, int kPixels>
inline void requantize_run(const int32_t* sums, const Scaling* scalings, const Target& to) {
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t at = b * kColumns;
    requantize_rows(scalings[b], sums + at, kBlocks * kColumns, to.residual ? to.residual + at : nullptr, to.stride,
                    to.out + at * to.out_bytes, to.stride, kPixels, b + 1 < kBlocks ? kColumns : to.last_columns);
  }
}

}  // namespace
}  // namespace headrace
