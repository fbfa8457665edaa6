// SPDX-License-Identifier: Apache-2.0
#include "planning.hpp"

#include <algorithm>

#include "arithmetic.hpp"

namespace headrace {

void set_row_tiles(Step& step, uint64_t work_per_row, uint32_t threads) {
  // A tile is worth handing out from a few microseconds of work; four per thread even out the load.
  constexpr uint64_t kWorthwhile = 1 << 13;
  const auto rows = static_cast<uint64_t>(step.out.height);
  const uint64_t worthwhile = sat_mul(rows, work_per_row) / kWorthwhile;
  const uint64_t tiles = threads == 1 ? 1 : std::clamp<uint64_t>(worthwhile, 1, std::min<uint64_t>(rows, 4 * threads));
  step.tile_rows = static_cast<int64_t>((rows + tiles - 1) / tiles);
  step.tiles = (step.out.height + step.tile_rows - 1) / step.tile_rows;
}

uint64_t plan_rows(Step& step, const Planning& planning, Step::Run run) {
  step.run = run;
  set_row_tiles(step, row_elements(step), planning.threads);
  return 0;
}

uint64_t plan_whole(Step& step, Step::Run run) {
  step.run = run;
  step.tiles = 1;
  step.tile_rows = step.out.height;
  for (const Place& x : step.in) step.work = sat_add(step.work, static_cast<uint64_t>(x.elements()));
  return 0;
}

}  // namespace headrace
