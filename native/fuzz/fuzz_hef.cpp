// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a HEF whose CRC and target hash are not looked at is loaded as a device would; what is accepted runs one
// frame and its timing, under a step limit. A finding is a crash, a sanitizer report or a hang.
#include <vector>

#include "driver.hpp"
#include "errors.hpp"
#include "network.hpp"

namespace {

constexpr uint64_t kMemoryLimit = 64 << 20;
constexpr uint64_t kWorkLimit = 1 << 26;
constexpr uint64_t kRowLimit = 1 << 14;

std::shared_ptr<headrace::Device> device() {
  headrace::DeviceOptions options;
  options.threads = 1;  // deterministic findings
  options.memory_limit = kMemoryLimit;
  return std::make_shared<headrace::Device>(options);  // new each time: a device adopts its first target
}

void run(headrace::Network& network) {
  const headrace::Program& p = network.program();
  std::vector<std::vector<uint8_t>> memory;
  std::vector<headrace_buffer> inputs, outputs;
  const auto bind = [&](const char* name, uint32_t tensor, std::vector<headrace_buffer>& to) {
    const auto& t = p.tensors[tensor];
    memory.emplace_back(size_t{t.height} * t.width * t.channels * t.element_bytes, uint8_t{0x5A});
    to.push_back({name, memory.back().data(), memory.back().size()});
  };
  for (uint32_t tensor : network.streams(false)) bind(p.tensor_names[tensor].c_str(), tensor, inputs);
  for (size_t k = 0; k < p.kernels.size(); ++k) bind(p.kernel_names[k].c_str(), p.kernels[k].output, outputs);
  network.infer(1, inputs.data(), inputs.size(), outputs.data(), outputs.size(), headrace::Codes::kQuantized, true);
  uint64_t rows = 0;
  for (const auto& t : p.tensors) rows += t.height;
  if (rows <= kRowLimit) network.timing();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    headrace::Network network(device(), {data, size}, false);
    if (network.work() <= kWorkLimit) run(network);
  } catch (const headrace::Failure&) {
  } catch (const std::bad_alloc&) {
  }
  return 0;
}
