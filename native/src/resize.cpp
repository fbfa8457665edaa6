// SPDX-License-Identifier: Apache-2.0
// Steps that change height and width: depth to space and back, nearest and bilinear resize.
#include <algorithm>
#include <cstring>

#include "copy_run.hpp"
#include "kernels/scalar.hpp"
#include "steps.hpp"

namespace headrace {
namespace {

int64_t last_row(const Step& s, int64_t tile) { return std::min((tile + 1) * s.tile_rows, s.out.height); }

// Whether channels are in the order (block, channel): then a row of a block's pixels lies side by side in both tensors.
bool blocks_outside(const Step& s) { return s.record.axis == 0; }

// In the order (channel, block): the channel of the deep tensor that holds pixel (i, j) of a block, and how far its
// next channel is.
struct Lane {
  int64_t first, step;
};
Lane lane_of(const Step& s, int64_t i, int64_t j) {
  const int64_t b = s.record.block;
  return {i * b + j, b * b};
}

void copy_lane(uint8_t* to, int64_t to_step, const uint8_t* from, int64_t from_step, int64_t n, int64_t bytes) {
  for (int64_t c = 0; c < n; ++c) {
    std::memcpy(to + c * to_step * bytes, from + c * from_step * bytes, static_cast<size_t>(bytes));
  }
}

}  // namespace

void run_depth_to_space(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  const Place& x = s.in[0];
  const int64_t b = s.record.block, n = s.out.channels, bytes = x.bytes;
  for (int64_t y = tile * s.tile_rows; y < last_row(s, tile); ++y) {
    const uint8_t* from = x.data + (y / b) * x.width * x.channels * bytes;
    uint8_t* to = s.out.data + y * s.out.width * n * bytes;
    if (blocks_outside(s)) {
      const int64_t run = b * n * bytes;
      for (int64_t w = 0; w < x.width; ++w, to += run) {
        copy_run(to, from + w * x.channels * bytes + (y % b) * run, static_cast<size_t>(run));
      }
      continue;
    }
    for (int64_t w = 0; w < s.out.width; ++w) {
      const Lane lane = lane_of(s, y % b, w % b);
      copy_lane(to + w * n * bytes, 1, from + ((w / b) * x.channels + lane.first) * bytes, lane.step, n, bytes);
    }
  }
}

void run_space_to_depth(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  const Place& x = s.in[0];
  const int64_t b = s.record.block, n = x.channels, bytes = x.bytes, run = b * n * bytes;
  for (int64_t y = tile * s.tile_rows; y < last_row(s, tile); ++y) {
    for (int64_t i = 0; i < b; ++i) {
      const uint8_t* from = x.data + (y * b + i) * x.width * n * bytes;
      uint8_t* to = s.out.data + y * s.out.width * s.out.channels * bytes;
      for (int64_t w = 0; w < s.out.width; ++w, from += run, to += s.out.channels * bytes) {
        if (blocks_outside(s)) {
          copy_run(to + i * run, from, static_cast<size_t>(run));
          continue;
        }
        for (int64_t j = 0; j < b; ++j) {
          const Lane lane = lane_of(s, i, j);
          copy_lane(to + lane.first * bytes, lane.step, from + j * n * bytes, 1, n, bytes);
        }
      }
    }
  }
}

void run_resize_nearest(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  const Place& x = s.in[0];
  const int64_t pixel = x.channels * x.bytes;
  const auto row_bytes = static_cast<size_t>(s.out.width * pixel);
  for (int64_t y = tile * s.tile_rows; y < last_row(s, tile); ++y) {
    uint8_t* out = s.out.data + y * s.out.width * pixel;
    // A row that copies the input row of the one before it is that row again.
    if (y > tile * s.tile_rows && s.row_table[static_cast<size_t>(y)] == s.row_table[static_cast<size_t>(y) - 1]) {
      std::memcpy(out, out - row_bytes, row_bytes);
      continue;
    }
    const uint8_t* from = x.data + s.row_table[static_cast<size_t>(y)] * x.width * pixel;
    for (int64_t w = 0; w < s.out.width; ++w) {
      std::memcpy(out + w * pixel, from + s.column_table[static_cast<size_t>(w)] * pixel, static_cast<size_t>(pixel));
    }
  }
}

void run_resize_bilinear(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  constexpr int64_t kOne = 1 << 11;
  const Place& x = s.in[0];
  const int64_t n = x.channels, row = x.width * n;
  for (int64_t y = tile * s.tile_rows; y < last_row(s, tile); ++y) {
    const uint32_t* v = s.row_table.data() + 3 * y;
    const int64_t top = v[0] * row, bottom = v[1] * row, cv = v[2];
    for (int64_t w = 0; w < s.out.width; ++w) {
      const uint32_t* h = s.column_table.data() + 3 * w;
      const int64_t left = h[0] * n, right = h[1] * n, ch = h[2];
      for (int64_t c = 0; c < n; ++c) {
        const auto at = [&](int64_t i) { return load(x, i + c) - x.zero; };
        const int64_t sum = (kOne - cv) * ((kOne - ch) * at(top + left) + ch * at(top + right)) +
                            cv * ((kOne - ch) * at(bottom + left) + ch * at(bottom + right));
        const int64_t m = s.per_channel ? c : 0;
        const int64_t value = requantise_value(sum * s.q.multiplier0[m], s.q.shift[m], s.q.zero, s.q.low, s.q.high);
        store(s.out, (y * s.out.width + w) * n + c, code_of(s.q, value));
      }
    }
  }
}

}  // namespace headrace
