// SPDX-License-Identifier: Apache-2.0
// CONVOLUTION and DEPTHWISE where an operand has 16 bits: sums of 64 bits, computed one by one. Networks whose files
// have 16-bit activations throughout are rare.
#include <algorithm>

#include "arithmetic.hpp"
#include "kernels/scalar.hpp"
#include "window.hpp"

namespace headrace {
namespace {

using namespace microcode;

struct WideWindow : Prepared {
  bool depthwise = false;
  int64_t groups = 1, group_in = 1, group_out = 1;
  AlignedBytes weights;  // int32 [output channel][kernel_height][kernel_width][group_in], zero points taken off
  AlignedBytes bias;     // int32 [output channel]
  Requantizer requantizer;
};

// What one output channel sums up at one position of the output.
int64_t sum_of(const Step& s, const WideWindow& prepared, const uint8_t* codes, int64_t oy, int64_t ox, int64_t c) {
  const KernelRecord& k = s.record;
  const Place& x = s.in[0];
  const int64_t height = k.kernel_height, width = k.kernel_width, depth = prepared.group_in;
  const int64_t first = prepared.depthwise ? c : c / prepared.group_out * depth;
  const int32_t* w = prepared.weights.as<const int32_t>() + c * height * width * depth;
  int64_t sum = prepared.bias.as<const int32_t>()[c];
  for (int64_t i = 0; i < height; ++i) {
    const int64_t y = oy * k.stride_height - int64_t{k.pad_top} + i * k.dilation_height;
    if (y < 0 || y >= x.height) continue;
    for (int64_t j = 0; j < width; ++j) {
      const int64_t column = ox * k.stride_width - int64_t{k.pad_left} + j * k.dilation_width;
      if (column < 0 || column >= x.width) continue;
      const int64_t at = (y * x.width + column) * x.channels + first;
      const int32_t* row = w + (i * width + j) * depth;
      for (int64_t n = 0; n < depth; ++n) sum += (load(codes, x.bytes, at + n) - x.zero) * row[n];
    }
  }
  return sum;
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  const auto& prepared = s.as<WideWindow>();
  const Requantize& q = prepared.requantizer.q;
  const bool residual = s.in.size() == 2;
  const uint8_t *codes = lane.at(s.in[0]), *added = residual ? lane.at(s.in[1]) : nullptr;
  uint8_t* out = lane.at(s.out);
  const TileRows rows = rows_of(s, tile);
  int64_t at = rows.first * s.out.width * s.out.channels;
  for (int64_t y = rows.first; y < rows.last; ++y) {
    for (int64_t x = 0; x < s.out.width; ++x) {
      for (int64_t c = 0; c < s.out.channels; ++c, ++at) {
        const int64_t first = sum_of(s, prepared, codes, y, x, c);
        const int64_t second = residual ? load(added, s.in[1].bytes, at) - s.in[1].zero : std::min<int64_t>(first, 0);
        int64_t sum = first * q.multiplier0[c];
        if (q.multiplier1) sum += second * q.multiplier1[c];
        int64_t value = requantize_value(sum, q.shift[c], q.zero, q.low, q.high);
        if (q.table_base) value += q.table_base[c];
        store(out, s.out.bytes, at, code_of(q, value));
      }
    }
  }
}

}  // namespace

bool reads_wide(const Step& step) {
  return std::any_of(step.in.begin(), step.in.end(), [](const Place& x) { return x.bytes != 1; });
}

uint64_t plan_wide_window(Step& s, Planning& planning, bool depthwise) {
  auto& prepared = s.prepare<WideWindow>();
  const KernelRecord& k = s.record;
  const int64_t channels = s.out.channels, taps = int64_t{k.kernel_height} * k.kernel_width;
  prepared.depthwise = depthwise;
  prepared.groups = depthwise ? channels : k.groups;
  prepared.group_in = depthwise ? 1 : s.in[0].channels / prepared.groups;
  prepared.group_out = channels / prepared.groups;
  const int64_t each = taps * prepared.group_in;
  const auto total = sat_mul(static_cast<uint64_t>(channels), static_cast<uint64_t>(each));
  prepared.weights = AlignedBytes(planning.budget, sat_mul(total, 4), "weights");
  prepared.bias = AlignedBytes(planning.budget, static_cast<uint64_t>(channels) * 4, "biases");
  const uint8_t *from = planning.constant(k.weight_offset), *bias = planning.constant(k.bias_offset);
  const WeightZeros zeros(k, planning.constant(0));
  for (int64_t c = 0; c < channels; ++c) {
    prepared.bias.as<int32_t>()[c] = load_i32(bias + 4 * c);
    for (int64_t i = 0; i < each; ++i) {
      const uint8_t stored = from[depthwise ? i * channels + c : c * each + i];
      prepared.weights.as<int32_t>()[c * each + i] = zeros.difference(stored, c);
    }
  }
  LaneLayout layout;
  layout.lanes = (static_cast<uint64_t>(channels) + kColumns - 1) / kColumns * kColumns;
  layout.channel_of = [=](uint64_t lane) {
    return static_cast<int64_t>(lane) < channels ? static_cast<int64_t>(lane) : int64_t{-1};
  };
  prepared.requantizer.prepare(s, planning, layout);
  s.run = run;
  set_row_tiles(s, sat_mul(row_elements(s), static_cast<uint64_t>(each) * 2), planning.threads);
  s.work = sat_mul(sat_mul(row_elements(s), static_cast<uint64_t>(s.out.height)), static_cast<uint64_t>(each));
  return 0;
}

}  // namespace headrace
