// SPDX-License-Identifier: Apache-2.0
// ELEMENTWISE_ADD, ELEMENTWISE_MULTIPLY and RESCALE: arithmetic of two tensors, one of which may be 1 along an axis, or
// of one.
#include <algorithm>

#include "arithmetic.hpp"
#include "kernels/scalar.hpp"
#include "primitive.hpp"
#include "requantizer.hpp"

namespace headrace {
namespace {

using namespace microcode;

// ---- verification ----

void check_broadcast(const Check& c) {
  uint32_t largest[3] = {1, 1, 1};
  const uint32_t want[3] = {c.out().height, c.out().width, c.out().channels};
  for (const TensorRecord* t : c.inputs()) {
    const uint32_t have[3] = {t->height, t->width, t->channels};
    for (int axis = 0; axis < 3; ++axis) {
      if (have[axis] != want[axis] && have[axis] != 1) {
        c.invalid("an input does not broadcast to the output", Check::shape(*t),
                  Check::shape(c.out()) + ", or 1 on an axis");
      }
      largest[axis] = std::max(largest[axis], have[axis]);
    }
  }
  if (!std::equal(largest, largest + 3, want)) {
    c.invalid("the output is larger than every input", Check::shape(c.out()), "an axis that some input has");
  }
}

uint64_t verify(const Check& c, uint32_t inputs, uint32_t terms) {
  c.operands(inputs, inputs);
  check_broadcast(c);
  const auto a = static_cast<uint64_t>(reach(c.in(0)));
  const uint64_t b = c.second_bound();
  if (c.by_sign()) terms = 2;
  Sums sums{terms, c.out().channels, {inputs == 2 && terms == 1 ? a * b : a}};
  sums.second_bound = b;
  c.requantize(sums);
  return 0;
}

uint64_t verify_add(const Check& c) { return verify(c, 2, 2); }
uint64_t verify_multiply(const Check& c) { return verify(c, 2, 1); }
uint64_t verify_rescale(const Check& c) { return verify(c, 1, 1); }

RowRule rows(const Program& p, uint32_t kernel, uint32_t operand) {
  const bool once =
      p.tensors[p.operand(p.kernels[kernel], operand)].height == 1 && p.tensors[p.kernels[kernel].output].height != 1;
  return RowRule::of(once ? RowRule::Kind::kOnce : RowRule::Kind::kAffine);
}

// ---- running ----

struct Elementwise : Prepared {
  ElementwiseOp op{};
  Requantizer requantizer;
};

void run_narrow(const Step& s, const Lane& lane, int64_t tile) {
  const ElementwiseOp& op = s.as<Elementwise>().op;
  const ElementwiseTensors tensors = {lane.at(s.in[0]), op.two_inputs ? lane.at(s.in[1]) : nullptr, lane.at(s.out)};
  const TileRows rows = rows_of(s, tile);
  for (int64_t y = rows.first; y < rows.last; ++y) lane.kernels.elementwise_row(op, tensors, y, lane.scratch);
}

// Where a tensor has 16 bits: few, and computed one by one.
template <Opcode kOpcode>
void run_wide(const Step& s, const Lane& lane, int64_t tile) {
  const Requantize& q = s.as<Elementwise>().requantizer.q;
  const bool two = s.in.size() == 2;
  const Place &first = s.in[0], &last = s.in.back();
  const uint8_t *x_codes = lane.at(first), *y_codes = lane.at(last);
  const Strides a = broadcast_strides(first), b = broadcast_strides(last);
  uint8_t* out = lane.at(s.out);
  const TileRows rows = rows_of(s, tile);
  int64_t at = rows.first * s.out.width * s.out.channels;
  for (int64_t y = rows.first; y < rows.last; ++y) {
    for (int64_t w = 0; w < s.out.width; ++w) {
      for (int64_t c = 0; c < s.out.channels; ++c, ++at) {
        const int64_t m = per_channel(s) ? c : 0;
        int64_t x = load(x_codes, first.bytes, y * a.row + w * a.pixel + c * a.channel) - first.zero;
        int64_t second = 0;
        if (two) second = load(y_codes, last.bytes, y * b.row + w * b.pixel + c * b.channel) - last.zero;
        if (kOpcode == Opcode::kElementwiseMultiply) x *= second;
        int64_t sum = x * q.multiplier0[m];
        if (kOpcode == Opcode::kRescale) second = std::min<int64_t>(x, 0);
        if (q.multiplier1) sum += second * q.multiplier1[m];
        store(out, s.out.bytes, at, code_of(q, requantize_value(sum, q.shift[m], q.zero, q.low, q.high)));
      }
    }
  }
}

// ---- planning ----

void fill_operation(const Step& s, Elementwise& prepared, bool multiply) {
  ElementwiseOp& e = prepared.op;
  const auto strides = [&s](const Place& x, int64_t& row, int64_t& pixel, int64_t& channel) {
    row = x.height == 1 ? 0 : x.width * x.channels;
    pixel = x.width == 1 && s.out.width != 1 ? 0 : x.channels;
    channel = x.channels == 1 && s.out.channels != 1 ? 0 : 1;
  };
  e.height = s.out.height;
  e.width = s.out.width;
  e.channels = s.out.channels;
  e.x_zero = s.in[0].zero;
  strides(s.in[0], e.x_row, e.x_pixel, e.x_channel);
  e.two_inputs = s.in.size() == 2;
  if (e.two_inputs) {
    e.y_zero = s.in[1].zero;
    strides(s.in[1], e.y_row, e.y_pixel, e.y_channel);
  }
  e.multiply = multiply;
  e.per_channel = per_channel(s);
  prepared.requantizer.q.residual_zero = e.y_zero;
  e.q = prepared.requantizer.q;
}

template <Opcode kOpcode>
uint64_t plan(Step& s, Planning& planning) {
  constexpr bool kMultiply = kOpcode == Opcode::kElementwiseMultiply;
  auto& prepared = s.prepare<Elementwise>();
  const auto channels = static_cast<uint64_t>(s.out.channels);
  const bool own = per_channel(s);
  LaneLayout layout;
  layout.lanes = own ? (channels + kColumns - 1) / kColumns * kColumns : kColumns;
  layout.channel_of = [=](uint64_t lane) { return own && lane >= channels ? -1 : static_cast<int64_t>(lane); };
  layout.reach = 1;
  bool wide = s.out.bytes != 1;
  for (const Place& x : s.in) {
    const int64_t top = x.bytes == 1 ? 255 : 65535;
    layout.reach = kMultiply ? layout.reach * top : top;
    wide = wide || x.bytes != 1;
  }
  prepared.requantizer.prepare(s, planning, layout);
  set_row_tiles(s, row_elements(s) * (wide ? 8 : 2), planning.threads);
  if (wide) {
    s.run = run_wide<kOpcode>;
  } else {
    fill_operation(s, prepared, kMultiply);
    s.run = run_narrow;
  }
  return kBlockPixels * kColumns;
}

}  // namespace

const Primitive primitives::kElementwiseAdd = {false, verify_add, rows, plan<Opcode::kElementwiseAdd>};
const Primitive primitives::kElementwiseMultiply = {false, verify_multiply, rows, plan<Opcode::kElementwiseMultiply>};
const Primitive primitives::kRescale = {false, verify_rescale, rows, plan<Opcode::kRescale>};

}  // namespace headrace
