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

// The same by class: for each class the number of boxes and then these, (top, left, bottom, right, score) each; without
// gaps, what is left of `out` is zero. Has room for configuration.by_class_size() numbers.
void by_class(const Configuration& configuration, const headrace_detection* detections, size_t count, float* out);

}  // namespace headrace::postprocess
