// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "arithmetic.hpp"
#include "errors.hpp"
#include "primitives/primitive.hpp"
#include "streams.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

// Copies out of CONSTANTS, which go when the program is loaded, what the simulation of time needs of them.
void keep_row_tables(Program& program) {
  program.row_tables.assign(program.kernels.size(), {});
  for (uint32_t i = 0; i < program.kernels.size(); ++i) {
    const Primitive& primitive = *find_primitive(program.kernels[i].opcode);
    if (primitive.keep != nullptr) primitive.keep(program, i);
  }
}

}  // namespace

std::unique_ptr<postprocess::Configuration> read_postprocess(ByteView json, const Program& program) {
  if (json.data == nullptr) return nullptr;
  const std::string where = "post-processing of the HEF";
  auto configuration = std::make_unique<postprocess::Configuration>(
      postprocess::read_configuration(reinterpret_cast<const char*>(json.data), json.size, where));
  for (const postprocess::Tensor& tensor : configuration->tensors) {
    const auto fits = [&](uint32_t i) {
      const microcode::TensorRecord& t = program.tensors[i];
      return static_cast<microcode::TensorRole>(t.role) == microcode::TensorRole::kOutput &&
             program.tensor_names[i] == tensor.name && t.height == tensor.height && t.width == tensor.width &&
             t.channels == tensor.channels;
    };
    bool found = false;
    for (uint32_t i = 0; i < program.tensors.size() && !found; ++i) found = fits(i);
    if (!found) {
      fail(HEADRACE_INVALID_HEF, where, "it reads an output that the network does not have",
           printable(tensor.name) + " of " + str(tensor.height) + "x" + str(tensor.width) + "x" + str(tensor.channels),
           "outputs of the network in their own shape", "compile the network again");
    }
  }
  return configuration;
}

Network::Network(std::shared_ptr<Device> device, ByteView hef, bool check_sums) : device_(std::move(device)) {
  const HefContents contents = read_hef(hef, check_sums);
  name_ = contents.network_name;
  program_ = decode_program(contents.microcode, check_sums);
  verify_program(program_, device_->memory_limit());
  device_->targets().accept(program_);
  host_nanoseconds_ = std::vector<std::atomic<uint64_t>>(program_.kernels.size());
  plan_ = make_plan(program_, device_->kernels(), device_->threads(), device_->memory_limit());
  postprocess_ = read_postprocess(contents.postprocess, program_);
  program_.channel_scales = read_channel_scales(program_);
  keep_row_tables(program_);
  program_.constants = {};  // the plan has its own copies; the caller's bytes may go
  for (uint32_t i = 0; i < program_.tensors.size(); ++i) {
    const auto role = static_cast<microcode::TensorRole>(program_.tensors[i].role);
    if (role == microcode::TensorRole::kInput) inputs_.push_back(i);
    if (role == microcode::TensorRole::kOutput) outputs_.push_back(i);
  }
}

Bound Network::bind(const headrace_buffer& buffer, size_t frames, Codes codes, bool output, bool by_layer) const {
  const std::string what = output ? (by_layer ? "layer" : "output") : "input";
  if (buffer.name == nullptr) fail(HEADRACE_INVALID_ARGUMENT, what, "a buffer has no name");
  Bound bound{};
  bool found = false;
  std::string known;
  const auto consider = [&](const std::string& name, uint32_t tensor) {
    if (known.size() < 400) known += (known.empty() ? "" : ", ") + printable(name);
    if (!found && name == buffer.name) {
      found = true;
      bound.tensor = tensor;
    }
  };
  if (by_layer) {
    for (size_t i = 0; i < program_.kernels.size(); ++i) consider(program_.kernel_names[i], program_.kernels[i].output);
  } else {
    for (uint32_t tensor : streams(output)) consider(program_.tensor_names[tensor], tensor);
  }
  if (!found) {
    fail(HEADRACE_NOT_FOUND, "network " + name_, "there is no " + what + " of this name", printable(buffer.name),
         known);
  }
  for (uint32_t i = 0; output && i < program_.kernels.size(); ++i) {
    if (program_.kernels[i].output == bound.tensor) bound.kernel = i;
  }
  const Place& place = plan_.tensors[bound.tensor];
  bound.frame_bytes = static_cast<size_t>(codes == Codes::kFloat ? place.elements() * 4 : place.size());
  const uint64_t need = sat_mul(bound.frame_bytes, frames);
  if (buffer.size != need || (buffer.data == nullptr && need != 0)) {
    fail(HEADRACE_INVALID_ARGUMENT, what + " " + printable(buffer.name), "the buffer does not hold the frames",
         str(uint64_t{buffer.size}) + " bytes",
         str(need) + " bytes: " + str(uint64_t{frames}) + " frames of " + str(place.height) + "x" + str(place.width) +
             "x" + str(place.channels) +
             (codes == Codes::kFloat ? " float32"
              : place.bytes == 1     ? " uint8"
                                     : " uint16"));
  }
  bound.data = static_cast<uint8_t*>(buffer.data);
  return bound;
}

std::vector<Bound> Network::bind_inputs(size_t frames, const headrace_buffer* inputs, size_t count, Codes codes) const {
  std::vector<Bound> bound;
  for (size_t i = 0; i < count; ++i) {
    bound.push_back(bind(inputs[i], frames, codes, false, false));
    for (size_t j = 0; j < i; ++j) {
      if (bound[j].tensor == bound[i].tensor) {
        fail(HEADRACE_INVALID_ARGUMENT, "input " + printable(inputs[i].name), "it is given twice", "2", "1");
      }
    }
  }
  if (count != inputs_.size()) {
    std::string missing;
    for (uint32_t tensor : inputs_) {
      const bool given = std::any_of(bound.begin(), bound.end(), [&](const Bound& b) { return b.tensor == tensor; });
      if (!given) missing += (missing.empty() ? "" : ", ") + printable(program_.tensor_names[tensor]);
    }
    fail(HEADRACE_INVALID_ARGUMENT, "network " + name_, "an input is missing", str(uint64_t{count}) + " inputs",
         "also " + missing);
  }
  return bound;
}

Request Network::request(size_t frames, const headrace_buffer* inputs, size_t input_count,
                         const headrace_buffer* outputs, size_t output_count, Codes codes, bool by_layer) const {
  if ((inputs == nullptr && input_count != 0) || (outputs == nullptr && output_count != 0)) {
    fail(HEADRACE_INVALID_ARGUMENT, "infer", "a list of buffers is missing", "NULL", "an array");
  }
  Request r;
  r.frames = frames;
  r.codes = codes;
  r.inputs = bind_inputs(frames, inputs, input_count, codes);
  r.after.resize(program_.kernels.size());
  for (size_t i = 0; i < output_count; ++i) {
    const Bound bound = bind(outputs[i], frames, codes, true, by_layer);
    r.after[bound.kernel].push_back(bound);
  }
  return r;
}

void Network::infer(size_t frames, const headrace_buffer* inputs, size_t input_count, const headrace_buffer* outputs,
                    size_t output_count, Codes codes, bool by_layer) {
  const Request r = request(frames, inputs, input_count, outputs, output_count, codes, by_layer);
  std::vector<FrameRun> runs;
  runs.reserve(frames);
  for (size_t i = 0; i < frames; ++i) runs.push_back({this, &r, i});
  device_->run(runs);
}

void Network::real_values(uint32_t tensor, const uint8_t* codes, float* out) const {
  dequantize(codes, plan_.tensors[tensor], out, program_.tensors[tensor].scale, program_.channel_scales[tensor]);
}

bool Network::make_lanes(size_t count) {
  while (plan_.lanes.size() < count) {
    if (!add_lane(plan_)) return false;
  }
  return true;
}

namespace {

void copy_in(const Request& r, size_t frame, const Program& program, const Plan& plan, const Lane& lane) {
  for (const Bound& b : r.inputs) {
    const Place& place = plan.tensors[b.tensor];
    const uint8_t* from = b.data + frame * b.frame_bytes;
    if (r.codes == Codes::kFloat)
      quantize(reinterpret_cast<const float*>(from), lane.at(place), place, program.tensors[b.tensor].scale);
    else
      std::memcpy(lane.at(place), from, b.frame_bytes);
  }
}

void copy_out(const Request& r, size_t kernel, size_t frame, const Program& program, const Plan& plan,
              const Lane& lane) {
  for (const Bound& b : r.after[kernel]) {
    const Place& place = plan.tensors[b.tensor];
    uint8_t* to = b.data + frame * b.frame_bytes;
    if (r.codes == Codes::kFloat)
      dequantize(lane.at(place), place, reinterpret_cast<float*>(to), program.tensors[b.tensor].scale,
                 program.channel_scales[b.tensor]);
    else
      std::memcpy(to, lane.at(place), b.frame_bytes);
  }
}

}  // namespace

void Network::run_frame(const Request& request, size_t frame) {
  run_steps(request, frame, 0, [this](const Step& step) { run_step(step); });
}

void Network::run_frame_alone(const Request& request, size_t frame, uint32_t worker) {
  const Lane lane = plan_.lane(worker, worker, device_->kernels());
  run_steps(request, frame, worker, [&lane](const Step& step) {
    for (int64_t tile = 0; tile < step.tiles; ++tile) step.run(step, lane, tile);
  });
}

template <class Run>
void Network::run_steps(const Request& request, size_t frame, size_t number, Run run) {
  using Clock = std::chrono::steady_clock;
  const bool profiling = profiling_.load(std::memory_order_relaxed);
  const Lane lane = plan_.lane(number, 0, device_->kernels());
  copy_in(request, frame, program_, plan_, lane);
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    const Clock::time_point start = profiling ? Clock::now() : Clock::time_point();
    run(plan_.steps[i]);
    if (profiling) {
      const auto taken = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
      host_nanoseconds_[i].fetch_add(static_cast<uint64_t>(taken), std::memory_order_relaxed);
    }
    copy_out(request, i, frame, program_, plan_, lane);
  }
  if (profiling) profiled_frames_.fetch_add(1, std::memory_order_relaxed);
}

void Network::run_step(const Step& step) {
  struct Tiles {
    const Step& step;
    const Plan& plan;
    const KernelSet& kernels;
  } job{step, plan_, device_->kernels()};
  device_->pool().run(
      step.tiles,
      [](void* context, int64_t tile, uint32_t worker) {
        const Tiles& j = *static_cast<Tiles*>(context);
        j.step.run(j.step, j.plan.lane(0, worker, j.kernels), tile);
      },
      &job);
}

void Network::set_host_profiling(bool enabled) {
  for (auto& nanoseconds : host_nanoseconds_) nanoseconds.store(0, std::memory_order_relaxed);
  profiled_frames_.store(0, std::memory_order_relaxed);
  profiling_.store(enabled, std::memory_order_relaxed);
}

uint64_t Network::host_profile(uint64_t* nanoseconds) const {
  for (size_t i = 0; i < host_nanoseconds_.size(); ++i) {
    nanoseconds[i] = host_nanoseconds_[i].load(std::memory_order_relaxed);
  }
  return profiled_frames_.load(std::memory_order_relaxed);
}

const TimingResult& Network::timing() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!timing_) timing_ = std::make_unique<TimingResult>(simulate(program_));
  return *timing_;
}

}  // namespace headrace
