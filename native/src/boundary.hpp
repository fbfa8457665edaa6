// SPDX-License-Identifier: Apache-2.0
// What the functions of the C boundary share: exceptions end there and become a status and a text.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "errors.hpp"
#include "network.hpp"

struct headrace_device {
  std::shared_ptr<headrace::Device> device;
};
struct headrace_network {
  explicit headrace_network(std::shared_ptr<headrace::Device> device, headrace::ByteView hef)
      : network(std::move(device), hef) {}
  headrace::Network network;
};
struct headrace_job {
  std::shared_ptr<headrace::Device> device;
  std::shared_ptr<headrace::Job> job;
};

namespace headrace {

template <class Body>
headrace_status guarded(Body body) noexcept {
  try {
    body();
    return HEADRACE_SUCCESS;
  } catch (const Failure& f) {
    return report(f.status, f.problem);
  } catch (const std::bad_alloc&) {
    return report(HEADRACE_OUT_OF_HOST_MEMORY, "the host has not enough memory");
  } catch (const std::exception& e) {
    return report(HEADRACE_INTERNAL_FAILURE, e.what());
  } catch (...) {
    return report(HEADRACE_INTERNAL_FAILURE, "an unknown failure");
  }
}

inline void require_pointer(const void* p, const char* what) {
  if (p == nullptr) fail(HEADRACE_INVALID_ARGUMENT, what, "the pointer is missing", "NULL", "a valid pointer");
}

// Copies what the caller's struct has room for, so that a caller built against an older header keeps working.
// False where there is no struct, or its size is not set.
template <class T>
bool give(T* out, T value) {
  size_t size = 0;
  if (out != nullptr) std::memcpy(&size, out, sizeof size);
  if (size < sizeof(size_t)) return false;
  value.struct_size = size;
  std::memcpy(static_cast<void*>(out), &value, std::min(size, sizeof(T)));
  return true;
}

template <class T>
void give(T* out, T value, const char* what) {
  require_pointer(out, what);
  if (!give(out, value)) {
    fail(HEADRACE_INVALID_ARGUMENT, what, "struct_size is not set", str(uint64_t{0}), str(uint64_t{sizeof(T)}));
  }
}

}  // namespace headrace
