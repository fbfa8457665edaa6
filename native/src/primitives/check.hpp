// SPDX-License-Identifier: Apache-2.0
// What the primitives' own checks are made of: one kernel of a program, and the rules that several primitives share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "microcode_generated.hpp"
#include "program.hpp"

namespace headrace {

constexpr uint32_t kWindowLimit = 1u << 16;

// How the kernel's sums become codes; see Check::requantize.
struct Sums {
  uint32_t terms;
  uint64_t channels;
  std::vector<uint64_t> bound;  // of |sum|, one entry or one per channel
  uint64_t second_bound = 0;    // of the second term
  uint32_t extra_shift = 0;
  bool reciprocal = false;          // looked up first, in a table of two-byte entries, then requantized
  bool tables_per_channel = false;  // each channel may have a table of its own
};

class Check {
 public:
  Check(const Program& program, size_t kernel);

  const microcode::KernelRecord& kernel() const { return k_; }
  const microcode::TensorRecord& in(size_t operand) const { return *in_[operand]; }
  const std::vector<const microcode::TensorRecord*>& inputs() const { return in_; }
  const microcode::TensorRecord& out() const { return out_; }

  [[noreturn]] void invalid(const std::string& rule, const std::string& got, const std::string& need) const;
  void require(bool ok, const char* rule, uint64_t got, uint64_t need) const;
  static std::string shape(const microcode::TensorRecord& t);
  const uint8_t* constants() const { return p_.constants.data; }
  // The bytes of a constant, all of them inside CONSTANTS.
  const uint8_t* constant(uint32_t offset, uint64_t bytes, const char* what) const;

  void operands(uint32_t least, uint32_t most) const;
  void same_channels() const;
  // Input and output elements have one size and nothing is requantized.
  void codes_pass() const;
  // The rows and columns of a window; those of a pool must each meet the input.
  void window(bool pool) const;
  // Proves |sum of a_i M_i| + 2^(s-1) < 2^62 for every channel, and that the codes and tables that follow are there.
  void requantize(const Sums& sums) const;
  // A residual beside the first operand makes two terms; without one the second may be the negative part of the first.
  bool by_sign() const { return k_.operand_count == 1 && k_.requantise_terms == 2; }
  uint64_t second_bound() const;
  // Elements of each group that a reduction over `axis_mask` makes one.
  uint64_t reduced_elements() const;

 private:
  void window_axis(const char* axis, uint32_t size, uint32_t out, uint32_t taps, uint32_t stride, uint32_t dilation,
                   uint32_t pad, bool pool) const;
  void channel_tables(bool allowed) const;
  void clamp_and_table(const Sums& sums) const;

  const Program& p_;
  const microcode::KernelRecord& k_;
  std::string where_;
  const microcode::TensorRecord& out_;
  std::vector<const microcode::TensorRecord*> in_;
};

}  // namespace headrace
