// SPDX-License-Identifier: Apache-2.0
// What turns the outputs of a detector into boxes: read from JSON (docs/formats/nms.md) and checked, nothing of it
// trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace headrace::postprocess {

// How numbers become a box. `s` is the stride, `g` the cell, `o` the offset of its point, all per axis.
enum class Coding {
  kDistances,           // left, top, right, bottom from the point (g + o)·s, in units of their own, which mostly are s;
                        // `bins` > 1: of a distribution
  kGridOffsets,         // centre (t + g)·s, size exp(t)·s
  kAnchorsExponential,  // centre (α·σ(t) − (α − 1)/2 + g)·s, size exp(t)·anchor
  kAnchorsSquared,      // centre (2σ(t) − 1/2 + g)·s, size (2σ(t))²·anchor
  kPriors,              // centre (g + o)·s + t/c·anchor, size exp(t/d)·anchor
  kCentres,             // centre (t + g)·s, size from a tensor of its own, in units of s
  kNormalizedCentres,   // centre and size as parts of the picture
  kCorners,             // left, top, right, bottom in pixels
};

enum class Activation { kNone, kSigmoid, kSoftmax, kRelu, kExponential };

// kFast: what any better one of its class covers is hidden, though that one is hidden itself.
// kBest: of each position its best class only, and what a better box covers is hidden, whatever its class.
// kQueries: of each position its best class only, and nothing is hidden.
enum class Suppression { kByClass, kFast, kPeaks, kNone, kBest, kQueries };

// How numbers become a point; `g` and `s` as above.
enum class PointCoding {
  kGrid,    // (scale·t + g + offset)·s
  kPriors,  // (g + o)·s + scale·t·anchor
  kPixels,  // t
};

// A mask: the sum of pictures (prototypes), each times a number of the box; inside where its sigmoid is above a limit.
struct Masks {
  bool there = false;
  uint32_t tensor = 0;  // of the prototypes
  double least = 0;     // the limit's logit
};

struct KeyPoints {
  uint32_t count = 0, numbers = 2;  // a third number is the point's score
  PointCoding coding = PointCoding::kGrid;
  double scale = 1, offset = 0;
  Activation activation = Activation::kNone;  // of the score
};

// The box is turned about its centre by scale·activation(t) + offset radians, from x to y. Of distances the centre lies
// at half their differences, turned as well.
struct Angle {
  bool there = false;
  Activation activation = Activation::kNone;
  double scale = 1, offset = 0;
};

// Where numbers stand: element k of anchor a at position p is data[base + p·position + a·anchor + k·element].
struct Operand {
  uint32_t tensor = 0;
  uint64_t base = 0, position = 0, anchor = 0, element = 1;
};

struct Anchor {
  double width = 0, height = 0;  // pixels
};

struct Level {
  uint32_t rows = 0, columns = 0;
  double stride_y = 0, stride_x = 0;
  double unit_y = 0, unit_x = 0;  // of distances: pixels of one
  std::vector<Anchor> anchors;    // at least one; of a coding without anchors they mean nothing
  Operand boxes, scores, objectness, sizes, masks, key_points, angles;

  uint64_t positions() const { return uint64_t{rows} * columns; }
  uint64_t candidates() const { return positions() * anchors.size(); }
};

struct Tensor {
  std::string name;
  uint32_t height = 0, width = 0, channels = 0;

  uint64_t elements() const { return uint64_t{height} * width * channels; }
};

struct Configuration {
  std::string family;
  uint32_t image_height = 0, image_width = 0;
  uint32_t classes = 0;
  int64_t background = -1;  // a class that is none; -1: there is no such
  double score_threshold = 0, iou_threshold = 0;
  uint32_t most_per_class = 0, most = 0;
  uint32_t most_per_level = 0;  // best candidates of a level, before any is suppressed; 0: of all levels together
  bool clipped = false;         // boxes end at the picture's edges before they are compared
  Suppression suppression = Suppression::kByClass;
  bool decoding_only = false;
  Coding coding = Coding::kCorners;
  Activation box_activation = Activation::kNone;  // of distances and normalized centres
  uint32_t bins = 1;
  bool y_first = false;  // of priors and corners: y before x, height before width
  double point_offset = 0.5;
  double centre_scale = 1, size_scale = 1;  // c and d
  double offset_scale = 1;                  // α
  Activation score_activation = Activation::kNone;
  bool has_objectness = false;
  Activation objectness_activation = Activation::kNone;
  bool root = false;  // a score is the root of the product with objectness
  Masks masks;
  KeyPoints key_points;
  Angle angle;
  std::vector<Tensor> tensors;
  std::vector<Level> levels;

  uint32_t coefficients() const { return masks.there ? tensors[masks.tensor].channels : 0; }
  // Numbers of so many boxes beside their sides.
  uint64_t further(uint64_t boxes) const { return boxes * (coefficients() + uint64_t{3} * key_points.count); }

  // Numbers of the form by class: per class the count and as many boxes as there may be, of five numbers.
  uint64_t by_class_size() const { return uint64_t{classes} * (1 + uint64_t{5} * most_per_class); }
};

constexpr uint32_t kMostPerClass = 4096;
constexpr uint32_t kMostBoxes = 65536;
constexpr uint64_t kMostFurther = uint64_t{1} << 25;  // numbers of all boxes of a frame beside their sides

// Fails with HEADRACE_INVALID_HEF; `where` is the place in errors.
Configuration read_configuration(const char* json, size_t size, const std::string& where);

}  // namespace headrace::postprocess
