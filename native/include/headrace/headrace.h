/* SPDX-License-Identifier: Apache-2.0 */
/* C API of libheadrace: load a HEF made by Headrace and run it on a virtual device. Stable ABI: handles are opaque,
 * every struct starts with its size (set `struct_size = sizeof(struct)` before a call), enumerations only grow.
 * See docs/runtime-c-api.md. */
#ifndef HEADRACE_HEADRACE_H_
#define HEADRACE_HEADRACE_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define HEADRACE_API __declspec(dllexport)
#else
#define HEADRACE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#define HEADRACE_NOEXCEPT noexcept
#else
#define HEADRACE_NOEXCEPT
#endif

#define HEADRACE_ABI_VERSION 1

/* Status numbers; those below 1000 are the numbers people know from the vendor's run time. */
typedef int32_t headrace_status;
enum {
  HEADRACE_SUCCESS = 0,
  HEADRACE_INVALID_ARGUMENT = 2,
  HEADRACE_OUT_OF_HOST_MEMORY = 3,
  HEADRACE_TIMEOUT = 4,
  HEADRACE_INVALID_OPERATION = 6,
  HEADRACE_NOT_IMPLEMENTED = 7,
  HEADRACE_INTERNAL_FAILURE = 8,
  HEADRACE_OPEN_FILE_FAILURE = 13,
  HEADRACE_INVALID_HEF = 26,
  HEADRACE_NOT_FOUND = 61,
  HEADRACE_OUT_OF_PHYSICAL_DEVICES = 74,
  HEADRACE_HEF_FILE_CORRUPTED = 91,
  HEADRACE_HEF_NOT_SUPPORTED = 92,
  HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE = 93,
  HEADRACE_DEADLOCK = 1001,
  HEADRACE_ABORTED = 1002
};

typedef struct headrace_device headrace_device;
typedef struct headrace_network headrace_network;
typedef struct headrace_job headrace_job;
typedef struct headrace_postprocess headrace_postprocess;

typedef struct headrace_version {
  size_t struct_size;
  uint32_t major, minor, patch;
  uint32_t abi;             /* HEADRACE_ABI_VERSION the library was built with */
  uint32_t microcode_major; /* newest instruction set the library runs */
  uint32_t microcode_minor;
} headrace_version;

/* One problem of a failed call. No text is NULL; "" where there is nothing to say. */
typedef struct headrace_diagnostic {
  size_t struct_size;
  const char* code;  /* stable: "E-DEVICE-" and the status number */
  const char* where; /* place: stream, kernel, file, part of the program */
  const char* rule;  /* the rule that was broken, a sentence */
  const char* got;   /* what was found */
  const char* need;  /* what would be accepted */
  const char* lever; /* what can be done about it */
} headrace_diagnostic;

typedef struct headrace_device_options {
  size_t struct_size;
  const char* arch;      /* target name, or NULL: adopt the target of the first program loaded */
  const char* kernels;   /* as headrace_kernel_set_name, or NULL: $HEADRACE_KERNELS, else the best the CPU has */
  uint32_t threads;      /* 0: one per CPU of this process */
  uint64_t memory_limit; /* bytes a network may need (tensors, weights, scratch); 0: 8 GiB */
  const char* runs;      /* with arch: names of other targets whose programs it runs too, spaces between; NULL: those of
                            the built-in target of this name, else what the first program for arch says of it */
} headrace_device_options;

typedef enum headrace_direction { HEADRACE_INPUT = 0, HEADRACE_OUTPUT = 1 } headrace_direction;
typedef enum headrace_order { HEADRACE_ORDER_NHWC = 0, HEADRACE_ORDER_NC = 2 } headrace_order;

typedef struct headrace_stream_info {
  size_t struct_size;
  const char* name; /* valid while the network is open */
  uint32_t direction;
  uint32_t order; /* headrace_order; NC when height and width are 1 */
  uint32_t height, width, channels;
  uint32_t element_bytes; /* 1 or 2 */
  float scale;            /* real = scale * (code - zero_point); 0 where channels have scales of their own */
  int32_t zero_point;     /* an output's may lie outside of the codes, where values are far from zero */
  /* Outputs that join unlike values: `channels` numbers each, valid while the network is open, real = channel_scales[c]
   * * (code - channel_zero_points[c]); else NULL. */
  const float* channel_scales;
  const int32_t* channel_zero_points;
} headrace_stream_info;

typedef struct headrace_layer_info {
  size_t struct_size;
  const char* name; /* kernel (HN layer) name, valid while the network is open */
  uint32_t height, width, channels;
  uint32_t element_bytes;
  uint32_t opcode;
} headrace_layer_info;

/* One tensor of a batch: `frames` frames of height x width x channels, NHWC, without gaps. */
typedef struct headrace_buffer {
  const char* name; /* stream name (or layer name for headrace_network_infer_all) */
  void* data;
  size_t size; /* bytes; must be exactly what the frames need */
} headrace_buffer;

typedef struct headrace_timing {
  size_t struct_size;
  double fps;                /* steady state, from the event simulation */
  double latency_ms;         /* first input row leaving the host to last output row in the host, empty pipeline */
  uint64_t cycles_per_frame; /* steady state, rounded to nearest */
  uint64_t latency_cycles;
  uint64_t clock_hz;
  uint64_t link_busy_cycles; /* per frame */
  uint32_t stage_count;
  uint32_t bottleneck_stage; /* index of the busiest stage; stage_count when it is the host link */
  uint32_t frames_simulated;
  uint32_t steady;        /* 1 when the last two periods were equal */
  uint32_t batch;         /* frames between two switches of context; 1 for one context */
  uint32_t context_count; /* contexts that are loaded in turn; 0 for one context, whose weights stay */
} headrace_timing;

/* One of several contexts. Its turn takes, per batch, run + (reload - ahead) + overrun + switch cycles. */
typedef struct headrace_context_timing {
  uint64_t reload_cycles;      /* weights over the host link, per batch */
  uint64_t switch_cycles;      /* fixed time of the switch, per batch */
  uint64_t first_frame_cycles; /* one frame alone */
  uint64_t run_cycles;         /* the whole batch */
  uint64_t link_busy_cycles;   /* per frame */
  uint64_t ahead_cycles;       /* of reload, what is loaded while the context before runs */
  uint64_t overrun_cycles;     /* how much longer than the run the link is busy loading for the context after */
} headrace_context_timing;

typedef struct headrace_stage_timing {
  const char* name;       /* kernel name, valid while the network is open */
  uint32_t kernel;        /* index among the layers */
  uint32_t rows;          /* output rows per frame */
  uint64_t busy_cycles;   /* of the busiest of the three servers, per frame */
  uint64_t engine_cycles; /* per frame, overhead included */
  uint64_t input_port_cycles;
  uint64_t output_port_cycles;
  uint64_t cycles_per_frame;    /* first start to last end of a frame in the steady state */
  uint64_t stall_input_cycles;  /* waiting for input rows, per frame */
  uint64_t stall_output_cycles; /* waiting for room in a consumer's buffer, per frame */
} headrace_stage_timing;

HEADRACE_API headrace_status headrace_get_version(headrace_version* out) HEADRACE_NOEXCEPT;
/* Short text of a status number; never NULL. */
HEADRACE_API const char* headrace_status_message(headrace_status status) HEADRACE_NOEXCEPT;
/* What went wrong in the last failed call of this thread, as one text: where, rule, got, need, try. Never NULL; valid
 * until the thread's next call. */
HEADRACE_API const char* headrace_last_error(void) HEADRACE_NOEXCEPT;
/* The same as data: how many problems the last failed call of this thread had, and each of them. Neither call changes
 * them; the texts are valid until the thread's next other call. In the callback of a run that failed they are those of
 * the run. Status 61: there is no problem of this index; 2: struct_size is not set. */
HEADRACE_API size_t headrace_diagnostic_count(void) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_diagnostic_at(size_t index, headrace_diagnostic* out) HEADRACE_NOEXCEPT;

/* Kernel sets this CPU has, slowest first. */
HEADRACE_API size_t headrace_kernel_set_count(void) HEADRACE_NOEXCEPT;
HEADRACE_API const char* headrace_kernel_set_name(size_t index) HEADRACE_NOEXCEPT;

/* `options` may be NULL. */
HEADRACE_API headrace_status headrace_device_open(const headrace_device_options* options,
                                                  headrace_device** out) HEADRACE_NOEXCEPT;
/* Networks keep what they need of the device; they may be closed in any order. */
HEADRACE_API void headrace_device_close(headrace_device* device) HEADRACE_NOEXCEPT;
/* "" while the device has not adopted a target; valid until the thread's next call. */
HEADRACE_API const char* headrace_device_arch(const headrace_device* device) HEADRACE_NOEXCEPT;
HEADRACE_API const char* headrace_device_kernels(const headrace_device* device) HEADRACE_NOEXCEPT;
HEADRACE_API uint32_t headrace_device_threads(const headrace_device* device) HEADRACE_NOEXCEPT;

/* Checks a HEF as headrace_network_load_memory does, with no device. */
HEADRACE_API headrace_status headrace_verify(const void* data, size_t size) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_network_load_memory(headrace_device* device, const void* data, size_t size,
                                                          headrace_network** out) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_network_load_file(headrace_device* device, const char* path,
                                                        headrace_network** out) HEADRACE_NOEXCEPT;
/* Cancels the runs that wait, and waits for the one in progress. */
HEADRACE_API void headrace_network_close(headrace_network* network) HEADRACE_NOEXCEPT;
HEADRACE_API const char* headrace_network_name(const headrace_network* network) HEADRACE_NOEXCEPT;
HEADRACE_API size_t headrace_network_stream_count(const headrace_network* network,
                                                  headrace_direction direction) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_network_stream(const headrace_network* network, headrace_direction direction,
                                                     size_t index, headrace_stream_info* out) HEADRACE_NOEXCEPT;
HEADRACE_API size_t headrace_network_layer_count(const headrace_network* network) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_network_layer(const headrace_network* network, size_t index,
                                                    headrace_layer_info* out) HEADRACE_NOEXCEPT;

/* Runs `frames` frames; codes in, codes out (uint8, or uint16 in host byte order). Every input stream must be given
 * once; of the outputs those wanted. May be called from several threads. */
HEADRACE_API headrace_status headrace_network_infer(headrace_network* network, size_t frames,
                                                    const headrace_buffer* inputs, size_t input_count,
                                                    const headrace_buffer* outputs,
                                                    size_t output_count) HEADRACE_NOEXCEPT;
/* The same with float32 buffers: q = clamp(rint_half_even(x / scale) + zero_point), x = scale * (q - zero_point), with
 * each channel's own scale and zero point where a stream has them. */
HEADRACE_API headrace_status headrace_network_infer_float(headrace_network* network, size_t frames,
                                                          const headrace_buffer* inputs, size_t input_count,
                                                          const headrace_buffer* outputs,
                                                          size_t output_count) HEADRACE_NOEXCEPT;
/* Time this computer spends on each layer of the virtual device (not the device's own time, which is
 * headrace_network_timing). Switching it on starts from zero; it costs two clock reads per layer. Frames that run side
 * by side add up, each with the time of its own thread. */
HEADRACE_API headrace_status headrace_network_set_host_profiling(headrace_network* network,
                                                                 int enabled) HEADRACE_NOEXCEPT;
/* `nanoseconds` has room for `count` = headrace_network_layer_count numbers; `frames` gets the frames they sum up. */
HEADRACE_API headrace_status headrace_network_host_profile(const headrace_network* network, uint64_t* nanoseconds,
                                                           size_t count, uint64_t* frames) HEADRACE_NOEXCEPT;

/* The same as headrace_network_infer, with `outputs` named by layer: any layer's output can be read. */
HEADRACE_API headrace_status headrace_network_infer_all(headrace_network* network, size_t frames,
                                                        const headrace_buffer* inputs, size_t input_count,
                                                        const headrace_buffer* outputs,
                                                        size_t output_count) HEADRACE_NOEXCEPT;

/* Runs to be done later. A device takes frames of all its networks in turn and, where as many wait as it has threads,
 * runs them side by side; the runs of one network end in the order they were submitted. */

/* Called once for every submitted run when it is over: by the device's own thread, or by the thread that cancels it or
 * closes its network. `text` is valid during the call. It may submit, cancel and close, and must not wait for its own
 * run. */
typedef void (*headrace_job_callback)(headrace_status status, const char* text, void* user);

typedef enum headrace_element { HEADRACE_CODES = 0, HEADRACE_FLOAT32 = 1 } headrace_element;

/* Buffers (not the arrays that list them) stay untouched by the caller until the run is over. `callback` and `job` may
 * be NULL; a job is given back with headrace_job_release. Status 6: the queue is full. */
HEADRACE_API headrace_status headrace_network_submit(headrace_network* network, uint32_t element, size_t frames,
                                                     const headrace_buffer* inputs, size_t input_count,
                                                     const headrace_buffer* outputs, size_t output_count,
                                                     headrace_job_callback callback, void* user,
                                                     headrace_job** job) HEADRACE_NOEXCEPT;
/* Frames that may wait and run at once; 1 to 65536, 64 at first. */
HEADRACE_API headrace_status headrace_network_set_queue_size(headrace_network* network,
                                                             size_t frames) HEADRACE_NOEXCEPT;
HEADRACE_API size_t headrace_network_queue_size(const headrace_network* network) HEADRACE_NOEXCEPT;
/* Cancels the runs that wait, and waits for the one in progress and for the callbacks. */
HEADRACE_API headrace_status headrace_network_cancel_all(headrace_network* network) HEADRACE_NOEXCEPT;
/* Waits for room for `frames`. `timeout_ms` below 0 waits for ever; status 4: still full. */
HEADRACE_API headrace_status headrace_network_wait_ready(headrace_network* network, size_t frames,
                                                         int64_t timeout_ms) HEADRACE_NOEXCEPT;
/* Waits until the run is over and its callback has returned; gives the run's own status, or 4 after `timeout_ms`. May
 * be called after the network was closed. */
HEADRACE_API headrace_status headrace_job_wait(headrace_job* job, int64_t timeout_ms) HEADRACE_NOEXCEPT;
/* Ends a run that has not begun, with status 1002; status 6 where it has. */
HEADRACE_API headrace_status headrace_job_cancel(headrace_job* job) HEADRACE_NOEXCEPT;
/* Lets go of the handle; the run goes on. */
HEADRACE_API void headrace_job_release(headrace_job* job) HEADRACE_NOEXCEPT;

/* Event simulation of the pipeline. `stages` may be NULL; else it has room for `stage_capacity` entries and the first
 * min(stage_capacity, timing->stage_count) are written. */
HEADRACE_API headrace_status headrace_network_timing(headrace_network* network, headrace_timing* timing,
                                                     headrace_stage_timing* stages,
                                                     size_t stage_capacity) HEADRACE_NOEXCEPT;
/* The contexts of the same simulation: the first min(capacity, context_count) are written, `context_count` is set.
 * A network of one context has none. */
HEADRACE_API headrace_status headrace_network_context_timing(headrace_network* network,
                                                             headrace_context_timing* contexts, size_t capacity,
                                                             size_t* context_count) HEADRACE_NOEXCEPT;

/* Boxes. A HEF of a detector may hold what turns its outputs into boxes (docs/formats/nms.md): decoding, threshold and
 * suppression class by class. The same outputs give the same boxes; of equal scores the first in the tensors is first.
 */

/* Sides are parts of the picture, in 0 to 1. */
typedef struct headrace_detection {
  float y_min, x_min, y_max, x_max;
  float score;
  uint32_t class_id;
} headrace_detection;

typedef struct headrace_postprocess_info {
  size_t struct_size;
  const char* family; /* yolov8, ssd, ...; valid while the post-processing is open, or its network */
  uint32_t classes;
  uint32_t image_height, image_width; /* of the network's input */
  uint32_t max_per_class;
  uint32_t max_total;     /* no frame has more boxes */
  uint32_t tensor_count;  /* outputs it reads */
  size_t by_class_floats; /* size of a frame's boxes in the form by class */
  double score_threshold, iou_threshold;
  uint32_t has_masks, has_angle; /* 1: headrace_object holds them */
  uint32_t key_points;           /* of an object */
} headrace_postprocess_info;

typedef struct headrace_postprocess_tensor {
  size_t struct_size;
  const char* name;
  uint32_t height, width, channels; /* NHWC */
} headrace_postprocess_tensor;

/* From JSON, which is not trusted. Status 26: a rule is broken, with the place. */
HEADRACE_API headrace_status headrace_postprocess_open(const char* json, size_t size,
                                                       headrace_postprocess** out) HEADRACE_NOEXCEPT;
/* A copy of that of a network, with limits of its own; status 61 where it has none. */
HEADRACE_API headrace_status headrace_network_postprocess(const headrace_network* network,
                                                          headrace_postprocess** out) HEADRACE_NOEXCEPT;
HEADRACE_API void headrace_postprocess_close(headrace_postprocess* postprocess) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_postprocess_get_info(const headrace_postprocess* postprocess,
                                                           headrace_postprocess_info* out) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_postprocess_get_tensor(const headrace_postprocess* postprocess, size_t index,
                                                             headrace_postprocess_tensor* out) HEADRACE_NOEXCEPT;
/* Thresholds in 0 to 1; `max_per_class` and `max_total` of 0 leave what is there. Not while it runs. */
HEADRACE_API headrace_status headrace_postprocess_set_limits(headrace_postprocess* postprocess, double score_threshold,
                                                             double iou_threshold, uint32_t max_per_class,
                                                             uint32_t max_total) HEADRACE_NOEXCEPT;
/* `tensors`: every output it reads, float32, by name. `detections` has room for frames * max_total boxes; those of
 * frame i begin at i * max_total, best first, and counts[i] says how many there are. May be called from several
 * threads. */
HEADRACE_API headrace_status headrace_postprocess_run(const headrace_postprocess* postprocess, size_t frames,
                                                      const headrace_buffer* tensors, size_t tensor_count,
                                                      headrace_detection* detections, size_t capacity,
                                                      size_t* counts) HEADRACE_NOEXCEPT;
/* The boxes of one frame by class: for each class how many there are, then top, left, bottom, right and score of each,
 * without gaps; the rest of `out` is 0. `out_floats` is by_class_floats. */
HEADRACE_API headrace_status headrace_postprocess_by_class(const headrace_postprocess* postprocess,
                                                           const headrace_detection* detections, size_t count,
                                                           float* out, size_t out_floats) HEADRACE_NOEXCEPT;
/* headrace_network_infer (codes) or headrace_network_infer_float, and then headrace_postprocess_run on the outputs;
 * `postprocess` is of headrace_network_postprocess. `element` is of the inputs. */
HEADRACE_API headrace_status headrace_network_detect(headrace_network* network, const headrace_postprocess* postprocess,
                                                     uint32_t element, size_t frames, const headrace_buffer* inputs,
                                                     size_t input_count, headrace_detection* detections,
                                                     size_t capacity, size_t* counts) HEADRACE_NOEXCEPT;

/* Objects: the same boxes with what else a head says of them, masks, key points and angles. */
typedef struct headrace_objects headrace_objects;

/* Parts of the picture; a point may lie outside of it. Score 1 where the head has none for points. */
typedef struct headrace_key_point {
  float x, y, score;
} headrace_key_point;

typedef struct headrace_object {
  size_t struct_size;
  headrace_detection detection; /* of a turned box the upright one about it */
  /* A turned box: centre and sides in pixels of the network's input, `angle` in radians, 0 to pi/2, from the x axis to
   * the y axis: where `width` points. 0 without has_angle. */
  float x, y, width, height, angle;
  uint32_t key_point_count;
  const headrace_key_point* key_points; /* valid until headrace_objects_close; NULL where there are none */
  /* The part of the network's input, in pixels, that the mask is of. */
  uint32_t mask_top, mask_left, mask_height, mask_width;
} headrace_object;

/* As headrace_postprocess_run and headrace_network_detect. */
HEADRACE_API headrace_status headrace_postprocess_find(const headrace_postprocess* postprocess, size_t frames,
                                                       const headrace_buffer* tensors, size_t tensor_count,
                                                       headrace_objects** out) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_network_find(headrace_network* network, const headrace_postprocess* postprocess,
                                                   uint32_t element, size_t frames, const headrace_buffer* inputs,
                                                   size_t input_count, headrace_objects** out) HEADRACE_NOEXCEPT;
HEADRACE_API void headrace_objects_close(headrace_objects* objects) HEADRACE_NOEXCEPT;
/* Objects of a frame; 0 where there is no such frame. */
HEADRACE_API size_t headrace_objects_count(const headrace_objects* objects, size_t frame) HEADRACE_NOEXCEPT;
HEADRACE_API headrace_status headrace_objects_get(const headrace_objects* objects, size_t frame, size_t index,
                                                  headrace_object* out) HEADRACE_NOEXCEPT;
/* Draws an object's mask: mask_height rows of mask_width bytes, 1 inside and 0 outside; `size` is their product. Status
 * 61: the head makes no masks. May be called from several threads. */
HEADRACE_API headrace_status headrace_objects_mask(const headrace_objects* objects, size_t frame, size_t index,
                                                   uint8_t* out, size_t size) HEADRACE_NOEXCEPT;

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* HEADRACE_HEADRACE_H_ */
