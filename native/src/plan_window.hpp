// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "program.hpp"
#include "steps.hpp"

namespace headrace {

// Fills step.window (geometry, tiles, packed weights, bias) of a convolution or depthwise step; returns the scratch
// bytes of one thread.
uint64_t plan_window(Step& step, const Program& program, const KernelSet& kernels, Budget& budget, uint32_t threads);
// Output channel of a lane of the packed blocks, or -1 for padding.
int64_t channel_of_lane(const WindowOp& op, uint64_t lane);
// Chooses tile_rows and tiles from the work of one output row.
void set_row_tiles(Step& step, uint64_t work_per_row, uint32_t threads);

void run_convolution(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);
void run_depthwise(const Step&, const KernelSet&, int64_t tile, uint8_t* scratch);

}  // namespace headrace
