// SPDX-License-Identifier: Apache-2.0
// A network made ready to run: its steps, and the memory of the frames that go through them.
#pragma once

#include <vector>

#include "memory.hpp"
#include "program.hpp"
#include "step.hpp"

namespace headrace {

struct Plan {
  std::vector<Step> steps;
  std::vector<Place> tensors;       // by tensor index; places of tensors that are not alive together may overlap
  std::vector<AlignedBytes> lanes;  // memory of frames that run side by side; the first is made with the plan
  uint64_t lane_bytes = 0;          // of one
  uint64_t free_bytes = 0;          // what the memory limit leaves for lanes
  AlignedBytes scratch;             // one part per thread
  uint64_t scratch_bytes = 0;       // of one part
  uint64_t work = 0;                // of one frame

  // A frame in this lane, on this thread.
  Lane lane(size_t number, uint32_t thread, const KernelSet& kernels) const {
    return {lanes[number].data(), scratch.data() + thread * scratch_bytes, kernels};
  }
};

// `program` must be verified. Throws Failure 26 when the memory limit is passed.
Plan make_plan(const Program& program, const KernelSet& kernels, uint32_t threads, uint64_t memory_limit);
// Adds a lane; false where memory does not allow it.
bool add_lane(Plan& plan);

}  // namespace headrace
