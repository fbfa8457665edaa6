// SPDX-License-Identifier: Apache-2.0
// REDUCE_MAX: codes pass; the largest over the axes of `axis_mask`.
#include <algorithm>
#include <cstring>

#include "primitive.hpp"
#include "reduce.hpp"

namespace headrace {
namespace {

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  c.codes_pass();
  c.reduced_elements();
  return 0;
}

template <class T>
void reduce_max(const Step& s, const Lane& lane) {
  const Place& x = s.in[0];
  const T* from = lane.at<T>(x);
  T* out = lane.at<T>(s.out);
  std::memset(out, 0, static_cast<size_t>(s.out.size()));
  const Strides to = broadcast_strides(s.out);
  for (int64_t y = 0; y < x.height; ++y) {
    for (int64_t w = 0; w < x.width; ++w) {
      T* pixel = out + y * to.row + w * to.pixel;
      for (int64_t c = 0; c < x.channels; ++c, ++from) pixel[c * to.channel] = std::max(pixel[c * to.channel], *from);
    }
  }
}

void run(const Step& s, const Lane& lane, int64_t) {
  s.out.bytes == 1 ? reduce_max<uint8_t>(s, lane) : reduce_max<uint16_t>(s, lane);
}

uint64_t plan(Step& s, Planning&) { return plan_whole(s, run); }

}  // namespace

const Primitive primitives::kReduceMax = {false, verify, reduced_rows, plan};

}  // namespace headrace
