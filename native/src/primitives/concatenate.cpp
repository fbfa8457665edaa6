// SPDX-License-Identifier: Apache-2.0
// CONCATENATE: codes pass; the inputs one after the other along `axis`.
#include "copy_run.hpp"
#include "errors.hpp"
#include "primitive.hpp"

namespace headrace {
namespace {

uint64_t verify(const Check& c) {
  c.operands(1, 65535);
  c.codes_pass();
  const uint32_t axis = c.kernel().axis;
  if (axis > 2) c.invalid("the axis is not valid", str(axis), "0, 1 or 2");
  const uint32_t want[3] = {c.out().height, c.out().width, c.out().channels};
  uint64_t sum = 0;
  for (const microcode::TensorRecord* t : c.inputs()) {
    const uint32_t have[3] = {t->height, t->width, t->channels};
    for (uint32_t i = 0; i < 3; ++i) {
      if (i == axis)
        sum += have[i];
      else if (have[i] != want[i])
        c.invalid("an input has another shape than the output", Check::shape(*t), Check::shape(c.out()));
    }
  }
  c.require(sum == want[axis], "the inputs do not add up to the output", sum, want[axis]);
  return 0;
}

RowRule rows(const Program& p, uint32_t kernel, uint32_t operand) {
  const microcode::KernelRecord& k = p.kernels[kernel];
  int64_t before = 0;
  for (uint32_t i = 0; k.axis == 0 && i < operand; ++i) before += p.tensors[p.operand(k, i)].height;
  return RowRule::affine(1, before, 1);
}

void run(const Step& s, const Lane& lane, int64_t tile) {
  // Seen as [outer][axis and everything inside it], each input is a run of bytes per outer index. Tiles are rows of the
  // output, but for a concatenation of rows, which is one tile.
  const TileRows rows = rows_of(s, tile);
  int64_t outer = 1, first = 0, last = 1;
  if (s.record.axis >= 1) {
    const int64_t inside = s.record.axis >= 2 ? s.out.width : 1;
    outer = s.out.height * inside;
    first = rows.first * inside;
    last = rows.last * inside;
  }
  const int64_t pitch = s.out.size() / outer;
  uint8_t* out = lane.at(s.out);
  int64_t at = 0;
  for (const Place& x : s.in) {
    const int64_t run = x.size() / outer;
    const uint8_t* from = lane.at(x);
    for (int64_t i = first; i < last; ++i) copy_run(out + i * pitch + at, from + i * run, static_cast<size_t>(run));
    at += run;
  }
}

uint64_t plan(Step& s, Planning& planning) {
  return s.record.axis == 0 ? plan_whole(s, run) : plan_rows(s, planning, run);
}

}  // namespace

const Primitive primitives::kConcatenate = {true, verify, rows, plan};

}  // namespace headrace
