// SPDX-License-Identifier: Apache-2.0
#include "verify_kernel.hpp"

#include <algorithm>
#include <set>

#include "errors.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

using namespace microcode;
using Wide = unsigned __int128;

constexpr int64_t kPoolPairLimit = 1 << 20;

class KernelCheck {
 public:
  KernelCheck(const Program& p, size_t index)
      : p_(p), k_(p.kernels[index]), where_("kernel " + printable(p.kernel_names[index])), out_(p.tensors[k_.output]) {
    for (uint32_t i = 0; i < k_.operand_count; ++i) in_.push_back(&p.tensors[p.operand(k_, i)]);
  }

  uint64_t run() {
    switch (static_cast<Opcode>(k_.opcode)) {
      case Opcode::kConvolution:
        return convolution();
      case Opcode::kDepthwise:
        return depthwise();
      case Opcode::kElementwiseAdd:
        return elementwise(2, 2);
      case Opcode::kElementwiseMultiply:
        return elementwise(2, 1);
      case Opcode::kRescale:
        return elementwise(1, 1);
      case Opcode::kPoolMax:
        return pool_max();
      case Opcode::kPoolSum:
        return pool_sum();
      case Opcode::kReduceMax:
        return reduce_max();
      case Opcode::kReduceSumReciprocal:
        return reduce_sum_reciprocal();
      case Opcode::kConcatenate:
        return concatenate();
      case Opcode::kSlice:
        return slice();
      case Opcode::kPad:
        return pad();
      case Opcode::kTranspose:
        return transpose();
      case Opcode::kReshape:
        return reshape();
      case Opcode::kDepthToSpace:
        operands(1, 1);
        return blocks(*in_[0], out_);
      case Opcode::kSpaceToDepth:
        operands(1, 1);
        return blocks(out_, *in_[0]);
      case Opcode::kResizeNearest:
        return resize_nearest();
      case Opcode::kResizeBilinear:
        return resize_bilinear();
    }
    invalid("the opcode is unknown", str(uint32_t{k_.opcode}), "1 to 18");
  }

 private:
  [[noreturn]] void invalid(const std::string& rule, const std::string& got, const std::string& need) const {
    fail(HEADRACE_INVALID_HEF, where_, rule, got, need);
  }
  void require(bool ok, const char* rule, uint64_t got, uint64_t need) const {
    if (!ok) invalid(rule, str(got), str(need));
  }
  static std::string shape(const TensorRecord& t) { return str(t.height) + "x" + str(t.width) + "x" + str(t.channels); }

  const uint8_t* constant(uint32_t offset, uint64_t bytes, const char* what) const {
    if (offset == kNone || offset > p_.constants.size || bytes > p_.constants.size - offset) {
      invalid(std::string(what) + " lie outside CONSTANTS", "offset " + str(offset) + ", " + str(bytes) + " bytes",
              "inside " + str(uint64_t{p_.constants.size}) + " bytes");
    }
    return p_.constants.data + offset;
  }

  void operands(uint32_t least, uint32_t most) const {
    if (k_.operand_count < least || k_.operand_count > most) {
      invalid("it has the wrong number of inputs", str(k_.operand_count), str(least) + " to " + str(most));
    }
  }

  void codes_pass() const {
    require(k_.requantise_terms == 0, "codes pass unchanged, so there is no requantisation", k_.requantise_terms, 0);
    for (const TensorRecord* t : in_) {
      require(t->element_bytes == out_.element_bytes, "input and output elements differ in size", t->element_bytes,
              out_.element_bytes);
    }
  }

  void eight_bit_inputs() const {
    bool wide = false;
    for (const TensorRecord* t : in_) wide = wide || t->element_bytes != 1;
    if (wide) {
      fail(HEADRACE_NOT_IMPLEMENTED, where_, "convolutions that read 16-bit tensors are not built yet",
           "2-byte elements", "1-byte elements in every input");
    }
  }

  // One axis of a window: output = floor((size + before + after - extent) / stride) + 1 for some after >= 0.
  void window_axis(const char* axis, uint32_t size, uint32_t out, uint32_t taps, uint32_t stride, uint32_t dilation,
                   uint32_t pad, bool pool) const {
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
  void window(bool pool) const {
    const TensorRecord& x = *in_[0];
    window_axis("rows", x.height, out_.height, k_.kernel_height, k_.stride_height, k_.dilation_height, k_.pad_top,
                pool);
    window_axis("columns", x.width, out_.width, k_.kernel_width, k_.stride_width, k_.dilation_width, k_.pad_left, pool);
  }

  // Convolutions may look each channel up in a table of its own.
  void channel_tables() const {
    const auto opcode = static_cast<Opcode>(k_.opcode);
    const bool several = k_.channel_table_offset != kNone;
    const bool may = k_.table_bits != 0 && out_.element_bytes == 1 &&
                     (opcode == Opcode::kConvolution || opcode == Opcode::kDepthwise);
    const uint32_t most = several && may ? 256 : 1;
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

  void clamp_and_table(bool table_of_two_bytes) const {
    channel_tables();
    int64_t top = top_code(out_);
    if (k_.table_bits != 0) {
      if (k_.table_bits > 16) invalid("the table is too large", str(uint32_t{k_.table_bits}) + " bits", "at most 16");
      top = (int64_t{1} << k_.table_bits) - 1;
      const uint64_t entry = table_of_two_bytes ? 2 : out_.element_bytes;
      constant(k_.table_offset, (uint64_t{k_.table_count} << k_.table_bits) * entry, "table entries");
      if (table_of_two_bytes) top = top_code(out_);  // there the table comes before the clamp
    } else if (table_of_two_bytes) {
      invalid("the reciprocal needs a table", "0 bits", "1 to 16");
    }
    if (k_.requantise_low < 0 || k_.requantise_low > k_.requantise_high || k_.requantise_high > top) {
      invalid("the clamp bounds are not valid", str(k_.requantise_low) + " to " + str(k_.requantise_high),
              "inside 0 to " + str(top));
    }
  }

  // Proves |sum of a_i M_i| + 2^(s-1) < 2^62 for every channel; `bound` has one entry or one per channel.
  void requantise(uint32_t terms, uint64_t channels, const std::vector<uint64_t>& bound, uint64_t bound2,
                  uint32_t extra_shift = 0, bool table_of_two_bytes = false) const {
    require(k_.requantise_terms == terms, "the number of requantised terms is not this kernel's", k_.requantise_terms,
            terms);
    const uint64_t count = k_.requantise_channels;
    if (count != channels && count != 1) {
      invalid("requantise_channels is not valid", str(count), "1 or " + str(channels));
    }
    const uint8_t* m = constant(k_.multiplier_offset, sat_mul(terms, count) * 4, "multipliers");
    const uint8_t* s = constant(k_.shift_offset, count, "shifts");
    const uint64_t largest = bound.empty() ? 0 : *std::max_element(bound.begin(), bound.end());
    for (uint64_t c = 0; c < count; ++c) {
      const uint64_t a = bound.size() == count ? bound[c] : largest;
      Wide sum = 0;
      for (uint32_t t = 0; t < terms; ++t) {
        const int64_t multiplier = load_i32(m + 4 * (t * count + c));
        if (multiplier == INT32_MIN) invalid("a multiplier is out of range", str(multiplier), "|M| <= 2^31 - 1");
        const uint64_t reached = t == 0 || by_sign() ? a : bound2;
        sum += static_cast<Wide>(reached) * static_cast<uint64_t>(multiplier < 0 ? -multiplier : multiplier);
      }
      if (s[c] < 1 || s[c] + extra_shift > 62) {
        invalid("a shift is out of range", str(s[c] + extra_shift), "1 to 62 in all");
      }
      sum += static_cast<Wide>(1) << (s[c] + extra_shift - 1);
      if (sum >= (static_cast<Wide>(1) << 62)) {
        invalid("the requantised sum may not fit 62 bits", "channel " + str(c), "sum |a_i M_i| + 2^(s-1) < 2^62");
      }
    }
    clamp_and_table(table_of_two_bytes);
  }

  // Bound of |accumulator| for channel c whose weights are `stride`-spaced bytes.
  uint64_t accumulator(const uint8_t* w, uint64_t count, uint64_t stride, const uint8_t* bias) const {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const int value = static_cast<int8_t>(w[i * stride]);
      sum += static_cast<uint64_t>(value < 0 ? -value : value);
    }
    const int64_t b = load_i32(bias);
    const uint64_t bound =
        sat_add(sat_mul(sum, static_cast<uint64_t>(reach(*in_[0]))), static_cast<uint64_t>(b < 0 ? -b : b));
    if (bound > static_cast<uint64_t>(kAccumulatorLimit)) {
      invalid("an accumulator may not fit 32 bits", str(bound), "|bias| + sum |w| max(z, 255 - z) < 2^31");
    }
    return bound;
  }

  // The number of terms: a residual makes two; without one the second may be the negative part of the first.
  uint32_t terms_of_sum() const {
    operands(1, 2);
    if (k_.operand_count == 2) {
      const TensorRecord& r = *in_[1];
      if (r.height != out_.height || r.width != out_.width || r.channels != out_.channels) {
        invalid("the residual has another shape than the output", shape(r), shape(out_));
      }
    }
    return by_sign() ? 2 : k_.operand_count;
  }

  bool by_sign() const { return k_.operand_count == 1 && k_.requantise_terms == 2; }

  uint64_t residual_bound() const { return in_.size() == 2 ? static_cast<uint64_t>(reach(*in_[1])) : 0; }

  uint64_t convolution() {
    const uint32_t terms = terms_of_sum();
    eight_bit_inputs();
    window(false);
    const TensorRecord& x = *in_[0];
    const uint32_t g = k_.groups;
    if (g == 0 || x.channels % g != 0 || out_.channels % g != 0) {
      invalid("the groups do not divide the channels",
              str(g) + " groups, " + str(x.channels) + " -> " + str(out_.channels), "a divisor of both");
    }
    const uint64_t per_channel = sat_mul(sat_mul(k_.kernel_height, k_.kernel_width), x.channels / g);
    const uint64_t total = sat_mul(per_channel, out_.channels);
    const uint8_t* w = constant(k_.weight_offset, total, "weights");
    const uint8_t* b = constant(k_.bias_offset, uint64_t{out_.channels} * 4, "biases");
    std::vector<uint64_t> bound(out_.channels);
    for (uint64_t c = 0; c < out_.channels; ++c) bound[c] = accumulator(w + c * per_channel, per_channel, 1, b + 4 * c);
    requantise(terms, out_.channels, bound, residual_bound());
    return total;
  }

  uint64_t depthwise() {
    const uint32_t terms = terms_of_sum();
    eight_bit_inputs();
    window(false);
    require(in_[0]->channels == out_.channels, "input and output channels differ", in_[0]->channels, out_.channels);
    const uint64_t taps = sat_mul(k_.kernel_height, k_.kernel_width);
    const uint64_t channels = out_.channels;
    const uint64_t total = sat_mul(taps, channels);
    const uint8_t* w = constant(k_.weight_offset, total, "weights");
    const uint8_t* b = constant(k_.bias_offset, channels * 4, "biases");
    std::vector<uint64_t> bound(channels);
    for (uint64_t c = 0; c < channels; ++c) bound[c] = accumulator(w + c, taps, channels, b + 4 * c);
    requantise(terms, channels, bound, residual_bound());
    return total;
  }

  uint64_t elementwise(uint32_t inputs, uint32_t terms) {
    operands(inputs, inputs);
    uint32_t largest[3] = {1, 1, 1};
    const uint32_t want[3] = {out_.height, out_.width, out_.channels};
    for (const TensorRecord* t : in_) {
      const uint32_t have[3] = {t->height, t->width, t->channels};
      for (int axis = 0; axis < 3; ++axis) {
        if (have[axis] != want[axis] && have[axis] != 1) {
          invalid("an input does not broadcast to the output", shape(*t), shape(out_) + ", or 1 on an axis");
        }
        largest[axis] = std::max(largest[axis], have[axis]);
      }
    }
    if (!std::equal(largest, largest + 3, want)) {
      invalid("the output is larger than every input", shape(out_), "an axis that some input has");
    }
    const auto a = static_cast<uint64_t>(reach(*in_[0]));
    const uint64_t b = residual_bound();
    if (by_sign()) terms = 2;
    requantise(terms, out_.channels, {inputs == 2 && terms == 1 ? a * b : a}, b);
    return 0;
  }

  uint64_t pool_max() {
    operands(1, 1);
    codes_pass();
    window(true);
    require(in_[0]->channels == out_.channels, "input and output channels differ", in_[0]->channels, out_.channels);
    return 0;
  }

  std::set<int64_t> counts(uint32_t out, uint32_t stride, uint32_t pad, uint32_t taps, uint32_t dilation,
                           uint32_t size) const {
    std::set<int64_t> all;
    for (uint32_t i = 0; i < out; ++i) all.insert(covered(i, stride, pad, taps, dilation, size).count);
    return all;
  }

  uint64_t pool_sum() {
    operands(1, 1);
    window(true);
    const TensorRecord& x = *in_[0];
    require(x.channels == out_.channels, "input and output channels differ", x.channels, out_.channels);
    const auto rows = counts(out_.height, k_.stride_height, k_.pad_top, k_.kernel_height, k_.dilation_height, x.height);
    const auto columns = counts(out_.width, k_.stride_width, k_.pad_left, k_.kernel_width, k_.dilation_width, x.width);
    const auto pairs = sat_mul(rows.size(), columns.size());
    if (pairs > kPoolPairLimit) invalid("windows are cut in too many ways", str(pairs), "at most 2^20");
    const uint64_t n = k_.requantise_channels;
    const uint8_t* table = constant(k_.count_offset, n * 4, "covered counts");
    std::vector<uint64_t> bound;
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t count = load_u32(table + 4 * i);
      if (count == 0 || (i > 0 && count <= load_u32(table + 4 * (i - 1)))) {
        invalid("the covered counts do not ascend", str(count), "1 or more, ascending");
      }
      bound.push_back(count * static_cast<uint64_t>(reach(x)));
    }
    for (int64_t r : rows) {
      for (int64_t c : columns) {
        const uint64_t count = sat_mul(static_cast<uint64_t>(r), static_cast<uint64_t>(c));
        uint64_t low = 0, high = n;  // binary search in the ascending table
        while (low < high) {
          const uint64_t middle = (low + high) / 2;
          if (load_u32(table + 4 * middle) < count)
            low = middle + 1;
          else
            high = middle;
        }
        if (low == n || load_u32(table + 4 * low) != count) {
          invalid("a window covers a number of elements that is not listed", str(count), "one of the covered counts");
        }
      }
    }
    requantise(1, n, bound, 0);
    return 0;
  }

  uint64_t reduced_elements() const {
    const TensorRecord& x = *in_[0];
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

  uint64_t reduce_max() {
    operands(1, 1);
    codes_pass();
    reduced_elements();
    return 0;
  }

  uint64_t reduce_sum_reciprocal() {
    operands(1, 1);
    const uint64_t count = reduced_elements();
    const uint64_t largest = std::max<uint64_t>(1, sat_mul(count, static_cast<uint64_t>(reach(*in_[0]))));
    uint32_t n = 0;
    while (n < 63 && (largest >> (n + 1)) != 0) ++n;
    if (n + k_.table_bits > 62) {
      invalid("the sum of the reduction may be too large", str(largest), "2^(62 - table_bits)");
    }
    requantise(1, out_.channels, {65535}, 0, n, true);
    return 0;
  }

  uint64_t concatenate() {
    operands(1, 65535);
    codes_pass();
    if (k_.axis > 2) invalid("the axis is not valid", str(uint32_t{k_.axis}), "0, 1 or 2");
    const uint32_t want[3] = {out_.height, out_.width, out_.channels};
    uint64_t sum = 0;
    for (const TensorRecord* t : in_) {
      const uint32_t have[3] = {t->height, t->width, t->channels};
      for (int axis = 0; axis < 3; ++axis) {
        if (axis == k_.axis)
          sum += have[axis];
        else if (have[axis] != want[axis])
          invalid("an input has another shape than the output", shape(*t), shape(out_));
      }
    }
    require(sum == want[k_.axis], "the inputs do not add up to the output", sum, want[k_.axis]);
    return 0;
  }

  uint64_t slice() {
    operands(1, 1);
    codes_pass();
    const TensorRecord& x = *in_[0];
    const int64_t size[3] = {x.height, x.width, x.channels};
    const int64_t out[3] = {out_.height, out_.width, out_.channels};
    const int64_t start[3] = {k_.start_height, k_.start_width, k_.start_channel};
    const int64_t step[3] = {k_.step_height, k_.step_width, k_.step_channel};
    for (int axis = 0; axis < 3; ++axis) {
      if (start[axis] < 0 || step[axis] < 1 || start[axis] + (out[axis] - 1) * step[axis] >= size[axis]) {
        invalid("the slice leaves the input",
                "start " + str(start[axis]) + ", step " + str(step[axis]) + ", " + str(out[axis]) + " elements",
                "inside " + str(size[axis]));
      }
    }
    return 0;
  }

  uint64_t pad() {
    operands(1, 1);
    codes_pass();
    const TensorRecord& x = *in_[0];
    const int64_t size[3] = {x.height, x.width, x.channels};
    const int64_t out[3] = {out_.height, out_.width, out_.channels};
    const int64_t start[3] = {k_.start_height, k_.start_width, k_.start_channel};
    for (int axis = 0; axis < 3; ++axis) {
      if (start[axis] < 0 || start[axis] + size[axis] > out[axis]) {
        invalid("the input does not fit the padded output", str(start[axis]) + " + " + str(size[axis]),
                "inside " + str(out[axis]));
      }
    }
    if (k_.output_zero < 0 || k_.output_zero > top_code(out_)) {
      invalid("the padding is not a code", str(k_.output_zero), "0 to " + str(top_code(out_)));
    }
    return 0;
  }

  uint64_t blocks(const TensorRecord& deep, const TensorRecord& shallow) {
    codes_pass();
    const uint64_t b = k_.block;
    if (b < 1 || b > kWindowLimit || k_.axis > 1) {
      invalid("the block is not valid", str(b) + ", axis " + str(uint32_t{k_.axis}), "1 to 2^16, axis 0 or 1");
    }
    require(shallow.height == deep.height * b, "heights do not differ by the block", shallow.height, deep.height * b);
    require(shallow.width == deep.width * b, "widths do not differ by the block", shallow.width, deep.width * b);
    require(deep.channels == shallow.channels * b * b, "channels do not differ by the block squared", deep.channels,
            shallow.channels * b * b);
    return 0;
  }

  // A table of `entry` words per output position: element indices that never decrease, then a coefficient if entry
  // is 3.
  void resize_axis(uint32_t offset, uint32_t out, uint32_t size, uint64_t entry, const char* what) const {
    const uint8_t* table = constant(offset, sat_mul(out, 4 * entry), what);
    uint32_t before[2] = {0, 0};
    for (uint64_t i = 0; i < out; ++i) {
      const uint8_t* at = table + 4 * entry * i;
      for (int k = 0; k < (entry == 3 ? 2 : 1); ++k) {
        const uint32_t index = load_u32(at + 4 * k);
        if (index >= size || index < before[k]) {
          invalid(std::string(what) + " are not valid", "element " + str(index) + " at position " + str(i),
                  "below " + str(size) + ", never decreasing");
        }
        before[k] = index;
      }
      if (entry == 3 && (load_u32(at + 8) > 2048 || before[1] < before[0])) {
        invalid(std::string(what) + " are not valid", "coefficient " + str(load_u32(at + 8)), "at most 2048");
      }
    }
  }

  void resize_axes(uint64_t entry) const {
    const TensorRecord& x = *in_[0];
    require(x.channels == out_.channels, "input and output channels differ", x.channels, out_.channels);
    resize_axis(k_.row_table_offset, out_.height, x.height, entry, "the rows of the resize");
    resize_axis(k_.column_table_offset, out_.width, x.width, entry, "the columns of the resize");
  }

  uint64_t resize_nearest() {
    operands(1, 1);
    codes_pass();
    resize_axes(1);
    return 0;
  }

  uint64_t resize_bilinear() {
    operands(1, 1);
    resize_axes(3);
    requantise(1, out_.channels, {static_cast<uint64_t>(reach(*in_[0])) << 22}, 0);
    return 0;
  }

  uint64_t transpose() {
    operands(1, 1);
    codes_pass();
    const uint32_t size[3] = {in_[0]->height, in_[0]->width, in_[0]->channels};
    const uint32_t out[3] = {out_.height, out_.width, out_.channels};
    uint32_t seen = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const uint32_t from = (k_.permutation >> (8 * axis)) & 0xFF;
      if (from > 2 || (seen >> from) & 1 || k_.permutation >> 24 != 0) {
        invalid("the permutation is not valid", str(k_.permutation), "0, 1, 2 in some order");
      }
      seen |= 1u << from;
      require(out[axis] == size[from], "the output shape is not the permuted input shape", out[axis], size[from]);
    }
    return 0;
  }

  uint64_t reshape() {
    operands(1, 1);
    codes_pass();
    require(elements(*in_[0]) == elements(out_), "input and output differ in size", elements(*in_[0]), elements(out_));
    return 0;
  }

  const Program& p_;
  const KernelRecord& k_;
  std::string where_;
  const TensorRecord& out_;
  std::vector<const TensorRecord*> in_;
};

}  // namespace

uint64_t verify_kernel(const Program& program, size_t index) { return KernelCheck(program, index).run(); }

}  // namespace headrace
