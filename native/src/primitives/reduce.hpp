// SPDX-License-Identifier: Apache-2.0
// What the reductions share.
#pragma once

#include "row_rule.hpp"

namespace headrace {

inline RowRule reduced_rows(const Program& program, uint32_t kernel, uint32_t) {
  const bool height = program.kernels[kernel].axis_mask & static_cast<uint32_t>(microcode::AxisMask::kHeight);
  RowRule rule = RowRule::of(height ? RowRule::Kind::kWhole : RowRule::Kind::kAffine);
  rule.accumulates = true;
  return rule;
}

}  // namespace headrace
