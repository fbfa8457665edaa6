// SPDX-License-Identifier: Apache-2.0
#include "postprocess/decode.hpp"

#include <algorithm>
#include <cmath>

#include "errors.hpp"

namespace headrace::postprocess {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kExponential:
      return std::exp(x);
    default:
      return x;
  }
}

struct Reader {
  const float* data;
  uint64_t element;
  uint64_t swap = 0;  // 1: pairs the other way round

  double operator[](uint64_t k) const { return data[(k ^ swap) * element]; }
};

Reader at(const Operand& o, const Tensors& tensors, uint64_t position, uint64_t anchor) {
  return {tensors[o.tensor] + o.base + position * o.position + anchor * o.anchor, o.element, 0};
}

// Expected bin of a distribution given by its logits.
double expectation(const Reader& logits, uint64_t first, uint32_t bins) {
  double highest = logits[first];
  for (uint32_t i = 1; i < bins; ++i) highest = std::max(highest, logits[first + i]);
  double sum = 0, weighted = 0;
  for (uint32_t i = 0; i < bins; ++i) {
    const double weight = std::exp(logits[first + i] - highest);
    sum += weight;
    weighted += weight * i;
  }
  return weighted / sum;
}

struct Box {
  double left, top, right, bottom;
};

constexpr double kLargestTurned = 1e9;  // pixels; squares of products of such numbers are finite

Box around(double x, double y, double width, double height) {
  return {x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

class Decoder {
 public:
  Decoder(const Configuration& c, const Tensors& tensors) : c_(c), tensors_(tensors) {
    // A logit below this one is below the threshold, with room for rounding.
    const double t = c.score_threshold;
    const bool by_logit = c.score_activation == Activation::kSigmoid && !c.has_objectness && t > 0 && t < 1;
    least_logit_ = by_logit ? std::log(t / (1 - t)) - 1e-3 : -HUGE_VAL;
    if (c.most_per_level != 0) limit_ = std::min<size_t>(c.most_per_level, kMostCandidates);
  }

  std::vector<Candidate> run() {
    uint64_t order = 0;
    for (const Level& level : c_.levels) {
      if (c_.most_per_level != 0) first_ = found_.size();
      for (uint64_t position = 0; position < level.positions(); ++position) {
        for (uint64_t anchor = 0; anchor < level.anchors.size(); ++anchor) {
          look(level, position, anchor, order);
          order += c_.classes;
        }
      }
      if (c_.most_per_level != 0 && found_.size() - first_ > limit_) trim();
    }
    return std::move(found_);
  }

 private:
  void look(const Level& level, uint64_t position, uint64_t anchor, uint64_t order) {
    const Reader scores = at(level.scores, tensors_, position, anchor);
    double objectness = 1;
    if (c_.has_objectness) {
      objectness = activated(c_.objectness_activation, at(level.objectness, tensors_, position, anchor)[0]);
      // Scores are at most 1, but for those without an activation, of which nothing is known.
      if (c_.score_activation != Activation::kNone && !(objectness >= least_objectness())) return;
    }
    if (c_.score_activation == Activation::kSoftmax && !normalize(scores)) return;
    bool known = false;
    Box box{};
    const bool one = c_.suppression == Suppression::kBest || c_.suppression == Suppression::kQueries;
    const uint32_t only = one ? best_class(scores, objectness) : c_.classes;
    for (uint32_t k = 0; k < c_.classes; ++k) {
      if (only < c_.classes && k != only) continue;
      if (k == c_.background || (c_.suppression == Suppression::kPeaks && !peak(level, position, scores, k))) continue;
      const double score = score_of(scores, k, objectness);
      if (!(score >= c_.score_threshold)) continue;
      if (!known) box = box_of(level, position, anchor);
      known = true;
      if (!std::isfinite(box.left + box.top + box.right + box.bottom)) return;
      if (c_.clipped) box = clipped(box);
      Candidate found{static_cast<float>(box.left),
                      static_cast<float>(box.top),
                      static_cast<float>(box.right),
                      static_cast<float>(box.bottom),
                      static_cast<float>(score),
                      k,
                      order + k};
      if (c_.angle.there && !turn(level, position, anchor, box, found)) return;
      keep(found);
    }
  }

  // Makes the box the upright one about the turned one. False where the angle is no number, or the box has no size that
  // can be reckoned with.
  bool turn(const Level& level, uint64_t position, uint64_t anchor, const Box& box, Candidate& out) const {
    const double raw = activated(c_.angle.activation, at(level.angles, tensors_, position, anchor)[0]);
    const double angle = c_.angle.scale * raw + c_.angle.offset;
    if (!std::isfinite(angle)) return false;
    const double cosine = std::cos(angle), sine = std::sin(angle);
    double x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    if (c_.coding == Coding::kDistances) {
      const double px = (static_cast<double>(position % level.columns) + c_.point_offset) * level.stride_x;
      const double py = (static_cast<double>(position / level.columns) + c_.point_offset) * level.stride_y;
      const double dx = x - px, dy = y - py;
      x = px + dx * cosine - dy * sine;
      y = py + dx * sine + dy * cosine;
    }
    const double width = box.right - box.left, height = box.bottom - box.top;
    for (const double v : {x, y, width, height}) {
      if (!(std::fabs(v) <= kLargestTurned)) return false;
    }
    const double across = (std::fabs(width * cosine) + std::fabs(height * sine)) / 2;
    const double down = (std::fabs(width * sine) + std::fabs(height * cosine)) / 2;
    out.left = static_cast<float>(x - across);
    out.right = static_cast<float>(x + across);
    out.top = static_cast<float>(y - down);
    out.bottom = static_cast<float>(y + down);
    out.x = static_cast<float>(x);
    out.y = static_cast<float>(y);
    out.width = static_cast<float>(width);
    out.height = static_cast<float>(height);
    out.angle = static_cast<float>(angle);
    return true;
  }

  double least_objectness() const { return c_.root ? c_.score_threshold * c_.score_threshold : c_.score_threshold; }

  // Of a softmax: the highest logit and the sum, for score_of. False where they are no numbers.
  bool normalize(const Reader& scores) {
    highest_ = scores[0];
    for (uint32_t k = 1; k < c_.classes; ++k) highest_ = std::max(highest_, scores[k]);
    sum_ = 0;
    for (uint32_t k = 0; k < c_.classes; ++k) sum_ += std::exp(scores[k] - highest_);
    return sum_ > 0;
  }

  double score_of(const Reader& scores, uint32_t k, double objectness) const {
    const double raw = scores[k];
    if (raw < least_logit_) return -1;
    const double score = c_.score_activation == Activation::kSoftmax ? std::exp(raw - highest_) / sum_
                                                                     : activated(c_.score_activation, raw);
    return c_.root ? std::sqrt(score * objectness) : score * objectness;
  }

  // The first class of the highest score.
  uint32_t best_class(const Reader& scores, double objectness) const {
    uint32_t best = c_.classes;
    double highest = -1;
    for (uint32_t k = 0; k < c_.classes; ++k) {
      const double score = k == c_.background ? -1 : score_of(scores, k, objectness);
      if (!(score > highest)) continue;
      highest = score;
      best = k;
    }
    return best;
  }

  // Whether no neighbour's score of this class is higher.
  bool peak(const Level& level, uint64_t position, const Reader& scores, uint32_t k) const {
    const int64_t y = static_cast<int64_t>(position / level.columns),
                  x = static_cast<int64_t>(position % level.columns);
    for (int64_t v = std::max<int64_t>(y - 1, 0); v <= std::min<int64_t>(y + 1, level.rows - 1); ++v) {
      for (int64_t u = std::max<int64_t>(x - 1, 0); u <= std::min<int64_t>(x + 1, level.columns - 1); ++u) {
        const uint64_t other = static_cast<uint64_t>(v) * level.columns + static_cast<uint64_t>(u);
        if (at(level.scores, tensors_, other, 0)[k] > scores[k]) return false;
      }
    }
    return true;
  }

  Box box_of(const Level& l, uint64_t position, uint64_t anchor) const {
    Reader t = at(l.boxes, tensors_, position, anchor);
    t.swap = c_.y_first ? 1 : 0;
    const double gx = static_cast<double>(position % l.columns), gy = static_cast<double>(position / l.columns);
    const double sx = l.stride_x, sy = l.stride_y;
    const Anchor& a = l.anchors[anchor];
    switch (c_.coding) {
      case Coding::kDistances: {
        double d[4];
        for (uint32_t i = 0; i < 4; ++i) {
          d[i] = c_.bins > 1 ? expectation(t, uint64_t{i} * c_.bins, c_.bins) : activated(c_.box_activation, t[i]);
        }
        const double x = gx + c_.point_offset, y = gy + c_.point_offset;
        const double ux = l.unit_x, uy = l.unit_y;
        return {x * sx - d[0] * ux, y * sy - d[1] * uy, x * sx + d[2] * ux, y * sy + d[3] * uy};
      }
      case Coding::kGridOffsets:
        return around((t[0] + gx) * sx, (t[1] + gy) * sy, std::exp(t[2]) * sx, std::exp(t[3]) * sy);
      case Coding::kAnchorsExponential: {
        const double shift = (c_.offset_scale - 1) / 2;
        return around((c_.offset_scale * sigmoid(t[0]) - shift + gx) * sx,
                      (c_.offset_scale * sigmoid(t[1]) - shift + gy) * sy, std::exp(t[2]) * a.width,
                      std::exp(t[3]) * a.height);
      }
      case Coding::kAnchorsSquared: {
        const double w = 2 * sigmoid(t[2]), h = 2 * sigmoid(t[3]);
        return around((2 * sigmoid(t[0]) - 0.5 + gx) * sx, (2 * sigmoid(t[1]) - 0.5 + gy) * sy, w * w * a.width,
                      h * h * a.height);
      }
      case Coding::kPriors:
        return around((gx + c_.point_offset) * sx + t[0] / c_.centre_scale * a.width,
                      (gy + c_.point_offset) * sy + t[1] / c_.centre_scale * a.height,
                      std::exp(t[2] / c_.size_scale) * a.width, std::exp(t[3] / c_.size_scale) * a.height);
      case Coding::kCentres: {
        const Reader size = at(l.sizes, tensors_, position, anchor);
        return around((t[0] + gx) * sx, (t[1] + gy) * sy, size[0] * sx, size[1] * sy);
      }
      case Coding::kNormalizedCentres:
        return around(
            activated(c_.box_activation, t[0]) * c_.image_width, activated(c_.box_activation, t[1]) * c_.image_height,
            activated(c_.box_activation, t[2]) * c_.image_width, activated(c_.box_activation, t[3]) * c_.image_height);
      case Coding::kCorners:
        break;
    }
    return {t[0], t[1], t[2], t[3]};
  }

  Box clipped(const Box& b) const {
    const double w = c_.image_width, h = c_.image_height;
    return {std::clamp(b.left, 0.0, w), std::clamp(b.top, 0.0, h), std::clamp(b.right, 0.0, w),
            std::clamp(b.bottom, 0.0, h)};
  }

  // Twice as many as may be are kept at most; then the better half stays.
  void keep(const Candidate& candidate) {
    found_.push_back(candidate);
    if (found_.size() - first_ >= 2 * limit_) trim();
  }

  void trim() {
    const auto first = found_.begin() + static_cast<std::ptrdiff_t>(first_);
    std::nth_element(first, first + static_cast<std::ptrdiff_t>(limit_), found_.end(), better);
    found_.resize(first_ + limit_);
  }

  const Configuration& c_;
  const Tensors& tensors_;
  double least_logit_ = 0, highest_ = 0, sum_ = 0;
  size_t first_ = 0, limit_ = kMostCandidates;  // of those from the first on so many are kept
  std::vector<Candidate> found_;
};

}  // namespace

Place place_of(const Configuration& configuration, const Candidate& candidate) {
  uint64_t index = candidate.order / configuration.classes;
  for (const Level& level : configuration.levels) {
    if (index < level.candidates()) return {&level, index / level.anchors.size(), index % level.anchors.size()};
    index -= level.candidates();
  }
  fail(HEADRACE_INTERNAL_FAILURE, "boxes", "a box is of no level", str(candidate.order), "a position");
}

void read_key_points(const Configuration& c, const Tensors& tensors, const Place& place, float* out) {
  const Level& l = *place.level;
  const KeyPoints& k = c.key_points;
  const Reader t = at(l.key_points, tensors, place.position, place.anchor);
  const double gx = static_cast<double>(place.position % l.columns);
  const double gy = static_cast<double>(place.position / l.columns);
  const Anchor& a = l.anchors[place.anchor];
  for (uint32_t i = 0; i < k.count; ++i, out += 3) {
    double x = t[uint64_t{i} * k.numbers], y = t[uint64_t{i} * k.numbers + 1];
    if (k.coding == PointCoding::kGrid) {
      x = (k.scale * x + gx + k.offset) * l.stride_x;
      y = (k.scale * y + gy + k.offset) * l.stride_y;
    } else if (k.coding == PointCoding::kPriors) {
      x = (gx + c.point_offset) * l.stride_x + k.scale * x * a.width;
      y = (gy + c.point_offset) * l.stride_y + k.scale * y * a.height;
    }
    const double score = k.numbers == 3 ? activated(k.activation, t[uint64_t{i} * 3 + 2]) : 1;
    const float values[3] = {static_cast<float>(x), static_cast<float>(y), static_cast<float>(score)};
    const bool good = std::isfinite(values[0]) && std::isfinite(values[1]) && std::isfinite(values[2]);
    for (size_t n = 0; n < 3; ++n) out[n] = good ? values[n] : 0;
  }
}

void read_coefficients(const Configuration& c, const Tensors& tensors, const Place& place, float* out) {
  const Reader t = at(place.level->masks, tensors, place.position, place.anchor);
  for (uint32_t i = 0; i < c.coefficients(); ++i) out[i] = static_cast<float>(t[i]);
}

std::vector<Candidate> decode(const Configuration& configuration, const Tensors& tensors) {
  std::vector<Candidate> found = Decoder(configuration, tensors).run();
  std::sort(found.begin(), found.end(), better);
  if (found.size() > kMostCandidates) found.resize(kMostCandidates);
  return found;
}

}  // namespace headrace::postprocess
