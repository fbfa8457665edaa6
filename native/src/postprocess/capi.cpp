// SPDX-License-Identifier: Apache-2.0
// Boxes at the C boundary.
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "boundary.hpp"
#include "postprocess/detect.hpp"

struct headrace_postprocess {
  headrace::postprocess::Configuration configuration;
};

struct headrace_objects {
  struct Frame {
    std::vector<headrace::postprocess::Object> objects;
    std::vector<float> prototypes;  // for masks, which are drawn when they are asked for
  };
  headrace::postprocess::Configuration configuration;
  std::vector<Frame> frames;
};

namespace headrace {
namespace {

using postprocess::Configuration;
using postprocess::Tensor;

constexpr size_t kFramesAtOnce = 16;
constexpr uint64_t kLargestBatch = uint64_t{1} << 36;  // bytes

void require_element(uint32_t element) {
  if (element != HEADRACE_CODES && element != HEADRACE_FLOAT32)
    fail(HEADRACE_INVALID_ARGUMENT, "element", "the element type is not known", str(element), "0 or 1");
}

// A tensor of so many frames has to fit into memory, so more of them are a mistake.
void require_frames(const Configuration& c, size_t frames) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : c.tensors) bytes += tensor.elements() * sizeof(float);
  if (sat_mul(bytes, frames) > kLargestBatch) {
    fail(HEADRACE_INVALID_ARGUMENT, "frames", "there are too many frames for one call", str(uint64_t{frames}),
         "at most " + str(kLargestBatch / bytes) + ", whose tensors have " + str(kLargestBatch) + " bytes");
  }
}

void require_room(const Configuration& c, size_t frames, const headrace_detection* detections, size_t capacity,
                  const size_t* counts) {
  const uint64_t need = sat_mul(frames, c.most);
  if (capacity < need || (need != 0 && (detections == nullptr || counts == nullptr))) {
    fail(HEADRACE_INVALID_ARGUMENT, "detections", "there is no room for the boxes", str(uint64_t{capacity}) + " boxes",
         str(need) + " boxes: " + str(uint64_t{frames}) + " frames of max_total " + str(c.most));
  }
}

void write_frame(const Configuration& c, const postprocess::Tensors& tensors, size_t frame,
                 headrace_detection* detections, size_t* counts) {
  const std::vector<headrace_detection> found = postprocess::detect(c, tensors);
  std::copy(found.begin(), found.end(), detections + frame * c.most);
  counts[frame] = found.size();
}

using Sink = std::function<void(const postprocess::Tensors&, size_t)>;  // takes a frame's tensors and its number

Sink into(headrace_objects& objects) {
  return [&objects](const postprocess::Tensors& tensors, size_t frame) {
    const Configuration& c = objects.configuration;
    headrace_objects::Frame& to = objects.frames[frame];
    to.objects = postprocess::find(c, tensors);
    if (!c.masks.there || to.objects.empty()) return;
    const float* const first = tensors[c.masks.tensor];
    to.prototypes.assign(first, first + c.tensors[c.masks.tensor].elements());
  };
}

const postprocess::Object& object_at(const headrace_objects* objects, size_t frame, size_t index) {
  require_pointer(objects, "objects");
  if (frame >= objects->frames.size() || index >= objects->frames[frame].objects.size()) {
    fail(HEADRACE_NOT_FOUND, "objects", "there is no such object",
         "frame " + str(uint64_t{frame}) + ", object " + str(uint64_t{index}), "below headrace_objects_count");
  }
  return objects->frames[frame].objects[index];
}

const float* bound(const Tensor& tensor, size_t frames, const headrace_buffer* buffers, size_t count) {
  const headrace_buffer* found = nullptr;
  for (size_t i = 0; i < count; ++i) {
    if (buffers[i].name != nullptr && tensor.name == buffers[i].name) found = &buffers[i];
  }
  const std::string where = "tensor " + printable(tensor.name);
  if (found == nullptr) fail(HEADRACE_INVALID_ARGUMENT, where, "it is not given", "", "a buffer of this name");
  const uint64_t need = sat_mul(sat_mul(tensor.elements(), sizeof(float)), frames);
  if (found->size != need || (found->data == nullptr && need != 0)) {
    fail(HEADRACE_INVALID_ARGUMENT, where, "the buffer does not hold the frames", str(uint64_t{found->size}) + " bytes",
         str(need) + " bytes, float32");
  }
  return static_cast<const float*>(found->data);
}

void run_frames(const Configuration& c, size_t frames, const headrace_buffer* tensors, size_t tensor_count,
                const Sink& sink) {
  require_pointer(tensors, "tensors");
  postprocess::Tensors first;
  for (const Tensor& tensor : c.tensors) first.push_back(bound(tensor, frames, tensors, tensor_count));
  for (size_t i = 0; i < frames; ++i) {
    postprocess::Tensors frame;
    for (size_t t = 0; t < first.size(); ++t)
      frame.push_back(first[t] + i * static_cast<size_t>(c.tensors[t].elements()));
    sink(frame, i);
  }
}

// The outputs that a configuration reads, for some frames at a time, as the network gives them.
class Outputs {
 public:
  Outputs(const Network& network, const Configuration& c, bool floats, size_t frames) : network_(network), c_(c) {
    for (const Tensor& tensor : c.tensors) {
      const size_t elements = static_cast<size_t>(tensor.elements());
      const uint32_t index = index_of(tensor);
      const size_t bytes = floats ? sizeof(float) : network.program().tensors[index].element_bytes;
      indices_.push_back(index);
      frame_bytes_.push_back(elements * bytes);
      data_.emplace_back(elements * bytes * frames);
      reals_.emplace_back(floats ? 0 : elements);
    }
  }

  std::vector<headrace_buffer> buffers(size_t frames) {
    std::vector<headrace_buffer> out;
    for (size_t i = 0; i < data_.size(); ++i)
      out.push_back({c_.tensors[i].name.c_str(), data_[i].data(), frame_bytes_[i] * frames});
    return out;
  }

  postprocess::Tensors frame(size_t index) {
    postprocess::Tensors out;
    for (size_t i = 0; i < data_.size(); ++i) {
      const uint8_t* const at = data_[i].data() + index * frame_bytes_[i];
      if (!reals_[i].empty()) network_.real_values(indices_[i], at, reals_[i].data());
      out.push_back(reals_[i].empty() ? reinterpret_cast<const float*>(at) : reals_[i].data());
    }
    return out;
  }

 private:
  uint32_t index_of(const Tensor& tensor) const {
    const Program& p = network_.program();
    for (uint32_t i : network_.streams(true)) {
      const microcode::TensorRecord& t = p.tensors[i];
      if (p.tensor_names[i] == tensor.name && t.height == tensor.height && t.width == tensor.width &&
          t.channels == tensor.channels)
        return i;
    }
    fail(HEADRACE_INVALID_ARGUMENT, "postprocess", "it is not of this network", printable(tensor.name),
         "that of headrace_network_postprocess");
  }

  const Network& network_;
  const Configuration& c_;
  std::vector<uint32_t> indices_;
  std::vector<size_t> frame_bytes_;
  std::vector<std::vector<uint8_t>> data_;
  std::vector<std::vector<float>> reals_;
};

void detect_frames(Network& network, const Configuration& c, bool floats, size_t frames, const headrace_buffer* inputs,
                   size_t input_count, const Sink& sink) {
  if (inputs == nullptr && input_count != 0)
    fail(HEADRACE_INVALID_ARGUMENT, "detect", "the list of inputs is missing", "NULL", "an array");
  std::vector<size_t> frame_bytes;
  for (size_t i = 0; i < input_count; ++i) {
    if (frames == 0 || inputs[i].size % frames != 0 || inputs[i].data == nullptr) {
      fail(HEADRACE_INVALID_ARGUMENT, "input " + printable(inputs[i].name == nullptr ? "" : inputs[i].name),
           "the buffer does not hold the frames", str(uint64_t{inputs[i].size}) + " bytes",
           str(uint64_t{frames}) + " frames of one size");
    }
    frame_bytes.push_back(inputs[i].size / frames);
  }
  Outputs outputs(network, c, floats, std::min(frames, kFramesAtOnce));
  for (size_t first = 0; first < frames; first += kFramesAtOnce) {
    const size_t some = std::min(kFramesAtOnce, frames - first);
    std::vector<headrace_buffer> part(inputs, inputs + input_count);
    for (size_t i = 0; i < input_count; ++i) {
      part[i].data = static_cast<uint8_t*>(inputs[i].data) + first * frame_bytes[i];
      part[i].size = some * frame_bytes[i];
    }
    const std::vector<headrace_buffer> results = outputs.buffers(some);
    network.infer(some, part.data(), part.size(), results.data(), results.size(),
                  floats ? Codes::kFloat : Codes::kQuantized, false);
    for (size_t i = 0; i < some; ++i) sink(outputs.frame(i), first + i);
  }
}

}  // namespace
}  // namespace headrace

using namespace headrace;

extern "C" {

headrace_status headrace_postprocess_open(const char* json, size_t size, headrace_postprocess** out) noexcept {
  return guarded([&] {
    require_pointer(out, "postprocess");
    *out = nullptr;
    require_pointer(json, "json");
    *out = new headrace_postprocess{postprocess::read_configuration(json, size, "post-processing")};
  });
}

headrace_status headrace_network_postprocess(const headrace_network* network, headrace_postprocess** out) noexcept {
  return guarded([&] {
    require_pointer(out, "postprocess");
    *out = nullptr;
    require_pointer(network, "network");
    const Configuration* const found = network->network.postprocess();
    if (found == nullptr) {
      fail(HEADRACE_NOT_FOUND, "network " + network->network.name(), "the HEF has no post-processing", "", "",
           "compile the network with nms_postprocess(...) in its model script");
    }
    *out = new headrace_postprocess{*found};
  });
}

void headrace_postprocess_close(headrace_postprocess* postprocess) noexcept { delete postprocess; }

headrace_status headrace_postprocess_get_info(const headrace_postprocess* postprocess,
                                              headrace_postprocess_info* out) noexcept {
  return guarded([&] {
    require_pointer(postprocess, "postprocess");
    const Configuration& c = postprocess->configuration;
    headrace_postprocess_info info{};
    info.family = c.family.c_str();
    info.classes = c.classes;
    info.image_height = c.image_height;
    info.image_width = c.image_width;
    info.max_per_class = c.most_per_class;
    info.max_total = c.most;
    info.tensor_count = static_cast<uint32_t>(c.tensors.size());
    info.by_class_floats = static_cast<size_t>(c.by_class_size());
    info.score_threshold = c.score_threshold;
    info.iou_threshold = c.iou_threshold;
    info.has_masks = c.masks.there ? 1 : 0;
    info.has_angle = c.angle.there ? 1 : 0;
    info.key_points = c.key_points.count;
    give(out, info, "info");
  });
}

headrace_status headrace_postprocess_get_tensor(const headrace_postprocess* postprocess, size_t index,
                                                headrace_postprocess_tensor* out) noexcept {
  return guarded([&] {
    require_pointer(postprocess, "postprocess");
    const std::vector<Tensor>& tensors = postprocess->configuration.tensors;
    if (index >= tensors.size()) {
      fail(HEADRACE_NOT_FOUND, "postprocess", "there is no tensor of this index", str(uint64_t{index}),
           "below " + str(uint64_t{tensors.size()}));
    }
    const Tensor& t = tensors[index];
    give(out, headrace_postprocess_tensor{0, t.name.c_str(), t.height, t.width, t.channels}, "tensor");
  });
}

headrace_status headrace_postprocess_set_limits(headrace_postprocess* postprocess, double score_threshold,
                                                double iou_threshold, uint32_t max_per_class,
                                                uint32_t max_total) noexcept {
  return guarded([&] {
    require_pointer(postprocess, "postprocess");
    const auto inside = [](double value) { return value >= 0 && value <= 1; };
    if (!inside(score_threshold) || !inside(iou_threshold)) {
      fail(HEADRACE_INVALID_ARGUMENT, "limits", "a threshold is out of range",
           std::to_string(score_threshold) + ", " + std::to_string(iou_threshold), "0 to 1");
    }
    if (max_per_class > postprocess::kMostPerClass || max_total > postprocess::kMostBoxes) {
      fail(HEADRACE_INVALID_ARGUMENT, "limits", "there are too many boxes", str(max_per_class) + ", " + str(max_total),
           "at most " + str(postprocess::kMostPerClass) + " per class, " + str(postprocess::kMostBoxes) + " in all");
    }
    Configuration& c = postprocess->configuration;
    if (c.further(std::max(max_total, c.most)) > postprocess::kMostFurther) {
      fail(HEADRACE_INVALID_ARGUMENT, "limits", "the masks and key points of all boxes are too many",
           str(c.further(max_total)) + " numbers", "at most " + str(postprocess::kMostFurther));
    }
    c.score_threshold = score_threshold;
    c.iou_threshold = iou_threshold;
    if (max_per_class != 0) c.most_per_class = max_per_class;
    if (max_total != 0) c.most = max_total;
  });
}

headrace_status headrace_postprocess_run(const headrace_postprocess* postprocess, size_t frames,
                                         const headrace_buffer* tensors, size_t tensor_count,
                                         headrace_detection* detections, size_t capacity, size_t* counts) noexcept {
  return guarded([&] {
    require_pointer(postprocess, "postprocess");
    const Configuration& c = postprocess->configuration;
    require_room(c, frames, detections, capacity, counts);
    run_frames(c, frames, tensors, tensor_count, [&](const postprocess::Tensors& frame, size_t index) {
      write_frame(c, frame, index, detections, counts);
    });
  });
}

headrace_status headrace_postprocess_by_class(const headrace_postprocess* postprocess,
                                              const headrace_detection* detections, size_t count, float* out,
                                              size_t out_floats) noexcept {
  return guarded([&] {
    require_pointer(postprocess, "postprocess");
    require_pointer(out, "out");
    if (count != 0) require_pointer(detections, "detections");
    const Configuration& c = postprocess->configuration;
    if (out_floats != c.by_class_size()) {
      fail(HEADRACE_INVALID_ARGUMENT, "out", "the buffer has another size", str(uint64_t{out_floats}) + " numbers",
           str(c.by_class_size()) + " numbers");
    }
    postprocess::by_class(c, detections, count, out);
  });
}

headrace_status headrace_network_detect(headrace_network* network, const headrace_postprocess* postprocess,
                                        uint32_t element, size_t frames, const headrace_buffer* inputs,
                                        size_t input_count, headrace_detection* detections, size_t capacity,
                                        size_t* counts) noexcept {
  return guarded([&] {
    require_pointer(network, "network");
    require_pointer(postprocess, "postprocess");
    require_element(element);
    const Configuration& c = postprocess->configuration;
    require_room(c, frames, detections, capacity, counts);
    detect_frames(
        network->network, c, element == HEADRACE_FLOAT32, frames, inputs, input_count,
        [&](const postprocess::Tensors& frame, size_t index) { write_frame(c, frame, index, detections, counts); });
  });
}

headrace_status headrace_postprocess_find(const headrace_postprocess* postprocess, size_t frames,
                                          const headrace_buffer* tensors, size_t tensor_count,
                                          headrace_objects** out) noexcept {
  return guarded([&] {
    require_pointer(out, "objects");
    *out = nullptr;
    require_pointer(postprocess, "postprocess");
    auto found = std::make_unique<headrace_objects>();
    found->configuration = postprocess->configuration;
    require_frames(found->configuration, frames);
    found->frames.resize(frames);
    run_frames(found->configuration, frames, tensors, tensor_count, into(*found));
    *out = found.release();
  });
}

headrace_status headrace_network_find(headrace_network* network, const headrace_postprocess* postprocess,
                                      uint32_t element, size_t frames, const headrace_buffer* inputs,
                                      size_t input_count, headrace_objects** out) noexcept {
  return guarded([&] {
    require_pointer(out, "objects");
    *out = nullptr;
    require_pointer(network, "network");
    require_pointer(postprocess, "postprocess");
    require_element(element);
    auto found = std::make_unique<headrace_objects>();
    found->configuration = postprocess->configuration;
    require_frames(found->configuration, frames);
    found->frames.resize(frames);
    detect_frames(network->network, found->configuration, element == HEADRACE_FLOAT32, frames, inputs, input_count,
                  into(*found));
    *out = found.release();
  });
}

void headrace_objects_close(headrace_objects* objects) noexcept { delete objects; }

size_t headrace_objects_count(const headrace_objects* objects, size_t frame) noexcept {
  return objects == nullptr || frame >= objects->frames.size() ? 0 : objects->frames[frame].objects.size();
}

headrace_status headrace_objects_get(const headrace_objects* objects, size_t frame, size_t index,
                                     headrace_object* out) noexcept {
  return guarded([&] {
    const postprocess::Object& found = object_at(objects, frame, index);
    headrace_object o{};
    o.detection = found.detection;
    o.x = found.x;
    o.y = found.y;
    o.width = found.width;
    o.height = found.height;
    o.angle = found.angle;
    o.key_point_count = static_cast<uint32_t>(found.key_points.size());
    o.key_points = found.key_points.empty() ? nullptr : found.key_points.data();
    o.mask_top = found.mask_top;
    o.mask_left = found.mask_left;
    o.mask_height = found.mask_height;
    o.mask_width = found.mask_width;
    give(out, o, "object");
  });
}

headrace_status headrace_objects_mask(const headrace_objects* objects, size_t frame, size_t index, uint8_t* out,
                                      size_t size) noexcept {
  return guarded([&] {
    const postprocess::Object& found = object_at(objects, frame, index);
    const Configuration& c = objects->configuration;
    if (!c.masks.there) fail(HEADRACE_NOT_FOUND, "objects", "the head makes no masks", "", "a head with masks");
    const uint64_t need = uint64_t{found.mask_height} * found.mask_width;
    if (size != need || (need != 0 && out == nullptr)) {
      fail(HEADRACE_INVALID_ARGUMENT, "mask", "the buffer has another size", str(uint64_t{size}) + " bytes",
           str(need) + " bytes: mask_height * mask_width");
    }
    postprocess::draw_mask(c, objects->frames[frame].prototypes.data(), found, out);
  });
}

}  // extern "C"
