// SPDX-License-Identifier: Apache-2.0
#include "window.hpp"

#include <algorithm>

#include "arithmetic.hpp"
#include "errors.hpp"

namespace headrace {

using namespace microcode;

RowRule window_rows(const Program& p, uint32_t kernel, uint32_t operand) {
  if (operand != 0) return {};
  const KernelRecord& k = p.kernels[kernel];
  RowRule rule = RowRule::affine(k.stride_height, k.pad_top, (int64_t{k.kernel_height} - 1) * k.dilation_height + 1);
  rule.accumulates = true;
  return rule;
}

// ---- verification ----

void verify_window(const Check& c) {
  c.operands(1, 2);
  if (c.inputs().size() == 2) {
    const TensorRecord &r = c.in(1), &out = c.out();
    if (r.height != out.height || r.width != out.width || r.channels != out.channels) {
      c.invalid("the residual has another shape than the output", Check::shape(r), Check::shape(out));
    }
  }
  c.window(false);
}

uint64_t verify_weighted(const Check& c, uint64_t total, ChannelWeights (*of)(const Check&, uint64_t)) {
  const bool wide =
      std::any_of(c.inputs().begin(), c.inputs().end(), [](const TensorRecord* t) { return t->element_bytes != 1; });
  const uint64_t limit = wide ? (uint64_t{1} << 62) - 1 : INT32_MAX;
  const uint64_t channels = c.out().channels;
  const uint8_t* weights = c.constant(c.kernel().weight_offset, total, "weights");
  const uint8_t* biases = c.constant(c.kernel().bias_offset, channels * 4, "biases");
  if (c.kernel().weight_zero_offset != kNone) {
    c.constant(c.kernel().weight_zero_offset, channels, "zero points of the weights");
  }
  const WeightZeros zeros(c.kernel(), c.constants());
  Sums sums{c.by_sign() ? 2 : c.kernel().operand_count, channels, std::vector<uint64_t>(channels)};
  for (uint64_t channel = 0; channel < channels; ++channel) {
    const ChannelWeights w = of(c, channel);
    uint64_t magnitude = 0;
    for (uint64_t i = 0; i < w.count; ++i) {
      const int value = zeros.difference(weights[w.first + i * w.stride], static_cast<int64_t>(channel));
      magnitude += static_cast<uint64_t>(value < 0 ? -value : value);
    }
    const int64_t bias = load_i32(biases + 4 * channel);
    sums.bound[channel] = sat_add(sat_mul(magnitude, static_cast<uint64_t>(reach(c.in(0)))),
                                  static_cast<uint64_t>(bias < 0 ? -bias : bias));
    if (sums.bound[channel] > limit) {
      c.invalid(wide ? "an accumulator may not fit 63 bits" : "an accumulator may not fit 32 bits",
                str(sums.bound[channel]),
                wide ? "|bias| + sum |w| max |x - z| < 2^62" : "|bias| + sum |w| max(z, 255 - z) < 2^31");
    }
  }
  sums.second_bound = c.second_bound();
  sums.tables_per_channel = true;
  c.requantize(sums);
  return total;
}

// ---- planning ----

namespace {

constexpr int64_t kBandLimit = 96 << 10;  // bytes of input rows a tile works on: stays in the second-level cache

void fill_geometry(const Step& s, WindowOp& w, const WindowKind& kind, const KernelSet& kernels) {
  const KernelRecord& k = s.record;
  const Place& x = s.in[0];
  w.in_height = x.height;
  w.in_width = x.width;
  w.in_channels = x.channels;
  w.out_height = s.out.height;
  w.out_width = s.out.width;
  w.out_channels = s.out.channels;
  w.kernel_height = k.kernel_height;
  w.kernel_width = k.kernel_width;
  w.stride_height = k.stride_height;
  w.stride_width = k.stride_width;
  w.dilation_height = k.dilation_height;
  w.dilation_width = k.dilation_width;
  w.pad_top = k.pad_top;
  w.pad_left = k.pad_left;
  // A depthwise block is 16 channels of one group that holds them all; its lanes do not mix.
  w.groups = kind.depthwise ? 1 : k.groups;
  w.group_in = x.channels / w.groups;
  w.group_out = s.out.channels / w.groups;
  w.group_blocks = (w.group_out + kColumns - 1) / kColumns;
  w.in_zero = x.zero;
  w.fold = kind.fold(w, kernels);
  if (w.fold > 1) {
    if (!kind.depthwise) w.kernel_width += (w.fold - 1) * w.stride_width;
    w.out_width /= w.fold;
    w.out_channels *= w.fold;
    w.group_out = w.out_channels;
    w.group_blocks = (w.group_out + kColumns - 1) / kColumns;
    w.stride_width *= w.fold;
  }
  w.pixel_stride = w.stride_width * x.channels;
}

int64_t extent(int64_t taps, int64_t dilation) { return (taps - 1) * dilation + 1; }

void choose_band(WindowOp& w, bool depthwise, bool may_be_direct) {
  const int64_t last = (w.out_width - 1) * w.stride_width + (depthwise ? w.fold - 1 : 0);  // pixel of the last window
  const int64_t need_width = last + extent(w.kernel_width, w.dilation_width);
  const int64_t need_height = (w.out_height - 1) * w.stride_height + extent(w.kernel_height, w.dilation_height);
  const bool padded = w.pad_top != 0 || w.pad_left != 0 || need_width > w.in_width || need_height > w.in_height;
  w.direct = may_be_direct && !padded;
  w.band_width = w.direct ? w.in_width : need_width;
}

void fill_segments(WindowStep& prepared, bool depthwise, int k_step, Budget& budget) {
  WindowOp& w = prepared.op;
  const int64_t pitch = w.band_width * w.in_channels;
  const bool whole_pixels = !depthwise && w.groups == 1;
  int64_t rows = w.kernel_height, columns = w.kernel_width, length = depthwise ? 1 : w.group_in;
  if (whole_pixels && w.dilation_width == 1) {
    length *= columns;
    columns = 1;
    if (w.dilation_height == 1 && pitch == length) {
      length *= rows;
      rows = 1;
    }
  }
  w.segments = rows * columns;
  w.segment_length = length;
  w.segment_padded = depthwise ? 1 : (length + k_step - 1) / k_step * k_step;
  budget.take(sat_mul(static_cast<uint64_t>(w.segments), 8), "window offsets");
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      prepared.segment_offset.push_back(i * w.dilation_height * pitch + j * w.dilation_width * w.in_channels);
    }
  }
  w.segment_offset = prepared.segment_offset.data();
}

// Weights that are differences beyond int8 are sums of several: the window is read so many times.
void read_again(WindowStep& prepared, int64_t times, Budget& budget) {
  WindowOp& w = prepared.op;
  prepared.times = times;
  budget.take(sat_mul(sat_mul(static_cast<uint64_t>(w.segments), 8), static_cast<uint64_t>(times)), "window offsets");
  const std::vector<int64_t> once = prepared.segment_offset;
  for (int64_t i = 1; i < times; ++i) {
    prepared.segment_offset.insert(prepared.segment_offset.end(), once.begin(), once.end());
  }
  w.segments *= times;
  w.segment_offset = prepared.segment_offset.data();
}

void choose_tiles(Step& s, WindowOp& w, bool depthwise, int band_bytes, uint32_t threads) {
  const int64_t blocks = w.groups * w.group_blocks;
  const uint64_t per_pixel = sat_mul(static_cast<uint64_t>(blocks),
                                     static_cast<uint64_t>(w.segments * w.segment_padded) * (depthwise ? 8 : 1));
  set_row_tiles(s, sat_mul(static_cast<uint64_t>(w.out_width), per_pixel / 4 + 1), threads);
  const int64_t row_bytes = w.band_width * w.in_channels * band_bytes;
  const int64_t fixed = extent(w.kernel_height, w.dilation_height) - w.stride_height;
  const int64_t fit = (kBandLimit / row_bytes - fixed) / w.stride_height;
  s.tile_rows = std::max<int64_t>(1, std::min(s.tile_rows, fit));
  w.tile_rows = s.tile_rows;
  w.row_tiles = (w.out_height + w.tile_rows - 1) / w.tile_rows;
  w.column_tiles = 1;
  const uint64_t row_tile_work = sat_mul(sat_mul(static_cast<uint64_t>(w.out_width * w.tile_rows), per_pixel), 4);
  if (threads > 1 && w.row_tiles < threads && row_tile_work > (1 << 18)) {
    w.column_tiles = std::min<int64_t>((2 * int64_t{threads} + w.row_tiles - 1) / w.row_tiles, (blocks + 3) / 4);
  }
  w.tile_blocks = (blocks + w.column_tiles - 1) / w.column_tiles;
  w.column_tiles = (blocks + w.tile_blocks - 1) / w.tile_blocks;
  s.tiles = w.row_tiles * w.column_tiles;
}

void prepare_requantization(const Step& s, WindowStep& prepared, Planning& planning) {
  WindowOp& w = prepared.op;
  LaneLayout layout;
  layout.lanes = static_cast<uint64_t>(w.groups * w.group_blocks) * kColumns;
  layout.channel_of = [&w](uint64_t lane) { return channel_of_lane(w, lane); };
  layout.reach = prepared.reach;
  prepared.requantizer.prepare(s, planning, layout);
  prepared.requantizer.use_lines(s, planning);
  if (s.in.size() == 2) prepared.requantizer.q.residual_zero = s.in[1].zero;
  w.q = prepared.requantizer.q;
}

}  // namespace

void WindowStep::set_lane(int64_t lane, uint32_t bias_code, uint32_t zero, uint32_t weight_sum, int64_t magnitude) {
  // Modulo 2^32: the sum with the products is exact again, because the verifier proved that it fits.
  bias.as<uint32_t>()[lane] = bias_code + zero * weight_sum;
  // Codes are at most 255 off their zero point.
  reach = std::max(reach, magnitude * 255 + std::abs(int64_t{static_cast<int32_t>(bias_code)}));
}

int64_t channel_of_lane(const WindowOp& op, uint64_t lane) {
  if (op.fold > 1) {  // one group
    const auto at = static_cast<int64_t>(lane);
    return at < op.out_channels ? at % (op.out_channels / op.fold) : -1;
  }
  const auto per_group = static_cast<uint64_t>(op.group_blocks) * kColumns;
  const auto group = static_cast<int64_t>(lane / per_group), inside = static_cast<int64_t>(lane % per_group);
  return inside < op.group_out ? group * op.group_out + inside : -1;
}

uint64_t plan_window(Step& s, Planning& planning, const WindowKind& kind) {
  const KernelSet& kernels = planning.kernels;
  const int band_bytes = kind.depthwise ? 1 : kernels.band_bytes;
  auto& prepared = s.prepare<WindowStep>();
  WindowOp& w = prepared.op;
  fill_geometry(s, w, kind, kernels);
  choose_band(w, kind.depthwise, band_bytes == 1);
  if (!w.direct) {  // before any offset inside the band is computed: a dilated window of a hostile program overflows
    const auto tall = static_cast<uint64_t>(extent(w.kernel_height, w.dilation_height));
    const auto pitch = sat_mul(static_cast<uint64_t>(w.band_width), static_cast<uint64_t>(w.in_channels));
    planning.budget.check(sat_mul(sat_mul(tall, pitch), static_cast<uint64_t>(band_bytes) * planning.threads),
                          "window rows");
  }
  fill_segments(prepared, kind.depthwise, kernels.k_step, planning.budget);
  if (!kind.depthwise) read_again(prepared, kind.times(s, planning), planning.budget);
  kind.pack(s, prepared, planning);
  w.weights = prepared.weights.data();
  w.bias = prepared.bias.as<int32_t>();
  choose_tiles(s, w, kind.depthwise, band_bytes, planning.threads);
  const auto pixels = sat_mul(static_cast<uint64_t>(w.out_height), static_cast<uint64_t>(w.out_width));
  const auto lanes = static_cast<uint64_t>(w.groups * w.group_blocks) * kColumns;
  s.work = sat_mul(sat_mul(pixels, lanes), static_cast<uint64_t>(w.segments * w.segment_padded));
  s.run = kind.run;
  uint64_t scratch = 0;
  if (!w.direct) {
    const int64_t rows = (w.tile_rows - 1) * w.stride_height + extent(w.kernel_height, w.dilation_height);
    w.band_elements = rows * w.band_width * w.in_channels;
    s.work = sat_add(s.work, sat_mul(static_cast<uint64_t>(w.band_elements), static_cast<uint64_t>(s.tiles)));
    scratch = sat_add(sat_mul(static_cast<uint64_t>(w.band_elements), static_cast<uint64_t>(band_bytes)), 2 * kSlack);
  }
  prepare_requantization(s, prepared, planning);
  return scratch;
}

}  // namespace headrace
