// SPDX-License-Identifier: Apache-2.0
// PAD: codes pass; `output_zero` outside of the input.
#include <algorithm>

#include "arithmetic.hpp"
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
  for (int axis = 0; axis < 3; ++axis) {
    if (start[axis] < 0 || start[axis] + size[axis] > out[axis]) {
      c.invalid("the input does not fit the padded output", str(start[axis]) + " + " + str(size[axis]),
                "inside " + str(out[axis]));
    }
  }
  if (k.output_zero < 0 || k.output_zero > top_code(c.out())) {
    c.invalid("the padding is not a code", str(k.output_zero), "0 to " + str(top_code(c.out())));
  }
  return 0;
}

RowRule rows(const Program& p, uint32_t kernel, uint32_t) {
  return RowRule::affine(1, p.kernels[kernel].start_height, 1);
}

template <class T>
void pad(const Step& s, const Lane& lane, int64_t tile) {
  const Place& x = s.in[0];
  const microcode::KernelRecord& k = s.record;
  const T* from = lane.at<T>(x);
  const TileRows rows = rows_of(s, tile);
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    const int64_t pitch = s.out.width * s.out.channels;
    T* out = lane.at<T>(s.out) + oy * pitch;
    std::fill(out, out + pitch, static_cast<T>(k.output_zero));
    const int64_t iy = oy - k.start_height;
    if (iy < 0 || iy >= x.height) continue;
    for (int64_t ix = 0; ix < x.width; ++ix) {
      copy_elements(out + (ix + k.start_width) * s.out.channels + k.start_channel,
                    from + (iy * x.width + ix) * x.channels, x.channels);
    }
  }
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  s.out.bytes == 1 ? pad<uint8_t>(s, lane, tile) : pad<uint16_t>(s, lane, tile);
}

uint64_t plan(Step& s, Planning& planning) { return plan_rows(s, planning, run); }

}  // namespace

// It adds a code of its own, so it does not only copy.
const Primitive primitives::kPad = {false, verify, rows, plan};

}  // namespace headrace
