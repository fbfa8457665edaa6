// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "program.hpp"
#include "steps.hpp"

namespace headrace {

// Memory for the tensors of one frame, and the steps that work on it, in order.
struct Lane {
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<Place> tensors;  // by tensor index; places of tensors that are not alive together may overlap
  AlignedBytes arena;
};

// A network ready to run. The first lane is made with it; add_lane makes those for frames that run side by side.
struct Plan {
  std::vector<Lane> lanes;     // grows while frames run; for their geometry clients look at:
  std::vector<Place> tensors;  // those of the first lane
  uint64_t arena_bytes = 0;    // of one lane
  uint64_t free_bytes = 0;     // what the memory limit leaves for lanes
  AlignedBytes scratch;        // one part per thread
  uint64_t scratch_bytes = 0;  // of one part
  uint64_t work = 0;           // of one frame
};

// `program` must be verified. Throws Failure 26 when the memory limit is passed.
Plan make_plan(const Program& program, const KernelSet& kernels, uint32_t threads, uint64_t memory_limit);
// Adds a lane that shares the constants of the first; false where memory does not allow it.
bool add_lane(Plan& plan);

}  // namespace headrace
