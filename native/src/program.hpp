// SPDX-License-Identifier: Apache-2.0
// The decoded program: records as read, names resolved; nothing about their meaning is checked here.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "hef_reader.hpp"
#include "microcode_generated.hpp"

namespace headrace {

// Scale and zero point of each channel of an output; both empty where all channels share those of the record.
struct ChannelScales {
  std::vector<float> scale;
  std::vector<int32_t> zero;
};

struct Program {
  microcode::TargetRecord target;
  std::string target_name;
  std::string target_runs;  // names of other targets whose programs it also runs, spaces between
  std::vector<microcode::TensorRecord> tensors;
  std::vector<std::string> tensor_names;
  std::vector<ChannelScales> channel_scales;  // by tensor, read when the program has been verified
  std::vector<microcode::ContextRecord> contexts;
  std::vector<microcode::KernelRecord> kernels;
  std::vector<std::string> kernel_names;
  std::vector<uint32_t> operands;
  std::vector<microcode::StageRecord> stages;
  std::vector<microcode::BufferRecord> buffers;
  // By kernel: (first, last) input row of each output row where a table says it, kept for the simulation of time.
  std::vector<std::vector<std::pair<uint32_t, uint32_t>>> row_tables;
  ByteView constants;  // points into the program's bytes: valid while they are

  uint32_t operand(const microcode::KernelRecord& kernel, uint32_t index) const {
    return operands[size_t{kernel.operand_offset} + index];
  }
};

// Decodes the sections; throws Failure 26 or 92. `check_hash` is false only in the fuzz target.
Program decode_program(ByteView bytes, bool check_hash = true);

}  // namespace headrace
