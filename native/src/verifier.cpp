// SPDX-License-Identifier: Apache-2.0
#include "verifier.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "arithmetic.hpp"
#include "errors.hpp"
#include "primitives/primitive.hpp"

namespace headrace {
namespace {

using namespace microcode;

constexpr uint32_t kDimensionLimit = 1u << 24;

[[noreturn]] void invalid(const std::string& where, const std::string& rule, const std::string& got,
                          const std::string& need) {
  fail(HEADRACE_INVALID_HEF, where, rule, got, need);
}

void check_target(const Program& p) {
  const TargetRecord& t = p.target;
  const std::string where = "target " + printable(p.target_name);
  if (t.clusters == 0 || t.clusters > 1024 || t.clock_hz == 0 || t.clock_hz > (uint64_t{1} << 40)) {
    invalid(where, "clusters or clock are out of range", str(t.clusters) + " clusters, " + str(t.clock_hz) + " Hz",
            "1 to 1024 clusters, 1 to 2^40 Hz");
  }
  if (t.port_bytes_per_cycle == 0 || t.busy_numerator == 0 || t.busy_numerator > t.busy_denominator ||
      t.link_bytes_per_second == 0 || t.row_overhead_cycles > (1u << 24)) {
    invalid(where, "a rate is out of range",
            "port " + str(t.port_bytes_per_cycle) + ", busy " + str(t.busy_numerator) + "/" + str(t.busy_denominator) +
                ", link " + str(t.link_bytes_per_second) + ", row overhead " + str(t.row_overhead_cycles),
            "port > 0, 0 < busy <= 1, link > 0, row overhead <= 2^24");
  }
}

void check_scale(const std::string& where, float scale) {
  if (!std::isnormal(scale) || scale < 0) {
    invalid(where, "the scale is not a positive, normal number", std::to_string(scale), "> 0");
  }
}

// Real zero is a code; of an output, which nobody computes with, it may be any number that float32 holds exactly.
void check_zero(const std::string& where, const TensorRecord& t, int32_t zero) {
  if (t.role == static_cast<uint32_t>(TensorRole::kOutput)) {
    if (zero < -kZeroPointLimit || zero > kZeroPointLimit) {
      invalid(where, "the zero point is out of range", str(zero), "within " + str(kZeroPointLimit) + " of 0");
    }
  } else if (zero < 0 || zero > top_code(t)) {
    invalid(where, "the zero point is not a code", str(zero), "0 to " + str(top_code(t)));
  }
}

void check_channel_scales(const Program& p, const TensorRecord& t, const std::string& where) {
  if (t.scales_offset == kNone && t.zeros_offset == kNone) return;
  if (t.role != static_cast<uint32_t>(TensorRole::kOutput)) {
    invalid(where, "only outputs have a scale per channel", "another tensor", "role 2");
  }
  for (const uint32_t offset : {t.scales_offset, t.zeros_offset}) {
    if (offset == kNone || offset > p.constants.size || 4 * uint64_t{t.channels} > p.constants.size - offset) {
      invalid(where, "the scales of its channels lie outside CONSTANTS",
              "offset " + str(offset) + ", " + str(t.channels) + " channels",
              "inside " + str(uint64_t{p.constants.size}) + " bytes");
    }
  }
  for (uint32_t c = 0; c < t.channels; ++c) {
    check_scale(where, load_f32(p.constants.data + t.scales_offset + size_t{4} * c));
    check_zero(where, t, load_i32(p.constants.data + t.zeros_offset + size_t{4} * c));
  }
}

void check_tensors(const Program& p, uint64_t memory_limit) {
  std::set<std::string> names;
  uint64_t total = 0;
  size_t inputs = 0, outputs = 0;
  for (size_t i = 0; i < p.tensors.size(); ++i) {
    const TensorRecord& t = p.tensors[i];
    const std::string where = "tensor " + printable(p.tensor_names[i]);
    if (!names.insert(p.tensor_names[i]).second) invalid(where, "two tensors have this name", "2", "1");
    const auto in_range = [](uint32_t v) { return v >= 1 && v <= kDimensionLimit; };
    if (!in_range(t.height) || !in_range(t.width) || !in_range(t.channels)) {
      invalid(where, "a dimension is out of range", str(t.height) + "x" + str(t.width) + "x" + str(t.channels),
              "1 to 2^24 each");
    }
    if (t.element_bytes != 1 && t.element_bytes != 2) {
      invalid(where, "the element size is not valid", str(uint32_t{t.element_bytes}), "1 or 2 bytes");
    }
    if (t.role > static_cast<uint32_t>(TensorRole::kOutput)) {
      invalid(where, "the role is unknown", str(uint32_t{t.role}), "0, 1 or 2");
    }
    check_scale(where, t.scale);
    check_zero(where, t, t.zero_point);
    check_channel_scales(p, t, where);
    inputs += t.role == static_cast<uint32_t>(TensorRole::kInput);
    outputs += t.role == static_cast<uint32_t>(TensorRole::kOutput);
    total = sat_add(total, bytes_of(t));
  }
  if (total > memory_limit) {
    invalid("tensors", "they need more memory than this device may use", str(total) + " bytes",
            "at most " + str(memory_limit) + " bytes");
  }
  if (inputs == 0 || outputs == 0) {
    invalid("tensors", "a network has inputs and outputs", str(uint64_t{inputs}) + " and " + str(uint64_t{outputs}),
            "at least one of each");
  }
}

// Only what the host alone turns into reals, or copies of it, may have scales per channel or a zero point that is no
// code.
void check_copied(const Program& p, const KernelRecord& k, const std::string& where) {
  const Primitive* primitive = find_primitive(k.opcode);
  if (primitive != nullptr && primitive->copies_codes) return;
  for (uint32_t j = 0; j < k.operand_count; ++j) {
    const TensorRecord& t = p.tensors[p.operand(k, j)];
    if (t.scales_offset != kNone || t.zero_point < 0 || t.zero_point > top_code(t)) {
      invalid(where, "it computes with a tensor whose channels differ, or whose zero point is no code",
              printable(p.tensor_names[p.operand(k, j)]), "one scale, and a zero point among the codes");
    }
  }
}

void check_contexts(const Program& p) {
  uint64_t next = 0;
  for (size_t i = 0; i < p.contexts.size(); ++i) {
    const ContextRecord& c = p.contexts[i];
    if (c.first_kernel != next || c.kernel_count == 0 || c.kernel_count > p.kernels.size() - next) {
      invalid("context " + str(uint64_t{i}), "its kernels do not follow those of the context before",
              "kernel " + str(c.first_kernel) + ", count " + str(c.kernel_count), "starting at " + str(next));
    }
    for (uint64_t k = next; k < next + c.kernel_count; ++k) {
      if (p.kernels[k].context != i) {
        invalid("kernel " + printable(p.kernel_names[k]), "it names another context",
                str(uint32_t{p.kernels[k].context}), str(uint64_t{i}));
      }
    }
    if (c.batch == 0 || c.batch > kBatchLimit || c.batch != p.contexts[0].batch) {
      invalid("context " + str(uint64_t{i}), "its batch is not valid", str(c.batch),
              "1 to " + str(kBatchLimit) + ", the same in every context");
    }
    next += c.kernel_count;
  }
  if (next != p.kernels.size() || next == 0) {
    invalid("contexts", "they do not cover the kernels", str(next) + " of " + str(uint64_t{p.kernels.size()}),
            "all, at least one");
  }
}

// Every tensor is an input or is written once, before it is read.
void check_dataflow(const Program& p) {
  std::vector<uint8_t> written(p.tensors.size(), 0);
  for (size_t i = 0; i < p.tensors.size(); ++i) {
    written[i] = p.tensors[i].role == static_cast<uint32_t>(TensorRole::kInput);
  }
  std::set<std::string> names;
  for (size_t i = 0; i < p.kernels.size(); ++i) {
    const KernelRecord& k = p.kernels[i];
    const std::string where = "kernel " + printable(p.kernel_names[i]);
    if (!names.insert(p.kernel_names[i]).second) invalid(where, "two kernels have this name", "2", "1");
    if (k.operand_count == 0 || k.operand_offset > p.operands.size() ||
        k.operand_count > p.operands.size() - k.operand_offset) {
      invalid(where, "its operands are not in the operand list",
              "offset " + str(k.operand_offset) + ", count " + str(k.operand_count),
              "at least one, inside " + str(uint64_t{p.operands.size()}));
    }
    for (uint32_t j = 0; j < k.operand_count; ++j) {
      const uint32_t tensor = p.operand(k, j);
      if (tensor >= p.tensors.size()) {
        invalid(where, "an operand is not a tensor", str(tensor), "below " + str(uint64_t{p.tensors.size()}));
      }
      if (!written[tensor]) {
        invalid(where, "it reads a tensor that nothing has written before", printable(p.tensor_names[tensor]),
                "a network input or the output of an earlier kernel");
      }
    }
    check_copied(p, k, where);
    if (k.output >= p.tensors.size()) {
      invalid(where, "its output is not a tensor", str(k.output), "below " + str(uint64_t{p.tensors.size()}));
    }
    if (written[k.output]) {
      invalid(where, "its output is written already", printable(p.tensor_names[k.output]), "each tensor written once");
    }
    written[k.output] = 1;
  }
  for (size_t i = 0; i < p.tensors.size(); ++i) {
    if (!written[i]) invalid("tensor " + printable(p.tensor_names[i]), "no kernel writes it", "none", "one kernel");
  }
}

struct Used {
  uint64_t controllers = 0, subclusters = 0, memory_units = 0, activation_units = 0, input_aligners = 0;
};

// A stage without controllers of its own runs on that of an earlier one in its context and cluster; both are one slice.
void check_shared(const Program& p, size_t index, const std::string& where) {
  const StageRecord& s = p.stages[index];
  if (s.shares == 0) return;
  const auto single = [](const StageRecord& r) { return r.column_slices == 1 && r.feature_slices == 1; };
  if (s.shares > index) invalid(where, "it shares the controller of a stage before the first", str(s.shares), "fewer");
  const StageRecord& owner = p.stages[index - s.shares];
  if (s.controllers != 0 || owner.controllers != 1 || owner.shares != 0 || !single(s) || !single(owner) ||
      owner.cluster != s.cluster || p.kernels[owner.kernel].context != p.kernels[s.kernel].context) {
    invalid(where, "it cannot share that stage's controller", "stage " + str(uint64_t{index - s.shares}),
            "a stage of the same cluster and context with one controller of its own, both one slice wide");
  }
}

void check_stages(const Program& p) {
  const TargetRecord& t = p.target;
  std::vector<uint8_t> staged(p.kernels.size(), 0);
  std::vector<Used> used(p.contexts.size());
  std::vector<uint64_t> activation(p.stages.size(), 0), aligner(p.stages.size(), 0);  // by controller's first stage
  for (size_t i = 0; i < p.stages.size(); ++i) {
    const StageRecord& s = p.stages[i];
    const std::string where = "stage " + str(uint64_t{i});
    if (s.kernel >= p.kernels.size()) {
      invalid(where, "its kernel does not exist", str(s.kernel), "below " + str(uint64_t{p.kernels.size()}));
    }
    if (staged[s.kernel]++)
      invalid(where, "its kernel has a stage already", printable(p.kernel_names[s.kernel]), "one stage each");
    if (s.cluster >= t.clusters)
      invalid(where, "its cluster does not exist", str(s.cluster), "below " + str(t.clusters));
    const uint32_t height = p.tensors[p.kernels[s.kernel].output].height;
    if (s.rows != height) {
      invalid(where, "its rows are not those of the kernel's output", str(s.rows), str(height));
    }
    // 2^40 keeps every sum of the simulation below 2^63.
    const uint64_t limit = uint64_t{1} << 40;
    if (s.input_bytes_per_frame > limit || s.output_bytes_per_frame > limit || s.join_bytes_per_frame > limit) {
      invalid(where, "its bytes per frame are out of range",
              str(std::max({s.input_bytes_per_frame, s.output_bytes_per_frame, s.join_bytes_per_frame})),
              "at most 2^40");
    }
    check_shared(p, i, where);
    const KernelRecord& kernel = p.kernels[s.kernel];
    const uint64_t slices = uint64_t{s.column_slices} * s.feature_slices;
    Used& u = used[p.kernels[s.kernel].context];
    u.controllers += s.controllers;
    u.subclusters += s.subclusters;
    u.memory_units += s.memory_units;
    // What stages on one controller do in turn counts once: the largest need of any of them.
    const size_t owner = i - s.shares;
    const uint64_t aligners = slices * kernel.operand_count + (slices > 1 ? slices : 0);
    u.activation_units += std::max(activation[owner], slices) - activation[owner];
    u.input_aligners += std::max(aligner[owner], aligners) - aligner[owner];
    activation[owner] = std::max(activation[owner], slices);
    aligner[owner] = std::max(aligner[owner], aligners);
  }
  for (size_t c = 0; c < used.size(); ++c) {
    const auto check = [&](const char* what, uint64_t need, uint32_t per_cluster) {
      const uint64_t have = uint64_t{per_cluster} * t.clusters;
      if (need > have) {
        invalid("context " + str(uint64_t{c}), std::string("its stages use more ") + what + " than the target has",
                str(need), "at most " + str(have));
      }
    };
    check("layer controllers", used[c].controllers, t.controllers_per_cluster);
    check("sub-clusters", used[c].subclusters, t.subclusters_per_cluster);
    check("memory units", used[c].memory_units, t.memory_units_per_cluster);
    check("activation units", used[c].activation_units, t.activation_units_per_cluster);
    check("input aligners", used[c].input_aligners, t.input_aligners_per_cluster);
  }
}

void check_buffers(const Program& p) {
  std::set<std::pair<uint64_t, uint32_t>> seen;
  // What leaves a context goes to the host, be it an output or for a later context.
  std::vector<uint32_t> writer(p.tensors.size(), kNone);
  std::vector<uint8_t> leaves(p.tensors.size(), 0);
  for (const KernelRecord& k : p.kernels) {
    for (uint32_t j = 0; j < k.operand_count; ++j) {
      const uint32_t tensor = p.operand(k, j);
      if (writer[tensor] != kNone && writer[tensor] != k.context) leaves[tensor] = 1;
    }
    writer[k.output] = k.context;
  }
  for (size_t i = 0; i < p.tensors.size(); ++i) {
    if (p.tensors[i].role == static_cast<uint32_t>(TensorRole::kOutput)) leaves[i] = 1;
  }
  for (size_t i = 0; i < p.buffers.size(); ++i) {
    const BufferRecord& b = p.buffers[i];
    const std::string where = "buffer " + str(uint64_t{i});
    if (b.tensor >= p.tensors.size()) {
      invalid(where, "its tensor does not exist", str(b.tensor), "below " + str(uint64_t{p.tensors.size()}));
    }
    if (b.capacity_rows == 0) invalid(where, "it holds no row", "0", "at least 1");
    uint64_t owner = b.consumer;
    if (b.consumer == kNone) {
      if (!leaves[b.tensor] || b.operand != 0) {
        invalid(where, "it leads to the host, but its tensor is neither an output nor read by a later context",
                printable(p.tensor_names[b.tensor]), "a tensor that leaves its context, operand 0");
      }
      owner = (uint64_t{1} << 32) + b.tensor;
    } else {
      if (b.consumer >= p.kernels.size()) {
        invalid(where, "its consumer does not exist", str(b.consumer), "below " + str(uint64_t{p.kernels.size()}));
      }
      const KernelRecord& k = p.kernels[b.consumer];
      if (b.operand >= k.operand_count || p.operand(k, b.operand) != b.tensor) {
        invalid(where, "its consumer does not read this tensor at this operand",
                printable(p.kernel_names[b.consumer]) + " operand " + str(b.operand),
                printable(p.tensor_names[b.tensor]));
      }
    }
    if (!seen.insert({owner, b.operand}).second) invalid(where, "the edge has a buffer already", "2", "1");
  }
}

}  // namespace

std::vector<ChannelScales> read_channel_scales(const Program& program) {
  std::vector<ChannelScales> all(program.tensors.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const TensorRecord& t = program.tensors[i];
    for (uint32_t c = 0; t.scales_offset != kNone && c < t.channels; ++c) {
      all[i].scale.push_back(load_f32(program.constants.data + t.scales_offset + size_t{4} * c));
      all[i].zero.push_back(load_i32(program.constants.data + t.zeros_offset + size_t{4} * c));
    }
  }
  return all;
}

namespace {

uint64_t verify_kernel(const Program& program, size_t index) {
  const uint32_t opcode = program.kernels[index].opcode;
  const Check check(program, index);
  const Primitive* primitive = find_primitive(opcode);
  if (primitive == nullptr) check.invalid("the opcode is unknown", str(opcode), "1 to " + str(primitive_count()));
  return primitive->verify(check);
}

}  // namespace

void verify_program(const Program& program, uint64_t memory_limit) {
  check_target(program);
  check_tensors(program, memory_limit);
  check_contexts(program);
  check_dataflow(program);
  uint64_t weight_bytes = 0;
  for (size_t i = 0; i < program.kernels.size(); ++i) {
    weight_bytes = sat_add(weight_bytes, verify_kernel(program, i));
    if (weight_bytes > memory_limit) {
      invalid("kernel " + printable(program.kernel_names[i]), "the weights need more memory than this device may use",
              str(weight_bytes) + " bytes", "at most " + str(memory_limit) + " bytes");
    }
  }
  check_stages(program);
  check_buffers(program);
}

}  // namespace headrace
