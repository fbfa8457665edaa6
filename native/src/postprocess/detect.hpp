// SPDX-License-Identifier: Apache-2.0
// Outputs of a detector → boxes: decoding, threshold, suppression. The same numbers give the same boxes; of equal
// scores the one that stands first in the tensors comes first.
#pragma once

#include <vector>

#include "headrace/headrace.h"
#include "postprocess/configuration.hpp"

namespace headrace::postprocess {

// A frame's tensors, float32, in the order of the configuration; each as large as that says.
using Tensors = std::vector<const float*>;

// Best first, at most `configuration.most`. Coordinates are parts of the picture, in 0 to 1.
std::vector<headrace_detection> detect(const Configuration& configuration, const Tensors& tensors);

// A box with what else the head says of it.
struct Object {
  headrace_detection detection{};
  float x = 0, y = 0, width = 0, height = 0, angle = 0;  // of a turned box: pixels, and radians in 0 to pi/2
  std::vector<headrace_key_point> key_points;            // parts of the picture; may lie outside of it
  std::vector<float> coefficients;
  uint32_t mask_top = 0, mask_left = 0, mask_height = 0, mask_width = 0;  // pixels of the picture
};

// Of the same boxes.
std::vector<Object> find(const Configuration& configuration, const Tensors& tensors);

// The mask of a box: 1 inside, 0 outside, mask_height rows of mask_width pixels. `prototypes` is the frame's tensor.
void draw_mask(const Configuration& configuration, const float* prototypes, const Object& object, uint8_t* out);

// The same by class: for each class the number of boxes and then these, (top, left, bottom, right, score) each; without
// gaps, what is left of `out` is zero. Has room for configuration.by_class_size() numbers.
void by_class(const Configuration& configuration, const headrace_detection* detections, size_t count, float* out);

}  // namespace headrace::postprocess
