// SPDX-License-Identifier: Apache-2.0
#include "memory.hpp"

#include <cstring>

#include "arithmetic.hpp"
#include "errors.hpp"
#include "kernels/kernels.hpp"

namespace headrace {

void Budget::check(uint64_t bytes, const char* what) const {
  const uint64_t need = sat_add(used_, bytes);
  if (need > limit_) {
    fail(HEADRACE_INVALID_HEF, what, "the network needs more memory than this device may use",
         "at least " + str(need) + " bytes", "at most " + str(limit_) + " bytes");
  }
}

void Budget::take(uint64_t bytes, const char* what) {
  check(bytes, what);
  used_ = sat_add(used_, bytes);
}

AlignedBytes::AlignedBytes(Budget& budget, uint64_t size, const char* what) {
  budget.take(sat_add(size, kSlack), what);
  const auto bytes = static_cast<size_t>(size) + kSlack;
  data_.reset(static_cast<uint8_t*>(::operator new[](bytes, std::align_val_t{64})));
  std::memset(data_.get(), 0, bytes);
}

}  // namespace headrace
