// SPDX-License-Identifier: Apache-2.0
// DEPTH_TO_SPACE and SPACE_TO_DEPTH: codes pass; blocks of channels become pixels, and back.
#include <algorithm>
#include <cstring>

#include "copy_run.hpp"
#include "errors.hpp"
#include "primitive.hpp"

namespace headrace {
namespace {

// ---- both ----

uint64_t verify_blocks(const Check& c, const microcode::TensorRecord& deep, const microcode::TensorRecord& shallow) {
  c.codes_pass();
  const uint64_t b = c.kernel().block;
  const uint32_t axis = c.kernel().axis;
  if (b < 1 || b > kWindowLimit || axis > 1) {
    c.invalid("the block is not valid", str(b) + ", axis " + str(axis), "1 to 2^16, axis 0 or 1");
  }
  c.require(shallow.height == deep.height * b, "heights do not differ by the block", shallow.height, deep.height * b);
  c.require(shallow.width == deep.width * b, "widths do not differ by the block", shallow.width, deep.width * b);
  c.require(deep.channels == shallow.channels * b * b, "channels do not differ by the block squared", deep.channels,
            shallow.channels * b * b);
  return 0;
}

// Whether channels are in the order (block, channel): then a row of a block's pixels lies side by side in both tensors.
bool blocks_outside(const Step& s) { return s.record.axis == 0; }

// In the order (channel, block): the channel of the deep tensor that holds pixel (i, j) of a block, and how far its
// next channel is.
struct DeepChannel {
  int64_t first, step;
};
DeepChannel channel_of(const Step& s, int64_t i, int64_t j) {
  const int64_t b = s.record.block;
  return {i * b + j, b * b};
}

void copy_channels(uint8_t* to, int64_t to_step, const uint8_t* from, int64_t from_step, int64_t n, int64_t bytes) {
  for (int64_t c = 0; c < n; ++c) {
    std::memcpy(to + c * to_step * bytes, from + c * from_step * bytes, static_cast<size_t>(bytes));
  }
}

// ---- DEPTH_TO_SPACE ----

uint64_t verify_to_space(const Check& c) {
  c.operands(1, 1);
  return verify_blocks(c, c.in(0), c.out());
}

RowRule rows_to_space(const Program& p, uint32_t kernel, uint32_t) {
  RowRule rule = RowRule::of(RowRule::Kind::kBlocks);
  rule.block = p.kernels[kernel].block;
  return rule;
}

void run_to_space(const Step& s, const Lane& lane, int64_t tile) {
  const Place& x = s.in[0];
  const int64_t b = s.record.block, n = s.out.channels, bytes = x.bytes;
  const TileRows rows = rows_of(s, tile);
  for (int64_t y = rows.first; y < rows.last; ++y) {
    const uint8_t* from = lane.at(x) + (y / b) * x.width * x.channels * bytes;
    uint8_t* to = lane.at(s.out) + y * s.out.width * n * bytes;
    if (blocks_outside(s)) {
      const int64_t run = b * n * bytes;
      for (int64_t w = 0; w < x.width; ++w, to += run) {
        copy_run(to, from + w * x.channels * bytes + (y % b) * run, static_cast<size_t>(run));
      }
      continue;
    }
    for (int64_t w = 0; w < s.out.width; ++w) {
      const DeepChannel deep = channel_of(s, y % b, w % b);
      copy_channels(to + w * n * bytes, 1, from + ((w / b) * x.channels + deep.first) * bytes, deep.step, n, bytes);
    }
  }
}

uint64_t plan_to_space(Step& s, Planning& planning) { return plan_rows(s, planning, run_to_space); }

// ---- SPACE_TO_DEPTH ----

uint64_t verify_to_depth(const Check& c) {
  c.operands(1, 1);
  return verify_blocks(c, c.out(), c.in(0));
}

RowRule rows_to_depth(const Program& p, uint32_t kernel, uint32_t) {
  return RowRule::affine(p.kernels[kernel].block, 0, p.kernels[kernel].block);
}

void run_to_depth(const Step& s, const Lane& lane, int64_t tile) {
  const Place& x = s.in[0];
  const int64_t b = s.record.block, n = x.channels, bytes = x.bytes, run = b * n * bytes;
  const TileRows rows = rows_of(s, tile);
  for (int64_t y = rows.first; y < rows.last; ++y) {
    for (int64_t i = 0; i < b; ++i) {
      const uint8_t* from = lane.at(x) + (y * b + i) * x.width * n * bytes;
      uint8_t* to = lane.at(s.out) + y * s.out.width * s.out.channels * bytes;
      for (int64_t w = 0; w < s.out.width; ++w, from += run, to += s.out.channels * bytes) {
        if (blocks_outside(s)) {
          copy_run(to + i * run, from, static_cast<size_t>(run));
          continue;
        }
        for (int64_t j = 0; j < b; ++j) {
          const DeepChannel deep = channel_of(s, i, j);
          copy_channels(to + deep.first * bytes, deep.step, from + j * n * bytes, 1, n, bytes);
        }
      }
    }
  }
}

uint64_t plan_to_depth(Step& s, Planning& planning) { return plan_rows(s, planning, run_to_depth); }

}  // namespace

const Primitive primitives::kDepthToSpace = {true, verify_to_space, rows_to_space, plan_to_space};
const Primitive primitives::kSpaceToDepth = {true, verify_to_depth, rows_to_depth, plan_to_depth};

}  // namespace headrace
