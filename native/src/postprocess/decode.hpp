// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "postprocess/detect.hpp"

namespace headrace::postprocess {

// A box and class over the threshold. `order` is its place in the tensors: level, position, anchor, class.
struct Candidate {
  float left = 0, top = 0, right = 0, bottom = 0;  // pixels
  float score = 0;
  uint32_t label = 0;
  uint64_t order = 0;
};

inline bool better(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.order < b.order;
}

// The best candidates, best first; never more than kMostCandidates, whatever the threshold.
constexpr size_t kMostCandidates = 30000;
std::vector<Candidate> decode(const Configuration& configuration, const Tensors& tensors);

}  // namespace headrace::postprocess
