// SPDX-License-Identifier: Apache-2.0
// Look-up tables as straight lines, where that gives every entry exactly.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"

namespace headrace {

// Sums up the work spent on lines: a program of many tables must not take long to load, and tables that are left as
// they are are only slower.
struct LineBudget {
  uint64_t entries = uint64_t{1} << 21;
};

// Tables of one byte an entry: [tables][2^bits].
struct ByteTables {
  const uint8_t* entries;
  uint64_t tables;
  int bits;
};

// Finds lines (see Lines, whose parts it gives in `parts`) that give every entry of every table; false where there are
// none, or where they would not be worth it.
bool fit_lines(const ByteTables& tables, LineBudget& work, Lines& lines, std::vector<uint8_t>& parts);

}  // namespace headrace
