// SPDX-License-Identifier: Apache-2.0
// TRANSPOSE: codes pass; output axis i is input axis permutation[i].
#include "primitive.hpp"

namespace headrace {
namespace {

uint32_t axis_of(const microcode::KernelRecord& k, int axis) { return (k.permutation >> (8 * axis)) & 0xFF; }

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  c.codes_pass();
  const uint32_t size[3] = {c.in(0).height, c.in(0).width, c.in(0).channels};
  const uint32_t out[3] = {c.out().height, c.out().width, c.out().channels};
  uint32_t seen = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const uint32_t from = axis_of(c.kernel(), axis);
    if (from > 2 || (seen >> from) & 1 || c.kernel().permutation >> 24 != 0) {
      c.invalid("the permutation is not valid", std::to_string(c.kernel().permutation), "0, 1, 2 in some order");
    }
    seen |= 1u << from;
    c.require(out[axis] == size[from], "the output shape is not the permuted input shape", out[axis], size[from]);
  }
  return 0;
}

RowRule rows(const Program& p, uint32_t kernel, uint32_t) {
  return RowRule::of(axis_of(p.kernels[kernel], 0) != 0 ? RowRule::Kind::kWhole : RowRule::Kind::kAffine);
}

template <class T>
void transpose(const Step& s, const Lane& lane, int64_t tile) {
  const Place& x = s.in[0];
  const int64_t strides[3] = {x.width * x.channels, x.channels, 1};
  const int64_t a = strides[axis_of(s.record, 0)], b = strides[axis_of(s.record, 1)], c = strides[axis_of(s.record, 2)];
  const T* from = lane.at<T>(x);
  const TileRows rows = rows_of(s, tile);
  T* out = lane.at<T>(s.out) + rows.first * s.out.width * s.out.channels;
  for (int64_t i = rows.first; i < rows.last; ++i) {
    for (int64_t j = 0; j < s.out.width; ++j) {
      for (int64_t k = 0; k < s.out.channels; ++k) *out++ = from[i * a + j * b + k * c];
    }
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  s.out.bytes == 1 ? transpose<uint8_t>(s, lane, tile) : transpose<uint16_t>(s, lane, tile);
}

uint64_t plan(Step& s, Planning& planning) { return plan_rows(s, planning, run); }

}  // namespace

const Primitive primitives::kTranspose = {true, verify, rows, plan};

}  // namespace headrace
