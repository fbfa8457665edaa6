// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <sstream>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "errors.hpp"
#include "row_geometry.hpp"
#include "streams.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

constexpr uint32_t kThreadLimit = 256;
constexpr uint64_t kMemoryCeiling = uint64_t{1} << 40;

// Processors this process may use, as a container or taskset sets it.
uint32_t cpu_count() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

uint32_t checked_threads(uint32_t threads) {
  if (threads > kThreadLimit) {
    fail(HEADRACE_INVALID_ARGUMENT, "device", "too many threads", str(threads), "0 to " + str(kThreadLimit));
  }
  return threads == 0 ? std::min(cpu_count(), kThreadLimit) : threads;
}

#if defined(__x86_64__)
bool has_avxvnni() {  // compilers before GCC 13 have no name for it
  uint32_t a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

std::string names_of_sets() {
  std::string names;
  for (const KernelSet* set : kernel_sets()) names += (names.empty() ? "" : ", ") + std::string(set->name);
  return names;
}

}  // namespace

const std::vector<const KernelSet*>& kernel_sets() {
  static const std::vector<const KernelSet*> sets = [] {
    std::vector<const KernelSet*> found = {&kGenericKernels};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
      found.push_back(&kAvx2Kernels);
      if (has_avxvnni()) found.push_back(&kAvxVnniKernels);
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
      found.push_back(&kAvx512VnniKernels);
      if (__builtin_cpu_supports("avx512vbmi")) found.push_back(&kAvx512VbmiKernels);
    }
#elif defined(__aarch64__)
    found.push_back(&kNeonKernels);
#if defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found.push_back(&kDotprodKernels);
#endif
#endif
    return found;
  }();
  return sets;
}

const KernelSet& choose_kernels(const char* name) {
  std::string where = "kernels";
  if (name == nullptr || *name == '\0') {
    name = std::getenv("HEADRACE_KERNELS");
    where = "HEADRACE_KERNELS";
  }
  if (name == nullptr || *name == '\0') return *kernel_sets().back();
  for (const KernelSet* set : kernel_sets()) {
    if (std::strcmp(set->name, name) == 0) return *set;
  }
  const char* const others[] = {"avx2", "avxvnni", "avx512vnni", "avx512vbmi", "neon", "dotprod"};
  const bool known = std::any_of(std::begin(others), std::end(others),
                                 [&](const char* other) { return std::strcmp(name, other) == 0; });
  fail(HEADRACE_INVALID_ARGUMENT, where,
       known ? "this CPU does not have the kernel set" : "there is no kernel set of this name", printable(name),
       "one this CPU has: " + names_of_sets());
}

Device::Device(const DeviceOptions& options)
    : kernels_(choose_kernels(options.kernels)),
      pool_(checked_threads(options.threads)),
      memory_limit_(std::min(options.memory_limit == 0 ? kDefaultMemoryLimit : options.memory_limit, kMemoryCeiling)) {
  if (options.arch == nullptr) return;
  arch_ = options.arch;
  if (arch_.empty() || arch_.size() > 127) {
    fail(HEADRACE_INVALID_ARGUMENT, "device", "the target name is not valid", printable(arch_), "1 to 127 bytes");
  }
  if (options.runs != nullptr) runs_ = options.runs;
  for (const auto& built_in : microcode::kBuiltInTargets) {
    if (!runs_ && arch_ == built_in.name) runs_ = built_in.runs;
  }
}

std::string Device::arch() const {
  const std::lock_guard<std::mutex> lock(arch_mutex_);
  return arch_;
}

void Device::accept(const Program& program) {
  const std::lock_guard<std::mutex> lock(arch_mutex_);
  if (arch_.empty()) arch_ = program.target_name;
  if (arch_ == program.target_name) {
    if (!runs_) runs_ = program.target_runs;
    return;
  }
  std::string accepted = printable(arch_);
  std::istringstream others(runs_.value_or(""));
  for (std::string name; others >> name;) {
    if (name == program.target_name) return;
    accepted += " or " + printable(name);
  }
  fail(HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE, "device", "the HEF was compiled for another target",
       printable(program.target_name), accepted);
}

void Device::run(const std::vector<FrameRun>& runs) {
  constexpr size_t kRounds = 4;  // between two of them another client may have its turn
  const size_t threads = pool_.threads();
  size_t done = 0;
  while (done < runs.size()) {
    const std::lock_guard<std::mutex> lock(execution_);
    size_t count = std::min((runs.size() - done) / threads, kRounds) * threads;
    if (threads == 1) count = 0;
    for (size_t i = 0; i < count; ++i) {
      if (!runs[done + i].network->make_lanes(threads)) count = 0;
    }
    if (count == 0) {
      runs[done].network->run_frame(*runs[done].request, runs[done].frame);
      ++done;
      continue;
    }
    pool_.run(
        static_cast<int64_t>(count),
        [](void* context, int64_t i, uint32_t worker) {
          const FrameRun& r = static_cast<const FrameRun*>(context)[i];
          r.network->run_frame_alone(*r.request, r.frame, worker);
        },
        const_cast<FrameRun*>(runs.data() + done));
    done += count;
  }
}

Network::Network(std::shared_ptr<Device> device, ByteView hef, bool check_sums) : device_(std::move(device)) {
  const HefContents contents = read_hef(hef, check_sums);
  name_ = contents.network_name;
  program_ = decode_program(contents.microcode, check_sums);
  verify_program(program_, device_->memory_limit());
  device_->accept(program_);
  host_nanoseconds_ = std::vector<std::atomic<uint64_t>>(program_.kernels.size());
  plan_ = make_plan(program_, device_->kernels(), device_->threads(), device_->memory_limit());
  program_.channel_scales = read_channel_scales(program_);
  keep_resize_rows(program_);
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

bool Network::make_lanes(size_t count) {
  while (plan_.lanes.size() < count) {
    if (!add_lane(plan_)) return false;
  }
  return true;
}

namespace {

void copy_in(const Request& r, size_t frame, const Program& program, const Lane& lane) {
  for (const Bound& b : r.inputs) {
    const Place& place = lane.tensors[b.tensor];
    const uint8_t* from = b.data + frame * b.frame_bytes;
    if (r.codes == Codes::kFloat)
      quantise(reinterpret_cast<const float*>(from), place, program.tensors[b.tensor].scale);
    else
      std::memcpy(place.data, from, b.frame_bytes);
  }
}

void copy_out(const Request& r, size_t kernel, size_t frame, const Program& program, const Lane& lane) {
  for (const Bound& b : r.after[kernel]) {
    const Place& place = lane.tensors[b.tensor];
    uint8_t* to = b.data + frame * b.frame_bytes;
    if (r.codes == Codes::kFloat)
      dequantise(place, reinterpret_cast<float*>(to), program.tensors[b.tensor].scale,
                 program.channel_scales[b.tensor]);
    else
      std::memcpy(to, place.data, b.frame_bytes);
  }
}

}  // namespace

void Network::run_frame(const Request& request, size_t frame) { run_steps(request, frame, plan_.lanes[0], nullptr); }

void Network::run_frame_alone(const Request& request, size_t frame, uint32_t worker) {
  run_steps(request, frame, plan_.lanes[worker], &worker);
}

// On all threads where `worker` is null.
void Network::run_steps(const Request& request, size_t frame, const Lane& lane, const uint32_t* worker) {
  using Clock = std::chrono::steady_clock;
  const bool profiling = profiling_.load(std::memory_order_relaxed);
  copy_in(request, frame, program_, lane);
  for (size_t i = 0; i < lane.steps.size(); ++i) {
    const Step& step = *lane.steps[i];
    const Clock::time_point start = profiling ? Clock::now() : Clock::time_point();
    if (worker == nullptr) {
      run_step(step);
    } else {
      uint8_t* scratch = plan_.scratch.data() + *worker * plan_.scratch_bytes;
      for (int64_t tile = 0; tile < step.tiles; ++tile) step.run(step, device_->kernels(), tile, scratch);
    }
    if (profiling) {
      const auto taken = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
      host_nanoseconds_[i].fetch_add(static_cast<uint64_t>(taken), std::memory_order_relaxed);
    }
    copy_out(request, i, frame, program_, lane);
  }
  if (profiling) profiled_frames_.fetch_add(1, std::memory_order_relaxed);
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

void Network::run_step(const Step& step) {
  struct Tiles {
    const Step* step;
    const KernelSet* kernels;
    uint8_t* scratch;
    uint64_t scratch_bytes;
  } job{&step, &device_->kernels(), plan_.scratch.data(), plan_.scratch_bytes};
  device_->pool().run(
      step.tiles,
      [](void* context, int64_t tile, uint32_t worker) {
        const Tiles& j = *static_cast<Tiles*>(context);
        j.step->run(*j.step, *j.kernels, tile, j.scratch + worker * j.scratch_bytes);
      },
      &job);
}

const TimingResult& Network::timing() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!timing_) timing_ = std::make_unique<TimingResult>(simulate(program_));
  return *timing_;
}

}  // namespace headrace
