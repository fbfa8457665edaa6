// SPDX-License-Identifier: Apache-2.0
// A kernel's requantization as the kernel sets read it.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/kernels.hpp"
#include "memory.hpp"
#include "planning.hpp"
#include "step.hpp"

namespace headrace {

// How the sums of a step are laid out in lanes.
struct LaneLayout {
  uint64_t lanes = 0;
  std::function<int64_t(uint64_t)> channel_of;  // of a lane, or -1 for padding
  int64_t reach = int64_t{1} << 40;             // bound of the first term's sum; the default: not known
};

// Constants, one per lane, which `q` points into.
class Requantizer {
 public:
  Requantize q{};

  // From the step's record. `entry_bytes` of a table's entries; 0: those of the output's elements.
  void prepare(const Step& step, Planning& planning, const LaneLayout& layout, int32_t entry_bytes = 0);
  // One lane per channel, or one where all channels share a requantization.
  void prepare_by_channel(const Step& step, Planning& planning, int32_t entry_bytes = 0);
  // After either: look-ups as lines, where the kernel set has a use for them and lines give every entry.
  void use_lines(const Step& step, Planning& planning);

 private:
  void fill_lanes(const Step& step, Planning& planning, const LaneLayout& layout);
  void fill_table(const Step& step, Planning& planning, int32_t entry_bytes);

  AlignedBytes multipliers_, shifts_, table_, table_bases_, lines_;
};

inline bool per_channel(const Step& step) { return step.record.requantise_channels != 1; }

}  // namespace headrace
