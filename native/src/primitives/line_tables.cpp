// SPDX-License-Identifier: Apache-2.0
#include "line_tables.hpp"

#include <algorithm>
#include <utility>

namespace headrace {
namespace {

struct Line {
  int32_t base = 0, slope = 0;
};

// A line that gives all `length` entries; where an entry is 255 it may give more, for narrowing saturates. The slope is
// sought outwards from that between the first and last entry below 255; the bases that give every entry for a slope are
// an interval. No value reaches 2^16.
bool fit_line(const uint8_t* entries, int length, int shift, Line& line) {
  const int32_t one = 1 << shift;
  const auto base_of = [&](int32_t slope, Line& found) {
    int32_t low = 0, high = UINT16_MAX;
    for (int i = 0; i < length; ++i) {
      const int32_t least = (entries[i] << shift) - slope * i;
      low = std::max(low, least);
      high = std::min(high, entries[i] == 255 ? UINT16_MAX - slope * i : least + one - 1);
      if (low > high) return false;
    }
    found = {low, slope};
    return true;
  };
  int last = length - 1;
  while (last > 0 && entries[last] == 255) --last;
  const int32_t rise = (entries[last] - entries[0]) * one, steps = std::max(1, last);
  const int32_t middle = rise / steps, most = one / steps + 1;
  for (int32_t away = 0; away <= most; ++away) {
    for (const int32_t slope : {middle + away, middle - away}) {
      if (slope >= INT8_MIN && slope <= INT8_MAX && base_of(slope, line)) return true;
    }
  }
  return false;
}

// The tables of one step, and what has been found for them.
struct Fitting {
  const uint8_t* entries;  // [tables][2^bits]
  uint64_t tables;
  int bits;
  std::vector<uint8_t> parts;

  // The first `offset` entries are taken for the one after them, and segments begin there.
  bool allows(int offset) const {
    for (uint64_t t = 0; t < tables; ++t) {
      const uint8_t* table = entries + (t << bits);
      if (!std::all_of(table, table + offset, [&](uint8_t e) { return e == table[offset]; })) return false;
    }
    return true;
  }

  bool fit(const Lines& lines) {
    const int length = 1 << lines.step, count = 1 << bits;
    parts.assign(static_cast<size_t>(3 * lines.segments) * tables, 0);
    for (uint64_t t = 0; t < tables; ++t) {
      const uint8_t* table = entries + (t << bits);
      uint8_t* part = parts.data() + t * static_cast<size_t>(3 * lines.segments);
      for (int s = 0; s < lines.segments; ++s) {
        const int first = lines.offset + s * length;
        Line line;
        if (!fit_line(table + first, std::min(length, count - first), lines.shift, line)) return false;
        part[s] = static_cast<uint8_t>(line.base & 0xFF);
        part[lines.segments + s] = static_cast<uint8_t>(line.base >> 8);
        part[2 * lines.segments + s] = static_cast<uint8_t>(line.slope);
      }
    }
    return true;
  }

  // Few segments are faster than many; an offset moves the segments to where lines give every entry.
  bool search(Lines& lines) {
    for (const int segment_bits : {7, 8}) {
      lines.segments = 1 << segment_bits;
      lines.step = bits - segment_bits;
      for (lines.offset = 0; lines.offset < 1 << lines.step && allows(lines.offset); ++lines.offset) {
        for (lines.shift = 8; lines.shift >= 6; --lines.shift) {
          if (fit(lines)) return true;
        }
      }
    }
    return false;
  }
};

}  // namespace

bool fit_lines(const ByteTables& tables, LineBudget& work, Lines& lines, std::vector<uint8_t>& parts) {
  constexpr int kLeastBits = 10, kMostBits = 14;  // a smaller table is looked up as fast as it is
  constexpr uint64_t kMostTables = 16;
  if (tables.bits < kLeastBits || tables.bits > kMostBits || tables.tables > kMostTables) return false;
  if (tables.tables << tables.bits > work.entries) return false;
  work.entries -= tables.tables << tables.bits;
  Fitting fitting{tables.entries, tables.tables, tables.bits, {}};
  if (!fitting.search(lines)) return false;
  parts = std::move(fitting.parts);
  return true;
}

}  // namespace headrace
