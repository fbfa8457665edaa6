// SPDX-License-Identifier: Apache-2.0
// What the primitives' plans share.
#pragma once

#include <cstdint>

#include "line_tables.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "step.hpp"

namespace headrace {

// What a network is prepared for: a device's kernels and threads, and the memory that is left.
struct Planning {
  const Program& program;
  const KernelSet& kernels;
  Budget& budget;
  uint32_t threads;
  LineBudget lines{};

  const uint8_t* constant(uint32_t offset) const { return program.constants.data + offset; }
};

// Elements of one output row.
inline uint64_t row_elements(const Step& step) { return static_cast<uint64_t>(step.out.width * step.out.channels); }
// Chooses tile_rows and tiles from the work of one output row.
void set_row_tiles(Step& step, uint64_t work_per_row, uint32_t threads);
// A step whose tiles are rows and cost a copy; one whose one tile is the whole frame. Both need no scratch: 0.
uint64_t plan_rows(Step& step, const Planning& planning, Step::Run run);
uint64_t plan_whole(Step& step, Step::Run run);

// Output rows of a tile.
struct TileRows {
  int64_t first, last;
};
inline TileRows rows_of(const Step& step, int64_t tile) {
  const int64_t first = tile * step.tile_rows, last = first + step.tile_rows;
  return {first, last < step.out.height ? last : step.out.height};
}

// Elements to go on by, per row, pixel and channel, in a tensor that may be 1 along any axis of a larger one.
struct Strides {
  int64_t row, pixel, channel;
};
inline Strides broadcast_strides(const Place& x) {
  return {x.height == 1 ? 0 : x.width * x.channels, x.width == 1 ? 0 : x.channels, x.channels == 1 ? 0 : 1};
}

}  // namespace headrace
