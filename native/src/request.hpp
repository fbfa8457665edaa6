// SPDX-License-Identifier: Apache-2.0
// What an inference is to read and write, checked; and what a device runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace headrace {

enum class Codes { kQuantized, kFloat };

// A buffer of the caller's and the tensor it belongs to.
struct Bound {
  uint32_t tensor;
  uint32_t kernel;  // that writes it, for outputs
  uint8_t* data;
  size_t frame_bytes;
};

struct Request {
  size_t frames = 0;
  Codes codes = Codes::kQuantized;
  std::vector<Bound> inputs;
  std::vector<std::vector<Bound>> after;  // what to copy out after which kernel
};

// A network as its device and the queue see it. The device holds its lock while it calls all but `name`.
class Runnable {
 public:
  virtual const std::string& name() const = 0;
  virtual bool make_lanes(size_t count) = 0;  // false where memory does not allow them
  // In lane 0 with all threads, or in lane `worker` with the calling thread alone.
  virtual void run_frame(const Request& request, size_t frame) = 0;
  virtual void run_frame_alone(const Request& request, size_t frame, uint32_t worker) = 0;

 protected:
  ~Runnable() = default;
};

// One frame of a request.
struct FrameRun {
  Runnable* network;
  const Request* request;
  size_t frame;
};

}  // namespace headrace
