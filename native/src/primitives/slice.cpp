// SPDX-License-Identifier: Apache-2.0
// SLICE: codes pass; out[i] = x[start + i * step] along each axis.
#include "copy_run.hpp"
#include "errors.hpp"
#include "primitive.hpp"

namespace headrace {
namespace {

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  c.codes_pass();
  const microcode::KernelRecord& k = c.kernel();
  const int64_t size[3] = {c.in(0).height, c.in(0).width, c.in(0).channels};
  const int64_t out[3] = {c.out().height, c.out().width, c.out().channels};
  const int64_t start[3] = {k.start_height, k.start_width, k.start_channel};
  const int64_t step[3] = {k.step_height, k.step_width, k.step_channel};
  for (int axis = 0; axis < 3; ++axis) {
    if (start[axis] < 0 || step[axis] < 1 || start[axis] + (out[axis] - 1) * step[axis] >= size[axis]) {
      c.invalid("the slice leaves the input",
                "start " + str(start[axis]) + ", step " + str(step[axis]) + ", " + str(out[axis]) + " elements",
                "inside " + str(size[axis]));
    }
  }
  return 0;
}

RowRule rows(const Program& p, uint32_t kernel, uint32_t) {
  const microcode::KernelRecord& k = p.kernels[kernel];
  return RowRule::affine(k.step_height, -int64_t{k.start_height}, 1);
}

template <class T>
void slice(const Step& s, const Lane& lane, int64_t tile) {
  const Place& x = s.in[0];
  const microcode::KernelRecord& k = s.record;
  const T* from = lane.at<T>(x);
  const TileRows rows = rows_of(s, tile);
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    const int64_t iy = k.start_height + oy * k.step_height;
    T* out = lane.at<T>(s.out) + oy * s.out.width * s.out.channels;
    for (int64_t ox = 0; ox < s.out.width; ++ox, out += s.out.channels) {
      const T* p = from + (iy * x.width + k.start_width + ox * k.step_width) * x.channels + k.start_channel;
      if (k.step_channel == 1) {
        copy_elements(out, p, s.out.channels);
      } else {
        for (int64_t c = 0; c < s.out.channels; ++c) out[c] = p[c * k.step_channel];
      }
    }
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  s.out.bytes == 1 ? slice<uint8_t>(s, lane, tile) : slice<uint16_t>(s, lane, tile);
}

uint64_t plan(Step& s, Planning& planning) { return plan_rows(s, planning, run); }

}  // namespace

const Primitive primitives::kSlice = {true, verify, rows, plan};

}  // namespace headrace
