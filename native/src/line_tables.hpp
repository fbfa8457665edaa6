// SPDX-License-Identifier: Apache-2.0
// Look-up tables as straight lines, where that gives every entry exactly.
#pragma once

#include "kernels/kernels.hpp"
#include "program.hpp"
#include "steps.hpp"

namespace headrace {

// Sums up the work spent on lines: a program of many tables must not take long to load, and tables that are left as
// they are are only slower.
struct LineBudget {
  uint64_t entries = uint64_t{1} << 21;
};

// Fills step.line_tables and step.q.lines (see Lines) from the step's tables of one byte an entry, if lines give every
// entry of every table; leaves them empty otherwise.
void fit_lines(Step& step, Budget& memory, LineBudget& work);

}  // namespace headrace
