// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "program.hpp"
#include "steps.hpp"

namespace headrace {

// A network ready to run: memory, packed weights, steps in order.
struct Plan {
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<Place> tensors;  // by tensor index; places of tensors that are not alive together may overlap
  AlignedBytes arena;
  AlignedBytes scratch;        // one part per thread
  uint64_t scratch_bytes = 0;  // of one part
  uint64_t work = 0;           // of one frame
};

// `program` must be verified. Throws Failure 26 when the memory limit is passed.
Plan make_plan(const Program& program, const KernelSet& kernels, uint32_t threads, uint64_t memory_limit);

}  // namespace headrace
