// SPDX-License-Identifier: Apache-2.0
#include "plan_window.hpp"

#include <algorithm>

#include "errors.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

using namespace microcode;

constexpr int64_t kBandLimit = 96 << 10;  // bytes of input rows a tile works on: stays in the second-level cache

// Whether depthwise kernels that work on groups of four rows can do this window.
bool by_rows(const WindowOp& w) {
  return w.dilation_width == 1 && (w.kernel_width == 3 || w.kernel_width == 5) && w.stride_width <= 2;
}

// How many output pixels to see as one (WindowOp::fold). A convolution's window grows by the pixels between; that costs
// no more than the lanes it fills. Depthwise lanes read neighbouring elements, so the stride must be 1; the kernels
// that go by rows gain more than a fold of many channels would.
int64_t fold_of(const WindowOp& w, bool depthwise, const KernelSet& kernels) {
  int64_t fold = 1;
  if (depthwise && w.stride_width == 1) {
    if (w.out_channels > kColumns && kernels.row_groups && by_rows(w)) return 1;
    while (fold < kColumns && w.out_channels * fold % kColumns != 0) fold *= 2;
    return w.out_width % fold == 0 ? fold : 1;
  }
  if (depthwise || w.groups != 1 || w.dilation_width != 1) return 1;
  while (w.out_channels * fold * 2 <= kColumns && w.out_width % (fold * 2) == 0) fold *= 2;
  return fold;
}

void fill_geometry(Step& s, bool depthwise, const KernelSet& kernels) {
  const KernelRecord& k = s.record;
  const Place& x = s.in[0];
  WindowOp& w = s.window;
  w.x = x.data;
  w.residual = s.in.size() == 2 ? s.in[1].data : nullptr;
  w.y = s.out.data;
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
  w.groups = depthwise ? 1 : k.groups;
  w.group_in = x.channels / w.groups;
  w.group_out = s.out.channels / w.groups;
  w.group_blocks = (w.group_out + kColumns - 1) / kColumns;
  w.in_zero = x.zero;
  w.fold = fold_of(w, depthwise, kernels);
  if (w.fold > 1) {
    if (!depthwise) w.kernel_width += (w.fold - 1) * w.stride_width;
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

void fill_segments(Step& s, bool depthwise, int k_step, Budget& budget) {
  WindowOp& w = s.window;
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
      s.segment_offset.push_back(i * w.dilation_height * pitch + j * w.dilation_width * w.in_channels);
    }
  }
  w.segment_offset = s.segment_offset.data();
}

// Bound of a sum of weights of this magnitude with codes that are at most 255 off their zero point, and a bias.
int64_t reach_of(int64_t magnitude, uint32_t bias) {
  return magnitude * 255 + std::abs(int64_t{static_cast<int32_t>(bias)});
}

// Weights in segment order; those of the source are [channel][kernel_height][kernel_width][group_in], which is that
// order already but for the columns that a fold adds.
void pack_convolution(Step& s, const Program& p, const KernelSet& kernels, Budget& budget) {
  WindowOp& w = s.window;
  const auto blocks = static_cast<uint64_t>(w.groups * w.group_blocks);
  w.block_elements = w.segments * w.segment_padded * kColumns;
  s.weights = AlignedBytes(
      budget,
      sat_mul(sat_mul(blocks, static_cast<uint64_t>(w.block_elements)), static_cast<uint64_t>(kernels.weight_bytes)),
      "weights");
  s.bias = AlignedBytes(budget, sat_mul(blocks, kColumns * 4), "biases");
  const uint8_t* from = p.constants.data + s.record.weight_offset;
  const uint8_t* bias = p.constants.data + s.record.bias_offset;
  const int64_t row = int64_t{s.record.kernel_width} * w.group_in;  // of the source, and of the folded window
  const int64_t wide_row = w.kernel_width * w.group_in, channels = w.out_channels / w.fold;
  for (uint64_t lane = 0; lane < blocks * kColumns; ++lane) {
    const int64_t c = channel_of_lane(w, lane);
    if (c < 0) continue;
    const int64_t before = w.fold == 1 ? 0 : static_cast<int64_t>(lane) / channels * s.record.stride_width * w.group_in;
    uint32_t sum = 0;
    int64_t magnitude = 0;
    const int64_t base = static_cast<int64_t>(lane / kColumns) * w.block_elements;
    for (int64_t i = 0; i < w.kernel_height * row; ++i) {
      const auto value = static_cast<int8_t>(from[c * w.kernel_height * row + i]);
      sum += static_cast<uint32_t>(value);
      magnitude += std::abs(int64_t{value});
      const int64_t wide = i / row * wide_row + before + i % row;
      const int64_t k = wide / w.segment_length * w.segment_padded + wide % w.segment_length;
      const int64_t at = base + (k / kernels.k_step) * kColumns * kernels.k_step +
                         static_cast<int64_t>(lane % kColumns) * kernels.k_step + k % kernels.k_step;
      if (kernels.weight_bytes == 1)
        s.weights.as<int8_t>()[at] = value;
      else
        s.weights.as<int16_t>()[at] = value;
    }
    // Modulo 2^32: the sum with the products is exact again, because the verifier proved that it fits.
    s.bias.as<uint32_t>()[lane] =
        load_u32(bias + 4 * c) + static_cast<uint32_t>(kernels.input_offset - w.in_zero) * sum;
    s.reach = std::max(s.reach, reach_of(magnitude, load_u32(bias + 4 * c)));
  }
}

void pack_depthwise(Step& s, const Program& p, const KernelSet& kernels, Budget& budget) {
  WindowOp& w = s.window;
  const auto blocks = static_cast<uint64_t>(w.group_blocks);
  w.block_elements = w.segments * kColumns;
  s.weights = AlignedBytes(budget, sat_mul(blocks, static_cast<uint64_t>(w.block_elements) * 4), "weights");
  s.bias = AlignedBytes(budget, blocks * kColumns * 4, "biases");
  const bool rows = kernels.row_groups && w.fold == 1 && by_rows(w);
  const int64_t group_bytes = w.kernel_width * 4 * kColumns, groups = (w.kernel_height + 3) / 4;
  if (rows) {
    s.row_weights = AlignedBytes(budget, sat_mul(blocks, static_cast<uint64_t>(groups * group_bytes)), "weights");
    w.row_weights = s.row_weights.as<int8_t>();
  }
  const uint8_t* from = p.constants.data + s.record.weight_offset;
  const uint8_t* bias = p.constants.data + s.record.bias_offset;
  const int64_t channels = w.out_channels / w.fold;
  for (int64_t lane = 0; lane < w.out_channels; ++lane) {
    const int64_t c = lane % channels, block = lane / kColumns, column = lane % kColumns;
    uint32_t sum = 0;
    int64_t magnitude = 0;
    for (int64_t t = 0; t < w.segments; ++t) {
      const auto value = static_cast<int8_t>(from[t * channels + c]);
      sum += static_cast<uint32_t>(value);
      magnitude += std::abs(int64_t{value});
      s.weights.as<int32_t>()[block * w.block_elements + t * kColumns + column] = value;
      if (!rows) continue;
      const int64_t i = t / w.kernel_width, j = t % w.kernel_width;
      s.row_weights.as<int8_t>()[(block * groups + i / 4) * group_bytes + (j * kColumns + column) * 4 + i % 4] = value;
    }
    s.bias.as<uint32_t>()[lane] = load_u32(bias + 4 * c) - static_cast<uint32_t>(w.in_zero) * sum;
    s.reach = std::max(s.reach, reach_of(magnitude, load_u32(bias + 4 * c)));
  }
}

void choose_tiles(Step& s, bool depthwise, int band_bytes, uint32_t threads) {
  WindowOp& w = s.window;
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

}  // namespace

int64_t channel_of_lane(const WindowOp& op, uint64_t lane) {
  if (op.fold > 1) {  // one group
    const auto at = static_cast<int64_t>(lane);
    return at < op.out_channels ? at % (op.out_channels / op.fold) : -1;
  }
  const auto per_group = static_cast<uint64_t>(op.group_blocks) * kColumns;
  const auto group = static_cast<int64_t>(lane / per_group), inside = static_cast<int64_t>(lane % per_group);
  return inside < op.group_out ? group * op.group_out + inside : -1;
}

uint64_t plan_window(Step& s, const Program& p, const KernelSet& kernels, Budget& budget, uint32_t threads) {
  const bool depthwise = static_cast<Opcode>(s.record.opcode) == Opcode::kDepthwise;
  const int band_bytes = depthwise ? 1 : kernels.band_bytes;
  WindowOp& w = s.window;
  fill_geometry(s, depthwise, kernels);
  choose_band(w, depthwise, band_bytes == 1);
  if (!w.direct) {  // before any offset inside the band is computed: a dilated window of a hostile program overflows
    const auto tall = static_cast<uint64_t>(extent(w.kernel_height, w.dilation_height));
    const auto pitch = sat_mul(static_cast<uint64_t>(w.band_width), static_cast<uint64_t>(w.in_channels));
    budget.check(sat_mul(sat_mul(tall, pitch), static_cast<uint64_t>(band_bytes) * threads), "window rows");
  }
  fill_segments(s, depthwise, kernels.k_step, budget);
  s.reach = 0;
  if (depthwise)
    pack_depthwise(s, p, kernels, budget);
  else
    pack_convolution(s, p, kernels, budget);
  w.weights = s.weights.data();
  w.bias = s.bias.as<int32_t>();
  choose_tiles(s, depthwise, band_bytes, threads);
  const auto pixels = sat_mul(static_cast<uint64_t>(w.out_height), static_cast<uint64_t>(w.out_width));
  const auto lanes = static_cast<uint64_t>(w.groups * w.group_blocks) * kColumns;
  s.work = sat_mul(sat_mul(pixels, lanes), static_cast<uint64_t>(w.segments * w.segment_padded));
  if (w.direct) return 0;
  const int64_t rows = (w.tile_rows - 1) * w.stride_height + extent(w.kernel_height, w.dilation_height);
  w.band_elements = rows * w.band_width * w.in_channels;
  s.work = sat_add(s.work, sat_mul(static_cast<uint64_t>(w.band_elements), static_cast<uint64_t>(s.tiles)));
  return sat_add(sat_mul(static_cast<uint64_t>(w.band_elements), static_cast<uint64_t>(band_bytes)), 2 * kSlack);
}

void run_convolution(const Step& s, const KernelSet& kernels, int64_t tile, uint8_t* scratch) {
  kernels.convolution(s.window, tile / s.window.column_tiles, tile % s.window.column_tiles, scratch);
}

void run_depthwise(const Step& s, const KernelSet& kernels, int64_t tile, uint8_t* scratch) {
  kernels.depthwise(s.window, tile / s.window.column_tiles, tile % s.window.column_tiles, scratch);
}

}  // namespace headrace
