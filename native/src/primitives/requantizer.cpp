// SPDX-License-Identifier: Apache-2.0
#include "requantizer.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "arithmetic.hpp"

namespace headrace {

using namespace microcode;

void Requantizer::prepare(const Step& s, Planning& planning, const LaneLayout& layout, int32_t entry_bytes) {
  fill_lanes(s, planning, layout);
  fill_table(s, planning, entry_bytes);
}

void Requantizer::prepare_by_channel(const Step& s, Planning& planning, int32_t entry_bytes) {
  LaneLayout layout;
  layout.lanes = per_channel(s) ? static_cast<uint64_t>(s.out.channels) : 1;
  layout.channel_of = [](uint64_t lane) { return static_cast<int64_t>(lane); };
  prepare(s, planning, layout, entry_bytes);
}

void Requantizer::fill_lanes(const Step& s, Planning& planning, const LaneLayout& layout) {
  const KernelRecord& k = s.record;
  const uint64_t terms = k.requantise_terms, count = k.requantise_channels, lanes = layout.lanes;
  multipliers_ = AlignedBytes(planning.budget, sat_mul(lanes * terms, 4), "multipliers");
  shifts_ = AlignedBytes(planning.budget, sat_mul(lanes, 4), "shifts");
  auto* m = multipliers_.as<int32_t>();
  auto* shift = shifts_.as<int32_t>();
  const uint8_t* from = planning.constant(k.multiplier_offset);
  const uint8_t* shifts = planning.constant(k.shift_offset);
  for (uint64_t lane = 0; lane < lanes; ++lane) {
    const int64_t channel = layout.channel_of(lane);
    shift[lane] = 32;  // with a multiplier of 0: any shift gives the zero point, and 32 or more keeps high_half
    if (channel < 0) continue;
    const uint64_t c = count == 1 ? 0 : static_cast<uint64_t>(channel);
    for (uint64_t t = 0; t < terms; ++t) m[t * lanes + lane] = load_i32(from + 4 * (t * count + c));
    shift[lane] = shifts[c];
  }
  // Zero point, residual's zero point and rounding stay below 2^62 together, so that they are one addend. A shift below
  // 32 becomes 32 by shifting the accumulators before; with multipliers below 2^31 the products of two, one of them a
  // residual's code, and the addend then stay below 2^63.
  const uint64_t zero = static_cast<uint64_t>(std::abs(int64_t{k.requantise_zero}));
  q.high_half = s.out.bytes == 1;
  for (uint64_t c = 0; c < count; ++c) {
    const uint32_t by = std::max<uint32_t>(shifts[c], 32), before = by - shifts[c];
    q.high_half = q.high_half && by <= 50 && zero < (uint64_t{1} << (61 - by)) &&
                  (before == 0 || (2 * layout.reach + 256) < (int64_t{1} << (31 - std::min<uint32_t>(before, 31))));
  }
  q.multiplier0 = m;
  q.multiplier1 = terms == 2 ? m + lanes : nullptr;
  q.shift = shift;
  q.table_base = nullptr;
  if (k.channel_table_offset == kNone) return;
  table_bases_ = AlignedBytes(planning.budget, sat_mul(lanes, 4), "channels' tables");
  auto* base = table_bases_.as<int32_t>();
  const uint8_t* numbers = planning.constant(k.channel_table_offset);
  for (uint64_t lane = 0; lane < lanes; ++lane) {
    const int64_t channel = layout.channel_of(lane);
    base[lane] = channel < 0 ? 0 : int32_t{numbers[channel]} << k.table_bits;
  }
  q.table_base = base;
}

void Requantizer::fill_table(const Step& s, Planning& planning, int32_t entry_bytes) {
  const KernelRecord& k = s.record;
  q.zero = k.requantise_zero;
  q.low = k.requantise_low;
  q.high = k.requantise_high;
  q.out_bytes = static_cast<int32_t>(s.out.bytes);
  q.table = nullptr;
  q.table_bytes = q.out_bytes;
  if (k.table_bits == 0) return;
  if (entry_bytes != 0) q.table_bytes = entry_bytes;
  const uint64_t size = (uint64_t{k.table_count} << k.table_bits) * static_cast<uint64_t>(q.table_bytes);
  // Vector look-ups read at least so much.
  table_ = AlignedBytes(planning.budget, std::max<uint64_t>(size, 256), "table");
  std::memcpy(table_.data(), planning.constant(k.table_offset), static_cast<size_t>(size));
  q.table = table_.data();
}

void Requantizer::use_lines(const Step& s, Planning& planning) {
  if (!planning.kernels.line_tables || !q.table || q.table_bytes != 1 || !q.high_half) return;
  const ByteTables tables{q.table, std::max<uint32_t>(1, s.record.table_count), s.record.table_bits};
  Lines lines{};
  std::vector<uint8_t> parts;
  if (!fit_lines(tables, planning.lines, lines, parts)) return;
  lines_ = AlignedBytes(planning.budget, parts.size(), "tables as lines");
  std::copy(parts.begin(), parts.end(), lines_.data());
  lines.parts = lines_.data();
  q.lines = lines;
}

}  // namespace headrace
