// SPDX-License-Identifier: Apache-2.0
// Steps that add up codes, and element-wise arithmetic of 16-bit tensors.
#include <algorithm>
#include <cstring>

#include "kernels/scalar.hpp"
#include "steps.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

// Sums of codes of one output position over its covered window, for `channels` channels from `c`.
struct Window {
  Covered v, h;
  int64_t top, left;
};

template <class Sum>
void window_sums(const Step& s, const Window& w, int64_t c, int64_t channels, Sum* sums) {
  const Place& x = s.in[0];
  const auto& k = s.record;
  const auto covered_zero = static_cast<Sum>(w.v.count * w.h.count * x.zero);
  for (int64_t i = 0; i < channels; ++i) sums[i] = static_cast<Sum>(-covered_zero);
  for (int64_t i = w.v.first; i < w.v.first + w.v.count; ++i) {
    for (int64_t j = w.h.first; j < w.h.first + w.h.count; ++j) {
      const int64_t at = ((w.top + i * k.dilation_height) * x.width + w.left + j * k.dilation_width) * x.channels + c;
      if (x.bytes == 1) {
        const uint8_t* p = x.data + at;
        for (int64_t n = 0; n < channels; ++n) sums[n] += p[n];
      } else {
        const auto* p = reinterpret_cast<const uint16_t*>(x.data) + at;
        for (int64_t n = 0; n < channels; ++n) sums[n] += p[n];
      }
    }
  }
}

void pool_position(const Step& s, const KernelSet& kernels, const Window& w, uint32_t entry, int64_t at) {
  const int64_t channels = s.out.channels;
  Requantise q = s.q;
  q.multiplier0 += int64_t{entry} * kColumns;
  q.shift += int64_t{entry} * kColumns;
  const int64_t most = w.v.count * w.h.count * std::max<int64_t>(s.in[0].zero, (s.in[0].bytes == 1 ? 255 : 65535));
  for (int64_t c = 0; c < channels; c += kColumns) {
    const int64_t n = std::min<int64_t>(kColumns, channels - c);
    if (s.out.bytes == 1 && most <= kAccumulatorLimit) {
      alignas(64) int32_t sums[kColumns] = {};
      window_sums(s, w, c, n, sums);
      kernels.requantise(q, sums, kColumns, nullptr, 0, s.out.data + at + c, 0, 1, static_cast<int>(n));
    } else {
      int64_t sums[kColumns];
      window_sums(s, w, c, n, sums);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t value = requantise_value(sums[i] * q.multiplier0[0], q.shift[0], q.zero, q.low, q.high);
        store(s.out, at + c + i, code_of(q, value));
      }
    }
  }
}

}  // namespace

void run_pool_sum(const Step& s, const KernelSet& kernels, int64_t tile, uint8_t*) {
  const Place& x = s.in[0];
  const auto& k = s.record;
  const int64_t first = tile * s.tile_rows, last = std::min(first + s.tile_rows, s.out.height);
  for (int64_t oy = first; oy < last; ++oy) {
    for (int64_t ox = 0; ox < s.out.width; ++ox) {
      Window w;
      w.v = covered(oy, k.stride_height, k.pad_top, k.kernel_height, k.dilation_height, x.height);
      w.h = covered(ox, k.stride_width, k.pad_left, k.kernel_width, k.dilation_width, x.width);
      w.top = oy * k.stride_height - k.pad_top;
      w.left = ox * k.stride_width - k.pad_left;
      const size_t pair =
          size_t{s.row_class[static_cast<size_t>(oy)]} * s.column_classes + s.column_class[static_cast<size_t>(ox)];
      pool_position(s, kernels, w, s.pair_entry[pair], (oy * s.out.width + ox) * s.out.channels);
    }
  }
}

void run_reduce_sum_reciprocal(const Step& s, const KernelSet&, int64_t, uint8_t* scratch) {
  const Place& x = s.in[0];
  auto* sums = reinterpret_cast<int64_t*>(scratch);
  std::fill(sums, sums + s.out.elements(), 0);
  const int64_t row = s.out.height == 1 ? 0 : s.out.width * s.out.channels;
  const int64_t pixel = s.out.width == 1 ? 0 : s.out.channels;
  const int64_t channel = s.out.channels == 1 ? 0 : 1;
  int64_t at = 0;
  for (int64_t y = 0; y < x.height; ++y) {
    for (int64_t w = 0; w < x.width; ++w) {
      for (int64_t c = 0; c < x.channels; ++c, ++at) sums[y * row + w * pixel + c * channel] += load(x, at) - x.zero;
    }
  }
  const int bits = s.record.table_bits;
  for (int64_t i = 0; i < s.out.elements(); ++i) {
    const int64_t v = std::max<int64_t>(1, sums[i]);
    const int n = 63 - __builtin_clzll(static_cast<unsigned long long>(v));
    const int64_t index = ((v - (int64_t{1} << n)) << bits) >> n;
    const int64_t entry = s.q.table[2 * index] | (s.q.table[2 * index + 1] << 8);
    const int64_t c = s.per_channel ? i % s.out.channels : 0;
    const int64_t value = requantise_value(entry * s.q.multiplier0[c], s.q.shift[c] + n, s.q.zero, s.q.low, s.q.high);
    store(s.out, i, static_cast<uint32_t>(value));
  }
}

void run_elementwise_wide(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  const int64_t first = tile * s.tile_rows, last = std::min(first + s.tile_rows, s.out.height);
  const auto opcode = static_cast<microcode::Opcode>(s.record.opcode);
  struct Strides {
    int64_t row, pixel, channel;
  };
  const auto strides = [](const Place& p) {
    return Strides{p.height == 1 ? 0 : p.width * p.channels, p.width == 1 ? 0 : p.channels, p.channels == 1 ? 0 : 1};
  };
  const Strides a = strides(s.in[0]);
  const Strides b = s.in.size() == 2 ? strides(s.in[1]) : Strides{0, 0, 0};
  int64_t at = first * s.out.width * s.out.channels;
  for (int64_t y = first; y < last; ++y) {
    for (int64_t w = 0; w < s.out.width; ++w) {
      for (int64_t c = 0; c < s.out.channels; ++c, ++at) {
        const int64_t m = s.per_channel ? c : 0;
        int64_t x = load(s.in[0], y * a.row + w * a.pixel + c * a.channel) - s.in[0].zero;
        int64_t second = 0;
        if (s.in.size() == 2) second = load(s.in[1], y * b.row + w * b.pixel + c * b.channel) - s.in[1].zero;
        if (opcode == microcode::Opcode::kElementwiseMultiply) x *= second;
        int64_t sum = x * s.q.multiplier0[m];
        if (opcode == microcode::Opcode::kRescale) second = std::min<int64_t>(x, 0);
        if (s.q.multiplier1) sum += second * s.q.multiplier1[m];
        store(s.out, at, code_of(s.q, requantise_value(sum, s.q.shift[m], s.q.zero, s.q.low, s.q.high)));
      }
    }
  }
}

}  // namespace headrace
