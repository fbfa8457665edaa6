// SPDX-License-Identifier: Apache-2.0
// The C boundary: exceptions end here and become a status and a text.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "boundary.hpp"
#include "errors.hpp"
#include "network.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

constexpr uint64_t kFileLimit = uint64_t{4} << 30;

thread_local char returned_text[160] = "";

struct File {
  std::FILE* handle;
  explicit File(const char* path) : handle(std::fopen(path, "rb")) {}
  ~File() {
    if (handle) std::fclose(handle);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
};

std::vector<uint8_t> read_file(const char* path) {
  const File file(path);
  if (!file.handle) {
    fail(HEADRACE_OPEN_FILE_FAILURE, path, "the file cannot be opened", std::strerror(errno), "a readable HEF");
  }
  std::vector<uint8_t> bytes;
  uint8_t block[1 << 16];
  size_t n = 0;
  while ((n = std::fread(block, 1, sizeof block, file.handle)) > 0) {
    if (bytes.size() + n > kFileLimit)
      fail(HEADRACE_INVALID_HEF, path, "the file is too large", "more than 4 GiB", "at most 4 GiB");
    bytes.insert(bytes.end(), block, block + n);
  }
  if (std::ferror(file.handle)) fail(HEADRACE_OPEN_FILE_FAILURE, path, "the file cannot be read", std::strerror(errno));
  return bytes;
}

headrace_stream_info stream_info(const Program& p, uint32_t tensor, headrace_direction direction) {
  const microcode::TensorRecord& t = p.tensors[tensor];
  headrace_stream_info info{};
  info.name = p.tensor_names[tensor].c_str();
  info.direction = direction;
  info.order = t.height == 1 && t.width == 1 ? HEADRACE_ORDER_NC : HEADRACE_ORDER_NHWC;
  info.height = t.height;
  info.width = t.width;
  info.channels = t.channels;
  info.element_bytes = t.element_bytes;
  info.scale = t.scale;
  info.zero_point = t.zero_point;
  const ChannelScales& own = p.channel_scales[tensor];
  if (!own.scale.empty()) {
    info.scale = 0;
    info.zero_point = 0;
    info.channel_scales = own.scale.data();
    info.channel_zero_points = own.zero.data();
  }
  return info;
}

void fill_timing(const Program& p, const TimingResult& r, headrace_timing* timing, headrace_stage_timing* stages,
                 size_t capacity) {
  headrace_timing t{};
  t.fps = r.fps;
  t.latency_ms = r.latency_ms;
  t.cycles_per_frame = (r.period_numerator + r.period_denominator / 2) / r.period_denominator;
  t.latency_cycles = r.latency;
  t.clock_hz = p.target.clock_hz;
  t.link_busy_cycles = r.link_busy;
  t.stage_count = static_cast<uint32_t>(r.stages.size());
  t.bottleneck_stage = r.bottleneck;
  t.frames_simulated = r.frames;
  t.steady = r.steady ? 1 : 0;
  t.batch = r.batch;
  t.context_count = static_cast<uint32_t>(r.contexts.size());
  give(timing, t, "timing");
  for (size_t i = 0; stages != nullptr && i < std::min(capacity, r.stages.size()); ++i) {
    const StageTiming& s = r.stages[i];
    stages[i] = {p.kernel_names[s.kernel].c_str(),
                 s.kernel,
                 s.rows,
                 s.busy,
                 s.engine,
                 s.input_port,
                 s.output_port,
                 s.span,
                 s.stall_input,
                 s.stall_output};
  }
}

}  // namespace
}  // namespace headrace

using namespace headrace;

extern "C" {

headrace_status headrace_get_version(headrace_version* out) noexcept {
  return guarded([&] {
    give(out,
         headrace_version{0, HEADRACE_VERSION_MAJOR, HEADRACE_VERSION_MINOR, HEADRACE_VERSION_PATCH,
                          HEADRACE_ABI_VERSION, microcode::kVersionMajor, microcode::kVersionMinor},
         "version");
  });
}

const char* headrace_status_message(headrace_status status) noexcept {
  switch (status) {
    case HEADRACE_SUCCESS:
      return "success";
    case HEADRACE_INVALID_ARGUMENT:
      return "invalid argument";
    case HEADRACE_OUT_OF_HOST_MEMORY:
      return "out of host memory";
    case HEADRACE_TIMEOUT:
      return "not in time";
    case HEADRACE_INVALID_OPERATION:
      return "invalid operation";
    case HEADRACE_NOT_IMPLEMENTED:
      return "not built yet";
    case HEADRACE_INTERNAL_FAILURE:
      return "internal failure";
    case HEADRACE_OPEN_FILE_FAILURE:
      return "the file cannot be opened";
    case HEADRACE_INVALID_HEF:
      return "invalid HEF";
    case HEADRACE_NOT_FOUND:
      return "not found";
    case HEADRACE_OUT_OF_PHYSICAL_DEVICES:
      return "no such device";
    case HEADRACE_HEF_FILE_CORRUPTED:
      return "the HEF is corrupted";
    case HEADRACE_HEF_NOT_SUPPORTED:
      return "the HEF is not supported";
    case HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE:
      return "the HEF is not compatible with the device";
    case HEADRACE_DEADLOCK:
      return "the pipeline cannot move";
    case HEADRACE_ABORTED:
      return "cancelled";
    default:
      return "unknown status";
  }
}

const char* headrace_last_error(void) noexcept { return reported_text(); }

size_t headrace_diagnostic_count(void) noexcept { return reported_count(); }

headrace_status headrace_diagnostic_at(size_t index, headrace_diagnostic* out) noexcept {
  if (index >= reported_count()) return HEADRACE_NOT_FOUND;
  const headrace_diagnostic found = reported();
  return give(out, found) ? HEADRACE_SUCCESS : HEADRACE_INVALID_ARGUMENT;
}

size_t headrace_kernel_set_count(void) noexcept {
  size_t count = 0;
  guarded([&] { count = kernel_sets().size(); });
  return count;
}

const char* headrace_kernel_set_name(size_t index) noexcept {
  const char* name = nullptr;
  guarded([&] { name = index < kernel_sets().size() ? kernel_sets()[index]->name : nullptr; });
  return name;
}

headrace_status headrace_device_open(const headrace_device_options* options, headrace_device** out) noexcept {
  return guarded([&] {
    require_pointer(out, "device");
    *out = nullptr;
    headrace_device_options given{};
    if (options != nullptr) {
      if (options->struct_size < sizeof(size_t)) {
        fail(HEADRACE_INVALID_ARGUMENT, "options", "struct_size is not set", str(uint64_t{options->struct_size}),
             str(uint64_t{sizeof given}));
      }
      std::memcpy(&given, options, std::min(options->struct_size, sizeof given));
    }
    DeviceOptions o;
    o.arch = given.arch;
    o.runs = given.runs;
    o.kernels = given.kernels;
    o.threads = given.threads;
    o.memory_limit = given.memory_limit;
    *out = new headrace_device{std::make_shared<Device>(o)};
  });
}

void headrace_device_close(headrace_device* device) noexcept { delete device; }

const char* headrace_device_arch(const headrace_device* device) noexcept {
  returned_text[0] = '\0';
  if (device == nullptr) return returned_text;
  guarded([&] { std::snprintf(returned_text, sizeof returned_text, "%s", device->device->targets().arch().c_str()); });
  return returned_text;
}

const char* headrace_device_kernels(const headrace_device* device) noexcept {
  return device == nullptr ? "" : device->device->kernels().name;
}

uint32_t headrace_device_threads(const headrace_device* device) noexcept {
  return device == nullptr ? 0 : device->device->threads();
}

headrace_status headrace_verify(const void* data, size_t size) noexcept {
  return guarded([&] {
    require_pointer(data, "HEF");
    const HefContents contents = read_hef({static_cast<const uint8_t*>(data), size});
    const Program program = decode_program(contents.microcode);
    verify_program(program, kDefaultMemoryLimit);
    read_postprocess(contents.postprocess, program);
  });
}

headrace_status headrace_network_load_memory(headrace_device* device, const void* data, size_t size,
                                             headrace_network** out) noexcept {
  return guarded([&] {
    require_pointer(out, "network");
    *out = nullptr;
    require_pointer(device, "device");
    require_pointer(data, "HEF");
    *out = new headrace_network(device->device, ByteView{static_cast<const uint8_t*>(data), size});
  });
}

headrace_status headrace_network_load_file(headrace_device* device, const char* path, headrace_network** out) noexcept {
  return guarded([&] {
    require_pointer(out, "network");
    *out = nullptr;
    require_pointer(device, "device");
    require_pointer(path, "path");
    const std::vector<uint8_t> bytes = read_file(path);
    *out = new headrace_network(device->device, ByteView{bytes.data(), bytes.size()});
  });
}

void headrace_network_close(headrace_network* network) noexcept { delete network; }

const char* headrace_network_name(const headrace_network* network) noexcept {
  return network == nullptr ? "" : network->network.name().c_str();
}

size_t headrace_network_stream_count(const headrace_network* network, headrace_direction direction) noexcept {
  return network == nullptr ? 0 : network->network.streams(direction == HEADRACE_OUTPUT).size();
}

headrace_status headrace_network_stream(const headrace_network* network, headrace_direction direction, size_t index,
                                        headrace_stream_info* out) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    const std::vector<uint32_t>& streams = network->network.streams(direction == HEADRACE_OUTPUT);
    if (index >= streams.size()) {
      fail(HEADRACE_NOT_FOUND, "stream", "there is no stream of this index", str(uint64_t{index}),
           "below " + str(uint64_t{streams.size()}));
    }
    give(out, stream_info(network->network.program(), streams[index], direction), "stream info");
  });
}

size_t headrace_network_layer_count(const headrace_network* network) noexcept {
  return network == nullptr ? 0 : network->network.program().kernels.size();
}

headrace_status headrace_network_layer(const headrace_network* network, size_t index,
                                       headrace_layer_info* out) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    const Program& p = network->network.program();
    if (index >= p.kernels.size()) {
      fail(HEADRACE_NOT_FOUND, "layer", "there is no layer of this index", str(uint64_t{index}),
           "below " + str(uint64_t{p.kernels.size()}));
    }
    const microcode::TensorRecord& t = p.tensors[p.kernels[index].output];
    give(out,
         headrace_layer_info{0, p.kernel_names[index].c_str(), t.height, t.width, t.channels, t.element_bytes,
                             p.kernels[index].opcode},
         "layer info");
  });
}

headrace_status headrace_network_set_host_profiling(headrace_network* network, int enabled) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    network->network.set_host_profiling(enabled != 0);
  });
}

headrace_status headrace_network_host_profile(const headrace_network* network, uint64_t* nanoseconds, size_t count,
                                              uint64_t* frames) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    require_pointer(nanoseconds, "nanoseconds");
    require_pointer(frames, "frames");
    const size_t layers = network->network.program().kernels.size();
    if (count != layers) {
      fail(HEADRACE_INVALID_ARGUMENT, "host profile", "the array does not have a number per layer",
           str(uint64_t{count}), str(uint64_t{layers}));
    }
    *frames = network->network.host_profile(nanoseconds);
  });
}

headrace_status headrace_network_infer(headrace_network* network, size_t frames, const headrace_buffer* inputs,
                                       size_t input_count, const headrace_buffer* outputs,
                                       size_t output_count) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    network->network.infer(frames, inputs, input_count, outputs, output_count, Codes::kQuantized, false);
  });
}

headrace_status headrace_network_infer_float(headrace_network* network, size_t frames, const headrace_buffer* inputs,
                                             size_t input_count, const headrace_buffer* outputs,
                                             size_t output_count) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    network->network.infer(frames, inputs, input_count, outputs, output_count, Codes::kFloat, false);
  });
}

headrace_status headrace_network_infer_all(headrace_network* network, size_t frames, const headrace_buffer* inputs,
                                           size_t input_count, const headrace_buffer* outputs,
                                           size_t output_count) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    network->network.infer(frames, inputs, input_count, outputs, output_count, Codes::kQuantized, true);
  });
}

headrace_status headrace_network_submit(headrace_network* network, uint32_t element, size_t frames,
                                        const headrace_buffer* inputs, size_t input_count,
                                        const headrace_buffer* outputs, size_t output_count,
                                        headrace_job_callback callback, void* user, headrace_job** out) noexcept {
  return guarded([&] {
    if (out != nullptr) *out = nullptr;
    require_pointer(network, "network");
    if (element > HEADRACE_FLOAT32) {
      fail(HEADRACE_INVALID_ARGUMENT, "submit", "there is no element type of this number", str(element), "0 or 1");
    }
    Network& n = network->network;
    const auto job = std::make_shared<Job>();
    const Codes codes = element == HEADRACE_FLOAT32 ? Codes::kFloat : Codes::kQuantized;
    job->network = &n;
    job->request =
        std::make_unique<Request>(n.request(frames, inputs, input_count, outputs, output_count, codes, false));
    job->callback = callback;
    job->user = user;
    std::unique_ptr<headrace_job> handle;
    if (out != nullptr) handle.reset(new headrace_job{n.device(), job});
    n.device()->queue().submit(job, n.queue_size());
    if (out != nullptr) *out = handle.release();
  });
}

headrace_status headrace_network_set_queue_size(headrace_network* network, size_t frames) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    if (frames < 1 || frames > 65536) {
      fail(HEADRACE_INVALID_ARGUMENT, "queue", "the size is out of range", str(uint64_t{frames}), "1 to 65536");
    }
    network->network.queue_size() = frames;
  });
}

size_t headrace_network_queue_size(const headrace_network* network) noexcept {
  return network == nullptr ? 0 : network->network.queue_size();
}

headrace_status headrace_network_cancel_all(headrace_network* network) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    network->network.device()->queue().close(network->network);
  });
}

headrace_status headrace_network_wait_ready(headrace_network* network, size_t frames, int64_t timeout_ms) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    Network& n = network->network;
    if (frames < 1 || frames > n.queue_size()) {
      fail(HEADRACE_INVALID_ARGUMENT, "queue", "more frames than the queue can ever hold", str(uint64_t{frames}),
           "1 to " + str(uint64_t{n.queue_size()}));
    }
    if (!n.device()->queue().wait_for_room(n, frames, n.queue_size(), timeout_ms)) {
      fail(HEADRACE_TIMEOUT, "network " + n.name(), "the queue stayed full", str(timeout_ms) + " ms");
    }
  });
}

headrace_status headrace_job_wait(headrace_job* job, int64_t timeout_ms) noexcept {
  return guarded([&] {
    require_pointer(job, "job");
    if (!job->device->queue().wait(*job->job, timeout_ms)) {
      fail(HEADRACE_TIMEOUT, "job", "the run did not end in time", str(timeout_ms) + " ms");
    }
    if (job->job->status != HEADRACE_SUCCESS) throw Failure{job->job->status, job->job->problem};
  });
}

headrace_status headrace_job_cancel(headrace_job* job) noexcept {
  return guarded([&] {
    require_pointer(job, "job");
    if (!job->device->queue().cancel(job->job)) {
      fail(HEADRACE_INVALID_OPERATION, "job", "the run has begun or is over", "", "a run that waits");
    }
  });
}

void headrace_job_release(headrace_job* job) noexcept { delete job; }

headrace_status headrace_network_timing(headrace_network* network, headrace_timing* timing,
                                        headrace_stage_timing* stages, size_t stage_capacity) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    fill_timing(network->network.program(), network->network.timing(), timing, stages, stage_capacity);
  });
}

headrace_status headrace_network_context_timing(headrace_network* network, headrace_context_timing* contexts,
                                                size_t capacity, size_t* context_count) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    require_pointer(context_count, "context_count");
    const std::vector<ContextTiming>& all = network->network.timing().contexts;
    for (size_t i = 0; contexts != nullptr && i < std::min(capacity, all.size()); ++i) {
      contexts[i] = {all[i].reload,    all[i].change, all[i].first,  all[i].run,
                     all[i].link_busy, all[i].ahead,  all[i].overrun};
    }
    *context_count = all.size();
  });
}

}  // extern "C"
