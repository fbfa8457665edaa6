// SPDX-License-Identifier: Apache-2.0
// What compilers and processors spell differently, and nothing else. Every other file of native/ keeps to the C++17
// standard (and to the intrinsics of its instruction set): tools/check_repository.py looks. Included by the kernel
// files too, so everything here is a macro or has internal linkage (see kernels/kernels.hpp).
#pragma once

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#define HEADRACE_X86_64
#elif defined(__aarch64__) || defined(_M_ARM64)
#define HEADRACE_AARCH64
#endif

#if defined(__GNUC__) || defined(__clang__)

#if defined(HEADRACE_X86_64)
#include <cpuid.h>
#endif
// For the bodies of repeat and for functions whose arguments must become registers; for what must stay a call.
#define HEADRACE_INLINE __attribute__((always_inline))
#define HEADRACE_NOINLINE __attribute__((noinline))
#define HEADRACE_RESTRICT __restrict
#if defined(__clang__)
#define HEADRACE_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define HEADRACE_NO_UNROLL _Pragma("GCC unroll 1")
#endif
// Says that a value may have changed, so that it is kept where it is: in a register, in a vector register.
#define HEADRACE_HOLD_REGISTER(value) asm("" : "+r"(value))
#define HEADRACE_HOLD_VECTOR(value) asm("" : "+v"(value))
#if !defined(HEADRACE_PORTABLE_WIDE)
#define HEADRACE_UINT128 unsigned __int128
#endif

namespace headrace {
// Position of the highest bit that is set; `value` is not 0.
static inline int highest_bit(uint64_t value) { return 63 - __builtin_clzll(value); }
#if defined(HEADRACE_X86_64)
struct CpuId {
  uint32_t eax, ebx, ecx, edx;
};
// Zeros for a leaf that the processor does not have.
static inline CpuId cpuid(uint32_t leaf, uint32_t sub) {
  CpuId id = {0, 0, 0, 0};
  if (__get_cpuid_max(0, nullptr) >= leaf) __cpuid_count(leaf, sub, id.eax, id.ebx, id.ecx, id.edx);
  return id;
}
// The registers that the operating system saves; only where cpuid says that there is such a word (OSXSAVE).
static inline uint32_t saved_registers() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}
static inline void pause_processor() { __builtin_ia32_pause(); }
#else
static inline void pause_processor() {}
#endif
}  // namespace headrace

#elif defined(_MSC_VER)

#include <intrin.h>
#define HEADRACE_INLINE
#define HEADRACE_NOINLINE __declspec(noinline)
#define HEADRACE_RESTRICT __restrict
#define HEADRACE_NO_UNROLL
#define HEADRACE_HOLD_REGISTER(value) static_cast<void>(value)
#define HEADRACE_HOLD_VECTOR(value) static_cast<void>(value)

namespace headrace {
static inline int highest_bit(uint64_t value) {
  unsigned long index = 0;
  _BitScanReverse64(&index, value);
  return static_cast<int>(index);
}
#if defined(HEADRACE_X86_64)
struct CpuId {
  uint32_t eax, ebx, ecx, edx;
};
static inline CpuId cpuid(uint32_t leaf, uint32_t sub) {
  int r[4] = {0, 0, 0, 0};
  __cpuid(r, 0);
  if (static_cast<uint32_t>(r[0]) < leaf) return {0, 0, 0, 0};
  __cpuidex(r, static_cast<int>(leaf), static_cast<int>(sub));
  return {static_cast<uint32_t>(r[0]), static_cast<uint32_t>(r[1]), static_cast<uint32_t>(r[2]),
          static_cast<uint32_t>(r[3])};
}
static inline uint32_t saved_registers() { return static_cast<uint32_t>(_xgetbv(0)); }
static inline void pause_processor() { _mm_pause(); }
#else
static inline void pause_processor() {}
#endif
}  // namespace headrace

#else
#error "native/src/compiler.hpp does not know this compiler"
#endif
