// SPDX-License-Identifier: Apache-2.0
// RESHAPE: codes pass in the order they lie in.
#include <cstring>

#include "arithmetic.hpp"
#include "primitive.hpp"

namespace headrace {
namespace {

uint64_t verify(const Check& c) {
  c.operands(1, 1);
  c.codes_pass();
  c.require(elements(c.in(0)) == elements(c.out()), "input and output differ in size", elements(c.in(0)),
            elements(c.out()));
  return 0;
}

RowRule rows(const Program& p, uint32_t kernel, uint32_t operand) {
  const microcode::TensorRecord& x = p.tensors[p.operand(p.kernels[kernel], operand)];
  const microcode::TensorRecord& out = p.tensors[p.kernels[kernel].output];
  RowRule rule = RowRule::of(RowRule::Kind::kReshape);
  rule.in_row = int64_t{x.width} * x.channels;
  rule.out_row = int64_t{out.width} * out.channels;
  rule.accumulates = true;
  return rule;
}

void run(const Step& s, const Lane& lane, int64_t) {
  std::memcpy(lane.at(s.out), lane.at(s.in[0]), static_cast<size_t>(s.out.size()));
}

uint64_t plan(Step& s, Planning&) { return plan_whole(s, run); }

}  // namespace

const Primitive primitives::kReshape = {true, verify, rows, plan};

}  // namespace headrace
