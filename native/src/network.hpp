// SPDX-License-Identifier: Apache-2.0
// The virtual device and the networks loaded on it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "headrace/headrace.h"
#include "plan.hpp"
#include "queue.hpp"
#include "thread_pool.hpp"
#include "timing.hpp"

namespace headrace {

// Kernel sets this CPU has, slowest first.
const std::vector<const KernelSet*>& kernel_sets();
// By name; nullptr or "": $HEADRACE_KERNELS, else the best. Throws Failure 2 or 74.
const KernelSet& choose_kernels(const char* name);

struct DeviceOptions {
  const char* arch = nullptr;
  const char* runs = nullptr;
  const char* kernels = nullptr;
  uint32_t threads = 0;
  uint64_t memory_limit = 0;
};

enum class Codes { kQuantised, kFloat };

// A buffer of the caller's and the tensor it belongs to.
struct Bound {
  uint32_t tensor;
  uint32_t kernel;  // that writes it, for outputs
  uint8_t* data;
  size_t frame_bytes;
};

// What an inference is to read and write, checked.
struct Request {
  size_t frames = 0;
  Codes codes = Codes::kQuantised;
  std::vector<Bound> inputs;
  std::vector<std::vector<Bound>> after;  // what to copy out after which kernel
};

// One frame of a request.
struct FrameRun {
  Network* network;
  const Request* request;
  size_t frame;
};

// What networks share: threads, kernels, target, queue. A frame runs on all threads, or, where there are as many frames
// as threads, one frame on each.
class Device {
 public:
  explicit Device(const DeviceOptions& options);

  std::string arch() const;
  const KernelSet& kernels() const { return kernels_; }
  uint32_t threads() const { return pool_.threads(); }
  uint64_t memory_limit() const { return memory_limit_; }
  // Checks that a program may run here, and adopts the target of the first one.
  void accept(const Program& program);

  // Runs the frames, of one or several networks, in no particular order.
  void run(const std::vector<FrameRun>& runs);
  ThreadPool& pool() { return pool_; }
  Queue& queue() { return queue_; }

 private:
  const KernelSet& kernels_;
  ThreadPool pool_;
  uint64_t memory_limit_;
  mutable std::mutex arch_mutex_;
  std::string arch_;
  std::optional<std::string> runs_;  // other targets whose programs it runs; unknown until a program for arch_ says
  std::mutex execution_;
  Queue queue_{*this};
};

class Network {
 public:
  // `check_sums` is false only in the fuzz target.
  Network(std::shared_ptr<Device> device, ByteView hef, bool check_sums = true);
  ~Network() { device_->queue().close(*this); }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const std::string& name() const { return name_; }
  const Program& program() const { return program_; }
  uint64_t work() const { return plan_.work; }
  const std::vector<uint32_t>& streams(bool outputs) const { return outputs ? outputs_ : inputs_; }  // tensor indices

  // Buffers are named by stream; with `by_layer` outputs are named by kernel.
  void infer(size_t frames, const headrace_buffer* inputs, size_t input_count, const headrace_buffer* outputs,
             size_t output_count, Codes codes, bool by_layer);
  Request request(size_t frames, const headrace_buffer* inputs, size_t input_count, const headrace_buffer* outputs,
                  size_t output_count, Codes codes, bool by_layer) const;
  const TimingResult& timing();
  void set_host_profiling(bool enabled);
  uint64_t host_profile(uint64_t* nanoseconds) const;  // of every kernel; returns the frames counted
  const std::shared_ptr<Device>& device() const { return device_; }
  std::atomic<size_t>& queue_size() { return queue_size_; }
  size_t queue_size() const { return queue_size_; }

  // For the device, which holds its lock while it calls these.
  bool make_lanes(size_t count);  // false where memory does not allow them
  // On lane 0 with all threads, or on lane `worker` with the calling thread alone.
  void run_frame(const Request& request, size_t frame);
  void run_frame_alone(const Request& request, size_t frame, uint32_t worker);

 private:
  Bound bind(const headrace_buffer& buffer, size_t frames, Codes codes, bool output, bool by_layer) const;
  std::vector<Bound> bind_inputs(size_t frames, const headrace_buffer* inputs, size_t count, Codes codes) const;
  void run_step(const Step& step);
  void run_steps(const Request& request, size_t frame, const Lane& lane, const uint32_t* worker);

  std::shared_ptr<Device> device_;
  std::string name_;
  Program program_;
  Plan plan_;
  std::vector<uint32_t> inputs_, outputs_;
  std::atomic<size_t> queue_size_{64};  // frames
  std::mutex mutex_;                    // of the timing
  std::unique_ptr<TimingResult> timing_;
  std::atomic<bool> profiling_{false};
  std::vector<std::atomic<uint64_t>> host_nanoseconds_;  // by kernel
  std::atomic<uint64_t> profiled_frames_{0};
};

}  // namespace headrace
