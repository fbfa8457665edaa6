// SPDX-License-Identifier: Apache-2.0
// The virtual device: what the networks loaded on it share.
#pragma once

#include <mutex>
#include <vector>

#include "accepted_targets.hpp"
#include "kernels/choose.hpp"
#include "queue.hpp"
#include "request.hpp"
#include "thread_pool.hpp"

namespace headrace {

struct DeviceOptions {
  const char* arch = nullptr;
  const char* runs = nullptr;
  const char* kernels = nullptr;
  uint32_t threads = 0;
  uint64_t memory_limit = 0;
};

// Threads, kernels, target and queue. A frame runs on all threads, or, where there are as many frames as threads, one
// frame on each.
class Device {
 public:
  explicit Device(const DeviceOptions& options);

  AcceptedTargets& targets() { return targets_; }
  const KernelSet& kernels() const { return kernels_; }
  uint32_t threads() const { return pool_.threads(); }
  uint64_t memory_limit() const { return memory_limit_; }
  ThreadPool& pool() { return pool_; }
  Queue& queue() { return queue_; }

  // Runs the frames, of one or several networks, in no particular order.
  void run(const std::vector<FrameRun>& runs);

 private:
  const KernelSet& kernels_;
  ThreadPool pool_;
  uint64_t memory_limit_;
  AcceptedTargets targets_;
  std::mutex execution_;
  Queue queue_{*this};
};

}  // namespace headrace
