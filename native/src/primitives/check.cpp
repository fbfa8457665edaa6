// SPDX-License-Identifier: Apache-2.0
#include "check.hpp"

#include <algorithm>

#include "arithmetic.hpp"
#include "errors.hpp"

namespace headrace {

using namespace microcode;

Check::Check(const Program& p, size_t kernel)
    : p_(p), k_(p.kernels[kernel]), where_("kernel " + printable(p.kernel_names[kernel])), out_(p.tensors[k_.output]) {
  for (uint32_t i = 0; i < k_.operand_count; ++i) in_.push_back(&p.tensors[p.operand(k_, i)]);
}

void Check::invalid(const std::string& rule, const std::string& got, const std::string& need) const {
  fail(HEADRACE_INVALID_HEF, where_, rule, got, need);
}

void Check::require(bool ok, const char* rule, uint64_t got, uint64_t need) const {
  if (!ok) invalid(rule, str(got), str(need));
}

std::string Check::shape(const TensorRecord& t) { return str(t.height) + "x" + str(t.width) + "x" + str(t.channels); }

const uint8_t* Check::constant(uint32_t offset, uint64_t bytes, const char* what) const {
  if (offset == kNone || offset > p_.constants.size || bytes > p_.constants.size - offset) {
    invalid(std::string(what) + " lie outside CONSTANTS", "offset " + str(offset) + ", " + str(bytes) + " bytes",
            "inside " + str(uint64_t{p_.constants.size}) + " bytes");
  }
  return p_.constants.data + offset;
}

void Check::operands(uint32_t least, uint32_t most) const {
  if (k_.operand_count < least || k_.operand_count > most) {
    invalid("it has the wrong number of inputs", str(k_.operand_count), str(least) + " to " + str(most));
  }
}

void Check::same_channels() const {
  require(in(0).channels == out_.channels, "input and output channels differ", in(0).channels, out_.channels);
}

void Check::codes_pass() const {
  require(k_.requantise_terms == 0, "codes pass unchanged, so there is no requantization", k_.requantise_terms, 0);
  for (const TensorRecord* t : in_) {
    require(t->element_bytes == out_.element_bytes, "input and output elements differ in size", t->element_bytes,
            out_.element_bytes);
  }
}

// One axis of a window: output = floor((size + before + after - extent) / stride) + 1 for some after >= 0.
void Check::window_axis(const char* axis, uint32_t size, uint32_t out, uint32_t taps, uint32_t stride,
                        uint32_t dilation, uint32_t pad, bool pool) const {
  const auto in_range = [](uint32_t v) { return v >= 1 && v <= kWindowLimit; };
  if (!in_range(taps) || !in_range(stride) || !in_range(dilation)) {
    invalid(std::string("window ") + axis + " is out of range",
            "size " + str(taps) + ", stride " + str(stride) + ", dilation " + str(dilation), "1 to 2^16 each");
  }
  const int64_t extent = (int64_t{taps} - 1) * dilation + 1;
  const int64_t after = (int64_t{out} - 1) * stride - pad + extent - size;
  if (pad >= extent || after >= extent || after <= -int64_t{stride}) {
    invalid(std::string("window ") + axis + " does not give the output size",
            "input " + str(size) + ", output " + str(out) + ", extent " + str(extent) + ", stride " + str(stride) +
                ", before " + str(pad),
            "output = floor((input + before + after - extent) / stride) + 1, before and after below the extent");
  }
  if (!pool || dilation == 1) return;  // without dilation the two ends prove that every window meets the input
  for (uint32_t i = 0; i < out; ++i) {
    if (covered(i, stride, pad, taps, dilation, size).count == 0) {
      invalid(std::string("window ") + axis + " misses the input", "position " + str(i), "at least one element");
    }
  }
}

void Check::window(bool pool) const {
  const TensorRecord& x = in(0);
  window_axis("rows", x.height, out_.height, k_.kernel_height, k_.stride_height, k_.dilation_height, k_.pad_top, pool);
  window_axis("columns", x.width, out_.width, k_.kernel_width, k_.stride_width, k_.dilation_width, k_.pad_left, pool);
}

void Check::channel_tables(bool allowed) const {
  const bool several = k_.channel_table_offset != kNone;
  const bool may = allowed && k_.table_bits != 0 && out_.element_bytes == 1;
  const uint32_t most = several && may ? kTablesLimit : 1;
  if (k_.table_count < 1 || k_.table_count > most) {
    invalid("the number of tables is not valid", str(k_.table_count), "1 to " + str(most));
  }
  if (!several) return;
  if (!may) invalid("channels cannot have tables of their own here", "channel_table_offset", "NONE");
  const uint8_t* numbers = constant(k_.channel_table_offset, out_.channels, "channels' tables");
  for (uint32_t c = 0; c < out_.channels; ++c) {
    if (numbers[c] < k_.table_count) continue;
    invalid("a channel's table does not exist", "table " + str(uint32_t{numbers[c]}) + " of channel " + str(c),
            "below " + str(k_.table_count));
  }
}

void Check::clamp_and_table(const Sums& sums) const {
  channel_tables(sums.tables_per_channel);
  int64_t top = top_code(out_);
  if (k_.table_bits != 0) {
    if (k_.table_bits > 16) invalid("the table is too large", str(uint32_t{k_.table_bits}) + " bits", "at most 16");
    top = (int64_t{1} << k_.table_bits) - 1;
    const uint64_t entry = sums.reciprocal ? 2 : out_.element_bytes;
    constant(k_.table_offset, (uint64_t{k_.table_count} << k_.table_bits) * entry, "table entries");
    if (sums.reciprocal) top = top_code(out_);  // there the table comes before the clamp
  } else if (sums.reciprocal) {
    invalid("the reciprocal needs a table", "0 bits", "1 to 16");
  }
  if (k_.requantise_low < 0 || k_.requantise_low > k_.requantise_high || k_.requantise_high > top) {
    invalid("the clamp bounds are not valid", str(k_.requantise_low) + " to " + str(k_.requantise_high),
            "inside 0 to " + str(top));
  }
}

void Check::requantize(const Sums& sums) const {
  require(k_.requantise_terms == sums.terms, "the number of requantized terms is not this kernel's",
          k_.requantise_terms, sums.terms);
  const uint64_t count = k_.requantise_channels;
  if (count != sums.channels && count != 1) {
    invalid("requantise_channels is not valid", str(count), "1 or " + str(sums.channels));
  }
  const uint8_t* m = constant(k_.multiplier_offset, sat_mul(sums.terms, count) * 4, "multipliers");
  const uint8_t* s = constant(k_.shift_offset, count, "shifts");
  const uint64_t largest = sums.bound.empty() ? 0 : *std::max_element(sums.bound.begin(), sums.bound.end());
  for (uint64_t c = 0; c < count; ++c) {
    const uint64_t a = sums.bound.size() == count ? sums.bound[c] : largest;
    uint64_t sum = 0;  // saturated far above the limit
    for (uint32_t t = 0; t < sums.terms; ++t) {
      const int64_t multiplier = load_i32(m + 4 * (t * count + c));
      if (multiplier < -kMultiplierLimit) invalid("a multiplier is out of range", str(multiplier), "|M| <= 2^31 - 1");
      const uint64_t reached = t == 0 || by_sign() ? a : sums.second_bound;
      sum = sat_add(sum, sat_mul(reached, static_cast<uint64_t>(multiplier < 0 ? -multiplier : multiplier)));
    }
    if (s[c] < 1 || s[c] + sums.extra_shift > kShiftLimit) {
      invalid("a shift is out of range", str(s[c] + sums.extra_shift), "1 to 62 in all");
    }
    sum = sat_add(sum, uint64_t{1} << (s[c] + sums.extra_shift - 1));
    if (sum >= kRequantizedSumLimit) {
      invalid("the requantized sum may not fit 62 bits", "channel " + str(c), "sum |a_i M_i| + 2^(s-1) < 2^62");
    }
  }
  clamp_and_table(sums);
}

uint64_t Check::second_bound() const { return in_.size() == 2 ? static_cast<uint64_t>(reach(in(1))) : 0; }

uint64_t Check::reduced_elements() const {
  const TensorRecord& x = in(0);
  if (k_.axis_mask == 0 || k_.axis_mask > 7) invalid("the axes are not valid", str(uint32_t{k_.axis_mask}), "1 to 7");
  const uint32_t have[3] = {x.height, x.width, x.channels};
  const uint32_t out[3] = {out_.height, out_.width, out_.channels};
  uint64_t count = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const bool reduced = (k_.axis_mask >> axis) & 1;
    if (out[axis] != (reduced ? 1 : have[axis])) {
      invalid("the output shape is not that of the reduction", shape(out_), "1 on reduced axes, else as " + shape(x));
    }
    if (reduced) count = sat_mul(count, have[axis]);
  }
  return count;
}

}  // namespace headrace
