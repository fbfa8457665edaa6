// SPDX-License-Identifier: Apache-2.0
// A program loaded on a device.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.hpp"
#include "headrace/headrace.h"
#include "hef_reader.hpp"
#include "plan.hpp"
#include "postprocess/configuration.hpp"
#include "timing.hpp"

namespace headrace {

// The post-processing of a HEF, its tensors checked against the program's outputs; nothing where there is none.
std::unique_ptr<postprocess::Configuration> read_postprocess(ByteView json, const Program& program);

class Network final : public Runnable {
 public:
  // `check_sums` is false only in the fuzz target.
  Network(std::shared_ptr<Device> device, ByteView hef, bool check_sums = true);
  ~Network() { device_->queue().close(*this); }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const std::string& name() const override { return name_; }
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
  // A frame of an output that post-processing reads: its codes as reals.
  void real_values(uint32_t tensor, const uint8_t* codes, float* out) const;
  const postprocess::Configuration* postprocess() const { return postprocess_.get(); }  // or nullptr
  const std::shared_ptr<Device>& device() const { return device_; }
  std::atomic<size_t>& queue_size() { return queue_size_; }
  size_t queue_size() const { return queue_size_; }

  bool make_lanes(size_t count) override;
  void run_frame(const Request& request, size_t frame) override;
  void run_frame_alone(const Request& request, size_t frame, uint32_t worker) override;

 private:
  Bound bind(const headrace_buffer& buffer, size_t frames, Codes codes, bool output, bool by_layer) const;
  std::vector<Bound> bind_inputs(size_t frames, const headrace_buffer* inputs, size_t count, Codes codes) const;
  void run_step(const Step& step);  // on all threads
  template <class Run>
  void run_steps(const Request& request, size_t frame, size_t lane, Run run);

  std::shared_ptr<Device> device_;
  std::string name_;
  Program program_;
  Plan plan_;
  std::vector<uint32_t> inputs_, outputs_;
  std::unique_ptr<postprocess::Configuration> postprocess_;
  std::atomic<size_t> queue_size_{64};  // frames
  std::mutex mutex_;                    // of the timing
  std::unique_ptr<TimingResult> timing_;
  std::atomic<bool> profiling_{false};
  std::vector<std::atomic<uint64_t>> host_nanoseconds_;  // by kernel
  std::atomic<uint64_t> profiled_frames_{0};
};

}  // namespace headrace
