// SPDX-License-Identifier: Apache-2.0
// Fuzz target: an NMS configuration as JSON, read and checked as the library does; what is accepted makes boxes of
// tensors whose numbers are large, small and none. A finding is a crash, a sanitizer report or a hang.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "driver.hpp"
#include "errors.hpp"
#include "postprocess/detect.hpp"

namespace {

constexpr uint64_t kNumbers = 1 << 20;
constexpr uint64_t kWork = 1 << 24;

uint64_t work(const headrace::postprocess::Configuration& c) {
  uint64_t candidates = 0;
  for (const auto& level : c.levels) candidates += level.candidates();
  return candidates * (c.classes + uint64_t{4} * c.bins);
}

void run(const headrace::postprocess::Configuration& c) {
  const float values[] = {0.0f, 1.5f, -2.0f, 80.0f, -1e30f, std::numeric_limits<float>::infinity(), std::nanf("")};
  std::vector<std::vector<float>> memory;
  headrace::postprocess::Tensors tensors;
  uint64_t total = 0;
  for (const auto& t : c.tensors) total += t.elements();
  if (total > kNumbers || work(c) > kWork) return;
  size_t at = 0;
  for (const auto& t : c.tensors) {
    memory.emplace_back(static_cast<size_t>(t.elements()));
    for (float& x : memory.back()) x = values[at++ * 5 % 7];
    tensors.push_back(memory.back().data());
  }
  const auto found = headrace::postprocess::detect(c, tensors);
  if (found.size() > c.most) std::abort();
  size_t drawn = 0;
  for (const auto& object : headrace::postprocess::find(c, tensors)) {
    const uint64_t pixels = uint64_t{object.mask_height} * object.mask_width;
    if (!c.masks.there || pixels > kNumbers || drawn++ == 2) break;
    std::vector<uint8_t> mask(static_cast<size_t>(pixels));
    headrace::postprocess::draw_mask(c, tensors[c.masks.tensor], object, mask.data());
  }
  if (c.by_class_size() > kNumbers) return;
  std::vector<float> by_class(static_cast<size_t>(c.by_class_size()));
  headrace::postprocess::by_class(c, found.data(), found.size(), by_class.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    run(headrace::postprocess::read_configuration(reinterpret_cast<const char*>(data), size, "configuration"));
  } catch (const headrace::Failure&) {
  } catch (const std::bad_alloc&) {
  }
  return 0;
}
