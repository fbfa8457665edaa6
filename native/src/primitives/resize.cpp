// SPDX-License-Identifier: Apache-2.0
// RESIZE_NEAREST, whose codes pass, and RESIZE_BILINEAR. Both read input elements by tables of rows and columns.
#include <cstring>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "errors.hpp"
#include "kernels/scalar.hpp"
#include "primitive.hpp"
#include "requantizer.hpp"

namespace headrace {
namespace {

using namespace microcode;

// Words of a table entry: the element; or two of them and the coefficient of the second.
constexpr uint64_t kNearest = 1, kBilinear = 3;

// ---- both ----

// Element indices that never decrease, then a coefficient.
void check_axis(const Check& c, uint32_t offset, uint32_t out, uint32_t size, uint64_t entry, const char* what) {
  const uint8_t* table = c.constant(offset, sat_mul(out, 4 * entry), what);
  uint32_t before[2] = {0, 0};
  for (uint64_t i = 0; i < out; ++i) {
    const uint8_t* at = table + 4 * entry * i;
    for (int k = 0; k < (entry == kBilinear ? 2 : 1); ++k) {
      const uint32_t index = load_u32(at + 4 * k);
      if (index >= size || index < before[k]) {
        c.invalid(std::string(what) + " are not valid", "element " + str(index) + " at position " + str(i),
                  "below " + str(size) + ", never decreasing");
      }
      before[k] = index;
    }
    if (entry == kBilinear && (load_u32(at + 8) > kCoefficientOne || before[1] < before[0])) {
      c.invalid(std::string(what) + " are not valid", "coefficient " + str(load_u32(at + 8)),
                "at most " + str(kCoefficientOne));
    }
  }
}

void check_axes(const Check& c, uint64_t entry) {
  c.same_channels();
  const KernelRecord& k = c.kernel();
  check_axis(c, k.row_table_offset, c.out().height, c.in(0).height, entry, "the rows of the resize");
  check_axis(c, k.column_table_offset, c.out().width, c.in(0).width, entry, "the columns of the resize");
}

template <uint64_t kEntry>
void keep_rows(Program& p, uint32_t kernel) {
  const KernelRecord& k = p.kernels[kernel];
  const uint8_t* table = p.constants.data + k.row_table_offset;
  for (size_t y = 0; y < p.tensors[k.output].height; ++y) {
    const uint8_t* at = table + 4 * kEntry * y;
    p.row_tables[kernel].emplace_back(load_u32(at), load_u32(at + (kEntry == kNearest ? 0 : 4)));
  }
}

RowRule rows(const Program& p, uint32_t kernel, uint32_t) {
  RowRule rule = RowRule::of(RowRule::Kind::kTable);
  rule.table = p.row_tables[kernel];
  return rule;
}

struct Resize : Prepared {
  std::vector<uint32_t> rows, columns;
  Requantizer requantizer;  // bilinear
};

Resize& prepare_tables(Step& s, Planning& planning, uint64_t entry) {
  auto& prepared = s.prepare<Resize>();
  const auto rows = static_cast<uint64_t>(s.out.height), columns = static_cast<uint64_t>(s.out.width);
  planning.budget.take(sat_mul(rows + columns, 4 * entry), "resize tables");
  const auto read = [&](uint32_t offset, uint64_t n, std::vector<uint32_t>& table) {
    const uint8_t* from = planning.constant(offset);
    for (uint64_t i = 0; i < n * entry; ++i) table.push_back(load_u32(from + 4 * i));
  };
  read(s.record.row_table_offset, rows, prepared.rows);
  read(s.record.column_table_offset, columns, prepared.columns);
  return prepared;
}

// ---- RESIZE_NEAREST ----

uint64_t verify_nearest(const Check& c) {
  c.operands(1, 1);
  c.codes_pass();
  check_axes(c, kNearest);
  return 0;
}

void run_nearest(const Step& s, const Lane& lane, int64_t tile) {
  const auto& tables = s.as<Resize>();
  const Place& x = s.in[0];
  const int64_t pixel = x.channels * x.bytes;
  const auto row_bytes = static_cast<size_t>(s.out.width * pixel);
  const TileRows rows = rows_of(s, tile);
  for (int64_t y = rows.first; y < rows.last; ++y) {
    uint8_t* out = lane.at(s.out) + y * s.out.width * pixel;
    // A row that copies the input row of the one before it is that row again.
    if (y > rows.first && tables.rows[static_cast<size_t>(y)] == tables.rows[static_cast<size_t>(y) - 1]) {
      std::memcpy(out, out - row_bytes, row_bytes);
      continue;
    }
    const uint8_t* from = lane.at(x) + tables.rows[static_cast<size_t>(y)] * x.width * pixel;
    for (int64_t w = 0; w < s.out.width; ++w) {
      std::memcpy(out + w * pixel, from + tables.columns[static_cast<size_t>(w)] * pixel, static_cast<size_t>(pixel));
    }
  }
}

uint64_t plan_nearest(Step& s, Planning& planning) {
  prepare_tables(s, planning, kNearest);
  return plan_rows(s, planning, run_nearest);
}

// ---- RESIZE_BILINEAR ----

uint64_t verify_bilinear(const Check& c) {
  c.operands(1, 1);
  check_axes(c, kBilinear);
  c.requantize({1, c.out().channels, {static_cast<uint64_t>(reach(c.in(0))) * kCoefficientOne * kCoefficientOne}});
  return 0;
}

void run_bilinear(const Step& s, const Lane& lane, int64_t tile) {
  constexpr int64_t kOne = kCoefficientOne;
  const auto& prepared = s.as<Resize>();
  const Requantize& q = prepared.requantizer.q;
  const Place& x = s.in[0];
  const uint8_t* codes = lane.at(x);
  uint8_t* out = lane.at(s.out);
  const int64_t n = x.channels, row = x.width * n;
  const TileRows rows = rows_of(s, tile);
  for (int64_t y = rows.first; y < rows.last; ++y) {
    const uint32_t* v = prepared.rows.data() + 3 * y;
    const int64_t top = v[0] * row, bottom = v[1] * row, cv = v[2];
    for (int64_t w = 0; w < s.out.width; ++w) {
      const uint32_t* h = prepared.columns.data() + 3 * w;
      const int64_t left = h[0] * n, right = h[1] * n, ch = h[2];
      for (int64_t c = 0; c < n; ++c) {
        const auto at = [&](int64_t i) { return load(codes, x.bytes, i + c) - x.zero; };
        const int64_t sum = (kOne - cv) * ((kOne - ch) * at(top + left) + ch * at(top + right)) +
                            cv * ((kOne - ch) * at(bottom + left) + ch * at(bottom + right));
        const int64_t m = per_channel(s) ? c : 0;
        const int64_t value = requantize_value(sum * q.multiplier0[m], q.shift[m], q.zero, q.low, q.high);
        store(out, s.out.bytes, (y * s.out.width + w) * n + c, code_of(q, value));
      }
    }
  }
}

uint64_t plan_bilinear(Step& s, Planning& planning) {
  prepare_tables(s, planning, kBilinear).requantizer.prepare_by_channel(s, planning);
  s.work = sat_mul(s.work, 8);
  s.run = run_bilinear;
  set_row_tiles(s, sat_mul(row_elements(s), 8), planning.threads);
  return 0;
}

}  // namespace

const Primitive primitives::kResizeNearest = {true, verify_nearest, rows, plan_nearest, keep_rows<kNearest>};
const Primitive primitives::kResizeBilinear = {false, verify_bilinear, rows, plan_bilinear, keep_rows<kBilinear>};

}  // namespace headrace
