// SPDX-License-Identifier: Apache-2.0
#include "postprocess/configuration.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "errors.hpp"
#include "json.hpp"

namespace headrace::postprocess {
namespace {

constexpr uint32_t kLargestSide = 65536;
constexpr uint32_t kMostClasses = 16384;
constexpr uint32_t kMostBins = 256;
constexpr size_t kMostTensors = 64;
constexpr size_t kMostLevels = 64;
constexpr size_t kMostAnchors = 256;
constexpr uint64_t kMostPositions = uint64_t{1} << 22;   // of all levels
constexpr uint64_t kMostElements = uint64_t{1} << 28;    // of a tensor
constexpr uint64_t kLargestByClass = uint64_t{1} << 26;  // numbers
constexpr double kLargest = 1e6;
constexpr uint32_t kMostKeyPoints = 1024;
constexpr uint32_t kMostCoefficients = 1024;
constexpr uint64_t kLargestMask = uint64_t{1} << 26;  // pixels

template <class T>
struct Word {
  const char* name;
  T value;
};

constexpr Word<Coding> kCodings[] = {
    {"distances", Coding::kDistances},
    {"grid_offsets", Coding::kGridOffsets},
    {"anchors_exponential", Coding::kAnchorsExponential},
    {"anchors_squared", Coding::kAnchorsSquared},
    {"priors", Coding::kPriors},
    {"centres", Coding::kCentres},
    {"normalized_centres", Coding::kNormalizedCentres},
    {"corners", Coding::kCorners},
};
constexpr Word<Activation> kScoreActivations[] = {
    {"none", Activation::kNone}, {"sigmoid", Activation::kSigmoid}, {"softmax", Activation::kSoftmax}};
constexpr Word<Activation> kObjectnessActivations[] = {{"none", Activation::kNone}, {"sigmoid", Activation::kSigmoid}};
constexpr Word<Activation> kBoxActivations[] = {{"none", Activation::kNone},
                                                {"relu", Activation::kRelu},
                                                {"exponential", Activation::kExponential},
                                                {"sigmoid", Activation::kSigmoid}};
constexpr Word<Suppression> kSuppressions[] = {{"class", Suppression::kByClass}, {"fast", Suppression::kFast},
                                               {"peaks", Suppression::kPeaks},   {"none", Suppression::kNone},
                                               {"best", Suppression::kBest},     {"queries", Suppression::kQueries}};
constexpr Word<PointCoding> kPointCodings[] = {
    {"grid", PointCoding::kGrid}, {"priors", PointCoding::kPriors}, {"pixels", PointCoding::kPixels}};

// One object of the configuration; every read names its place.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (json.kind != Json::Kind::kObject) bad("", "this is no object", "an object");
  }

  [[noreturn]] void bad(const std::string& key, const char* rule, const std::string& need,
                        const std::string& got = {}) const {
    fail(HEADRACE_INVALID_HEF, key.empty() ? where_ : where_ + ", " + key, rule, got, need);
  }

  const std::string& where() const { return where_; }
  bool has(const char* key) const { return json_.find(key) != nullptr; }

  double real(const char* key, double low, double high) const {
    const Json& value = get(key, Json::Kind::kNumber, "a number");
    return checked(key, value, low, high);
  }
  double real(const char* key, double low, double high, double otherwise) const {
    return has(key) ? real(key, low, high) : otherwise;
  }
  uint64_t count(const char* key, uint64_t low, uint64_t high) const {
    return whole(key, get(key, Json::Kind::kNumber, "an integer"), low, high);
  }
  uint64_t count(const char* key, uint64_t low, uint64_t high, uint64_t otherwise) const {
    return has(key) ? count(key, low, high) : otherwise;
  }
  bool truth(const char* key, bool otherwise) const {
    return has(key) ? get(key, Json::Kind::kBoolean, "true or false").boolean : otherwise;
  }
  std::string text(const char* key, size_t longest) const {
    const Json& value = get(key, Json::Kind::kText, "a text");
    if (value.text.empty() || value.text.size() > longest)
      bad(key, "the text is empty or too long", "1 to " + str(uint64_t{longest}) + " bytes");
    return value.text;
  }
  template <class T, size_t N>
  T word(const char* key, const Word<T> (&words)[N], const char* otherwise = nullptr) const {
    const std::string given = otherwise != nullptr && !has(key) ? otherwise : text(key, 64);
    std::string known;
    for (const Word<T>& one : words) {
      if (given == one.name) return one.value;
      known += (known.empty() ? "" : ", ") + std::string(one.name);
    }
    bad(key, "the word is not known", known, printable(given));
  }
  // A list of `low` to `high` entries.
  const std::vector<Json>& list(const char* key, size_t low, size_t high) const {
    const Json& value = get(key, Json::Kind::kList, "a list");
    if (value.items.size() < low || value.items.size() > high) {
      bad(key, "the list has another length", str(uint64_t{low}) + " to " + str(uint64_t{high}) + " entries",
          str(uint64_t{value.items.size()}));
    }
    return value.items;
  }
  std::vector<double> reals(const char* key, size_t low, size_t high, double least, double largest) const {
    std::vector<double> out;
    for (const Json& item : list(key, low, high)) out.push_back(checked(key, item, least, largest));
    return out;
  }
  std::vector<uint32_t> counts(const char* key, size_t size, uint64_t low, uint64_t high) const {
    std::vector<uint32_t> out;
    for (const Json& item : list(key, size, size)) out.push_back(static_cast<uint32_t>(whole(key, item, low, high)));
    return out;
  }
  Fields object(const char* key) const { return {get(key, Json::Kind::kObject, "an object"), where_ + ", " + key}; }

 private:
  const Json& get(const char* key, Json::Kind kind, const char* need) const {
    const Json* value = json_.find(key);
    if (value == nullptr) bad(key, "this is missing", need);
    if (value->kind != kind) bad(key, "this is of another kind", need);
    return *value;
  }
  double checked(const char* key, const Json& value, double low, double high) const {
    if (value.kind != Json::Kind::kNumber) bad(key, "this is of another kind", "a number");
    if (!(value.number >= low && value.number <= high))
      bad(key, "the number is out of range", std::to_string(low) + " to " + std::to_string(high),
          std::to_string(value.number));
    return value.number;
  }
  uint64_t whole(const char* key, const Json& value, uint64_t low, uint64_t high) const {
    const double number = checked(key, value, static_cast<double>(low), static_cast<double>(high));
    if (number != std::floor(number)) bad(key, "this is no whole number", "an integer", std::to_string(number));
    return static_cast<uint64_t>(number);
  }

  const Json& json_;
  std::string where_;
};

uint32_t small(uint64_t value) { return static_cast<uint32_t>(value); }  // of a number that was checked

// Elements of a box as the tensor has them.
uint64_t box_elements(const Configuration& c) {
  if (c.coding == Coding::kDistances) return uint64_t{4} * c.bins;
  return c.coding == Coding::kCentres ? 2 : 4;
}

Operand read_operand(const Fields& level, const char* key, const Configuration& c, const Level& of, uint64_t elements) {
  const Fields f = level.object(key);
  Operand o;
  o.tensor = small(f.count("tensor", 0, c.tensors.size() - 1));
  const uint64_t size = c.tensors[o.tensor].elements();
  o.base = f.count("base", 0, kMostElements);
  o.position = f.count("position", 0, kMostElements);
  o.anchor = f.count("anchor", 0, kMostElements, 0);
  o.element = f.count("element", 0, kMostElements, 1);
  // Products stay below 2⁵¹: positions ≤ 2²², anchors and elements ≤ 2¹⁴, steps ≤ 2²⁸.
  const uint64_t last =
      o.base + (of.positions() - 1) * o.position + (of.anchors.size() - 1) * o.anchor + (elements - 1) * o.element;
  if (last >= size)
    f.bad("", "it reaches outside of its tensor", "inside " + str(size) + " elements", "element " + str(last));
  return o;
}

std::vector<Anchor> read_anchors(const Fields& f, const Configuration& c) {
  const bool used =
      c.coding == Coding::kAnchorsExponential || c.coding == Coding::kAnchorsSquared || c.coding == Coding::kPriors;
  if (!used) return std::vector<Anchor>(f.count("anchors", 1, kMostAnchors, 1));
  const std::vector<double> w = f.reals("w", 1, kMostAnchors, 1e-9, kLargest);
  const std::vector<double> h = f.reals("h", w.size(), w.size(), 1e-9, kLargest);
  // Those of priors are parts of the picture, as the public configurations have them.
  const bool parts = c.coding == Coding::kPriors;
  std::vector<Anchor> out;
  for (size_t i = 0; i < w.size(); ++i)
    out.push_back({w[i] * (parts ? c.image_width : 1), h[i] * (parts ? c.image_height : 1)});
  return out;
}

Level read_level(const Fields& f, const Configuration& c) {
  Level level;
  const std::vector<uint32_t> grid = f.counts("grid", 2, 1, kLargestSide);
  level.rows = grid[0];
  level.columns = grid[1];
  if (level.positions() > kMostPositions) f.bad("grid", "there are too many positions", str(kMostPositions));
  if (f.has("strides")) {
    const std::vector<double> strides = f.reals("strides", 2, 2, 1e-6, kLargest);
    level.stride_y = strides[0];
    level.stride_x = strides[1];
  } else {
    level.stride_y = level.stride_x = f.real("stride", 1e-6, kLargest);
  }
  level.unit_y = level.stride_y;
  level.unit_x = level.stride_x;
  if (f.has("units")) {
    if (c.coding != Coding::kDistances) f.bad("units", "only distances have units", "box_coding distances");
    const std::vector<double> units = f.reals("units", 2, 2, 1e-6, kLargest);
    level.unit_y = units[0];
    level.unit_x = units[1];
  }
  level.anchors = read_anchors(f, c);
  level.boxes = read_operand(f, "boxes", c, level, box_elements(c));
  level.scores = read_operand(f, "scores", c, level, c.classes);
  if (c.has_objectness) level.objectness = read_operand(f, "objectness", c, level, 1);
  if (c.coding == Coding::kCentres) level.sizes = read_operand(f, "sizes", c, level, 2);
  if (c.masks.there) level.masks = read_operand(f, "masks", c, level, c.coefficients());
  if (c.key_points.count != 0)
    level.key_points = read_operand(f, "key_points", c, level, uint64_t{c.key_points.count} * c.key_points.numbers);
  if (c.angle.there) level.angles = read_operand(f, "angles", c, level, 1);
  return level;
}

void read_tensors(const Fields& f, Configuration& c) {
  size_t index = 0;
  for (const Json& item : f.list("tensors", 1, kMostTensors)) {
    const Fields t(item, f.where() + ", tensor " + str(uint64_t{index++}));
    Tensor tensor;
    tensor.name = t.text("name", 256);
    const std::vector<uint32_t> shape = t.counts("shape", 3, 1, kMostElements);
    tensor.height = shape[0];
    tensor.width = shape[1];
    tensor.channels = shape[2];
    if (uint64_t{tensor.height} * tensor.width > kMostElements || tensor.elements() > kMostElements)
      t.bad("shape", "the tensor is too large", "at most " + str(kMostElements) + " elements");
    for (const Tensor& other : c.tensors) {
      if (other.name == tensor.name) t.bad("name", "two tensors have one name", "a name each");
    }
    c.tensors.push_back(std::move(tensor));
  }
}

void read_limits(const Fields& f, Configuration& c) {
  c.score_threshold = f.real("nms_scores_th", 0, 1);
  c.iou_threshold = f.real("nms_iou_th", 0, 1);
  c.most_per_class = small(f.count("max_proposals_per_class", 1, kMostPerClass));
  c.most = small(f.count("max_total_proposals", 1, kMostBoxes,
                         std::min<uint64_t>(uint64_t{c.most_per_class} * c.classes, kMostBoxes)));
  if (c.by_class_size() > kLargestByClass) {
    f.bad("max_proposals_per_class", "the boxes of all classes are too many",
          "at most " + str(kLargestByClass) + " numbers", str(c.by_class_size()));
  }
  c.suppression = f.word("suppression", kSuppressions, "class");
  c.decoding_only = f.truth("bbox_decoding_only", false);
  c.most_per_level = small(f.count("max_proposals_per_level", 1, kMostBoxes, 0));
  c.clipped = f.truth("boxes_clipped", false);
  if (f.truth("background_removal", false))
    c.background = static_cast<int64_t>(f.count("background_removal_index", 0, c.classes - 1));
}

void read_coding(const Fields& f, Configuration& c) {
  c.coding = f.word("box_coding", kCodings);
  c.bins = small(f.count("regression_length", 1, kMostBins, 1));
  if (c.coding != Coding::kDistances) c.bins = 1;
  c.box_activation = f.word("box_activation", kBoxActivations, "none");
  c.y_first = f.truth("y_first", false);
  if (c.y_first && c.coding != Coding::kPriors && c.coding != Coding::kCorners)
    f.bad("y_first", "this coding has x first", "false");
  c.point_offset = f.real("point_offset", -16, 16, 0.5);
  c.centre_scale = f.real("centers_scale_factor", 1e-6, kLargest, 1);
  c.size_scale = f.real("bbox_dimensions_scale_factor", 1e-6, kLargest, 1);
  c.offset_scale = f.real("offset_scale", 0.1, 16, 1);
  c.score_activation = f.word("score_activation", kScoreActivations);
  c.has_objectness = f.has("objectness_activation");
  if (c.has_objectness) c.objectness_activation = f.word("objectness_activation", kObjectnessActivations);
  c.root = f.truth("score_root", false);
}

void read_masks(const Fields& f, Configuration& c) {
  if (!f.has("mask_prototypes")) return;
  c.masks.there = true;
  c.masks.tensor = small(f.count("mask_prototypes", 0, c.tensors.size() - 1));
  const double threshold = f.real("mask_threshold", 1e-6, 1 - 1e-6, 0.5);
  c.masks.least = std::log(threshold / (1 - threshold));
  if (c.coefficients() > kMostCoefficients)
    f.bad("mask_prototypes", "there are too many prototypes", "at most " + str(kMostCoefficients),
          str(c.coefficients()));
  if (uint64_t{c.image_height} * c.image_width > kLargestMask)
    f.bad("image_dims", "a mask of this size is too large", "at most " + str(kLargestMask) + " pixels");
}

void read_key_points(const Fields& f, Configuration& c) {
  if (!f.has("key_points")) return;
  const Fields k = f.object("key_points");
  c.key_points.count = small(k.count("count", 1, kMostKeyPoints));
  c.key_points.numbers = small(k.count("numbers", 2, 3));
  c.key_points.coding = k.word("coding", kPointCodings);
  if (c.key_points.coding == PointCoding::kPriors && c.coding != Coding::kPriors)
    k.bad("coding", "the boxes are not coded against priors", "grid or pixels");
  c.key_points.scale = k.real("scale", -kLargest, kLargest, 1);
  c.key_points.offset = k.real("offset", -16, 16, 0);
  c.key_points.activation = k.word("activation", kObjectnessActivations, "none");
}

void read_angle(const Fields& f, Configuration& c) {
  if (!f.has("angle")) return;
  const Fields a = f.object("angle");
  c.angle.there = true;
  c.angle.activation = a.word("activation", kObjectnessActivations, "none");
  c.angle.scale = a.real("scale", -kLargest, kLargest, 1);
  c.angle.offset = a.real("offset", -16, 16, 0);
}

void read_further(const Fields& f, Configuration& c) {
  read_masks(f, c);
  read_key_points(f, c);
  read_angle(f, c);
  if (c.further(c.most) > kMostFurther) {
    f.bad("max_total_proposals", "the masks and key points of all boxes are too many",
          "at most " + str(kMostFurther) + " numbers", str(c.further(c.most)));
  }
}

}  // namespace

Configuration read_configuration(const char* json, size_t size, const std::string& where) {
  const Json document = parse_json(json, size, where);
  const Fields f(document, where);
  Configuration c;
  c.family = f.text("meta_arch", 64);
  const std::vector<uint32_t> image = f.counts("image_dims", 2, 1, kLargestSide);
  c.image_height = image[0];
  c.image_width = image[1];
  c.classes = small(f.count("classes", 1, kMostClasses));
  read_limits(f, c);
  read_coding(f, c);
  read_tensors(f, c);
  read_further(f, c);
  uint64_t positions = 0;
  size_t index = 0;
  for (const Json& item : f.list("bbox_decoders", 1, kMostLevels)) {
    c.levels.push_back(read_level(Fields(item, where + ", decoder " + str(uint64_t{index++})), c));
    positions += c.levels.back().candidates();
    if (positions > kMostPositions)
      f.bad("bbox_decoders", "there are too many positions", "at most " + str(kMostPositions), str(positions));
  }
  return c;
}

}  // namespace headrace::postprocess
