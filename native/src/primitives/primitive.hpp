// SPDX-License-Identifier: Apache-2.0
// One primitive of the device, complete: what a program may ask of it, which rows it reads, how it is prepared and run.
// Each is defined in one file of this folder, under the name of its opcode; the table comes from the instruction set.
#pragma once

#include <cstdint>

#include "check.hpp"
#include "planning.hpp"
#include "program.hpp"
#include "row_rule.hpp"
#include "step.hpp"

namespace headrace {

struct Primitive {
  // Every code of the output is a code of an input, unchanged: then channels may differ in scale and zero point.
  bool copies_codes;
  // Checks shapes, constants and arithmetic bounds of a kernel whose operands exist; returns its weight bytes.
  uint64_t (*verify)(const Check& check);
  // Which rows of an operand each output row needs.
  RowRule (*rows)(const Program& program, uint32_t kernel, uint32_t operand);
  // Prepares a step whose record and places are set: run, tiles, work and constants. Returns the scratch bytes of a
  // thread.
  uint64_t (*plan)(Step& step, Planning& planning);
  // Keeps for `rows` what it needs of CONSTANTS, which go when a program is loaded; null: nothing.
  void (*keep)(Program& program, uint32_t kernel) = nullptr;
};

namespace primitives {
#define HEADRACE_DECLARE(Name) extern const Primitive k##Name;
HEADRACE_OPCODES(HEADRACE_DECLARE)
#undef HEADRACE_DECLARE
}  // namespace primitives

// Null for a number that is no opcode.
const Primitive* find_primitive(uint32_t opcode);
uint32_t primitive_count();

}  // namespace headrace
