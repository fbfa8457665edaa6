// SPDX-License-Identifier: Apache-2.0
// How much of the processor this process may use.
#pragma once

#include <cstdint>

namespace headrace {

// Processors this process may use, as a container or taskset sets it; at least 1.
uint32_t cpu_count();

}  // namespace headrace
