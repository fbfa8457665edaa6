// SPDX-License-Identifier: Apache-2.0
// CONVOLUTION, dense or in groups, with or without a residual.
#include <algorithm>

#include "arithmetic.hpp"
#include "errors.hpp"
#include "primitive.hpp"
#include "window.hpp"

namespace headrace {
namespace {

using namespace microcode;

uint64_t weights_per_channel(const Check& c) {
  const KernelRecord& k = c.kernel();
  return sat_mul(sat_mul(k.kernel_height, k.kernel_width), c.in(0).channels / k.groups);
}

uint64_t verify(const Check& c) {
  verify_window(c);
  const uint32_t in = c.in(0).channels, out = c.out().channels, g = c.kernel().groups;
  if (g == 0 || in % g != 0 || out % g != 0) {
    c.invalid("the groups do not divide the channels", str(g) + " groups, " + str(in) + " -> " + str(out),
              "a divisor of both");
  }
  return verify_weighted(c, sat_mul(weights_per_channel(c), out), [](const Check& check, uint64_t channel) {
    const uint64_t count = weights_per_channel(check);
    return ChannelWeights{channel * count, count, 1};
  });
}

// A window grows by the pixels between; that costs no more than the lanes it fills.
int64_t fold(const WindowOp& w, const KernelSet&) {
  if (w.groups != 1 || w.dilation_width != 1) return 1;
  int64_t pixels = 1;
  while (w.out_channels * pixels * 2 <= kColumns && w.out_width % (pixels * 2) == 0) pixels *= 2;
  return pixels;
}

// Differences of codes and zero points are -255 to 255: two int8 weights, and three where 255 occurs.
int64_t times(const Step& s, const Planning& planning) {
  const WeightZeros zeros(s.record, planning.constant(0));
  if (!zeros.by_channel) return 1;
  const uint8_t* from = planning.constant(s.record.weight_offset);
  const int64_t each = int64_t{s.record.kernel_height} * s.record.kernel_width * (s.in[0].channels / s.record.groups);
  for (int64_t c = 0; c < s.out.channels; ++c) {
    for (int64_t i = 0; i < each; ++i) {
      if (zeros.difference(from[c * each + i], c) > 254) return 3;
    }
  }
  return 2;
}

// Weights in segment order; those of the source are [channel][kernel_height][kernel_width][group_in], which is that
// order already but for the columns that a fold adds.
void pack(const Step& s, WindowStep& prepared, Planning& planning) {
  WindowOp& w = prepared.op;
  const KernelSet& kernels = planning.kernels;
  const auto blocks = static_cast<uint64_t>(w.groups * w.group_blocks);
  w.block_elements = w.segments * w.segment_padded * kColumns;
  prepared.weights = AlignedBytes(
      planning.budget,
      sat_mul(sat_mul(blocks, static_cast<uint64_t>(w.block_elements)), static_cast<uint64_t>(kernels.weight_bytes)),
      "weights");
  prepared.bias = AlignedBytes(planning.budget, sat_mul(blocks, kColumns * 4), "biases");
  const uint8_t* from = planning.constant(s.record.weight_offset);
  const uint8_t* bias = planning.constant(s.record.bias_offset);
  const int64_t row = int64_t{s.record.kernel_width} * w.group_in;  // of the source, and of the folded window
  const int64_t wide_row = w.kernel_width * w.group_in, channels = w.out_channels / w.fold;
  const auto zero = static_cast<uint32_t>(kernels.input_offset - w.in_zero);
  const WeightZeros zeros(s.record, planning.constant(0));
  const int64_t once = w.segments / prepared.times * w.segment_padded;  // the next weights of a sum lie so far on
  const auto put = [&](int64_t base, int64_t lane, int64_t k, int value) {
    const int64_t at =
        base + (k / kernels.k_step) * kColumns * kernels.k_step + lane % kColumns * kernels.k_step + k % kernels.k_step;
    if (kernels.weight_bytes == 1)
      prepared.weights.as<int8_t>()[at] = static_cast<int8_t>(value);
    else
      prepared.weights.as<int16_t>()[at] = static_cast<int16_t>(value);
  };
  for (uint64_t lane = 0; lane < blocks * kColumns; ++lane) {
    const int64_t c = channel_of_lane(w, lane);
    if (c < 0) continue;
    const int64_t before = w.fold == 1 ? 0 : static_cast<int64_t>(lane) / channels * s.record.stride_width * w.group_in;
    uint32_t sum = 0;
    int64_t magnitude = 0;
    const int64_t base = static_cast<int64_t>(lane / kColumns) * w.block_elements;
    for (int64_t i = 0; i < w.kernel_height * row; ++i) {
      const int value = zeros.difference(from[c * w.kernel_height * row + i], c);
      sum += static_cast<uint32_t>(value);
      magnitude += std::abs(int64_t{value});
      const int64_t wide = i / row * wide_row + before + i % row;
      const int64_t k = wide / w.segment_length * w.segment_padded + wide % w.segment_length;
      int rest = value;
      for (int64_t n = 0; n < prepared.times; ++n) {
        const int part = std::clamp(rest, -128, 127);
        put(base, static_cast<int64_t>(lane), n * once + k, part);
        rest -= part;
      }
    }
    prepared.set_lane(static_cast<int64_t>(lane), load_u32(bias + 4 * c), zero, sum, magnitude);
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  const WindowOp& op = s.as<WindowStep>().op;
  lane.kernels.convolution(op, window_tensors(s, lane), tile / op.column_tiles, tile % op.column_tiles, lane.scratch);
}

uint64_t plan(Step& s, Planning& planning) {
  return reads_wide(s) ? plan_wide_window(s, planning, false)
                       : plan_window(s, planning, {false, fold, pack, run, times});
}

}  // namespace

const Primitive primitives::kConvolution = {false, verify, window_rows, plan};

}  // namespace headrace
