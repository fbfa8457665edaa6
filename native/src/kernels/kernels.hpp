// SPDX-License-Identifier: Apache-2.0
// What the kernel files share with the device: plain structs and function tables. Nothing here may pull in templates
// or inline functions of the standard library: the kernel files are compiled for different instruction sets, and a
// shared inline function compiled for the wider one could be chosen by the linker for all.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cpu_features.hpp"

namespace headrace {

constexpr int kColumns = 16;      // output channels of one packed block
constexpr int kBlockPixels = 16;  // most pixels handed to one requantize call
constexpr int kSlack = 64;        // bytes that may be read past the end of a tensor, band or packed block

// Tables as straight lines. Entry i is min(255, (base[k / 2^step] + slope[k / 2^step] (k mod 2^step)) >> shift) with
// k = max(0, i - offset).
struct Lines {
  const uint8_t* parts;  // [table][3][segments]: low bytes of the bases, high bytes, slopes (int8); null: no lines
  int32_t segments;      // 128 or 256
  int32_t step, shift, offset;
};

// y = clamp(zero + ((a M0 + (r - residual_zero) M1 + 2^(s-1)) >> s), low, high), optionally through a table.
// The per-channel arrays are padded to whole blocks of kColumns (M = 0, s = 1); M1 is null for one term. Where there is
// an M1 but no r, the second term is the negative part, min(a, 0) M1: requantization by sign.
// Where channels have tables of their own, table_base is each channel's first entry and is added to the index.
struct Requantize {
  const int32_t* multiplier0;
  const int32_t* multiplier1;
  const int32_t* shift;
  int64_t zero, low, high;
  const uint8_t* table;       // null: none; readable kSlack bytes past its end
  const int32_t* table_base;  // null: one table for all channels; else table_bytes is 1
  Lines lines;                // the tables once more, where lines give them exactly and the kernel set uses them
  int32_t table_bytes;        // 1 or 2, also the output's element size when there is a table
  int32_t out_bytes;
  int32_t residual_zero;
  bool high_half;  // every shift is at most 50, zero << shift below 2^61, sums small and the output one byte (see
                   // avx512_body.hpp)
};

// A block of `pixels` x `columns` (<= kColumns) 32-bit sums to 8-bit codes. `q` points at the block's channels.
using RequantizeBlock = void (*)(const Requantize& q, const int32_t* a, ptrdiff_t a_stride, const uint8_t* r,
                                 ptrdiff_t r_stride, uint8_t* out, ptrdiff_t out_stride, int pixels, int columns);

// Where the codes of a run of pixels and of neighbouring blocks go.
struct Target {
  const uint8_t* residual;  // null: none; laid out as `out`
  uint8_t* out;
  int64_t stride;    // elements from pixel to pixel
  int last_columns;  // of the last block
  int out_bytes;     // of one code
};

// A window kernel over rows of the output (convolution, depthwise).
struct WindowOp {
  int64_t in_height, in_width, in_channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width;
  int64_t pad_top, pad_left;
  int64_t groups, group_in, group_out;  // channels of one group
  int64_t group_blocks;                 // blocks of kColumns output channels of one group
  // `fold` neighbouring output pixels are seen as one of fold x channels, so that few channels fill the lanes; then
  // out_width, out_channels, group_out, stride_width and, for convolution, kernel_width are those of the folded view.
  int64_t fold;
  int64_t pixel_stride;  // input elements from one output pixel's window to the next
  int32_t in_zero;
  bool direct;            // the input is read in place; else rows are copied, padded, to a band
  int64_t band_width;     // columns of a band row
  int64_t band_elements;  // of one band of tile_rows output rows
  int64_t tile_rows;      // output rows of one tile
  int64_t tile_blocks;    // packed blocks of one tile
  int64_t row_tiles, column_tiles;
  // A pixel's window is `segments` runs of `segment_length` contiguous elements; packed weights follow that order,
  // each run padded with zeros to a multiple of the kernel set's k_step.
  int64_t segments, segment_length, segment_padded;
  const int64_t* segment_offset;  // [segments], elements from the pixel's first element (of the group)
  const void* weights;
  int64_t block_elements;  // packed elements of one block
  // Depthwise weights as [block][group of four rows][column][kColumns][four rows] int8, or null.
  const int8_t* row_weights;
  const int32_t* bias;  // [blocks][kColumns], -zx * sum w folded in
  Requantize q;
};

// Its tensors, in the memory of one frame.
struct WindowTensors {
  const uint8_t* x;
  const uint8_t* residual;  // null: none
  uint8_t* y;
};

struct ElementwiseOp {  // 8-bit add, multiply, rescale
  int64_t height, width, channels;
  int64_t x_row, x_pixel, x_channel;  // strides; 0 where broadcast
  int64_t y_row, y_pixel, y_channel;
  int32_t x_zero, y_zero;
  bool two_inputs;  // false for rescale
  bool multiply;
  bool per_channel;
  Requantize q;
};

struct ElementwiseTensors {
  const uint8_t* x;
  const uint8_t* y;  // null where there is one input
  uint8_t* out;
};

// One way to compute, for processors that have what it needs: its traits and its functions. Each is one file of the
// folder sets, and one line of the list in CMakeLists.txt.
struct KernelSet {
  const char* name;
  uint32_t needs;    // of cpu_features.hpp, all of them
  int k_step;        // elements of k that one step of the inner product takes
  int band_bytes;    // element size of a band (1: uint8, 2: int16)
  int weight_bytes;  // element size of a packed weight
  bool row_groups;   // depthwise reads WindowOp::row_weights where it is set
  bool line_tables;  // tables are looked up as lines (Requantize::lines)
  int input_offset;  // what the inner product takes off each code; the packed bias gives it back
  // One tile: output rows row_tile * tile_rows .., blocks column_tile * tile_blocks ..
  void (*convolution)(const WindowOp& op, const WindowTensors& tensors, int64_t row_tile, int64_t column_tile,
                      uint8_t* scratch);
  void (*depthwise)(const WindowOp& op, const WindowTensors& tensors, int64_t row_tile, int64_t column_tile,
                    uint8_t* scratch);
  void (*elementwise_row)(const ElementwiseOp& op, const ElementwiseTensors& tensors, int64_t row, uint8_t* scratch);
  RequantizeBlock requantize;
};

// kernel_set_NAME of every set that is built; CMake lists them, slowest first.
#define HEADRACE_SET(name) extern const KernelSet kernel_set_##name;
#include "kernel_sets_built.inc"
#undef HEADRACE_SET

}  // namespace headrace
