// SPDX-License-Identifier: Apache-2.0
#include "postprocess/detect.hpp"

#include <algorithm>
#include <cmath>

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

// A turned box as a normal distribution: the covariances of a rectangle.
struct Normal {
  double x = 0, y = 0, a = 0, b = 0, c = 0;
};

Normal normal_of(const Candidate& box) {
  const double cosine = std::cos(double{box.angle}), sine = std::sin(double{box.angle});
  const double w = double{box.width} * box.width / 12, h = double{box.height} * box.height / 12;
  return {box.x, box.y, w * cosine * cosine + h * sine * sine, w * sine * sine + h * cosine * cosine,
          (w - h) * cosine * sine};
}

// Probabilistic IoU (arXiv 2106.06072): 1 - √(1 - exp(-B)), B the Bhattacharyya distance. It is above the threshold
// where B is below a number, so that most pairs need neither root nor logarithm.
class Turned {
 public:
  Turned(const std::vector<Candidate>& sorted, double threshold) {
    const double most = 1 + kLeast - (1 - threshold) * (1 - threshold);
    limit_ = -std::log(most);
    for (const Candidate& one : sorted) normals_.push_back(normal_of(one));
  }

  bool overlap(uint32_t first, uint32_t second) const {
    const Normal &p = normals_[first], &q = normals_[second];
    const double a = p.a + q.a, b = p.b + q.b, c = p.c + q.c, dx = p.x - q.x, dy = p.y - q.y;
    const double determinant = a * b - c * c;
    const double near = 0.25 * (a * dy * dy + b * dx * dx - 2 * c * dx * dy) / (determinant + kLeast);
    if (near > limit_ + 10) return false;  // half the logarithm below is at least -8.1
    const double both = std::max(p.a * p.b - p.c * p.c, 0.0) * std::max(q.a * q.b - q.c * q.c, 0.0);
    const double shape = 0.5 * std::log(determinant / (4 * std::sqrt(both) + kLeast) + kLeast);
    return std::max(near + shape, kLeast) < limit_;
  }

 private:
  static constexpr double kLeast = 1e-7;
  double limit_ = 0;
  std::vector<Normal> normals_;
};

// Class by class. A class that is full takes no more, so greedily no candidate is compared with more than that many.
std::vector<Candidate> suppressed(const Configuration& c, const std::vector<Candidate>& sorted) {
  const bool fast = c.suppression == Suppression::kFast;
  const bool best = c.suppression == Suppression::kBest;
  const bool overlaps = (c.suppression == Suppression::kByClass || fast || best) && !c.decoding_only;
  const Turned turned(overlaps && c.angle.there ? sorted : std::vector<Candidate>{}, c.iou_threshold);
  std::vector<std::vector<uint32_t>> hiding(c.classes);  // those that may hide others
  std::vector<uint32_t> kept(c.classes);
  std::vector<Candidate> out;
  for (uint32_t i = 0; i < sorted.size() && out.size() < c.most; ++i) {
    const Candidate& candidate = sorted[i];
    std::vector<uint32_t>& same = hiding[best ? 0 : candidate.label];
    if (kept[candidate.label] >= c.most_per_class) continue;
    const auto hides = [&](uint32_t other) {
      return c.angle.there ? turned.overlap(other, i) : overlap(sorted[other], candidate, c.iou_threshold);
    };
    const bool hidden = overlaps && std::any_of(same.begin(), same.end(), hides);
    if (overlaps && (fast || !hidden)) same.push_back(i);
    if (hidden) continue;
    ++kept[candidate.label];
    out.push_back(candidate);
  }
  return out;
}

float part(float pixels, uint32_t size) { return std::min(std::max(pixels / static_cast<float>(size), 0.0f), 1.0f); }

headrace_detection detection_of(const Configuration& c, const Candidate& box) {
  return {part(box.top, c.image_height),
          part(box.left, c.image_width),
          part(box.bottom, c.image_height),
          part(box.right, c.image_width),
          box.score,
          box.label};
}

// The same rectangle with its angle in [0, π/2): sides change places at a right angle.
void set_turned(const Candidate& box, Object& out) {
  const double right = std::acos(0.0);
  double turns = std::floor(double{box.angle} / right);
  const double rest = double{box.angle} - turns * right;
  const bool swap = std::fmod(std::fabs(turns), 2.0) == 1;
  out.x = box.x;
  out.y = box.y;
  out.width = swap ? box.height : box.width;
  out.height = swap ? box.width : box.height;
  out.angle = static_cast<float>(std::min(std::max(rest, 0.0), right));
}

void set_key_points(const Configuration& c, const Tensors& tensors, const Place& place, Object& out) {
  std::vector<float> pixels(size_t{3} * c.key_points.count);
  read_key_points(c, tensors, place, pixels.data());
  for (size_t i = 0; i < pixels.size(); i += 3) {
    out.key_points.push_back({pixels[i] / static_cast<float>(c.image_width),
                              pixels[i + 1] / static_cast<float>(c.image_height), pixels[i + 2]});
  }
}

// First pixel that is not left of an edge.
uint32_t pixel(float edge, uint32_t size) {
  return static_cast<uint32_t>(std::min(std::max(std::ceil(double{edge}), 0.0), static_cast<double>(size)));
}

void set_mask(const Configuration& c, const Tensors& tensors, const Place& place, const Candidate& box, Object& out) {
  out.coefficients.resize(c.coefficients());
  read_coefficients(c, tensors, place, out.coefficients.data());
  out.mask_top = pixel(box.top, c.image_height);
  out.mask_left = pixel(box.left, c.image_width);
  out.mask_height = std::max(pixel(box.bottom, c.image_height), out.mask_top) - out.mask_top;
  out.mask_width = std::max(pixel(box.right, c.image_width), out.mask_left) - out.mask_left;
}

// Where the pixels from `first` lie between the samples of a smaller or larger picture, edges at the same places.
struct Between {
  Between(uint32_t first, uint32_t count, uint32_t pixels, uint32_t samples) {
    for (uint32_t i = 0; i < count; ++i) {
      const double at = std::max((first + i + 0.5) * samples / pixels - 0.5, 0.0);
      const uint32_t low = std::min(static_cast<uint32_t>(at), samples - 1);
      before.push_back(low);
      after.push_back(std::min(low + 1, samples - 1));
      weight.push_back(at - low);
    }
  }

  std::vector<uint32_t> before, after;
  std::vector<double> weight;  // of the second
};

}  // namespace

std::vector<headrace_detection> detect(const Configuration& c, const Tensors& tensors) {
  std::vector<headrace_detection> out;
  for (const Candidate& box : suppressed(c, decode(c, tensors))) out.push_back(detection_of(c, box));
  return out;
}

std::vector<Object> find(const Configuration& c, const Tensors& tensors) {
  std::vector<Object> out;
  for (const Candidate& box : suppressed(c, decode(c, tensors))) {
    const Place place = place_of(c, box);
    Object found;
    found.detection = detection_of(c, box);
    if (c.angle.there) set_turned(box, found);
    if (c.key_points.count != 0) set_key_points(c, tensors, place, found);
    if (c.masks.there) set_mask(c, tensors, place, box, found);
    out.push_back(std::move(found));
  }
  return out;
}

void draw_mask(const Configuration& c, const float* prototypes, const Object& object, uint8_t* out) {
  if (object.mask_height == 0 || object.mask_width == 0) return;
  const Tensor& t = c.tensors[c.masks.tensor];
  const Between rows(object.mask_top, object.mask_height, c.image_height, t.height);
  const Between columns(object.mask_left, object.mask_width, c.image_width, t.width);
  const uint32_t top = rows.before.front(), left = columns.before.front();
  const size_t width = columns.after.back() - left + 1;
  // Logits of the samples of one row, computed once.
  const auto sums = [&](uint32_t row, std::vector<double>& to) {
    const float* from = prototypes + (size_t{row} * t.width + left) * t.channels;
    for (size_t x = 0; x < width; ++x, from += t.channels) {
      double sum = 0;
      for (uint32_t k = 0; k < t.channels; ++k) sum += double{object.coefficients[k]} * from[k];
      to[x] = sum;
    }
  };
  std::vector<double> upper(width), lower(width);
  uint32_t have = top;  // the row that `lower` holds
  sums(have, lower);
  upper = lower;
  uint32_t above = have;
  for (uint32_t y = 0; y < object.mask_height; ++y) {
    if (rows.before[y] != above) {
      if (rows.before[y] == have)
        upper = lower;
      else
        sums(rows.before[y], upper);
      above = rows.before[y];
    }
    if (rows.after[y] != have) {
      sums(rows.after[y], lower);
      have = rows.after[y];
    }
    const double down = rows.weight[y];
    for (uint32_t x = 0; x < object.mask_width; ++x) {
      const size_t b = columns.before[x] - left, a = columns.after[x] - left;
      const double right = columns.weight[x];
      const double first = upper[b] + (upper[a] - upper[b]) * right;
      const double second = lower[b] + (lower[a] - lower[b]) * right;
      *out++ = first + (second - first) * down > c.masks.least ? 1 : 0;
    }
  }
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
