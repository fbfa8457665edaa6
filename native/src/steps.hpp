// SPDX-License-Identifier: Apache-2.0
// What the device executes: one step per kernel, everything resolved to pointers at load.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "kernels/kernels.hpp"
#include "microcode_generated.hpp"

namespace headrace {

// Counts what a network needs against the device's limit, before it is allocated.
class Budget {
 public:
  explicit Budget(uint64_t limit) : limit_(limit) {}
  void take(uint64_t bytes, const char* what);         // throws Failure 26 past the limit
  void check(uint64_t bytes, const char* what) const;  // the same, without taking
  uint64_t used() const { return used_; }

 private:
  uint64_t limit_;
  uint64_t used_ = 0;
};

// Zeroed memory on a cache line, with kSlack readable bytes past its end. Copies share the memory.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  AlignedBytes(Budget& budget, uint64_t size, const char* what);
  uint8_t* data() const { return data_.get(); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::shared_ptr<uint8_t[]> data_;
};

// Where a tensor lives while its steps run.
struct Place {
  uint8_t* data = nullptr;
  int64_t height = 0, width = 0, channels = 0;
  int64_t bytes = 1;  // of one element
  int32_t zero = 0;

  int64_t elements() const { return height * width * channels; }
  int64_t size() const { return elements() * bytes; }
};

inline int64_t load(const Place& place, int64_t index) {
  return place.bytes == 1 ? place.data[index] : reinterpret_cast<const uint16_t*>(place.data)[index];
}

inline void store(const Place& place, int64_t index, uint32_t code) {
  if (place.bytes == 1)
    place.data[index] = static_cast<uint8_t>(code);
  else
    reinterpret_cast<uint16_t*>(place.data)[index] = static_cast<uint16_t>(code);
}

struct Step {
  using Run = void (*)(const Step& step, const KernelSet& kernels, int64_t tile, uint8_t* scratch);

  Run run = nullptr;
  int64_t tiles = 1;
  int64_t tile_rows = 1;  // output rows of a tile, where tiles are rows
  uint64_t work = 0;      // rough count of elementary operations
  microcode::KernelRecord record;
  std::vector<Place> in;
  Place out;
  Requantise q{};
  bool per_channel = false;
  int64_t reach = int64_t{1} << 40;  // bound of the accumulator without a residual; the default: not known
  WindowOp window{};
  ElementwiseOp elementwise{};
  // Owned constants; `q`, `window` and `elementwise` point into them.
  AlignedBytes multipliers, shifts, bias, weights, row_weights, table, table_bases, line_tables;
  std::vector<int64_t> segment_offset;
  // POOL_SUM: class of each output row and column by covered elements, and the requantisation of each pair.
  std::vector<uint32_t> row_class, column_class, pair_entry;
  uint32_t column_classes = 0;
  // RESIZE_*: which input elements each output row and column reads (microcode tables).
  std::vector<uint32_t> row_table, column_table;

  // The same step on tensors that lie `distance` bytes further; constants are shared.
  std::unique_ptr<Step> moved(ptrdiff_t distance) const;
};

// Tile functions of the steps that move, pool or reduce, and of 16-bit arithmetic (moves.cpp, reduce.cpp).
void run_pool_max(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_pool_sum(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_reduce_max(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_reduce_sum_reciprocal(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_concatenate(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_slice(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_pad(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_transpose(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_reshape(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_depth_to_space(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_space_to_depth(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_resize_nearest(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_resize_bilinear(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_elementwise_wide(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);

}  // namespace headrace
