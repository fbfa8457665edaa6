// SPDX-License-Identifier: Apache-2.0
// What the device executes: one step per kernel. A step names its tensors by their place in a lane's memory, so that
// any number of frames run through the same steps at once, each in a lane of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.hpp"
#include "microcode_generated.hpp"

namespace headrace {

// Where a tensor lies while a frame runs: `offset` bytes into the memory of the frame's lane.
struct Place {
  uint64_t offset = 0;
  int64_t height = 0, width = 0, channels = 0;
  int64_t bytes = 1;  // of one element
  int32_t zero = 0;

  int64_t elements() const { return height * width * channels; }
  int64_t size() const { return elements() * bytes; }
};

// One frame on its way: the memory of its tensors, the scratch memory of the thread that works on it.
struct Lane {
  uint8_t* base;
  uint8_t* scratch;
  const KernelSet& kernels;

  uint8_t* at(const Place& place) const { return base + place.offset; }
  template <class T>
  T* at(const Place& place) const {
    return reinterpret_cast<T*>(base + place.offset);
  }
};

// Codes of either size.
inline int64_t load(const uint8_t* codes, int64_t bytes, int64_t index) {
  return bytes == 1 ? codes[index] : reinterpret_cast<const uint16_t*>(codes)[index];
}
inline void store(uint8_t* codes, int64_t bytes, int64_t index, uint32_t code) {
  if (bytes == 1)
    codes[index] = static_cast<uint8_t>(code);
  else
    reinterpret_cast<uint16_t*>(codes)[index] = static_cast<uint16_t>(code);
}

// What a primitive prepares at load for its runs: constants in the order the kernels read them, tables, geometry.
struct Prepared {
  virtual ~Prepared() = default;
};

struct Step {
  using Run = void (*)(const Step& step, const Lane& lane, int64_t tile);

  Run run = nullptr;  // one tile; tiles share no output byte
  int64_t tiles = 1;
  int64_t tile_rows = 1;  // output rows of a tile, where tiles are rows
  uint64_t work = 0;      // rough count of elementary operations
  microcode::KernelRecord record;
  std::vector<Place> in;
  Place out;
  std::unique_ptr<Prepared> prepared;

  // Makes what the step's primitive prepares; `as` gives it back, to plan (not const) and to run.
  template <class T>
  T& prepare() {
    prepared = std::make_unique<T>();
    return static_cast<T&>(*prepared);
  }
  template <class T>
  const T& as() const {
    return static_cast<const T&>(*prepared);
  }
};

}  // namespace headrace
