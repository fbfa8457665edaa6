// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "program.hpp"

namespace headrace {

// Which rows of one operand a kernel needs, as counts from the top of the frame; both functions never decrease.
class RowGeometry {
 public:
  RowGeometry(const Program& program, uint32_t kernel, uint32_t operand);

  // Input rows that must have arrived before output row `row` can be made.
  uint64_t needed(uint64_t row) const;
  // Input rows that no output row after `row` reads; all of them after the last.
  uint64_t released(uint64_t row) const;
  // The one output row needs all input rows, and they can be taken in one by one.
  bool incremental() const { return incremental_; }
  uint64_t input_rows() const { return static_cast<uint64_t>(height_); }
  uint64_t output_rows() const { return static_cast<uint64_t>(out_height_); }

 private:
  enum class Kind { kAffine, kWhole, kOnce, kReshape, kTable };
  int64_t clamp(int64_t rows) const { return rows < 0 ? 0 : rows > height_ ? height_ : rows; }

  Kind kind_ = Kind::kAffine;
  // kAffine: output row r reads rows r * stride - before .. r * stride - before + extent - 1.
  int64_t stride_ = 1, before_ = 0, extent_ = 1;
  int64_t height_ = 1, out_height_ = 1;
  int64_t in_row_ = 1, out_row_ = 1;    // kReshape: elements of a row
  std::vector<uint32_t> first_, last_;  // kTable: input rows of each output row
  bool incremental_ = false;
};

// Copies the row tables of RESIZE_* kernels out of CONSTANTS, which go when the program is loaded.
void keep_resize_rows(Program& program);

}  // namespace headrace
