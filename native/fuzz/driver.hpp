// SPDX-License-Identifier: Apache-2.0
// A main() for fuzz targets without libFuzzer, where HEADRACE_FUZZ_MAIN is defined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "microcode_generated.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#if defined(HEADRACE_FUZZ_MAIN)
// Runs the files it is given; with no libFuzzer, for gcc and for replaying findings. A file may hold many cases, each
// after its little-endian 32-bit length, when the first argument is --batch.
int main(int argc, char** argv) {
  const bool batch = argc > 1 && std::strcmp(argv[1], "--batch") == 0;
  for (int i = batch ? 2 : 1; i < argc; ++i) {
    std::FILE* file = std::fopen(argv[i], "rb");
    if (!file) return 1;
    std::vector<uint8_t> bytes;
    uint8_t block[4096];
    size_t n = 0;
    while ((n = std::fread(block, 1, sizeof block, file)) > 0) bytes.insert(bytes.end(), block, block + n);
    std::fclose(file);
    if (!batch) {
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      continue;
    }
    for (size_t at = 0; at + 4 <= bytes.size();) {
      const size_t length = headrace::microcode::load_u32(bytes.data() + at);
      at += 4;
      if (length > bytes.size() - at) return 1;
      const std::vector<uint8_t> exact(bytes.data() + at, bytes.data() + at + length);  // overreads show
      LLVMFuzzerTestOneInput(exact.data(), exact.size());
      at += length;
    }
  }
  std::puts("done");
  return 0;
}
#endif
