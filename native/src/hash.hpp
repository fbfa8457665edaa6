// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace headrace {

// CRC-32 with the zlib polynomial, initial value and final exclusive-or 0xFFFFFFFF.
uint32_t crc32(const uint8_t* data, size_t size);

// SHA-256 of two byte strings, one after the other.
std::array<uint8_t, 32> sha256(const uint8_t* a, size_t a_size, const uint8_t* b, size_t b_size);

}  // namespace headrace
