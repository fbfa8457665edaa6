// SPDX-License-Identifier: Apache-2.0
#include "row_rule.hpp"

#include "primitives/primitive.hpp"

namespace headrace {

RowGeometry::RowGeometry(const Program& p, uint32_t kernel, uint32_t operand)
    : rule_(find_primitive(p.kernels[kernel].opcode)->rows(p, kernel, operand)),
      height_(p.tensors[p.operand(p.kernels[kernel], operand)].height),
      out_height_(p.tensors[p.kernels[kernel].output].height) {
  incremental_ = rule_.accumulates && out_height_ == 1 && height_ > 1 && needed(0) == input_rows();
}

uint64_t RowGeometry::needed(uint64_t row) const {
  const auto r = static_cast<int64_t>(row);
  switch (rule_.kind) {
    case RowRule::Kind::kAffine:
      return clamp(r * rule_.stride - rule_.before + rule_.extent);
    case RowRule::Kind::kReshape:
      return clamp(((r + 1) * rule_.out_row + rule_.in_row - 1) / rule_.in_row);
    case RowRule::Kind::kBlocks:
      return clamp(r / rule_.block + 1);
    case RowRule::Kind::kTable:
      return row < rule_.table.size() ? uint64_t{rule_.table[row].second} + 1 : input_rows();
    case RowRule::Kind::kWhole:
    case RowRule::Kind::kOnce:
      break;
  }
  return input_rows();
}

uint64_t RowGeometry::released(uint64_t row) const {
  if (row + 1 >= output_rows()) return input_rows();
  const auto next = static_cast<int64_t>(row) + 1;
  switch (rule_.kind) {
    case RowRule::Kind::kAffine:
      return clamp(next * rule_.stride - rule_.before);
    case RowRule::Kind::kReshape:
      return clamp(next * rule_.out_row / rule_.in_row);
    case RowRule::Kind::kBlocks:
      return clamp(next / rule_.block);
    case RowRule::Kind::kTable:
      return rule_.table[row + 1].first;
    case RowRule::Kind::kWhole:
    case RowRule::Kind::kOnce:
      break;
  }
  return 0;
}

}  // namespace headrace
