// SPDX-License-Identifier: Apache-2.0
// Event simulation of the pipeline, rows as tokens (docs/formats/microcode.md, 'Time').
#pragma once

#include <cstdint>
#include <vector>

#include "program.hpp"

namespace headrace {

struct StageTiming {
  uint32_t kernel = 0;
  uint32_t rows = 0;
  uint64_t busy = 0, engine = 0, input_port = 0, output_port = 0;  // cycles per frame
  uint64_t span = 0;                                               // first start to last end of the measured frame
  uint64_t stall_input = 0, stall_output = 0;
};

struct TimingResult {
  double fps = 0, latency_ms = 0;
  uint64_t period_numerator = 0, period_denominator = 1;  // cycles per frame
  uint64_t latency = 0;
  uint64_t link_busy = 0;
  uint32_t frames = 0;
  uint32_t bottleneck = 0;
  bool steady = false;
  std::vector<StageTiming> stages;
};

// Throws Failure 61 (no stages), 7 (several contexts, too long) or 1001 (deadlock).
TimingResult simulate(const Program& program);

}  // namespace headrace
