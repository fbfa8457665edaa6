// SPDX-License-Identifier: Apache-2.0
#include "row_geometry.hpp"

namespace headrace {

using namespace microcode;

RowGeometry::RowGeometry(const Program& p, uint32_t kernel, uint32_t operand) {
  const KernelRecord& k = p.kernels[kernel];
  const TensorRecord& x = p.tensors[p.operand(k, operand)];
  const TensorRecord& out = p.tensors[k.output];
  height_ = x.height;
  out_height_ = out.height;
  bool accumulates = false;
  switch (static_cast<Opcode>(k.opcode)) {
    case Opcode::kConvolution:
    case Opcode::kDepthwise:
    case Opcode::kPoolMax:
    case Opcode::kPoolSum:
      if (operand != 0) break;  // the residual: same row
      stride_ = k.stride_height;
      before_ = k.pad_top;
      extent_ = (int64_t{k.kernel_height} - 1) * k.dilation_height + 1;
      accumulates = true;
      break;
    case Opcode::kElementwiseAdd:
    case Opcode::kElementwiseMultiply:
    case Opcode::kRescale:
      if (x.height == 1 && out.height != 1) kind_ = Kind::kOnce;
      break;
    case Opcode::kReduceMax:
    case Opcode::kReduceSumReciprocal:
      if (k.axis_mask & static_cast<uint32_t>(AxisMask::kHeight)) kind_ = Kind::kWhole;
      accumulates = true;
      break;
    case Opcode::kConcatenate:
      if (k.axis == 0) {
        for (uint32_t i = 0; i < operand; ++i) before_ += p.tensors[p.operand(k, i)].height;
      }
      break;
    case Opcode::kSlice:
      stride_ = k.step_height;
      before_ = -int64_t{k.start_height};
      break;
    case Opcode::kPad:
      before_ = k.start_height;
      break;
    case Opcode::kTranspose:
      if ((k.permutation & 0xFF) != 0) kind_ = Kind::kWhole;
      break;
    case Opcode::kReshape:
      kind_ = Kind::kReshape;
      in_row_ = int64_t{x.width} * x.channels;
      out_row_ = int64_t{out.width} * out.channels;
      accumulates = true;
      break;
    case Opcode::kDepthToSpace:
      kind_ = Kind::kTable;
      for (uint32_t y = 0; y < out.height; ++y) {
        first_.push_back(y / k.block);
        last_.push_back(y / k.block);
      }
      break;
    case Opcode::kSpaceToDepth:
      stride_ = extent_ = k.block;
      break;
    case Opcode::kResizeNearest:
    case Opcode::kResizeBilinear: {
      kind_ = Kind::kTable;
      for (const auto& [first, last] : p.resize_rows[kernel]) {
        first_.push_back(first);
        last_.push_back(last);
      }
      break;
    }
  }
  incremental_ = accumulates && out_height_ == 1 && height_ > 1 && needed(0) == input_rows();
}

uint64_t RowGeometry::needed(uint64_t row) const {
  const auto r = static_cast<int64_t>(row);
  switch (kind_) {
    case Kind::kAffine:
      return static_cast<uint64_t>(clamp(r * stride_ - before_ + extent_));
    case Kind::kReshape:
      return static_cast<uint64_t>(clamp(((r + 1) * out_row_ + in_row_ - 1) / in_row_));
    case Kind::kTable:
      return row < last_.size() ? uint64_t{last_[row]} + 1 : input_rows();
    case Kind::kWhole:
    case Kind::kOnce:
      break;
  }
  return input_rows();
}

uint64_t RowGeometry::released(uint64_t row) const {
  if (row + 1 >= output_rows()) return input_rows();
  const auto next = static_cast<int64_t>(row) + 1;
  switch (kind_) {
    case Kind::kAffine:
      return static_cast<uint64_t>(clamp(next * stride_ - before_));
    case Kind::kReshape:
      return static_cast<uint64_t>(clamp(next * out_row_ / in_row_));
    case Kind::kTable:
      return first_[row + 1];
    case Kind::kWhole:
    case Kind::kOnce:
      break;
  }
  return 0;
}

void keep_resize_rows(Program& p) {
  p.resize_rows.assign(p.kernels.size(), {});
  for (size_t i = 0; i < p.kernels.size(); ++i) {
    const KernelRecord& k = p.kernels[i];
    const auto opcode = static_cast<Opcode>(k.opcode);
    if (opcode != Opcode::kResizeNearest && opcode != Opcode::kResizeBilinear) continue;
    const bool nearest = opcode == Opcode::kResizeNearest;
    const uint8_t* table = p.constants.data + k.row_table_offset;
    for (size_t y = 0; y < p.tensors[k.output].height; ++y) {
      const uint8_t* at = table + 4 * (nearest ? y : 3 * y);
      p.resize_rows[i].emplace_back(load_u32(at), load_u32(at + (nearest ? 0 : 4)));
    }
  }
}

}  // namespace headrace
