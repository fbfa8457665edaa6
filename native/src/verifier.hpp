// SPDX-License-Identifier: Apache-2.0
// Proves at load that a program can be executed without a further check.
#pragma once

#include <cstdint>
#include <vector>

#include "program.hpp"

namespace headrace {

constexpr uint64_t kDefaultMemoryLimit = uint64_t{8} << 30;

// The scales per channel of a verified program.
std::vector<ChannelScales> read_channel_scales(const Program& program);

// Throws Failure 26 (or 7 for what this device does not do yet).
void verify_program(const Program& program, uint64_t memory_limit);

}  // namespace headrace
