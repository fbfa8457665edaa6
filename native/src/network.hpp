// SPDX-License-Identifier: Apache-2.0
// The virtual device and the networks loaded on it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "headrace/headrace.h"
#include "plan.hpp"
#include "thread_pool.hpp"
#include "timing.hpp"

namespace headrace {

// Kernel sets this CPU has, slowest first.
const std::vector<const KernelSet*>& kernel_sets();
// By name; nullptr or "": $HEADRACE_KERNELS, else the best. Throws Failure 2 or 74.
const KernelSet& choose_kernels(const char* name);

struct DeviceOptions {
  const char* arch = nullptr;
  const char* kernels = nullptr;
  uint32_t threads = 0;
  uint64_t memory_limit = 0;
};

// What networks share: threads, kernels, target. One frame runs at a time.
class Device {
 public:
  explicit Device(const DeviceOptions& options);

  std::string arch() const;
  const KernelSet& kernels() const { return kernels_; }
  uint32_t threads() const { return pool_.threads(); }
  uint64_t memory_limit() const { return memory_limit_; }
  // Checks that a program for `target` may run here, and adopts the target of the first one.
  void accept(const std::string& target);

  std::mutex& execution() { return execution_; }
  ThreadPool& pool() { return pool_; }

 private:
  const KernelSet& kernels_;
  ThreadPool pool_;
  uint64_t memory_limit_;
  mutable std::mutex arch_mutex_;
  std::string arch_;
  std::mutex execution_;
};

enum class Codes { kQuantised, kFloat };

class Network {
 public:
  // `check_sums` is false only in the fuzz target.
  Network(std::shared_ptr<Device> device, ByteView hef, bool check_sums = true);

  const std::string& name() const { return name_; }
  const Program& program() const { return program_; }
  uint64_t work() const { return plan_.work; }
  const std::vector<uint32_t>& streams(bool outputs) const { return outputs ? outputs_ : inputs_; }  // tensor indices

  // Buffers are named by stream; with `by_layer` outputs are named by kernel.
  void infer(size_t frames, const headrace_buffer* inputs, size_t input_count, const headrace_buffer* outputs,
             size_t output_count, Codes codes, bool by_layer);
  const TimingResult& timing();

 private:
  struct Bound {
    uint32_t tensor;
    uint32_t kernel;  // that writes it, for outputs
    uint8_t* data;
    size_t frame_bytes;
  };

  Bound bind(const headrace_buffer& buffer, size_t frames, Codes codes, bool output, bool by_layer) const;
  std::vector<Bound> bind_inputs(size_t frames, const headrace_buffer* inputs, size_t count, Codes codes) const;
  void run_frame(size_t frame, const std::vector<Bound>& inputs, const std::vector<std::vector<Bound>>& after,
                 Codes codes);
  void run_step(const Step& step);

  std::shared_ptr<Device> device_;
  std::string name_;
  Program program_;
  Plan plan_;
  std::vector<uint32_t> inputs_, outputs_;
  std::mutex mutex_;
  std::unique_ptr<TimingResult> timing_;
};

}  // namespace headrace
