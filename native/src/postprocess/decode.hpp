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
  float x = 0, y = 0, width = 0, height = 0, angle = 0;  // of a turned box, in pixels and radians; else 0
};

inline bool better(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.order < b.order;
}

// The best candidates, best first; never more than kMostCandidates, whatever the threshold.
constexpr size_t kMostCandidates = 30000;
// Where a candidate's numbers stand.
struct Place {
  const Level* level = nullptr;
  uint64_t position = 0, anchor = 0;
};
Place place_of(const Configuration& configuration, const Candidate& candidate);

// Key points in pixels, (x, y, score) each; what is no number is 0, as is its point's score.
void read_key_points(const Configuration& configuration, const Tensors& tensors, const Place& place, float* out);
// The numbers of a box by which prototypes are multiplied.
void read_coefficients(const Configuration& configuration, const Tensors& tensors, const Place& place, float* out);

std::vector<Candidate> decode(const Configuration& configuration, const Tensors& tensors);

}  // namespace headrace::postprocess
