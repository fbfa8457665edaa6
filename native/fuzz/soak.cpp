// SPDX-License-Identifier: Apache-2.0
// Soak: client threads load, run, submit, cancel and close networks of one device at random and check every result and
// every callback. Meant to run under the thread and address sanitizers.
//   soak SECONDS SEED HEF...
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "headrace/headrace.h"

namespace {

constexpr size_t kMostFrames = 5;
constexpr int kClients = 4;

#define REQUIRE(condition)                                                                              \
  do {                                                                                                  \
    if (!(condition)) {                                                                                 \
      std::printf("%s:%d: not true: %s (%s)\n", __FILE__, __LINE__, #condition, headrace_last_error()); \
      std::fflush(stdout);                                                                              \
      std::abort();                                                                                     \
    }                                                                                                   \
  } while (false)

struct Stream {
  std::string name;
  size_t bytes;
};

// A HEF, frames for it, and what they must give.
struct Model {
  std::string path;
  std::vector<Stream> inputs, outputs;
  std::vector<std::vector<uint8_t>> frames, results;  // by stream, kMostFrames frames
  headrace_network* shared = nullptr;                 // used by every client
  uint64_t cycles = 0;                                // of a frame, by the event simulation
};

struct Counters {
  std::atomic<uint64_t> submitted{0}, good{0}, cancelled{0}, full{0}, synchronous{0}, loads{0}, closed_by_callback{0};
};

std::vector<Stream> streams(headrace_network* network, headrace_direction direction) {
  std::vector<Stream> all;
  for (size_t i = 0; i < headrace_network_stream_count(network, direction); ++i) {
    headrace_stream_info s{};
    s.struct_size = sizeof s;
    REQUIRE(headrace_network_stream(network, direction, i, &s) == HEADRACE_SUCCESS);
    all.push_back({s.name, size_t{s.height} * s.width * s.channels * s.element_bytes});
  }
  return all;
}

std::vector<headrace_buffer> buffers(const std::vector<Stream>& streams, std::vector<std::vector<uint8_t>>& memory,
                                     size_t first, size_t frames) {
  std::vector<headrace_buffer> all;
  for (size_t i = 0; i < streams.size(); ++i) {
    all.push_back({streams[i].name.c_str(), memory[i].data() + first * streams[i].bytes, frames * streams[i].bytes});
  }
  return all;
}

// One submitted run: its memory lives until the callback has come.
struct Run {
  Model* model;
  Counters* counters;
  size_t first, frames;
  std::vector<std::vector<uint8_t>> memory;
  std::atomic<int> callbacks{0};
  headrace_network* to_close = nullptr;  // by the callback

  Run(Model& m, Counters& c, size_t at, size_t count) : model(&m), counters(&c), first(at), frames(count) {
    for (const Stream& s : m.outputs) memory.emplace_back(s.bytes * count);
  }
  void check() const {
    for (size_t i = 0; i < memory.size(); ++i) {
      const size_t bytes = model->outputs[i].bytes;
      REQUIRE(std::memcmp(memory[i].data(), model->results[i].data() + first * bytes, frames * bytes) == 0);
    }
  }
};

void over(headrace_status status, const char*, void* user) {
  Run& run = *static_cast<Run*>(user);
  REQUIRE(status == HEADRACE_SUCCESS || status == HEADRACE_ABORTED);
  if (status == HEADRACE_SUCCESS) {
    run.check();
    run.counters->good += run.frames;
  } else {
    run.counters->cancelled += run.frames;
  }
  if (run.to_close) {
    headrace_network_close(run.to_close);
    ++run.counters->closed_by_callback;
  }
  REQUIRE(run.callbacks.fetch_add(1) == 0);
}

class Client {
 public:
  Client(headrace_device* device, std::vector<Model>& models, Counters& counters, uint32_t seed)
      : device_(device), models_(models), counters_(counters), random_(seed) {}

  void round() {
    Model& model = models_[below(models_.size())];
    headrace_network* network = model.shared;
    const bool own = below(4) == 0;
    if (own) {
      REQUIRE(headrace_network_load_file(device_, model.path.c_str(), &network) == HEADRACE_SUCCESS);
      ++counters_.loads;
    }
    if (below(3) == 0) infer(model, network);
    if (below(4) == 0) time(model, network);
    std::vector<std::unique_ptr<Run>> runs;
    std::vector<headrace_job*> jobs;
    const size_t count = below(8);
    for (size_t i = 0; i < count; ++i) submit(model, network, own && i + 1 == count && below(4) == 0, runs, jobs);
    const bool closed = !runs.empty() && runs.back()->to_close != nullptr;
    for (headrace_job* job : jobs) {
      if (below(6) == 0) {
        const headrace_status status = headrace_job_cancel(job);
        REQUIRE(status == HEADRACE_SUCCESS || status == HEADRACE_INVALID_OPERATION);
      }
    }
    if (own && !closed && below(2) == 0) {
      headrace_network_close(network);
      network = nullptr;
      for (const auto& run : runs) REQUIRE(run->callbacks == 1);
    }
    for (headrace_job* job : jobs) {
      headrace_status status = headrace_job_wait(job, static_cast<int64_t>(below(3)));
      if (status == HEADRACE_TIMEOUT) status = headrace_job_wait(job, -1);
      REQUIRE(status == HEADRACE_SUCCESS || status == HEADRACE_ABORTED);
      headrace_job_release(job);
    }
    for (const auto& run : runs) REQUIRE(run->callbacks == 1);
    if (own && !closed && network) headrace_network_close(network);
  }

 private:
  size_t below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }

  void infer(Model& model, headrace_network* network) {
    const size_t frames = 1 + below(kMostFrames);
    Run run(model, counters_, below(kMostFrames - frames + 1), frames);
    const auto in = buffers(model.inputs, model.frames, run.first, frames);
    const auto out = buffers(model.outputs, run.memory, 0, frames);
    REQUIRE(headrace_network_infer(network, frames, in.data(), in.size(), out.data(), out.size()) == HEADRACE_SUCCESS);
    run.check();
    counters_.synchronous += frames;
  }

  // The event simulation plays a program that others execute; it always gives the same.
  void time(const Model& model, headrace_network* network) {
    headrace_timing timing{};
    timing.struct_size = sizeof timing;
    REQUIRE(headrace_network_timing(network, &timing, nullptr, 0) == HEADRACE_SUCCESS);
    REQUIRE(timing.cycles_per_frame == model.cycles && timing.cycles_per_frame > 0);
  }

  void submit(Model& model, headrace_network* network, bool close, std::vector<std::unique_ptr<Run>>& runs,
              std::vector<headrace_job*>& jobs) {
    const size_t frames = 1 + below(kMostFrames);
    auto run = std::make_unique<Run>(model, counters_, below(kMostFrames - frames + 1), frames);
    if (close) run->to_close = network;
    const auto in = buffers(model.inputs, model.frames, run->first, frames);
    const auto out = buffers(model.outputs, run->memory, 0, frames);
    headrace_job* job = nullptr;
    const headrace_status status = headrace_network_submit(network, HEADRACE_CODES, frames, in.data(), in.size(),
                                                           out.data(), out.size(), over, run.get(), &job);
    if (status == HEADRACE_INVALID_OPERATION) {
      ++counters_.full;
      const headrace_status ready = headrace_network_wait_ready(network, frames, 50);
      REQUIRE(ready == HEADRACE_SUCCESS || ready == HEADRACE_TIMEOUT);
      return;
    }
    REQUIRE(status == HEADRACE_SUCCESS);
    counters_.submitted += frames;
    runs.push_back(std::move(run));
    jobs.push_back(job);
  }

  headrace_device* device_;
  std::vector<Model>& models_;
  Counters& counters_;
  std::mt19937 random_;
};

Model open_model(headrace_device* device, const char* path, uint32_t seed) {
  Model m;
  m.path = path;
  REQUIRE(headrace_network_load_file(device, path, &m.shared) == HEADRACE_SUCCESS);
  REQUIRE(headrace_network_set_queue_size(m.shared, 12) == HEADRACE_SUCCESS);
  m.inputs = streams(m.shared, HEADRACE_INPUT);
  m.outputs = streams(m.shared, HEADRACE_OUTPUT);
  std::mt19937 random(seed);
  for (const Stream& s : m.inputs) {
    m.frames.emplace_back(s.bytes * kMostFrames);
    for (uint8_t& b : m.frames.back()) b = static_cast<uint8_t>(random());
  }
  for (const Stream& s : m.outputs) m.results.emplace_back(s.bytes * kMostFrames);
  for (size_t i = 0; i < kMostFrames; ++i) {  // one by one: what frames side by side must give too
    const auto in = buffers(m.inputs, m.frames, i, 1), out = buffers(m.outputs, m.results, i, 1);
    REQUIRE(headrace_network_infer(m.shared, 1, in.data(), in.size(), out.data(), out.size()) == HEADRACE_SUCCESS);
  }
  headrace_timing timing{};
  timing.struct_size = sizeof timing;
  REQUIRE(headrace_network_timing(m.shared, &timing, nullptr, 0) == HEADRACE_SUCCESS);
  m.cycles = timing.cycles_per_frame;
  return m;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::puts("usage: soak SECONDS SEED HEF...");
    return 2;
  }
  const double seconds = std::atof(argv[1]);
  const auto seed = static_cast<uint32_t>(std::atoi(argv[2]));
  headrace_device_options options{};
  options.struct_size = sizeof options;
  options.threads = 2;
  headrace_device* device = nullptr;
  REQUIRE(headrace_device_open(&options, &device) == HEADRACE_SUCCESS);
  std::vector<Model> models;
  for (int i = 3; i < argc; ++i) models.push_back(open_model(device, argv[i], seed + static_cast<uint32_t>(i)));
  Counters counters;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, i] {
      Client client(device, models, counters, seed * 1000 + static_cast<uint32_t>(i));
      do client.round();
      while (std::chrono::steady_clock::now() < end);
    });
  }
  for (std::thread& client : clients) client.join();
  headrace_device_close(device);
  for (const Model& m : models) headrace_network_close(m.shared);
  REQUIRE(counters.submitted == counters.good + counters.cancelled);
  std::printf(
      "soak: %llu frames submitted, %llu run, %llu cancelled, %llu synchronous, %llu times full, %llu loads, %llu "
      "closed by a callback\n",
      static_cast<unsigned long long>(counters.submitted), static_cast<unsigned long long>(counters.good),
      static_cast<unsigned long long>(counters.cancelled), static_cast<unsigned long long>(counters.synchronous),
      static_cast<unsigned long long>(counters.full), static_cast<unsigned long long>(counters.loads),
      static_cast<unsigned long long>(counters.closed_by_callback));
}
