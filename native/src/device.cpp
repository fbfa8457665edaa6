// SPDX-License-Identifier: Apache-2.0
#include "device.hpp"

#include <algorithm>

#include "cpu.hpp"
#include "errors.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

constexpr uint32_t kThreadLimit = 256;
constexpr uint64_t kMemoryCeiling = uint64_t{1} << 40;

uint32_t checked_threads(uint32_t threads) {
  if (threads > kThreadLimit) {
    fail(HEADRACE_INVALID_ARGUMENT, "device", "too many threads", str(threads), "0 to " + str(kThreadLimit));
  }
  return threads == 0 ? std::min(cpu_count(), kThreadLimit) : threads;
}

}  // namespace

Device::Device(const DeviceOptions& options)
    : kernels_(choose_kernels(options.kernels)),
      pool_(checked_threads(options.threads)),
      memory_limit_(std::min(options.memory_limit == 0 ? kDefaultMemoryLimit : options.memory_limit, kMemoryCeiling)),
      targets_(options.arch, options.runs) {}

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

}  // namespace headrace
