// SPDX-License-Identifier: Apache-2.0
#include "postprocess/detect.hpp"

#include <algorithm>

#include "postprocess/decode.hpp"

namespace headrace::postprocess {
namespace {

float area(const Candidate& c) { return std::max(c.right - c.left, 0.0f) * std::max(c.bottom - c.top, 0.0f); }

// Whether the intersection is more than this part of the union; two empty boxes do not overlap.
bool overlap(const Candidate& a, const Candidate& b, double threshold) {
  const double width = double{std::min(a.right, b.right)} - std::max(a.left, b.left);
  const double height = double{std::min(a.bottom, b.bottom)} - std::max(a.top, b.top);
  if (width <= 0 || height <= 0) return false;
  const double shared = width * height;
  return shared > threshold * (double{area(a)} + area(b) - shared);
}

// Greedy, class by class. A class that is full takes no more, so no candidate is compared with more than that many.
std::vector<Candidate> suppressed(const Configuration& c, const std::vector<Candidate>& sorted) {
  const bool overlaps = c.suppression == Suppression::kByClass && !c.decoding_only;
  std::vector<std::vector<Candidate>> kept(c.classes);
  std::vector<Candidate> out;
  for (const Candidate& candidate : sorted) {
    std::vector<Candidate>& same = kept[candidate.label];
    if (same.size() >= c.most_per_class) continue;
    const auto hides = [&](const Candidate& other) { return overlap(other, candidate, c.iou_threshold); };
    if (overlaps && std::any_of(same.begin(), same.end(), hides)) continue;
    same.push_back(candidate);
    out.push_back(candidate);
    if (out.size() >= c.most) break;
  }
  return out;
}

float part(float pixels, uint32_t size) { return std::min(std::max(pixels / static_cast<float>(size), 0.0f), 1.0f); }

}  // namespace

std::vector<headrace_detection> detect(const Configuration& c, const Tensors& tensors) {
  std::vector<headrace_detection> out;
  for (const Candidate& box : suppressed(c, decode(c, tensors))) {
    out.push_back({part(box.top, c.image_height), part(box.left, c.image_width), part(box.bottom, c.image_height),
                   part(box.right, c.image_width), box.score, box.label});
  }
  return out;
}

void by_class(const Configuration& c, const headrace_detection* detections, size_t count, float* out) {
  float* const end = out + c.by_class_size();
  std::vector<std::vector<const headrace_detection*>> classes(c.classes);
  for (size_t i = 0; i < count; ++i) {
    const headrace_detection& d = detections[i];
    if (d.class_id < c.classes && classes[d.class_id].size() < c.most_per_class) classes[d.class_id].push_back(&d);
  }
  for (const auto& same : classes) {
    *out++ = static_cast<float>(same.size());
    for (const headrace_detection* d : same) {
      for (const float value : {d->y_min, d->x_min, d->y_max, d->x_max, d->score}) *out++ = value;
    }
  }
  std::fill(out, end, 0.0f);
}

}  // namespace headrace::postprocess
