// SPDX-License-Identifier: Apache-2.0
// POOL_MAX: codes pass; the largest of each window, positions outside of the input left out.
#include <cstring>

#include "arithmetic.hpp"
#include "primitive.hpp"
#include "window.hpp"

namespace headrace {
namespace {

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  c.codes_pass();
  c.window(true);
  c.same_channels();
  return 0;
}

// Down the columns of a row of windows first, then along the row: the sum of the window's sides, not their product.
template <class T>
void pool_max(const Step& s, const Lane& lane, int64_t tile) {
  const Place& x = s.in[0];
  const microcode::KernelRecord& k = s.record;
  const T* from = lane.at<T>(x);
  const TileRows rows = rows_of(s, tile);
  const int64_t pitch = x.width * x.channels;
  T* tallest = reinterpret_cast<T*>(lane.scratch);  // of each input column, one row of the input long
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    const Covered v = covered(oy, k.stride_height, k.pad_top, k.kernel_height, k.dilation_height, x.height);
    std::memset(tallest, 0, static_cast<size_t>(pitch) * sizeof(T));
    for (int64_t i = v.first; i < v.first + v.count; ++i) {
      const T* p = from + (oy * k.stride_height - k.pad_top + i * k.dilation_height) * pitch;
      for (int64_t n = 0; n < pitch; ++n) tallest[n] = tallest[n] < p[n] ? p[n] : tallest[n];
    }
    for (int64_t ox = 0; ox < s.out.width; ++ox) {
      const Covered h = covered(ox, k.stride_width, k.pad_left, k.kernel_width, k.dilation_width, x.width);
      T* out = lane.at<T>(s.out) + (oy * s.out.width + ox) * s.out.channels;
      std::memset(out, 0, static_cast<size_t>(s.out.channels) * sizeof(T));
      for (int64_t j = h.first; j < h.first + h.count; ++j) {
        const T* p = tallest + (ox * k.stride_width - k.pad_left + j * k.dilation_width) * x.channels;
        for (int64_t c = 0; c < x.channels; ++c) out[c] = out[c] < p[c] ? p[c] : out[c];
      }
    }
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  s.out.bytes == 1 ? pool_max<uint8_t>(s, lane, tile) : pool_max<uint16_t>(s, lane, tile);
}

uint64_t plan(Step& s, Planning& planning) {
  const uint64_t window = sat_mul(s.record.kernel_height, s.record.kernel_width);
  s.work = sat_mul(s.work, window);
  s.run = run;
  set_row_tiles(s, sat_mul(row_elements(s), window), planning.threads);
  return static_cast<uint64_t>(s.in[0].width * s.in[0].channels * s.in[0].bytes);
}

}  // namespace

const Primitive primitives::kPoolMax = {false, verify, window_rows, plan};

}  // namespace headrace
