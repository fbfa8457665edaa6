// SPDX-License-Identifier: Apache-2.0
#include "primitive.hpp"

#include <iterator>

namespace headrace {
namespace {

// Opcodes count from 1.
#define HEADRACE_ENTRY(Name) &primitives::k##Name,
constexpr const Primitive* kPrimitives[] = {HEADRACE_OPCODES(HEADRACE_ENTRY)};
#undef HEADRACE_ENTRY

}  // namespace

uint32_t primitive_count() { return static_cast<uint32_t>(std::size(kPrimitives)); }

const Primitive* find_primitive(uint32_t opcode) {
  return opcode >= 1 && opcode <= primitive_count() ? kPrimitives[opcode - 1] : nullptr;
}

}  // namespace headrace
