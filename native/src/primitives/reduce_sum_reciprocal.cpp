// SPDX-License-Identifier: Apache-2.0
// REDUCE_SUM_RECIPROCAL: a normalized look-up of max(1, sum of x - zx) over the axes of `axis_mask`.
#include <algorithm>

#include "arithmetic.hpp"
#include "compiler.hpp"
#include "errors.hpp"
#include "kernels/scalar.hpp"
#include "primitive.hpp"
#include "reduce.hpp"
#include "requantizer.hpp"

namespace headrace {
namespace {

struct Reciprocal : Prepared {
  Requantizer requantizer;
};

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  const uint64_t count = c.reduced_elements();
  const uint64_t largest = std::max<uint64_t>(1, sat_mul(count, static_cast<uint64_t>(reach(c.in(0)))));
  const auto n = static_cast<uint32_t>(highest_bit(largest));
  if (n + c.kernel().table_bits > 62) {
    c.invalid("the sum of the reduction may be too large", str(largest), "2^(62 - table_bits)");
  }
  Sums sums{1, c.out().channels, {65535}};
  sums.extra_shift = n;
  sums.reciprocal = true;
  c.requantize(sums);
  return 0;
}

void run(const Step& s, const Lane& lane, int64_t) {
  const Place& x = s.in[0];
  const Requantize& q = s.as<Reciprocal>().requantizer.q;
  const uint8_t* from = lane.at(x);
  auto* sums = reinterpret_cast<int64_t*>(lane.scratch);
  std::fill(sums, sums + s.out.elements(), 0);
  const Strides to = broadcast_strides(s.out);
  int64_t at = 0;
  for (int64_t y = 0; y < x.height; ++y) {
    for (int64_t w = 0; w < x.width; ++w) {
      for (int64_t c = 0; c < x.channels; ++c, ++at) {
        sums[y * to.row + w * to.pixel + c * to.channel] += load(from, x.bytes, at) - x.zero;
      }
    }
  }
  uint8_t* out = lane.at(s.out);
  const int bits = s.record.table_bits;
  for (int64_t i = 0; i < s.out.elements(); ++i) {
    const int64_t v = std::max<int64_t>(1, sums[i]);
    const int n = highest_bit(static_cast<uint64_t>(v));
    const int64_t index = ((v - (int64_t{1} << n)) << bits) >> n;
    const int64_t entry = q.table[2 * index] | (q.table[2 * index + 1] << 8);
    const int64_t c = per_channel(s) ? i % s.out.channels : 0;
    const int64_t value = requantize_value(entry * q.multiplier0[c], q.shift[c] + n, q.zero, q.low, q.high);
    store(out, s.out.bytes, i, static_cast<uint32_t>(value));
  }
}

uint64_t plan(Step& s, Planning& planning) {
  s.prepare<Reciprocal>().requantizer.prepare_by_channel(s, planning, 2);
  plan_whole(s, run);
  return static_cast<uint64_t>(s.out.elements()) * 8;
}

}  // namespace

const Primitive primitives::kReduceSumReciprocal = {false, verify, reduced_rows, plan};

}  // namespace headrace
