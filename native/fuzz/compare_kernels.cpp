// SPDX-License-Identifier: Apache-2.0
// Runs HEFs on every kernel set of this processor (or of the one that is emulated) and prints a checksum of all layers:
// one line "FILE SET THREADS CRC". Input byte i of two frames is the top byte of i * 2654435761 modulo 2^32.
//   compare_kernels HEF...
#include <cstdio>
#include <vector>

#include "hash.hpp"
#include "headrace/headrace.h"

namespace {

constexpr size_t kFrames = 2;

bool good(headrace_status status) {
  if (status != HEADRACE_SUCCESS) std::printf("status %d: %s\n", status, headrace_last_error());
  return status == HEADRACE_SUCCESS;
}

bool run(const char* path, const char* set, uint32_t threads) {
  headrace_device_options options{};
  options.struct_size = sizeof options;
  options.kernels = set;
  options.threads = threads;
  headrace_device* device = nullptr;
  headrace_network* network = nullptr;
  if (!good(headrace_device_open(&options, &device)) || !good(headrace_network_load_file(device, path, &network))) {
    return false;
  }
  std::vector<std::vector<uint8_t>> memory;
  std::vector<headrace_buffer> inputs, outputs;
  for (size_t i = 0; i < headrace_network_stream_count(network, HEADRACE_INPUT); ++i) {
    headrace_stream_info s{};
    s.struct_size = sizeof s;
    if (!good(headrace_network_stream(network, HEADRACE_INPUT, i, &s))) return false;
    memory.emplace_back(kFrames * s.height * s.width * s.channels * s.element_bytes);
    for (size_t k = 0; k < memory.back().size(); ++k) {
      memory.back()[k] = static_cast<uint8_t>(static_cast<uint32_t>(k * 2654435761u) >> 24);
    }
    inputs.push_back({s.name, memory.back().data(), memory.back().size()});
  }
  size_t all = 0;
  std::vector<headrace_layer_info> layers(headrace_network_layer_count(network));
  for (size_t i = 0; i < layers.size(); ++i) {
    layers[i].struct_size = sizeof layers[i];
    if (!good(headrace_network_layer(network, i, &layers[i]))) return false;
    all += kFrames * layers[i].height * layers[i].width * layers[i].channels * layers[i].element_bytes;
  }
  std::vector<uint8_t> results(all);
  size_t at = 0;
  for (const headrace_layer_info& l : layers) {
    const size_t size = kFrames * l.height * l.width * l.channels * l.element_bytes;
    outputs.push_back({l.name, results.data() + at, size});
    at += size;
  }
  if (!good(
          headrace_network_infer_all(network, kFrames, inputs.data(), inputs.size(), outputs.data(), outputs.size()))) {
    return false;
  }
  std::printf("%s %s %u %08x\n", path, set, threads, headrace::crc32(results.data(), results.size()));
  headrace_network_close(network);
  headrace_device_close(device);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    for (size_t k = 0; k < headrace_kernel_set_count(); ++k) {
      for (uint32_t threads : {1u, 3u}) {
        if (!run(argv[i], headrace_kernel_set_name(k), threads)) return 1;
      }
    }
  }
}
