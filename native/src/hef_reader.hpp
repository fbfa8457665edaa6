// SPDX-License-Identifier: Apache-2.0
// Reads the HEF container as untrusted input; only what Headrace writes is accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace headrace {

struct ByteView {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

struct HefContents {
  std::string network_name;
  ByteView microcode;    // points into the file
  ByteView postprocess;  // JSON that turns the outputs into boxes, as well; empty where there is none
};

// Throws Failure 26, 91, 92 or 93. `check_crc` is false only in the fuzz target.
HefContents read_hef(ByteView file, bool check_crc = true);

}  // namespace headrace
