// SPDX-License-Identifier: Apache-2.0
// The parts of a kernel set that do not depend on the instruction set, included once by each kernel file after it has
// defined, in an unnamed namespace, its traits (kStep, BandElement, WeightElement, kMaxBlocks, kHalfBlock,
// kMaxPixels(blocks), kRowGroups, kLineTables, kInputOffset) and depthwise_pixels, requantize_block, and
// inner_product<blocks, pixels> or, with HEADRACE_OWN_RUNS, Scaling, requantize_rows, convolve_run<blocks, pixels> and
// elementwise_in_registers. Ends with HEADRACE_KERNEL_SET, which makes of it all one KernelSet. Internal linkage
// throughout (see kernels.hpp).

#if !defined(HEADRACE_OWN_RUNS)
namespace headrace {
namespace {

// What a block of channels needs to become codes, prepared once for many pixels: here nothing.
struct Scaling {
  Requantize q;
  void prepare(const Requantize& requantize, bool /*residual*/) { q = requantize; }
};
inline void requantize_rows(const Scaling& scaling, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                            ptrdiff_t r_stride, uint8_t* out, ptrdiff_t out_stride, int pixels, int columns) {
  if (scaling.q.out_bytes == 1)
    requantize_block(scaling.q, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
  else
    requantize_wide(scaling.q, a, a_stride, r, r_stride, out, out_stride, pixels, columns);
}

}  // namespace
}  // namespace headrace
#endif
#include "compiler.hpp"
#include "requantize_run.hpp"

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
void make_band(const WindowOp& op, const uint8_t* x, int64_t first, int64_t last, To* band) {
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
    copy_elements(row + left, x + source * op.in_width * op.in_channels, used);
    fill_elements(row + left + used, op.in_zero, pitch - left - used);
  }
  fill_elements(band + rows * pitch, 0, kSlack / static_cast<int64_t>(sizeof(To)));
}

inline Requantize block_of(const Requantize& q, int64_t block) {
  Requantize out = q;
  out.multiplier0 += block * kColumns;
  if (out.multiplier1) out.multiplier1 += block * kColumns;
  out.shift += block * kColumns;
  if (out.table_base) out.table_base += block * kColumns;
  return out;
}

#if !defined(HEADRACE_OWN_RUNS)
// One run of output pixels of a row and `kBlocks` blocks of output channels.
template <int kBlocks, int kPixels>
void convolve_run(const WindowOp& op, const BandElement* a, const WeightElement* w, const int32_t* bias,
                  const Scaling* scalings, const Target& to) {
  alignas(64) int32_t sums[kPixels * kBlocks * kColumns];
  inner_product<kBlocks, kPixels>(a, op.pixel_stride, op.segment_offset, op.segments, op.segment_padded, w,
                                  op.block_elements, bias, sums);
  requantize_run<kBlocks, kPixels>(sums, scalings, to);
}

inline ElementwiseRun elementwise_in_registers(const ElementwiseOp&, const Scaling&) { return nullptr; }
#endif

using Run = void (*)(const WindowOp&, const BandElement*, const WeightElement*, const int32_t*, const Scaling*,
                     const Target&);

template <int kBlocks, int kPixels>
struct RunTable {
  static void fill(Run* runs) {
    runs[kPixels] = convolve_run<kBlocks, kPixels>;
    RunTable<kBlocks, kPixels - 1>::fill(runs);
  }
};
template <int kBlocks>
struct RunTable<kBlocks, 0> {
  static void fill(Run*) {}
};

// Output rows of `kBlocks` blocks, the first of which is `block` with first channel `channel`.
template <int kBlocks>
void convolution_rows(const WindowOp& op, const WindowTensors& tensors, const BandElement* base, int64_t pitch,
                      int64_t block, int64_t channel, int64_t first, int64_t last) {
  constexpr int kMost = kMaxPixels(kBlocks);
  Run runs[kMost + 1] = {};
  RunTable<kBlocks, kMost>::fill(runs);
  Scaling scalings[kBlocks];
  for (int b = 0; b < kBlocks; ++b) scalings[b].prepare(block_of(op.q, block + b), tensors.residual != nullptr);
  const auto* weights = static_cast<const WeightElement*>(op.weights) + block * op.block_elements;
  const int32_t* bias = op.bias + block * kColumns;
  const int64_t group = channel / op.group_out;
  const int64_t past = (group + 1) * op.group_out - channel - (kBlocks - 1) * kColumns;
  const int last_columns = static_cast<int>(smaller(kColumns, past));
  const int64_t parts = (op.out_width + kMost - 1) / kMost;
  for (int64_t y = first; y < last; ++y) {
    const BandElement* row = base + (y - first) * op.stride_height * pitch + group * op.group_in;
    int64_t x = 0;
    for (int64_t part = 0; part < parts; ++part) {  // runs of nearly equal length
      const int64_t n = (op.out_width - x + (parts - part) - 1) / (parts - part);
      const int64_t at = (y * op.out_width + x) * op.out_channels + channel;
      const Target to = {tensors.residual ? tensors.residual + at : nullptr, tensors.y + at * op.q.out_bytes,
                         op.out_channels, last_columns, op.q.out_bytes};
      runs[n](op, row + x * op.pixel_stride, weights, bias, scalings, to);
      x += n;
    }
  }
}

void convolution_tile(const WindowOp& op, const WindowTensors& tensors, int64_t row_tile, int64_t column_tile,
                      uint8_t* scratch) {
  const int64_t first = row_tile * op.tile_rows;
  const int64_t last = smaller(first + op.tile_rows, op.out_height);
  const BandElement* base = nullptr;
  int64_t pitch = 0;
  if (op.direct && sizeof(BandElement) == 1) {
    base = reinterpret_cast<const BandElement*>(tensors.x) + first * op.stride_height * op.in_width * op.in_channels;
    pitch = op.in_width * op.in_channels;
  } else {
    auto* band = reinterpret_cast<BandElement*>(scratch);
    make_band(op, tensors.x, first, last, band);
    base = band;
    pitch = op.band_width * op.in_channels;
  }
  const int64_t stop = smaller((column_tile + 1) * op.tile_blocks, op.groups * op.group_blocks);
  int64_t block = column_tile * op.tile_blocks;
  while (block < stop) {
    const int64_t group = block / op.group_blocks;
    const int64_t inside = block % op.group_blocks;
    const int64_t channel = group * op.group_out + inside * kColumns;
    int64_t left = smaller(op.group_blocks - inside, stop - block);
    // A last block of few channels is faster by itself, where a kernel set says so.
    const int64_t last_columns = op.group_out - (inside + left - 1) * kColumns;
    if (left > 1 && last_columns <= kHalfBlock) --left;
    const int64_t together = left >= kMaxBlocks ? kMaxBlocks : left >= 2 && kMaxBlocks >= 2 ? 2 : 1;
    const auto rows = together == kMaxBlocks ? convolution_rows<kMaxBlocks>
                      : together == 2        ? convolution_rows<(kMaxBlocks >= 2 ? 2 : 1)>
                                             : convolution_rows<1>;
    rows(op, tensors, base, pitch, block, channel, first, last);
    block += together;
  }
}

void depthwise_tile(const WindowOp& op, const WindowTensors& tensors, int64_t row_tile, int64_t column_tile,
                    uint8_t* scratch) {
  const int64_t first = row_tile * op.tile_rows;
  const int64_t last = smaller(first + op.tile_rows, op.out_height);
  const uint8_t* base = nullptr;
  int64_t pitch = op.in_width * op.in_channels;
  if (op.direct) {
    base = tensors.x + first * op.stride_height * pitch;
  } else {
    pitch = op.band_width * op.in_channels;
    make_band(op, tensors.x, first, last, scratch);
    base = scratch;
  }
  const int64_t blocks = (op.out_channels + kColumns - 1) / kColumns;
  const int64_t stop = smaller((column_tile + 1) * op.tile_blocks, blocks);
  alignas(64) int32_t sums[kBlockPixels * kColumns];
  for (int64_t block = column_tile * op.tile_blocks; block < stop; ++block) {
    const int64_t c = block * kColumns;
    Scaling scaling;
    scaling.prepare(block_of(op.q, block), tensors.residual != nullptr);
    const int columns = static_cast<int>(smaller(kColumns, op.out_channels - c));
    for (int64_t y = first; y < last; ++y) {
      const uint8_t* row = base + (y - first) * op.stride_height * pitch + c;
      for (int64_t x = 0; x < op.out_width; x += kBlockPixels) {
        const int n = static_cast<int>(smaller(kBlockPixels, op.out_width - x));
        depthwise_pixels(op, block, row + x * op.pixel_stride, n, sums);
        const int64_t at = (y * op.out_width + x) * op.out_channels + c;
        requantize_rows(scaling, sums, kColumns, tensors.residual ? tensors.residual + at : nullptr, op.out_channels,
                        tensors.y + at * op.q.out_bytes, op.out_channels, n, columns);
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
    const uint8_t* HEADRACE_RESTRICT xp = x + p * x_pixel;
    int32_t* HEADRACE_RESTRICT s = sums + p * kColumns;
    if (multiply) {
      const uint8_t* HEADRACE_RESTRICT yp = y + p * y_pixel;
      HEADRACE_NO_UNROLL  // else the loop is unrolled before it can be vectorized
          for (int c = 0; c < kColumns; ++c) s[c] = (xp[c * kChannelX] - x_zero) * (yp[c * kChannelY] - y_zero);
    } else {
      HEADRACE_NO_UNROLL  // else the loop is unrolled before it can be vectorized
          for (int c = 0; c < kColumns; ++c) s[c] = xp[c * kChannelX] - x_zero;
    }
  }
}

void elementwise_row(const ElementwiseOp& op, const ElementwiseTensors& tensors, int64_t row, uint8_t* scratch) {
  alignas(64) int32_t sums[kBlockPixels * kColumns];
  const uint8_t* x = tensors.x + row * op.x_row;
  const uint8_t* y = op.two_inputs ? tensors.y + row * op.y_row : nullptr;
  uint8_t* out = tensors.out + row * op.width * op.channels;
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
    Scaling scaling;
    scaling.prepare(op.per_channel ? block_of(op.q, c / kColumns) : op.q, second);
    if (const ElementwiseRun run = elementwise_in_registers(op, scaling)) {
      run(op, scaling, x + c, x_pixel, y ? y + c : y, y_pixel, out + c, channels, width, columns);
      continue;
    }
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
      requantize_rows(scaling, sums, kColumns, r, r_stride, out + p * channels + c, channels, n, columns);
    }
  }
  const int64_t done = flat ? width * kColumns : op.width * op.channels;
  const int rest = static_cast<int>(op.width * op.channels - done);
  if (rest > 0) {
    make_sums(op, x + done, 0, y ? y + done : nullptr, 0, 1, sums);
    requantize_block(op.q, sums, kColumns, second ? y + done : nullptr, 0, out + done, 0, 1, rest);
  }
}

}  // namespace
}  // namespace headrace

#define HEADRACE_KERNEL_SET(name, needs)                                                          \
  namespace headrace {                                                                            \
  const KernelSet kernel_set_##name = {                                                           \
      #name,           needs,           kStep,        sizeof(BandElement), sizeof(WeightElement), \
      kRowGroups,      kLineTables,     kInputOffset, convolution_tile,    depthwise_tile,        \
      elementwise_row, requantize_block};                                                         \
  }
