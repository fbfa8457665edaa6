// SPDX-License-Identifier: Apache-2.0
#include "hef_reader.hpp"

#include "errors.hpp"
#include "hash.hpp"
#include "microcode_generated.hpp"

namespace headrace {
namespace {

constexpr uint32_t kHefMagic = 0x01484546;
constexpr size_t kHeaderSize = 28;
constexpr size_t kSmallestFile = 56;
constexpr uint64_t kHwArch = 101;
constexpr size_t kNameLimit = 256;
constexpr uint32_t kExtensionPeriphery = 26;
constexpr const char* kPostprocessName = "headrace.nms";

uint32_t big_u32(const uint8_t* p) {
  return (uint32_t{p[0]} << 24) | (uint32_t{p[1]} << 16) | (uint32_t{p[2]} << 8) | uint32_t{p[3]};
}
uint64_t big_u64(const uint8_t* p) { return (uint64_t{big_u32(p)} << 32) | big_u32(p + 4); }

[[noreturn]] void unparsable(const char* what) {
  fail(HEADRACE_HEF_FILE_CORRUPTED, "HEF description", "failed parsing HEF file", what);
}

struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;
  uint64_t value = 0;  // varint and fixed
  ByteView bytes;      // length-delimited
};

// Walks the fields of one protobuf message; every read is checked against the end.
class Message {
 public:
  explicit Message(ByteView view) : p_(view.data), end_(view.data + view.size) {}

  bool next(Field& field) {
    if (p_ == end_) return false;
    const uint64_t key = varint();
    field = Field{};
    if (key >> 3 == 0 || key >> 3 > 0x1FFFFFFF) unparsable("a field number out of range");
    field.number = static_cast<uint32_t>(key >> 3);
    field.wire = static_cast<uint32_t>(key & 7);
    switch (field.wire) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 5:
        field.value = fixed(4);
        break;
      case 2: {
        const uint64_t size = varint();
        if (size > static_cast<uint64_t>(end_ - p_)) unparsable("a length past the end of its message");
        field.bytes = {p_, static_cast<size_t>(size)};
        p_ += size;
        break;
      }
      default:
        unparsable("an unknown wire type");
    }
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p_ == end_) unparsable("a number past the end of its message");
      const uint8_t byte = *p_++;
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (!(byte & 0x80)) return value;
    }
    unparsable("a number of more than ten bytes");
  }
  uint64_t fixed(int size) {
    if (end_ - p_ < size) unparsable("a number past the end of its message");
    uint64_t value = 0;
    for (int i = 0; i < size; ++i) value |= uint64_t{p_[i]} << (8 * i);
    p_ += size;
    return value;
  }

  const uint8_t* p_;
  const uint8_t* end_;
};

ByteView message_of(const Field& field) {
  if (field.wire != 2) unparsable("a message field of another wire type");
  return field.bytes;
}
uint64_t number_of(const Field& field) {
  if (field.wire != 0) unparsable("an integer field of another wire type");
  return field.value;
}
std::string text_of(const Field& field) {
  const ByteView view = message_of(field);
  if (view.size > kNameLimit) unparsable("a name of more than 256 bytes");
  return {reinterpret_cast<const char*>(view.data), view.size};
}

struct Resource {
  size_t entries = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
};

struct Description {
  uint64_t hw_arch = 0;
  uint64_t version = 0;
  bool has_extension = false;
  size_t groups = 0;
  size_t contexts = 0;
  size_t operations = 0;
  std::string name;
  Resource microcode, postprocess;
};

void read_header(ByteView view, Description& out) {
  Message message(view);
  for (Field f; message.next(f);) {
    if (f.number == 1) out.hw_arch = number_of(f);
    if (f.number == 4) out.version = number_of(f);
  }
}

void read_context(ByteView view, Description& out) {
  Message message(view);
  for (Field f; message.next(f);) {
    if (f.number == 2) ++out.operations;
  }
  ++out.contexts;
}

void read_group(ByteView view, Description& out) {
  Message message(view);
  for (Field f; message.next(f);) {
    if (f.number == 1) {
      Message metadata(message_of(f));
      for (Field g; metadata.next(g);) {
        if (g.number == 1) out.name = text_of(g);
      }
    } else if (f.number == 2) {
      Message preliminary(message_of(f));
      for (Field g; preliminary.next(g);) {
        if (g.number == 1) ++out.operations;
      }
    } else if (f.number == 3) {
      read_context(message_of(f), out);
    }
  }
  ++out.groups;
}

void read_resource(ByteView view, Description& out) {
  Message message(view);
  uint64_t offset = 0, size = 0;
  std::string name;
  for (Field f; message.next(f);) {
    if (f.number == 1) offset = number_of(f);
    if (f.number == 2) size = number_of(f);
    if (f.number == 3) name = text_of(f);
  }
  const bool code = name == microcode::kResourceName;
  if (!code && name != kPostprocessName) return;
  Resource& found = code ? out.microcode : out.postprocess;
  found = {found.entries + 1, offset, size};
}

Description read_description(ByteView view) {
  Description out;
  Message message(view);
  for (Field f; message.next(f);) {
    if (f.number == 1) read_header(message_of(f), out);
    if (f.number == 2) read_group(message_of(f), out);
    if (f.number == 5) {
      Message extension(message_of(f));
      for (Field g; extension.next(g);) {
        if (g.number == 1 && number_of(g) == kExtensionPeriphery) out.has_extension = true;
      }
    }
    if (f.number == 7) read_resource(message_of(f), out);
  }
  return out;
}

void check_inside(const Resource& resource, uint64_t section_size, const char* name) {
  if (resource.offset > section_size || resource.size > section_size - resource.offset) {
    fail(HEADRACE_HEF_FILE_CORRUPTED, std::string("external resource '") + name + "'", "it lies outside the file",
         "offset " + str(resource.offset) + ", size " + str(resource.size), "inside " + str(section_size) + " bytes");
  }
}

void check_description(const Description& d, uint64_t section_size) {
  if (d.hw_arch != kHwArch) {
    fail(HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE, "HEF description",
         "this virtual device runs only programs that Headrace compiled", "hw_arch " + str(d.hw_arch), "hw_arch 101");
  }
  if (d.groups != 1) {
    fail(HEADRACE_INVALID_HEF, "HEF description", "a HEF holds one network group", str(uint64_t{d.groups}), "1");
  }
  if (d.contexts == 0) fail(HEADRACE_INVALID_HEF, "HEF description", "the network group has no context");
  if (d.operations != 0) {
    fail(HEADRACE_INVALID_HEF, "HEF description", "a program for the virtual device has no loadable operation",
         str(uint64_t{d.operations}) + " operations", "none");
  }
  if (d.microcode.entries != 1) {
    fail(HEADRACE_INVALID_HEF, "HEF description", "the microcode must be named once among the external resources",
         str(uint64_t{d.microcode.entries}) + " entries 'headrace.microcode'", "1");
  }
  if (d.postprocess.entries > 1) {
    fail(HEADRACE_INVALID_HEF, "HEF description", "post-processing is named several times",
         str(uint64_t{d.postprocess.entries}) + " entries 'headrace.nms'", "at most 1");
  }
  check_inside(d.microcode, section_size, microcode::kResourceName);
  check_inside(d.postprocess, section_size, kPostprocessName);
  if (d.version == 0 || !d.has_extension) {
    fail(HEADRACE_HEF_NOT_SUPPORTED, "HEF description", "the feature periph_calculation_in_hailort is disabled",
         "header version " + str(d.version) + (d.has_extension ? "" : ", extension 26 absent"),
         "header version >= 1 and extension 26");
  }
}

}  // namespace

HefContents read_hef(ByteView file, bool check_crc) {
  const std::string where = "HEF header";
  if (file.size < kSmallestFile) {
    fail(HEADRACE_HEF_FILE_CORRUPTED, where, "invalid HEF header", str(uint64_t{file.size}) + " bytes",
         "at least 56 bytes");
  }
  const uint32_t version = big_u32(file.data + 4);
  const uint32_t magic = big_u32(file.data);
  if (magic != kHefMagic)
    fail(HEADRACE_HEF_NOT_SUPPORTED, where, "HEF magic does not match", str(magic), str(kHefMagic));
  if (version != 1) {
    fail(HEADRACE_HEF_NOT_SUPPORTED, where, "unsupported hef version " + str(version), str(version),
         "1 (what Headrace writes)");
  }
  const uint64_t proto_size = big_u32(file.data + 8);
  const uint64_t section_size = big_u64(file.data + 16);
  const uint64_t body = file.size - kHeaderSize;
  if (proto_size > body || section_size != body - proto_size) {
    fail(HEADRACE_HEF_FILE_CORRUPTED, where, "HEF file length does not match", str(uint64_t{file.size}) + " bytes",
         "28 + " + str(proto_size) + " + " + str(section_size) + " bytes");
  }
  if (check_crc) {
    const uint32_t want = big_u32(file.data + 12);
    const uint32_t got = crc32(file.data + kHeaderSize, static_cast<size_t>(body));
    if (want != got) fail(HEADRACE_HEF_FILE_CORRUPTED, where, "HEF crc does not match", str(got), str(want));
  }
  const Description d = read_description({file.data + kHeaderSize, static_cast<size_t>(proto_size)});
  check_description(d, section_size);
  HefContents out;
  out.network_name = printable(d.name);
  const uint8_t* const section = file.data + kHeaderSize + proto_size;
  out.microcode = {section + d.microcode.offset, static_cast<size_t>(d.microcode.size)};
  if (d.postprocess.entries != 0)
    out.postprocess = {section + d.postprocess.offset, static_cast<size_t>(d.postprocess.size)};
  return out;
}

}  // namespace headrace
