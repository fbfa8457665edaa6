// SPDX-License-Identifier: Apache-2.0
#include "program.hpp"

#include "errors.hpp"
#include "hash.hpp"

namespace headrace {

namespace {

using microcode::SectionEntry;
using microcode::SectionKind;

constexpr size_t kSectionKinds = 9;
using microcode::kNameLimit;
constexpr size_t kRunsLimit = 64 * (kNameLimit + 1);

struct Sections {
  ByteView view[kSectionKinds + 1];
  bool present[kSectionKinds + 1] = {};
  uint32_t record_size[kSectionKinds + 1] = {};

  ByteView operator[](SectionKind kind) const { return view[static_cast<size_t>(kind)]; }
};

[[noreturn]] void corrupt(const std::string& where, const std::string& rule, const std::string& got,
                          const std::string& need) {
  fail(HEADRACE_INVALID_HEF, "microcode, " + where, rule, got, need);
}

Sections read_sections(ByteView bytes, const microcode::ProgramHeader& header) {
  constexpr uint32_t kLimit = 64;
  const uint64_t table = microcode::ProgramHeader::kSize + uint64_t{header.section_count} * SectionEntry::kSize;
  if (header.section_count > kLimit || table > bytes.size) {
    corrupt("section table", "it does not fit the program", str(header.section_count) + " sections", "at most 64");
  }
  Sections sections;
  for (uint32_t i = 0; i < header.section_count; ++i) {
    const auto entry = SectionEntry::read(bytes.data + microcode::ProgramHeader::kSize + i * SectionEntry::kSize);
    const bool inside = entry.offset >= table && entry.offset <= bytes.size && entry.size <= bytes.size - entry.offset;
    if (!inside || entry.offset % microcode::kSectionAlignment != 0) {
      corrupt("section " + str(entry.kind), "its place is not valid",
              "offset " + str(entry.offset) + ", size " + str(entry.size), "inside the program, on a multiple of 64");
    }
    // A later minor version may add sections; unknown kinds are skipped.
    if (entry.kind == 0 || entry.kind > kSectionKinds) continue;
    if (sections.present[entry.kind]) corrupt("section " + str(entry.kind), "it occurs twice", "2", "1");
    sections.present[entry.kind] = true;
    sections.record_size[entry.kind] = entry.record_size;
    sections.view[entry.kind] = {bytes.data + entry.offset, static_cast<size_t>(entry.size)};
  }
  for (size_t kind = 1; kind <= kSectionKinds; ++kind) {
    if (!sections.present[kind])
      corrupt("section table", "a section is missing", "no section " + str(uint64_t{kind}), "all of 1..9");
  }
  return sections;
}

void check_record_size(const Sections& sections, SectionKind kind, size_t size) {
  const auto index = static_cast<size_t>(kind);
  if (sections.record_size[index] != size || sections.view[index].size % size != 0) {
    corrupt(
        "section " + str(uint64_t{index}), "its size is not a whole number of records",
        "record size " + str(sections.record_size[index]) + ", " + str(uint64_t{sections.view[index].size}) + " bytes",
        "records of " + str(uint64_t{size}) + " bytes");
  }
}

template <class R>
std::vector<R> read_records(const Sections& sections, SectionKind kind) {
  check_record_size(sections, kind, R::kSize);
  const ByteView view = sections[kind];
  std::vector<R> out;
  out.reserve(view.size / R::kSize);
  for (size_t i = 0; i < view.size; i += R::kSize) out.push_back(R::read(view.data + i));
  return out;
}

std::string read_text(ByteView strings, uint32_t offset, uint32_t length, size_t limit, const std::string& where) {
  if (length > limit || offset > strings.size || length > strings.size - offset) {
    corrupt(where, "its text is not valid", "offset " + str(offset) + ", length " + str(length),
            "at most " + str(uint64_t{limit}) + " bytes inside STRINGS");
  }
  const auto* p = reinterpret_cast<const char*>(strings.data + offset);
  std::string text(p, length);
  for (unsigned char c : text) {
    if (c < 0x20 || c == 0x7F) corrupt(where, "its text holds a control character", printable(text), "text");
  }
  return text;
}

std::string read_name(ByteView strings, uint32_t offset, uint32_t length, const std::string& where) {
  if (length == 0) corrupt(where, "its name is not valid", "length 0", "1 to 127 bytes inside STRINGS");
  return read_text(strings, offset, length, kNameLimit, where);
}

void read_operands(const Sections& sections, Program& out) {
  check_record_size(sections, SectionKind::kOperands, 4);
  const ByteView view = sections[SectionKind::kOperands];
  for (size_t i = 0; i < view.size; i += 4) out.operands.push_back(microcode::load_u32(view.data + i));
}

// A device runs exactly its own version, and the records that belong to it.
void check_version(const microcode::ProgramHeader& header) {
  const auto text = [](uint32_t major, uint32_t minor, uint32_t layout) {
    return "version " + str(major) + "." + str(minor) + ", layout " + str(layout);
  };
  const bool same =
      header.version_major == microcode::kVersionMajor && header.version_minor == microcode::kVersionMinor;
  if (same && header.layout_hash == microcode::kLayout) return;
  fail(HEADRACE_HEF_NOT_SUPPORTED, "microcode, header",
       same ? "the program's records are laid out otherwise than this version's"
            : "this device runs another version of the instruction set",
       text(header.version_major, header.version_minor, header.layout_hash),
       text(microcode::kVersionMajor, microcode::kVersionMinor, microcode::kLayout),
       "compile the network again with this version");
}

}  // namespace

Program decode_program(ByteView bytes, bool check_hash) {
  if (bytes.size < microcode::ProgramHeader::kSize) {
    corrupt("header", "the program is shorter than its header", str(uint64_t{bytes.size}) + " bytes", "64 bytes");
  }
  const auto header = microcode::ProgramHeader::read(bytes.data);
  if (header.magic != microcode::kMagic) corrupt("header", "the magic number is wrong", str(header.magic), "'HRMC'");
  check_version(header);
  if (header.total_size != bytes.size) {
    corrupt("header", "the length does not match", str(uint64_t{bytes.size}) + " bytes",
            str(header.total_size) + " bytes");
  }
  const Sections sections = read_sections(bytes, header);
  Program out;
  const auto targets = read_records<microcode::TargetRecord>(sections, SectionKind::kTarget);
  if (targets.size() != 1) corrupt("TARGET", "there must be one target", str(uint64_t{targets.size()}), "1");
  out.target = targets[0];
  const ByteView strings = sections[SectionKind::kStrings];
  out.target_name = read_name(strings, out.target.name_offset, out.target.name_length, "TARGET");
  out.target_runs = read_text(strings, out.target.runs_offset, out.target.runs_length, kRunsLimit, "TARGET, runs");
  // The digest covers the record's numbers, then the texts: not where these are stored.
  const ByteView record = sections[SectionKind::kTarget];
  const std::string texts = out.target_name + '\0' + out.target_runs;
  const auto digest = sha256(record.data + microcode::kTargetTextBytes, record.size - microcode::kTargetTextBytes,
                             reinterpret_cast<const uint8_t*>(texts.data()), texts.size());
  if (check_hash && digest != header.target_hash)
    corrupt("TARGET", "the hash of the target does not match", "another digest", "the header's");
  out.tensors = read_records<microcode::TensorRecord>(sections, SectionKind::kTensors);
  out.contexts = read_records<microcode::ContextRecord>(sections, SectionKind::kContexts);
  out.kernels = read_records<microcode::KernelRecord>(sections, SectionKind::kKernels);
  out.stages = read_records<microcode::StageRecord>(sections, SectionKind::kStages);
  out.buffers = read_records<microcode::BufferRecord>(sections, SectionKind::kBuffers);
  read_operands(sections, out);
  check_record_size(sections, SectionKind::kConstants, 1);
  check_record_size(sections, SectionKind::kStrings, 1);
  out.constants = sections[SectionKind::kConstants];
  for (size_t i = 0; i < out.tensors.size(); ++i) {
    out.tensor_names.push_back(
        read_name(strings, out.tensors[i].name_offset, out.tensors[i].name_length, "tensor " + str(uint64_t{i})));
  }
  for (size_t i = 0; i < out.kernels.size(); ++i) {
    out.kernel_names.push_back(
        read_name(strings, out.kernels[i].name_offset, out.kernels[i].name_length, "kernel " + str(uint64_t{i})));
  }
  return out;
}

}  // namespace headrace
