// SPDX-License-Identifier: Apache-2.0
// Python bindings over the C API; nothing is computed here.
#include <nanobind/eval.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "headrace/headrace.h"

namespace nb = nanobind;

namespace {

struct Problem {
  std::string code, where, rule, got, need, lever;
};

struct NativeError {
  headrace_status status;
  std::vector<Problem> problems;
};

PyObject* error_type = nullptr;
PyObject* problem_type = nullptr;

// What the library says of the thread's last failed call.
std::vector<Problem> reported() {
  std::vector<Problem> all;
  for (size_t i = 0; i < headrace_diagnostic_count(); ++i) {
    headrace_diagnostic d{};
    d.struct_size = sizeof d;
    if (headrace_diagnostic_at(i, &d) != HEADRACE_SUCCESS) break;
    all.push_back({d.code, d.where, d.rule, d.got, d.need, d.lever});
  }
  return all;
}

void check(headrace_status status) {
  if (status != HEADRACE_SUCCESS) throw NativeError{status, reported()};
}
[[noreturn]] void bad_argument(headrace_status status, const std::string& where, const std::string& rule,
                               const std::string& got, const std::string& need) {
  throw NativeError{status, {{"E-DEVICE-" + std::to_string(status), where, rule, got, need, ""}}};
}

// A call of the library without the interpreter's lock; the report of a thread stays until its next failed call.
template <class Call>
void check_released(Call call) {
  headrace_status status = HEADRACE_SUCCESS;
  std::vector<Problem> problems;
  {
    nb::gil_scoped_release release;
    status = call();
    if (status != HEADRACE_SUCCESS) problems = reported();
  }
  if (status != HEADRACE_SUCCESS) throw NativeError{status, std::move(problems)};
}

nb::object text_object(const std::string& text) {
  return nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

nb::tuple problem_tuple(const std::vector<Problem>& problems) {
  nb::list all;
  const nb::handle type(problem_type);
  for (const Problem& p : problems) {
    all.append(type(text_object(p.code), text_object(p.where), text_object(p.rule), text_object(p.got),
                    text_object(p.need), text_object(p.lever)));
  }
  return nb::tuple(all);
}

struct Network {
  explicit Network(headrace_network* handle) : handle(handle) {}
  ~Network() {
    nb::gil_scoped_release release;  // closing waits for runs whose callbacks take the lock
    headrace_network_close(handle);
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  headrace_network* handle;
};

struct Device {
  Device(std::optional<std::string> arch, uint32_t threads, std::optional<std::string> kernels,
         std::optional<std::string> runs) {
    headrace_device_options options{};
    options.struct_size = sizeof options;
    options.arch = arch ? arch->c_str() : nullptr;
    options.kernels = kernels ? kernels->c_str() : nullptr;
    options.threads = threads;
    options.runs = runs ? runs->c_str() : nullptr;
    check(headrace_device_open(&options, &handle));
  }
  ~Device() { headrace_device_close(handle); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Network* load(nb::bytes hef) {
    headrace_network* network = nullptr;
    // The caller's reference keeps the immutable bytes alive.
    check_released([&] { return headrace_network_load_memory(handle, hef.data(), hef.size(), &network); });
    return new Network(network);
  }
  headrace_device* handle = nullptr;
};

nb::dict stream_dict(const headrace_stream_info& s) {
  nb::dict d;
  d["name"] = s.name;
  d["height"] = s.height;
  d["width"] = s.width;
  d["channels"] = s.channels;
  d["element_bytes"] = s.element_bytes;
  d["order"] = s.order == HEADRACE_ORDER_NC ? "NC" : "NHWC";
  d["scale"] = s.scale;
  d["zero_point"] = s.zero_point;
  nb::list scales, zeros;
  for (uint32_t c = 0; s.channel_scales != nullptr && c < s.channels; ++c) {
    scales.append(s.channel_scales[c]);
    zeros.append(s.channel_zero_points[c]);
  }
  d["channel_scales"] = nb::tuple(scales);
  d["channel_zero_points"] = nb::tuple(zeros);
  return d;
}

// Name, shape and element size of a stream or layer.
struct Shape {
  std::string name;
  size_t height, width, channels, bytes;
};

std::vector<headrace_stream_info> stream_infos(const Network& n, headrace_direction direction) {
  std::vector<headrace_stream_info> all(headrace_network_stream_count(n.handle, direction));
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].struct_size = sizeof(headrace_stream_info);
    check(headrace_network_stream(n.handle, direction, i, &all[i]));
  }
  return all;
}

std::vector<headrace_layer_info> layer_infos(const Network& n) {
  std::vector<headrace_layer_info> all(headrace_network_layer_count(n.handle));
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].struct_size = sizeof(headrace_layer_info);
    check(headrace_network_layer(n.handle, i, &all[i]));
  }
  return all;
}

std::vector<Shape> output_shapes(const Network& n, bool layers) {
  std::vector<Shape> shapes;
  if (layers) {
    for (const auto& l : layer_infos(n)) shapes.push_back({l.name, l.height, l.width, l.channels, l.element_bytes});
  } else {
    for (const auto& s : stream_infos(n, HEADRACE_OUTPUT)) {
      shapes.push_back({s.name, s.height, s.width, s.channels, s.element_bytes});
    }
  }
  return shapes;
}

nb::list stream_list(const Network& n, headrace_direction direction) {
  nb::list out;
  for (const auto& info : stream_infos(n, direction)) out.append(stream_dict(info));
  return out;
}

nb::list layer_list(const Network& n) {
  nb::list out;
  for (const auto& l : layer_infos(n)) {
    nb::dict d;
    d["name"] = l.name;
    d["shape"] = nb::make_tuple(l.height, l.width, l.channels);
    d["element_bytes"] = l.element_bytes;
    d["opcode"] = l.opcode;
    out.append(d);
  }
  return out;
}

std::string shape_text(const Shape& s, bool floats) {
  return "(batch, " + std::to_string(s.height) + ", " + std::to_string(s.width) + ", " + std::to_string(s.channels) +
         ") " +
         (floats         ? "float32"
          : s.bytes == 1 ? "uint8"
                         : "uint16");
}

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

// Views of the input arrays as buffers; every array is checked for shape, type and layout.
struct Inputs {
  std::vector<std::string> names;
  std::vector<Array> arrays;
  std::vector<headrace_buffer> buffers;
  size_t frames = 0;

  Inputs(const Network& n, const nb::dict& given, bool floats) {
    std::vector<Shape> shapes;
    for (const auto& s : stream_infos(n, HEADRACE_INPUT)) {
      shapes.push_back({s.name, s.height, s.width, s.channels, s.element_bytes});
    }
    bool first = true;
    for (auto [key, value] : given) {
      if (!nb::isinstance<nb::str>(key))
        bad_argument(HEADRACE_INVALID_ARGUMENT, "inputs", "a name is not a string", "another object", "strings");
      names.push_back(nb::cast<std::string>(key));
      const Shape* shape = nullptr;
      for (const Shape& s : shapes) shape = s.name == names.back() ? &s : shape;
      if (shape == nullptr) {
        std::string known;
        for (const Shape& s : shapes) known += (known.empty() ? "" : ", ") + s.name;
        bad_argument(HEADRACE_NOT_FOUND, "inputs", "there is no input of this name", names.back(), known);
      }
      Array array;
      if (!nb::try_cast(value, array)) {
        bad_argument(HEADRACE_INVALID_ARGUMENT, "input " + names.back(), "not a C-contiguous CPU array",
                     "another object", shape_text(*shape, floats));
      }
      check_array(array, *shape, floats);
      if (!first && array.shape(0) != frames) {
        bad_argument(HEADRACE_INVALID_ARGUMENT, "inputs", "batches differ in size",
                     std::to_string(array.shape(0)) + " frames in input " + names.back(),
                     std::to_string(frames) + " frames in each");
      }
      frames = array.shape(0);
      first = false;
      arrays.push_back(std::move(array));
    }
    for (size_t i = 0; i < arrays.size(); ++i) {
      buffers.push_back({names[i].c_str(), const_cast<void*>(arrays[i].data()), arrays[i].nbytes()});
    }
  }

  static void check_array(const Array& array, const Shape& shape, bool floats) {
    const nb::dlpack::dtype want = floats             ? nb::dtype<float>()
                                   : shape.bytes == 1 ? nb::dtype<uint8_t>()
                                                      : nb::dtype<uint16_t>();
    bool ok = array.ndim() == 4 && array.dtype() == want;
    ok = ok && array.shape(1) == shape.height && array.shape(2) == shape.width && array.shape(3) == shape.channels;
    if (ok) return;
    std::string got = "(";
    for (size_t i = 0; i < array.ndim(); ++i) got += (i ? ", " : "") + std::to_string(array.shape(i));
    got += ") of " + std::to_string(array.dtype().bits) + " bits";
    bad_argument(HEADRACE_INVALID_ARGUMENT, "input " + shape.name, "the array has another shape or type", got,
                 shape_text(shape, floats));
  }
};

template <class T>
nb::object make_array(size_t frames, const Shape& s, void** data) {
  // Freed by the capsule when Python drops the array. calloc: no element is ever uninitialized.
  const size_t count = frames * s.height * s.width * s.channels;
  T* memory = static_cast<T*>(std::calloc(count ? count : 1, sizeof(T)));
  if (memory == nullptr) throw std::bad_alloc();
  nb::capsule owner(memory, [](void* p) noexcept { std::free(p); });
  *data = memory;
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<4>>(memory, {frames, s.height, s.width, s.channels}, owner));
}

enum class Mode { kCodes, kFloat, kAll };

// Arrays for the outputs, by name, and the buffers that lie in them.
struct Outputs {
  std::vector<Shape> shapes;
  nb::dict arrays;
  std::vector<headrace_buffer> buffers;

  Outputs(const Network& n, size_t frames, Mode mode) : shapes(output_shapes(n, mode == Mode::kAll)) {
    const bool floats = mode == Mode::kFloat;
    for (const Shape& s : shapes) {
      void* data = nullptr;
      arrays[s.name.c_str()] = floats         ? make_array<float>(frames, s, &data)
                               : s.bytes == 1 ? make_array<uint8_t>(frames, s, &data)
                                              : make_array<uint16_t>(frames, s, &data);
      const size_t element = floats ? sizeof(float) : s.bytes;
      buffers.push_back({s.name.c_str(), data, frames * s.height * s.width * s.channels * element});
    }
  }
};

nb::dict infer(const Network& n, const nb::dict& given, Mode mode) {
  const bool floats = mode == Mode::kFloat;
  const Inputs inputs(n, given, floats);
  Outputs outputs(n, inputs.frames, mode);
  const auto call = mode == Mode::kAll ? headrace_network_infer_all
                    : floats           ? headrace_network_infer_float
                                       : headrace_network_infer;
  check_released([&] {
    return call(n.handle, inputs.frames, inputs.buffers.data(), inputs.buffers.size(), outputs.buffers.data(),
                outputs.buffers.size());
  });
  return outputs.arrays;
}

// What a submitted run holds until it is over. Made and deleted with the interpreter's lock.
struct Pending {
  Inputs inputs;
  Outputs outputs;
  nb::callable done;
};

void run_is_over(headrace_status status, const char*, void* user) {
  if (!Py_IsInitialized()) return;  // at the interpreter's end nobody waits any more
  const std::vector<Problem> problems = status == HEADRACE_SUCCESS ? std::vector<Problem>() : reported();
  nb::gil_scoped_acquire lock;
  const std::unique_ptr<Pending> pending(static_cast<Pending*>(user));
  try {
    pending->done(status, problem_tuple(problems), pending->outputs.arrays);
  } catch (nb::python_error& e) {
    e.discard_as_unraisable("the end of a run");
  }
}

void submit(const Network& n, const nb::dict& given, bool floats, nb::callable done) {
  Inputs inputs(n, given, floats);
  Outputs outputs(n, inputs.frames, floats ? Mode::kFloat : Mode::kCodes);
  // The buffers name their streams by pointer; moving the vectors of strings does not move the strings.
  auto pending = std::make_unique<Pending>(Pending{std::move(inputs), std::move(outputs), std::move(done)});
  check(headrace_network_submit(n.handle, floats ? HEADRACE_FLOAT32 : HEADRACE_CODES, pending->inputs.frames,
                                pending->inputs.buffers.data(), pending->inputs.buffers.size(),
                                pending->outputs.buffers.data(), pending->outputs.buffers.size(), run_is_over,
                                pending.get(), nullptr));
  pending.release();  // to run_is_over
}

void cancel_all(const Network& n) {
  check_released([&] { return headrace_network_cancel_all(n.handle); });
}

nb::dict host_profile(const Network& n) {
  std::vector<uint64_t> nanoseconds(headrace_network_layer_count(n.handle));
  uint64_t frames = 0;
  check(headrace_network_host_profile(n.handle, nanoseconds.data(), nanoseconds.size(), &frames));
  nb::dict d;
  d["frames"] = frames;
  d["nanoseconds"] = nanoseconds;
  return d;
}

nb::dict timing(const Network& n) {
  headrace_timing t{};
  t.struct_size = sizeof t;
  std::vector<headrace_stage_timing> stages(headrace_network_layer_count(n.handle));
  check_released([&] { return headrace_network_timing(n.handle, &t, stages.data(), stages.size()); });
  std::vector<headrace_context_timing> contexts(t.context_count);
  size_t context_count = 0;
  check(headrace_network_context_timing(n.handle, contexts.data(), contexts.size(), &context_count));
  nb::dict d;
  d["fps"] = t.fps;
  d["latency_ms"] = t.latency_ms;
  d["cycles_per_frame"] = t.cycles_per_frame;
  d["latency_cycles"] = t.latency_cycles;
  d["clock_hz"] = t.clock_hz;
  d["link_busy_cycles"] = t.link_busy_cycles;
  d["frames_simulated"] = t.frames_simulated;
  d["steady"] = t.steady != 0;
  d["batch"] = t.batch;
  nb::list rounds;
  for (const headrace_context_timing& c : contexts) {
    nb::dict e;
    e["reload_cycles"] = c.reload_cycles;
    e["switch_cycles"] = c.switch_cycles;
    e["first_frame_cycles"] = c.first_frame_cycles;
    e["run_cycles"] = c.run_cycles;
    e["link_busy_cycles"] = c.link_busy_cycles;
    e["ahead_cycles"] = c.ahead_cycles;
    e["overrun_cycles"] = c.overrun_cycles;
    rounds.append(e);
  }
  d["contexts"] = rounds;
  d["bottleneck"] =
      t.bottleneck_stage < t.stage_count ? nb::cast(stages[t.bottleneck_stage].name) : nb::cast("host link");
  nb::list list;
  for (uint32_t i = 0; i < t.stage_count; ++i) {
    const headrace_stage_timing& s = stages[i];
    nb::dict e;
    e["name"] = s.name;
    e["rows"] = s.rows;
    e["busy_cycles"] = s.busy_cycles;
    e["engine_cycles"] = s.engine_cycles;
    e["input_port_cycles"] = s.input_port_cycles;
    e["output_port_cycles"] = s.output_port_cycles;
    e["cycles_per_frame"] = s.cycles_per_frame;
    e["stall_input_cycles"] = s.stall_input_cycles;
    e["stall_output_cycles"] = s.stall_output_cycles;
    list.append(e);
  }
  d["stages"] = list;
  return d;
}

struct Postprocess {
  explicit Postprocess(nb::bytes json) { check(headrace_postprocess_open(json.c_str(), json.size(), &handle)); }
  ~Postprocess() { headrace_postprocess_close(handle); }
  Postprocess(const Postprocess&) = delete;
  Postprocess& operator=(const Postprocess&) = delete;
  headrace_postprocess* handle = nullptr;
};

headrace_postprocess_info info_of(const Postprocess& p) {
  headrace_postprocess_info info{};
  info.struct_size = sizeof info;
  check(headrace_postprocess_get_info(p.handle, &info));
  return info;
}

std::vector<headrace_postprocess_tensor> tensors_of(const Postprocess& p) {
  std::vector<headrace_postprocess_tensor> all(info_of(p).tensor_count);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].struct_size = sizeof all[i];
    check(headrace_postprocess_get_tensor(p.handle, i, &all[i]));
  }
  return all;
}

nb::dict postprocess_info(const Postprocess& p) {
  const headrace_postprocess_info info = info_of(p);
  nb::dict d;
  d["family"] = info.family;
  d["classes"] = info.classes;
  d["image"] = nb::make_tuple(info.image_height, info.image_width);
  d["max_per_class"] = info.max_per_class;
  d["max_total"] = info.max_total;
  d["by_class_floats"] = info.by_class_floats;
  d["score_threshold"] = info.score_threshold;
  d["iou_threshold"] = info.iou_threshold;
  d["masks"] = info.has_masks != 0;
  d["angle"] = info.has_angle != 0;
  d["key_points"] = info.key_points;
  return d;
}

// (boxes, 6) float32: top, left, bottom, right, score, class.
nb::object box_array(const headrace_detection* found, size_t count) {
  float* memory = static_cast<float*>(std::calloc(count ? count * 6 : 1, sizeof(float)));
  if (memory == nullptr) throw std::bad_alloc();
  nb::capsule owner(memory, [](void* p) noexcept { std::free(p); });
  for (size_t i = 0; i < count; ++i) {
    const headrace_detection& d = found[i];
    const float row[6] = {d.y_min, d.x_min, d.y_max, d.x_max, d.score, static_cast<float>(d.class_id)};
    std::copy(row, row + 6, memory + 6 * i);
  }
  return nb::cast(nb::ndarray<nb::numpy, float, nb::ndim<2>>(memory, {count, size_t{6}}, owner));
}

// The tensors that a configuration reads, as a caller gave them.
struct Given {
  std::vector<Array> arrays;
  std::vector<headrace_buffer> buffers;  // of one frame
  size_t frames = 0;
};

Given given_tensors(const Postprocess& p, const nb::dict& given) {
  Given out;
  for (const headrace_postprocess_tensor& t : tensors_of(p)) {
    const Shape shape{t.name, t.height, t.width, t.channels, 1};
    Array array;
    if (!given.contains(t.name) || !nb::try_cast(given[t.name], array)) {
      bad_argument(HEADRACE_INVALID_ARGUMENT, "tensor " + shape.name, "there is no C-contiguous CPU array for it",
                   "another object", shape_text(shape, true));
    }
    Inputs::check_array(array, shape, true);
    if (!out.arrays.empty() && array.shape(0) != out.frames) {
      bad_argument(HEADRACE_INVALID_ARGUMENT, "tensors", "batches differ in size",
                   std::to_string(array.shape(0)) + " frames in " + shape.name,
                   std::to_string(out.frames) + " frames in each");
    }
    out.frames = array.shape(0);
    out.arrays.push_back(std::move(array));
    out.buffers.push_back({t.name, const_cast<void*>(out.arrays.back().data()),
                           shape.height * shape.width * shape.channels * sizeof(float)});
  }
  return out;
}

nb::list detect(const Postprocess& p, const nb::dict& given) {
  const Given all = given_tensors(p, given);
  std::vector<headrace_buffer> buffers = all.buffers;
  std::vector<headrace_detection> found(info_of(p).max_total);
  nb::list boxes;
  for (size_t i = 0; i < all.frames; ++i) {
    for (size_t t = 0; t < buffers.size(); ++t)
      buffers[t].data = static_cast<uint8_t*>(all.buffers[t].data) + i * buffers[t].size;
    size_t count = 0;
    check_released([&] {
      return headrace_postprocess_run(p.handle, 1, buffers.data(), buffers.size(), found.data(), found.size(), &count);
    });
    boxes.append(box_array(found.data(), count));
  }
  return boxes;
}

struct Objects {
  Objects(headrace_objects* handle, headrace_postprocess_info info) : handle(handle), info(info) {}
  ~Objects() { headrace_objects_close(handle); }
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;

  headrace_object at(size_t frame, size_t index) const {
    headrace_object o{};
    o.struct_size = sizeof o;
    check(headrace_objects_get(handle, frame, index, &o));
    return o;
  }

  headrace_objects* handle = nullptr;
  headrace_postprocess_info info;
};

Objects* find(const Postprocess& p, const nb::dict& given) {
  const headrace_postprocess_info info = info_of(p);
  Given all = given_tensors(p, given);
  for (headrace_buffer& buffer : all.buffers) buffer.size *= all.frames;
  headrace_objects* found = nullptr;
  check_released(
      [&] { return headrace_postprocess_find(p.handle, all.frames, all.buffers.data(), all.buffers.size(), &found); });
  return new Objects(found, info);
}

// An array that owns its memory, zero at first.
template <class T>
std::pair<T*, nb::object> new_array(std::initializer_list<size_t> shape) {
  size_t size = 1;
  for (size_t one : shape) size *= one;
  T* memory = static_cast<T*>(std::calloc(size ? size : 1, sizeof(T)));
  if (memory == nullptr) throw std::bad_alloc();
  nb::capsule owner(memory, [](void* p) noexcept { std::free(p); });
  return {memory, nb::cast(nb::ndarray<nb::numpy, T>(memory, shape, owner))};
}

nb::object boxes_of(const Objects& o, size_t frame) {
  std::vector<headrace_detection> all(headrace_objects_count(o.handle, frame));
  for (size_t i = 0; i < all.size(); ++i) all[i] = o.at(frame, i).detection;
  return box_array(all.data(), all.size());
}

nb::object turned_of(const Objects& o, size_t frame) {
  if (o.info.has_angle == 0) return nb::none();
  const size_t count = headrace_objects_count(o.handle, frame);
  auto [to, array] = new_array<float>({count, 5});
  for (size_t i = 0; i < count; ++i) {
    const headrace_object one = o.at(frame, i);
    for (const float value : {one.x, one.y, one.width, one.height, one.angle}) *to++ = value;
  }
  return array;
}

nb::object key_points_of(const Objects& o, size_t frame) {
  if (o.info.key_points == 0) return nb::none();
  const size_t count = headrace_objects_count(o.handle, frame);
  auto [to, array] = new_array<float>({count, o.info.key_points, 3});
  for (size_t i = 0; i < count; ++i) {
    const headrace_object one = o.at(frame, i);
    for (size_t k = 0; k < one.key_point_count; ++k) {
      for (const float value : {one.key_points[k].x, one.key_points[k].y, one.key_points[k].score}) *to++ = value;
    }
  }
  return array;
}

nb::tuple mask_of(const Objects& o, size_t frame, size_t index) {
  const headrace_object one = o.at(frame, index);
  auto [to, array] = new_array<uint8_t>({one.mask_height, one.mask_width});
  uint8_t* const out = to;
  const size_t size = size_t{one.mask_height} * one.mask_width;
  check_released([&] { return headrace_objects_mask(o.handle, frame, index, out, size); });
  return nb::make_tuple(one.mask_top, one.mask_left, array);
}

void set_limits(const Postprocess& p, double score_threshold, double iou_threshold, uint32_t max_per_class,
                uint32_t max_total) {
  check(headrace_postprocess_set_limits(p.handle, score_threshold, iou_threshold, max_per_class, max_total));
}

void make_error_types(nb::module_& m) {
  // Python classes, so that their parts are attributes and pickling works.
  nb::dict scope;
  scope["__name__"] = m.attr("__name__");
  nb::exec(R"(
from typing import NamedTuple

class Problem(NamedTuple):
    """One problem of a failed call, as data; a text is empty where there is nothing to say."""

    code: str
    where: str
    rule: str
    got: str
    need: str
    lever: str

    def __str__(self):
        lines = [f"{self.where}: {self.rule}" if self.where else self.rule]
        lines += [f"  {name} {value}" for name, value in (("got: ", self.got), ("need:", self.need)) if value]
        lines += [f"  try:  {self.lever}"] if self.lever else []
        return "\n".join(lines)

class NativeError(RuntimeError):
    """A failed call of the native library: ``status`` is its number, ``problems`` say what, where, got and need."""

    def __init__(self, status, problems):
        super().__init__(status, problems)
        self.status = status
        self.problems = problems

    def __str__(self):
        return f"status {self.status}: " + "\n".join(map(str, self.problems))
)",
           scope);
  m.attr("Problem") = scope["Problem"];
  m.attr("NativeError") = scope["NativeError"];
  problem_type = nb::object(scope["Problem"]).release().ptr();
  error_type = nb::object(scope["NativeError"]).release().ptr();
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Bindings of libheadrace: the virtual device (use headrace.runtime instead).";
  make_error_types(m);
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const NativeError& e) {
      nb::object value = nb::steal(
          PyObject_CallFunction(error_type, "iO", static_cast<int>(e.status), problem_tuple(e.problems).ptr()));
      if (value.is_valid()) PyErr_SetObject(error_type, value.ptr());
    }
  });
  m.def("library_version", [] {
    headrace_version v{};
    v.struct_size = sizeof v;
    check(headrace_get_version(&v));
    return std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
  });
  m.def(
      "kernel_sets",
      [] {
        std::vector<std::string> names;
        for (size_t i = 0; i < headrace_kernel_set_count(); ++i) names.emplace_back(headrace_kernel_set_name(i));
        return names;
      },
      "Kernel sets this CPU has, slowest first.");
  m.def(
      "verify", [](nb::bytes hef) { check(headrace_verify(hef.data(), hef.size())); }, nb::arg("hef"),
      "Check a HEF as a device would; raises NativeError.");
  nb::class_<Device>(m, "Device")
      .def(nb::init<std::optional<std::string>, uint32_t, std::optional<std::string>, std::optional<std::string>>(),
           nb::arg("arch") = nb::none(), nb::arg("threads") = 0, nb::arg("kernels") = nb::none(),
           nb::arg("runs") = nb::none())
      .def_prop_ro("arch", [](const Device& d) { return std::string(headrace_device_arch(d.handle)); })
      .def_prop_ro("kernels", [](const Device& d) { return std::string(headrace_device_kernels(d.handle)); })
      .def_prop_ro("threads", [](const Device& d) { return headrace_device_threads(d.handle); })
      .def("load", &Device::load, nb::arg("hef"), nb::rv_policy::take_ownership);
  nb::class_<Postprocess>(m, "Postprocess")
      .def(nb::init<nb::bytes>(), nb::arg("json"))
      .def_prop_ro("info", &postprocess_info)
      .def("detect", &detect, nb::arg("tensors"),
           "Boxes of each frame, best first: (boxes, 6) float32 of top, left, bottom, right, score, class.")
      .def("find", &find, nb::arg("tensors"), nb::rv_policy::take_ownership,
           "The same boxes as objects, with masks, key points and angles.")
      .def("set_limits", &set_limits, nb::arg("score_threshold"), nb::arg("iou_threshold"),
           nb::arg("max_per_class") = 0, nb::arg("max_total") = 0,
           "Thresholds, and numbers of boxes where they are not 0.");
  nb::class_<Objects>(m, "Objects")
      .def("boxes", &boxes_of, nb::arg("frame"), "(boxes, 6) float32, as Postprocess.detect gives them.")
      .def("turned", &turned_of, nb::arg("frame"), "(boxes, 5) float32: x, y, width, height, angle; or None.")
      .def("key_points", &key_points_of, nb::arg("frame"), "(boxes, points, 3) float32: x, y, score; or None.")
      .def("mask", &mask_of, nb::arg("frame"), nb::arg("index"),
           "Top and left pixel of the mask, and the mask itself: uint8, 1 inside.");
  nb::class_<Network>(m, "Network")
      .def_prop_ro("name", [](const Network& n) { return std::string(headrace_network_name(n.handle)); })
      .def_prop_ro("inputs", [](const Network& n) { return stream_list(n, HEADRACE_INPUT); })
      .def_prop_ro("outputs", [](const Network& n) { return stream_list(n, HEADRACE_OUTPUT); })
      .def_prop_ro("layers", &layer_list)
      .def(
          "infer", [](const Network& n, const nb::dict& inputs) { return infer(n, inputs, Mode::kCodes); },
          nb::arg("inputs"))
      .def(
          "infer_float", [](const Network& n, const nb::dict& inputs) { return infer(n, inputs, Mode::kFloat); },
          nb::arg("inputs"))
      .def(
          "infer_all", [](const Network& n, const nb::dict& inputs) { return infer(n, inputs, Mode::kAll); },
          nb::arg("inputs"))
      .def("submit", &submit, nb::arg("inputs"), nb::arg("floats"), nb::arg("done"),
           "Run later; done(status, problems, outputs) is called once, from another thread.")
      .def(
          "set_queue_size",
          [](const Network& n, size_t frames) { check(headrace_network_set_queue_size(n.handle, frames)); },
          nb::arg("frames"))
      .def("cancel_all", &cancel_all)
      .def(
          "set_host_profiling",
          [](const Network& n, bool enabled) { check(headrace_network_set_host_profiling(n.handle, enabled ? 1 : 0)); },
          nb::arg("enabled"), "Count this computer's time by layer from zero, or stop counting.")
      .def("host_profile", &host_profile, "Frames counted, and nanoseconds of each layer in the order of `layers`.")
      .def("timing", &timing);
}
