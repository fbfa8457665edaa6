// SPDX-License-Identifier: Apache-2.0
// Instructions that kernel sets may need, one bit each, and which of them this processor has. Internal linkage, see
// kernels.hpp.
#pragma once

#include <stdint.h>

#include "compiler.hpp"

#if defined(HEADRACE_AARCH64) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace headrace {

constexpr uint32_t kBaseline = 0;  // what every processor of the architecture has
constexpr uint32_t kAvx2 = 1u << 0;
constexpr uint32_t kAvxVnni = 1u << 1;
constexpr uint32_t kAvx512Vnni = 1u << 2;  // with F, BW, VL and DQ
constexpr uint32_t kAvx512Vbmi = 1u << 3;
constexpr uint32_t kDotProduct = 1u << 4;

// Bits that the processor has and the operating system lets be used.
static inline uint32_t cpu_features() {
  uint32_t found = kBaseline;
#if defined(HEADRACE_X86_64)
  const auto has = [](uint32_t word, int bit) { return (word >> bit & 1) != 0; };
  const CpuId basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
  const uint32_t saved = has(basic.ecx, 27) ? saved_registers() : 0;
  const bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xE6) == 0xE6;
  if (ymm && has(basic.ecx, 28) && has(extended.ebx, 5)) {
    found |= kAvx2;
    if (has(more.eax, 4)) found |= kAvxVnni;
  }
  const bool f = has(extended.ebx, 16), dq = has(extended.ebx, 17);
  const bool bw = has(extended.ebx, 30), vl = has(extended.ebx, 31);
  if (zmm && f && dq && bw && vl && has(extended.ecx, 11)) {
    found |= kAvx512Vnni;
    if (has(extended.ecx, 1)) found |= kAvx512Vbmi;
  }
#elif defined(HEADRACE_AARCH64) && defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) found |= kDotProduct;
#endif
  return found;
}

}  // namespace headrace
