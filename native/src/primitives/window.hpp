// SPDX-License-Identifier: Apache-2.0
// What the primitives with a window share: the rows they read, and how convolutions lay out bands, tiles and weights.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "check.hpp"
#include "memory.hpp"
#include "planning.hpp"
#include "requantizer.hpp"
#include "row_rule.hpp"
#include "step.hpp"

namespace headrace {

// Rows of the windowed operand; a second operand is a residual, row by row.
RowRule window_rows(const Program& program, uint32_t kernel, uint32_t operand);

// Of one output channel of a convolution: its weights' first byte, how many there are and how far apart.
struct ChannelWeights {
  uint64_t first, count, stride;
};
// Zero points of the weights by output channel; null: all are 0. Their place was checked when the program was.
struct WeightZeros {
  const int8_t* by_channel;

  WeightZeros(const microcode::KernelRecord& kernel, const uint8_t* constants)
      : by_channel(kernel.weight_zero_offset == microcode::kNone
                       ? nullptr
                       : reinterpret_cast<const int8_t*>(constants + kernel.weight_zero_offset)) {}
  // A stored weight less the zero point of its channel: -255 to 255.
  int difference(uint8_t stored, int64_t channel) const {
    return static_cast<int8_t>(stored) - (by_channel ? by_channel[channel] : 0);
  }
};
// Checks what convolution and depthwise have in common, their accumulators among it; `total` weights in all.
uint64_t verify_weighted(const Check& check, uint64_t total,
                         ChannelWeights (*of)(const Check& check, uint64_t channel));
// The first part: operands, element sizes and window.
void verify_window(const Check& check);

// A convolution, dense or depthwise, as the kernel sets run it.
struct WindowStep : Prepared {
  WindowOp op{};
  Requantizer requantizer;
  AlignedBytes bias, weights, row_weights;
  std::vector<int64_t> segment_offset;
  int64_t reach = 0;  // bound of a sum without a residual
  int64_t times = 1;  // how often the window is read: weights may be sums of several

  // Bias of a lane whose codes are `zero` off, and what its weights do to the reach.
  void set_lane(int64_t lane, uint32_t bias_code, uint32_t zero, uint32_t weight_sum, int64_t magnitude);
};

// What tells the two kinds of convolution apart.
struct WindowKind {
  bool depthwise;
  // How many output pixels to see as one (WindowOp::fold).
  int64_t (*fold)(const WindowOp& op, const KernelSet& kernels);
  // Fills weights, bias and reach.
  void (*pack)(const Step& step, WindowStep& prepared, Planning& planning);
  Step::Run run;
  // How many int8 weights each is the sum of; of convolutions.
  int64_t (*times)(const Step& step, const Planning& planning) = nullptr;
};

// Prepares a WindowStep; returns the scratch bytes of one thread.
uint64_t plan_window(Step& step, Planning& planning, const WindowKind& kind);
// Whether an operand has 16 bits; such steps are run by wide_window.cpp.
bool reads_wide(const Step& step);
uint64_t plan_wide_window(Step& step, Planning& planning, bool depthwise);
// Output channel of a lane of the packed blocks, or -1 for padding.
int64_t channel_of_lane(const WindowOp& op, uint64_t lane);

inline WindowTensors window_tensors(const Step& s, const Lane& lane) {
  return {lane.at(s.in[0]), s.in.size() == 2 ? lane.at(s.in[1]) : nullptr, lane.at(s.out)};
}

}  // namespace headrace
