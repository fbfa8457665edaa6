// SPDX-License-Identifier: Apache-2.0
// Which rows of one operand a kernel needs, as counts from the top of the frame.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "program.hpp"

namespace headrace {

// What a primitive says of an operand. By default output row r needs input row r.
struct RowRule {
  enum class Kind {
    kAffine,   // output row r reads rows r * stride - before .. r * stride - before + extent - 1
    kWhole,    // every output row reads every row
    kOnce,     // one row, which every output row reads
    kReshape,  // elements in order, of rows of `in_row` and `out_row` elements
    kBlocks,   // `block` output rows from each row
    kTable,    // (first, last) row of each output row
  };
  Kind kind = Kind::kAffine;
  int64_t stride = 1, before = 0, extent = 1;
  int64_t in_row = 1, out_row = 1;
  int64_t block = 1;
  std::vector<std::pair<uint32_t, uint32_t>> table;
  bool accumulates = false;  // rows can be taken in one by one, before the output row is made

  static RowRule affine(int64_t stride, int64_t before, int64_t extent) {
    RowRule rule;
    rule.stride = stride;
    rule.before = before;
    rule.extent = extent;
    return rule;
  }
  static RowRule of(Kind kind) {
    RowRule rule;
    rule.kind = kind;
    return rule;
  }
};

// The rule on the rows that there are; both functions never decrease.
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
  uint64_t clamp(int64_t rows) const { return static_cast<uint64_t>(rows < 0 ? 0 : rows > height_ ? height_ : rows); }

  RowRule rule_;
  int64_t height_ = 1, out_height_ = 1;
  bool incremental_ = false;
};

}  // namespace headrace
