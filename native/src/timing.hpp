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

// One of several contexts: loaded once per batch, then the batch runs through it.
struct ContextTiming {
  uint64_t reload = 0, change = 0;  // cycles per batch: weights over the link, fixed time of the switch
  uint64_t first = 0, run = 0;      // cycles of one frame alone, and of the whole batch
  uint64_t link_busy = 0;           // cycles per frame
  uint64_t ahead = 0;               // of reload, what is loaded while the context before runs
  uint64_t overrun = 0;             // how much longer than its run the loading for the next context keeps the link busy
};

struct TimingResult {
  double fps = 0, latency_ms = 0;
  uint64_t period_numerator = 0, period_denominator = 1;  // cycles per frame
  uint64_t latency = 0;
  uint64_t link_busy = 0;
  uint32_t frames = 0;
  uint32_t bottleneck = 0;
  bool steady = false;
  uint32_t batch = 1;                   // frames between two switches
  std::vector<ContextTiming> contexts;  // empty for one context, whose weights stay
  std::vector<StageTiming> stages;
};

// Throws Failure 61 (no stages), 7 (too long) or 1001 (deadlock).
TimingResult simulate(const Program& program);

}  // namespace headrace
