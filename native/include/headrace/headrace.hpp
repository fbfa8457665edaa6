// SPDX-License-Identifier: Apache-2.0
// C++17 wrapper of the C API: handles that close themselves, results that hold a value or an error. Header only.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "headrace/headrace.h"

namespace headrace {

// One problem of a failed call; see headrace_diagnostic.
struct Diagnostic {
  std::string code, where, rule, got, need, lever;
};

struct Error {
  headrace_status status = HEADRACE_INTERNAL_FAILURE;
  std::string text;
  std::vector<Diagnostic> diagnostics;
};

// A value, or the error that prevented it.
template <class T>
class Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT: implicit on purpose
  Result(Error error) : state_(std::move(error)) {}  // NOLINT

  explicit operator bool() const { return state_.index() == 0; }
  T& value() { return std::get<0>(state_); }
  const T& value() const { return std::get<0>(state_); }
  const Error& error() const { return std::get<1>(state_); }
  T& operator*() { return value(); }
  T* operator->() { return &value(); }

 private:
  std::variant<T, Error> state_;
};

// What the thread's last failed call, or the run whose callback this is, had to say.
inline std::vector<Diagnostic> diagnostics() {
  std::vector<Diagnostic> all;
  for (size_t i = 0; i < headrace_diagnostic_count(); ++i) {
    headrace_diagnostic d{};
    d.struct_size = sizeof d;
    if (headrace_diagnostic_at(i, &d) != HEADRACE_SUCCESS) break;
    all.push_back({d.code, d.where, d.rule, d.got, d.need, d.lever});
  }
  return all;
}

inline Error last_error(headrace_status status) { return {status, headrace_last_error(), diagnostics()}; }

struct Stream {
  std::string name;
  bool output = false;
  uint32_t height = 0, width = 0, channels = 0, element_bytes = 1;
  float scale = 1;  // 0 where channels have scales of their own
  int32_t zero_point = 0;
  std::vector<float> channel_scales;  // one per channel, or none
  std::vector<int32_t> channel_zero_points;

  size_t elements() const { return size_t{height} * width * channels; }
  size_t frame_bytes() const { return elements() * element_bytes; }
};

// A box with what else a head says of it; see headrace_object.
struct Object {
  headrace_detection detection{};
  float x = 0, y = 0, width = 0, height = 0, angle = 0;                   // of a turned box: pixels, radians
  std::vector<headrace_key_point> key_points;                             // parts of the picture
  uint32_t mask_top = 0, mask_left = 0, mask_height = 0, mask_width = 0;  // pixels of the network's input
};

// Objects of some frames.
class Objects {
 public:
  explicit Objects(headrace_objects* handle) : handle_(handle) {}

  // Best first.
  Result<std::vector<Object>> frame(size_t frame) const {
    std::vector<Object> all;
    for (size_t i = 0; i < headrace_objects_count(handle_.get(), frame); ++i) {
      headrace_object o{};
      o.struct_size = sizeof o;
      const headrace_status status = headrace_objects_get(handle_.get(), frame, i, &o);
      if (status != HEADRACE_SUCCESS) return last_error(status);
      all.push_back({o.detection, o.x, o.y, o.width, o.height, o.angle,
                     std::vector<headrace_key_point>(o.key_points, o.key_points + o.key_point_count), o.mask_top,
                     o.mask_left, o.mask_height, o.mask_width});
    }
    return all;
  }
  // Rows of bytes, 1 inside and 0 outside.
  Result<std::vector<uint8_t>> mask(size_t frame, size_t index) const {
    headrace_object o{};
    o.struct_size = sizeof o;
    headrace_status status = headrace_objects_get(handle_.get(), frame, index, &o);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    std::vector<uint8_t> out(size_t{o.mask_height} * o.mask_width);
    status = headrace_objects_mask(handle_.get(), frame, index, out.data(), out.size());
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return out;
  }

 private:
  struct Close {
    void operator()(headrace_objects* o) const { headrace_objects_close(o); }
  };
  std::unique_ptr<headrace_objects, Close> handle_;
};

class VirtualNetwork {
 public:
  std::string name() const { return headrace_network_name(handle_.get()); }
  headrace_network* get() const { return handle_.get(); }

  std::vector<Stream> streams(headrace_direction direction) const {
    std::vector<Stream> all;
    for (size_t i = 0; i < headrace_network_stream_count(handle_.get(), direction); ++i) {
      headrace_stream_info info{};
      info.struct_size = sizeof info;
      if (headrace_network_stream(handle_.get(), direction, i, &info) != HEADRACE_SUCCESS) break;
      const size_t own = info.channel_scales ? info.channels : 0;
      all.push_back({info.name, direction == HEADRACE_OUTPUT, info.height, info.width, info.channels,
                     info.element_bytes, info.scale, info.zero_point,
                     std::vector<float>(info.channel_scales, info.channel_scales + own),
                     std::vector<int32_t>(info.channel_zero_points, info.channel_zero_points + own)});
    }
    return all;
  }

  // Codes in, codes out; see headrace_network_infer.
  Result<std::monostate> infer(size_t frames, const std::vector<headrace_buffer>& inputs,
                               const std::vector<headrace_buffer>& outputs) {
    const headrace_status status =
        headrace_network_infer(handle_.get(), frames, inputs.data(), inputs.size(), outputs.data(), outputs.size());
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return std::monostate{};
  }
  // float32 in, float32 out.
  Result<std::monostate> infer_float(size_t frames, const std::vector<headrace_buffer>& inputs,
                                     const std::vector<headrace_buffer>& outputs) {
    const headrace_status status = headrace_network_infer_float(handle_.get(), frames, inputs.data(), inputs.size(),
                                                                outputs.data(), outputs.size());
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return std::monostate{};
  }
  // Boxes of each frame, best first, of a HEF that holds what makes them; see headrace_network_detect.
  Result<std::vector<std::vector<headrace_detection>>> detect(size_t frames, const std::vector<headrace_buffer>& inputs,
                                                              headrace_element element = HEADRACE_CODES) {
    headrace_postprocess* opened = nullptr;
    headrace_status status = headrace_network_postprocess(handle_.get(), &opened);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    const std::unique_ptr<headrace_postprocess, void (*)(headrace_postprocess*)> boxes(
        opened, [](headrace_postprocess* p) { headrace_postprocess_close(p); });
    headrace_postprocess_info info{};
    info.struct_size = sizeof info;
    status = headrace_postprocess_get_info(opened, &info);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    std::vector<headrace_detection> flat(frames * info.max_total);
    std::vector<size_t> counts(frames);
    status = headrace_network_detect(handle_.get(), opened, element, frames, inputs.data(), inputs.size(), flat.data(),
                                     flat.size(), counts.data());
    if (status != HEADRACE_SUCCESS) return last_error(status);
    std::vector<std::vector<headrace_detection>> found;
    for (size_t i = 0; i < frames; ++i) {
      const headrace_detection* const first = flat.data() + i * info.max_total;
      found.emplace_back(first, first + counts[i]);
    }
    return found;
  }
  // The same with masks, key points and angles; see headrace_network_find.
  Result<Objects> find(size_t frames, const std::vector<headrace_buffer>& inputs,
                       headrace_element element = HEADRACE_CODES) {
    headrace_postprocess* opened = nullptr;
    headrace_status status = headrace_network_postprocess(handle_.get(), &opened);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    const std::unique_ptr<headrace_postprocess, void (*)(headrace_postprocess*)> boxes(
        opened, [](headrace_postprocess* p) { headrace_postprocess_close(p); });
    headrace_objects* found = nullptr;
    status = headrace_network_find(handle_.get(), opened, element, frames, inputs.data(), inputs.size(), &found);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return Objects(found);
  }
  Result<headrace_timing> timing() {
    headrace_timing t{};
    t.struct_size = sizeof t;
    const headrace_status status = headrace_network_timing(handle_.get(), &t, nullptr, 0);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return t;
  }

 private:
  friend class VirtualDevice;
  struct Close {
    void operator()(headrace_network* n) const { headrace_network_close(n); }
  };
  explicit VirtualNetwork(headrace_network* handle) : handle_(handle) {}
  std::unique_ptr<headrace_network, Close> handle_;
};

class VirtualDevice {
 public:
  static Result<VirtualDevice> open(const char* arch = nullptr, uint32_t threads = 0, const char* kernels = nullptr) {
    headrace_device_options options{};
    options.struct_size = sizeof options;
    options.arch = arch;
    options.threads = threads;
    options.kernels = kernels;
    headrace_device* handle = nullptr;
    const headrace_status status = headrace_device_open(&options, &handle);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return VirtualDevice(handle);
  }
  Result<VirtualNetwork> load(const void* data, size_t size) {
    headrace_network* network = nullptr;
    const headrace_status status = headrace_network_load_memory(handle_.get(), data, size, &network);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return VirtualNetwork(network);
  }
  Result<VirtualNetwork> load_file(const std::string& path) {
    headrace_network* network = nullptr;
    const headrace_status status = headrace_network_load_file(handle_.get(), path.c_str(), &network);
    if (status != HEADRACE_SUCCESS) return last_error(status);
    return VirtualNetwork(network);
  }
  std::string arch() const { return headrace_device_arch(handle_.get()); }
  std::string kernels() const { return headrace_device_kernels(handle_.get()); }
  uint32_t threads() const { return headrace_device_threads(handle_.get()); }

 private:
  struct Close {
    void operator()(headrace_device* d) const { headrace_device_close(d); }
  };
  explicit VirtualDevice(headrace_device* handle) : handle_(handle) {}
  std::unique_ptr<headrace_device, Close> handle_;
};

}  // namespace headrace
