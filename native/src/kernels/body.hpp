// SPDX-License-Identifier: Apache-2.0
// The parts of a kernel set that do not depend on the instruction set, included once by each kernel file after it has
// defined, in an unnamed namespace: kStep, BandElement, WeightElement, kMaxPixels(blocks), inner_product<blocks,
// pixels>, depthwise_pixels and requantise_block. Internal linkage throughout (see kernels.hpp).

namespace headrace {
namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

template <class To>
void copy_elements(To* to, const uint8_t* from, int64_t n) {
  if (sizeof(To) == 1) {
    memcpy(to, from, static_cast<size_t>(n));
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(from[i]);
  }
}
template <class To>
void fill_elements(To* to, int32_t value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(value);
}

// Copies the input rows that output rows [first, last) need, with columns and rows of padding at code in_zero.
template <class To>
void make_band(const WindowOp& op, int64_t first, int64_t last, To* band) {
  const int64_t extent = (op.kernel_height - 1) * op.dilation_height + 1;
  const int64_t top = first * op.stride_height - op.pad_top;
  const int64_t rows = (last - 1 - first) * op.stride_height + extent;
  const int64_t pitch = op.band_width * op.in_channels;
  const int64_t left = op.pad_left * op.in_channels;
  const int64_t used = smaller(op.in_width, op.band_width - op.pad_left) * op.in_channels;
  for (int64_t i = 0; i < rows; ++i) {
    To* row = band + i * pitch;
    const int64_t source = top + i;
    if (source < 0 || source >= op.in_height) {
      fill_elements(row, op.in_zero, pitch);
      continue;
    }
    fill_elements(row, op.in_zero, left);
    copy_elements(row + left, op.x + source * op.in_width * op.in_channels, used);
    fill_elements(row + left + used, op.in_zero, pitch - left - used);
  }
  fill_elements(band + rows * pitch, 0, kSlack / static_cast<int64_t>(sizeof(To)));
}

inline Requantise block_of(const Requantise& q, int64_t block) {
  Requantise out = q;
  out.multiplier0 += block * kColumns;
  if (out.multiplier1) out.multiplier1 += block * kColumns;
  out.shift += block * kColumns;
  if (out.table_base) out.table_base += block * kColumns;
  return out;
}

// One run of output pixels of a row and `kBlocks` blocks of output channels.
template <int kBlocks, int kPixels>
void convolution_run(const WindowOp& op, const BandElement* a, int64_t pixel_stride, int64_t block, int64_t channel,
                     int64_t pixel) {
  alignas(64) int32_t sums[kPixels * kBlocks * kColumns];
  const auto* w = static_cast<const WeightElement*>(op.weights) + block * op.block_elements;
  inner_product<kBlocks, kPixels>(a, pixel_stride, op.segment_offset, op.segments, op.segment_padded, w,
                                  op.block_elements, op.bias + block * kColumns, sums);
  const int64_t group_end = (channel / op.group_out + 1) * op.group_out;
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t c = channel + b * kColumns;
    const Requantise q = block_of(op.q, block + b);
    requantise_block(q, sums + b * kColumns, kBlocks * kColumns,
                     op.residual ? op.residual + pixel * op.out_channels + c : nullptr, op.out_channels,
                     op.y + pixel * op.out_channels + c, op.out_channels, kPixels,
                     static_cast<int>(smaller(kColumns, group_end - c)));
  }
}

template <int kBlocks, int kPixels>
struct RunTable {
  using Run = void (*)(const WindowOp&, const BandElement*, int64_t, int64_t, int64_t, int64_t);
  static void fill(Run* runs) {
    runs[kPixels] = convolution_run<kBlocks, kPixels>;
    RunTable<kBlocks, kPixels - 1>::fill(runs);
  }
};
template <int kBlocks>
struct RunTable<kBlocks, 0> {
  static void fill(void (**)(const WindowOp&, const BandElement*, int64_t, int64_t, int64_t, int64_t)) {}
};

template <int kBlocks>
void convolution_row(const WindowOp& op, const BandElement* row, int64_t pixel_stride, int64_t block, int64_t channel,
                     int64_t first_pixel) {
  constexpr int kMost = kMaxPixels(kBlocks);
  typename RunTable<kBlocks, kMost>::Run runs[kMost + 1] = {};
  RunTable<kBlocks, kMost>::fill(runs);
  const int64_t parts = (op.out_width + kMost - 1) / kMost;
  int64_t x = 0;
  for (int64_t part = 0; part < parts; ++part) {  // runs of nearly equal length
    const int64_t n = (op.out_width - x + (parts - part) - 1) / (parts - part);
    runs[n](op, row + x * pixel_stride, pixel_stride, block, channel, first_pixel + x);
    x += n;
  }
}

void convolution_tile(const WindowOp& op, int64_t row_tile, int64_t column_tile, uint8_t* scratch) {
  const int64_t first = row_tile * op.tile_rows;
  const int64_t last = smaller(first + op.tile_rows, op.out_height);
  const BandElement* base = nullptr;
  int64_t pitch = 0;
  if (op.direct && sizeof(BandElement) == 1) {
    base = reinterpret_cast<const BandElement*>(op.x) + first * op.stride_height * op.in_width * op.in_channels;
    pitch = op.in_width * op.in_channels;
  } else {
    auto* band = reinterpret_cast<BandElement*>(scratch);
    make_band(op, first, last, band);
    base = band;
    pitch = op.band_width * op.in_channels;
  }
  const int64_t stop = smaller((column_tile + 1) * op.tile_blocks, op.groups * op.group_blocks);
  const int64_t pixel_stride = op.pixel_stride;
  int64_t block = column_tile * op.tile_blocks;
  while (block < stop) {
    const int64_t group = block / op.group_blocks;
    const int64_t inside = block % op.group_blocks;
    const int64_t channel = group * op.group_out + inside * kColumns;
    const int64_t left = smaller(op.group_blocks - inside, stop - block);
    const int64_t together = left >= kMaxBlocks ? kMaxBlocks : left >= 2 ? 2 : 1;
    for (int64_t y = first; y < last; ++y) {
      const BandElement* row = base + (y - first) * op.stride_height * pitch + group * op.group_in;
      if (together == kMaxBlocks) {
        convolution_row<kMaxBlocks>(op, row, pixel_stride, block, channel, y * op.out_width);
      } else if (together == 2) {
        convolution_row<(kMaxBlocks >= 2 ? 2 : 1)>(op, row, pixel_stride, block, channel, y * op.out_width);
      } else {
        convolution_row<1>(op, row, pixel_stride, block, channel, y * op.out_width);
      }
    }
    block += kMaxBlocks >= 2 ? together : 1;
  }
}

void depthwise_tile(const WindowOp& op, int64_t row_tile, int64_t column_tile, uint8_t* scratch) {
  const int64_t first = row_tile * op.tile_rows;
  const int64_t last = smaller(first + op.tile_rows, op.out_height);
  const uint8_t* base = nullptr;
  int64_t pitch = op.in_width * op.in_channels;
  if (op.direct) {
    base = op.x + first * op.stride_height * pitch;
  } else {
    pitch = op.band_width * op.in_channels;
    make_band(op, first, last, scratch);
    base = scratch;
  }
  const int64_t blocks = (op.out_channels + kColumns - 1) / kColumns;
  const int64_t stop = smaller((column_tile + 1) * op.tile_blocks, blocks);
  alignas(64) int32_t sums[kBlockPixels * kColumns];
  for (int64_t block = column_tile * op.tile_blocks; block < stop; ++block) {
    const int64_t c = block * kColumns;
    const Requantise q = block_of(op.q, block);
    const int columns = static_cast<int>(smaller(kColumns, op.out_channels - c));
    for (int64_t y = first; y < last; ++y) {
      const uint8_t* row = base + (y - first) * op.stride_height * pitch + c;
      for (int64_t x = 0; x < op.out_width; x += kBlockPixels) {
        const int n = static_cast<int>(smaller(kBlockPixels, op.out_width - x));
        depthwise_pixels(op, block, row + x * op.pixel_stride, n, sums);
        const int64_t at = (y * op.out_width + x) * op.out_channels + c;
        requantise_block(q, sums, kColumns, op.residual ? op.residual + at : nullptr, op.out_channels, op.y + at,
                         op.out_channels, n, columns);
      }
    }
  }
}

// Sums of `pixels` x kColumns elements; element (p, c) is at p * pixel + c * channel from each pointer. All columns are
// computed, so that the loops have a fixed length: those past the tensor's channels read its slack and are not stored.
template <int kChannelX, int kChannelY>
void elementwise_sums(const ElementwiseOp& op, const uint8_t* x, int64_t x_pixel, const uint8_t* y, int64_t y_pixel,
                      int pixels, int32_t* sums) {
  // Local copies: a store to sums might otherwise change them, for all the compiler knows.
  const int32_t x_zero = op.x_zero, y_zero = op.y_zero;
  const bool multiply = op.multiply;
  for (int p = 0; p < pixels; ++p) {
    const uint8_t* __restrict xp = x + p * x_pixel;
    int32_t* __restrict s = sums + p * kColumns;
    if (multiply) {
      const uint8_t* __restrict yp = y + p * y_pixel;
#pragma GCC unroll 1  // else the loop is unrolled before it can be vectorised
      for (int c = 0; c < kColumns; ++c) s[c] = (xp[c * kChannelX] - x_zero) * (yp[c * kChannelY] - y_zero);
    } else {
#pragma GCC unroll 1  // else the loop is unrolled before it can be vectorised
      for (int c = 0; c < kColumns; ++c) s[c] = xp[c * kChannelX] - x_zero;
    }
  }
}

void elementwise_row(const ElementwiseOp& op, int64_t row, uint8_t* scratch) {
  alignas(64) int32_t sums[kBlockPixels * kColumns];
  const uint8_t* x = op.x + row * op.x_row;
  const uint8_t* y = op.y ? op.y + row * op.y_row : nullptr;
  uint8_t* out = op.out + row * op.width * op.channels;
  const bool second = y != nullptr && !op.multiply;
  const bool flat = !op.per_channel && op.x_channel == 1 && op.x_pixel == op.channels &&
                    (!y || (op.y_channel == 1 && op.y_pixel == op.channels));
  const int64_t width = flat ? (op.width * op.channels) / kColumns : op.width;
  const int64_t channels = flat ? kColumns : op.channels;
  const auto make_sums = op.x_channel == 1 ? (op.y_channel == 1 ? elementwise_sums<1, 1> : elementwise_sums<1, 0>)
                                           : (op.y_channel == 1 ? elementwise_sums<0, 1> : elementwise_sums<0, 0>);
  const int64_t x_pixel = flat ? kColumns : op.x_pixel, y_pixel = flat ? kColumns : op.y_pixel;
  for (int64_t c = 0; c < channels; c += kColumns) {
    const int columns = static_cast<int>(smaller(kColumns, channels - c));
    const Requantise q = op.per_channel ? block_of(op.q, c / kColumns) : op.q;
    for (int64_t p = 0; p < width; p += kBlockPixels) {
      const int n = static_cast<int>(smaller(kBlockPixels, width - p));
      const uint8_t* yb = y ? y + p * y_pixel + c * op.y_channel : nullptr;
      make_sums(op, x + p * x_pixel + c * op.x_channel, x_pixel, yb, y_pixel, n, sums);
      const uint8_t* r = second ? yb : nullptr;
      int64_t r_stride = y_pixel;
      if (second && op.y_channel == 0) {  // spread a broadcast channel over the block
        for (int i = 0; i < n; ++i) memset(scratch + i * kColumns, yb[i * y_pixel], kColumns);
        r = scratch;
        r_stride = kColumns;
      }
      requantise_block(q, sums, kColumns, r, r_stride, out + p * channels + c, channels, n, columns);
    }
  }
  const int64_t done = flat ? width * kColumns : op.width * op.channels;
  const int rest = static_cast<int>(op.width * op.channels - done);
  if (rest > 0) {
    make_sums(op, x + done, 0, y ? y + done : nullptr, 0, 1, sums);
    requantise_block(op.q, sums, kColumns, second ? y + done : nullptr, 0, out + done, 0, 1, rest);
  }
}

}  // namespace
}  // namespace headrace
