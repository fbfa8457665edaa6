// SPDX-License-Identifier: Apache-2.0
// Memory that a network takes, counted against the device's limit before it is allocated.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace headrace {

class Budget {
 public:
  explicit Budget(uint64_t limit) : limit_(limit) {}
  void take(uint64_t bytes, const char* what);         // throws Failure 26 past the limit
  void check(uint64_t bytes, const char* what) const;  // the same, without taking
  uint64_t used() const { return used_; }

 private:
  uint64_t limit_;
  uint64_t used_ = 0;
};

// Zeroed memory on a cache line, with kSlack readable bytes past its end.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  AlignedBytes(Budget& budget, uint64_t size, const char* what);
  uint8_t* data() const { return data_.get(); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::unique_ptr<uint8_t[], Free> data_;
};

}  // namespace headrace
