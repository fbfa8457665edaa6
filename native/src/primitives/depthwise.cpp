// SPDX-License-Identifier: Apache-2.0
// DEPTHWISE: each channel with a window of its own, with or without a residual.
#include "arithmetic.hpp"
#include "primitive.hpp"
#include "window.hpp"

namespace headrace {
namespace {

using namespace microcode;

uint64_t taps_of(const Check& c) { return sat_mul(c.kernel().kernel_height, c.kernel().kernel_width); }

uint64_t verify(const Check& c) {
  verify_window(c);
  c.same_channels();
  return verify_weighted(c, sat_mul(taps_of(c), c.out().channels), [](const Check& check, uint64_t channel) {
    return ChannelWeights{channel, taps_of(check), check.out().channels};
  });
}

// Whether kernels that work on groups of four rows can do this window.
bool by_rows(const WindowOp& w) {
  return w.dilation_width == 1 && (w.kernel_width == 3 || w.kernel_width == 5) && w.stride_width <= 2;
}

// Lanes read neighbouring elements, so the stride must be 1; the kernels that go by rows gain more than a fold of many
// channels would.
int64_t fold(const WindowOp& w, const KernelSet& kernels) {
  if (w.stride_width != 1) return 1;
  if (w.out_channels > kColumns && kernels.row_groups && by_rows(w)) return 1;
  int64_t pixels = 1;
  while (pixels < kColumns && w.out_channels * pixels % kColumns != 0) pixels *= 2;
  return w.out_width % pixels == 0 ? pixels : 1;
}

void pack(const Step& s, WindowStep& prepared, Planning& planning) {
  WindowOp& w = prepared.op;
  Budget& budget = planning.budget;
  const auto blocks = static_cast<uint64_t>(w.group_blocks);
  w.block_elements = w.segments * kColumns;
  prepared.weights = AlignedBytes(budget, sat_mul(blocks, static_cast<uint64_t>(w.block_elements) * 4), "weights");
  prepared.bias = AlignedBytes(budget, blocks * kColumns * 4, "biases");
  const WeightZeros zeros(s.record, planning.constant(0));
  // Weights by rows are int8; those that lie in lanes of 32 bits may be any difference.
  const bool rows = planning.kernels.row_groups && w.fold == 1 && by_rows(w) && !zeros.by_channel;
  const int64_t group_bytes = w.kernel_width * 4 * kColumns, groups = (w.kernel_height + 3) / 4;
  if (rows) {
    prepared.row_weights =
        AlignedBytes(budget, sat_mul(blocks, static_cast<uint64_t>(groups * group_bytes)), "weights");
    w.row_weights = prepared.row_weights.as<int8_t>();
  }
  const uint8_t* from = planning.constant(s.record.weight_offset);
  const uint8_t* bias = planning.constant(s.record.bias_offset);
  const int64_t channels = w.out_channels / w.fold;
  const auto zero = static_cast<uint32_t>(-w.in_zero);
  for (int64_t lane = 0; lane < w.out_channels; ++lane) {
    const int64_t c = lane % channels, block = lane / kColumns, column = lane % kColumns;
    uint32_t sum = 0;
    int64_t magnitude = 0;
    for (int64_t t = 0; t < w.segments; ++t) {
      const int value = zeros.difference(from[t * channels + c], c);
      sum += static_cast<uint32_t>(value);
      magnitude += std::abs(int64_t{value});
      prepared.weights.as<int32_t>()[block * w.block_elements + t * kColumns + column] = value;
      if (!rows) continue;
      const int64_t i = t / w.kernel_width, j = t % w.kernel_width;
      prepared.row_weights.as<int8_t>()[(block * groups + i / 4) * group_bytes + (j * kColumns + column) * 4 + i % 4] =
          static_cast<int8_t>(value);
    }
    prepared.set_lane(lane, load_u32(bias + 4 * c), zero, sum, magnitude);
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  const WindowOp& op = s.as<WindowStep>().op;
  lane.kernels.depthwise(op, window_tensors(s, lane), tile / op.column_tiles, tile % op.column_tiles, lane.scratch);
}

uint64_t plan(Step& s, Planning& planning) {
  return reads_wide(s) ? plan_wide_window(s, planning, true) : plan_window(s, planning, {true, fold, pack, run});
}

}  // namespace

const Primitive primitives::kDepthwise = {false, verify, window_rows, plan};

}  // namespace headrace
