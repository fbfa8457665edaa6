// SPDX-License-Identifier: Apache-2.0
// POOL_SUM: the sum of each window over the positions inside the input, requantized by how many there are.
#include <algorithm>
#include <set>
#include <vector>

#include "arithmetic.hpp"
#include "errors.hpp"
#include "kernels/scalar.hpp"
#include "primitive.hpp"
#include "requantizer.hpp"
#include "window.hpp"

namespace headrace {
namespace {

using namespace microcode;

constexpr int64_t kPairLimit = 1 << 20;
constexpr int64_t kAccumulatorLimit = INT32_MAX;

// One axis of the windows.
struct Axis {
  int64_t out, stride, pad, taps, dilation, size;

  Covered at(int64_t position) const { return covered(position, stride, pad, taps, dilation, size); }
};
template <class Tensor>
Axis rows_axis(const KernelRecord& k, const Tensor& x, const Tensor& out) {
  return {out.height, k.stride_height, k.pad_top, k.kernel_height, k.dilation_height, x.height};
}
template <class Tensor>
Axis columns_axis(const KernelRecord& k, const Tensor& x, const Tensor& out) {
  return {out.width, k.stride_width, k.pad_left, k.kernel_width, k.dilation_width, x.width};
}

std::set<int64_t> covered_counts(const Axis& axis) {
  std::set<int64_t> all;
  for (int64_t i = 0; i < axis.out; ++i) all.insert(axis.at(i).count);
  return all;
}

void check_listed(const Check& c, const uint8_t* table, uint64_t listed, uint64_t count) {
  uint64_t low = 0, high = listed;  // binary search in the ascending table
  while (low < high) {
    const uint64_t middle = (low + high) / 2;
    if (load_u32(table + 4 * middle) < count)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == listed || load_u32(table + 4 * low) != count) {
    c.invalid("a window covers a number of elements that is not listed", str(count), "one of the covered counts");
  }
}

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  c.window(true);
  c.same_channels();
  const KernelRecord& k = c.kernel();
  const auto rows = covered_counts(rows_axis(k, c.in(0), c.out()));
  const auto columns = covered_counts(columns_axis(k, c.in(0), c.out()));
  const auto pairs = sat_mul(rows.size(), columns.size());
  if (pairs > kPairLimit) c.invalid("windows are cut in too many ways", str(pairs), "at most 2^20");
  const uint64_t n = k.requantise_channels;
  const uint8_t* table = c.constant(k.count_offset, n * 4, "covered counts");
  std::vector<uint64_t> bound;
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t count = load_u32(table + 4 * i);
    if (count == 0 || (i > 0 && count <= load_u32(table + 4 * (i - 1)))) {
      c.invalid("the covered counts do not ascend", str(count), "1 or more, ascending");
    }
    bound.push_back(count * static_cast<uint64_t>(reach(c.in(0))));
  }
  for (int64_t row : rows) {
    for (int64_t column : columns) {
      check_listed(c, table, n, sat_mul(static_cast<uint64_t>(row), static_cast<uint64_t>(column)));
    }
  }
  c.requantize({1, n, bound});
  return 0;
}

// Class of each output row and column by covered elements, and the requantization of each pair of classes.
struct PoolSum : Prepared {
  std::vector<uint32_t> row_class, column_class, pair_entry;
  uint32_t column_classes = 0;
  Requantizer requantizer;
};

std::vector<int64_t> classify(const Axis& axis, std::vector<uint32_t>& classes) {
  const std::set<int64_t> counts = covered_counts(axis);
  std::vector<int64_t> distinct(counts.begin(), counts.end());
  for (int64_t i = 0; i < axis.out; ++i) {
    classes.push_back(
        static_cast<uint32_t>(std::lower_bound(distinct.begin(), distinct.end(), axis.at(i).count) - distinct.begin()));
  }
  return distinct;
}

// Sums of codes of one output position over its covered window.
struct Window {
  Covered v, h;
  int64_t top, left;
};

template <class Sum>
void window_sums(const Step& s, const uint8_t* x_codes, const Window& w, int64_t c, int64_t channels, Sum* sums) {
  const Place& x = s.in[0];
  const KernelRecord& k = s.record;
  const auto covered_zero = static_cast<Sum>(w.v.count * w.h.count * x.zero);
  for (int64_t i = 0; i < channels; ++i) sums[i] = static_cast<Sum>(-covered_zero);
  for (int64_t i = w.v.first; i < w.v.first + w.v.count; ++i) {
    for (int64_t j = w.h.first; j < w.h.first + w.h.count; ++j) {
      const int64_t at = ((w.top + i * k.dilation_height) * x.width + w.left + j * k.dilation_width) * x.channels + c;
      if (x.bytes == 1) {
        const uint8_t* p = x_codes + at;
        for (int64_t n = 0; n < channels; ++n) sums[n] += p[n];
      } else {
        const auto* p = reinterpret_cast<const uint16_t*>(x_codes) + at;
        for (int64_t n = 0; n < channels; ++n) sums[n] += p[n];
      }
    }
  }
}

void pool_position(const Step& s, const Lane& lane, const Window& w, uint32_t entry, int64_t at) {
  const int64_t channels = s.out.channels;
  const uint8_t* x = lane.at(s.in[0]);
  uint8_t* out = lane.at(s.out);
  Requantize q = s.as<PoolSum>().requantizer.q;
  q.multiplier0 += int64_t{entry} * kColumns;
  q.shift += int64_t{entry} * kColumns;
  const int64_t most = w.v.count * w.h.count * std::max<int64_t>(s.in[0].zero, (s.in[0].bytes == 1 ? 255 : 65535));
  for (int64_t c = 0; c < channels; c += kColumns) {
    const int64_t n = std::min<int64_t>(kColumns, channels - c);
    if (s.out.bytes == 1 && most <= kAccumulatorLimit) {
      alignas(64) int32_t sums[kColumns] = {};
      window_sums(s, x, w, c, n, sums);
      lane.kernels.requantize(q, sums, kColumns, nullptr, 0, out + at + c, 0, 1, static_cast<int>(n));
    } else {
      int64_t sums[kColumns];
      window_sums(s, x, w, c, n, sums);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t value = requantize_value(sums[i] * q.multiplier0[0], q.shift[0], q.zero, q.low, q.high);
        store(out, s.out.bytes, at + c + i, code_of(q, value));
      }
    }
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  const auto& prepared = s.as<PoolSum>();
  const KernelRecord& k = s.record;
  const Axis vertical = rows_axis(k, s.in[0], s.out), horizontal = columns_axis(k, s.in[0], s.out);
  const TileRows rows = rows_of(s, tile);
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    for (int64_t ox = 0; ox < s.out.width; ++ox) {
      Window w;
      w.v = vertical.at(oy);
      w.h = horizontal.at(ox);
      w.top = oy * k.stride_height - k.pad_top;
      w.left = ox * k.stride_width - k.pad_left;
      const size_t pair = size_t{prepared.row_class[static_cast<size_t>(oy)]} * prepared.column_classes +
                          prepared.column_class[static_cast<size_t>(ox)];
      pool_position(s, lane, w, prepared.pair_entry[pair], (oy * s.out.width + ox) * s.out.channels);
    }
  }
}

uint64_t plan(Step& s, Planning& planning) {
  const KernelRecord& k = s.record;
  auto& prepared = s.prepare<PoolSum>();
  const uint64_t window = sat_mul(k.kernel_height, k.kernel_width);
  s.work = sat_mul(s.work, window);
  planning.budget.take(sat_mul(static_cast<uint64_t>(s.out.height + s.out.width), 24), "pool windows");
  const auto rows = classify(rows_axis(k, s.in[0], s.out), prepared.row_class);
  const auto columns = classify(columns_axis(k, s.in[0], s.out), prepared.column_class);
  prepared.column_classes = static_cast<uint32_t>(columns.size());
  const uint8_t* table = planning.constant(k.count_offset);
  std::vector<uint32_t> listed;
  planning.budget.take(uint64_t{k.requantise_channels} * 4, "covered counts");
  for (uint32_t i = 0; i < k.requantise_channels; ++i) listed.push_back(load_u32(table + 4 * size_t{i}));
  for (int64_t r : rows) {
    for (int64_t c : columns) {
      prepared.pair_entry.push_back(static_cast<uint32_t>(
          std::lower_bound(listed.begin(), listed.end(), static_cast<uint32_t>(r * c)) - listed.begin()));
    }
  }
  LaneLayout layout;
  layout.lanes = uint64_t{k.requantise_channels} * kColumns;
  layout.channel_of = [](uint64_t lane) { return static_cast<int64_t>(lane / kColumns); };
  prepared.requantizer.prepare(s, planning, layout);
  s.run = run;
  set_row_tiles(s, sat_mul(row_elements(s), window), planning.threads);
  return 0;
}

}  // namespace

const Primitive primitives::kPoolSum = {false, verify, window_rows, plan};

}  // namespace headrace
