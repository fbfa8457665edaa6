// SPDX-License-Identifier: Apache-2.0
// Steps whose codes pass unchanged: concatenate, slice, pad, transpose, reshape, maximum.
#include <algorithm>
#include <cstring>

#include "copy_run.hpp"
#include "steps.hpp"
#include "verifier.hpp"

namespace headrace {
namespace {

struct Rows {
  int64_t first, last;
};
Rows rows_of(const Step& step, int64_t tile) {
  const int64_t first = tile * step.tile_rows;
  return {first, std::min(first + step.tile_rows, step.out.height)};
}

size_t bytes(int64_t n) { return static_cast<size_t>(n); }

template <class T>
void copy_elements(T* to, const T* from, int64_t count) {
  copy_run(reinterpret_cast<uint8_t*>(to), reinterpret_cast<const uint8_t*>(from), bytes(count) * sizeof(T));
}

// Down the columns of a row of windows first, then along the row: the sum of the window's sides, not their product.
template <class T>
void pool_max(const Step& s, int64_t tile, uint8_t* scratch) {
  const Place& x = s.in[0];
  const auto& k = s.record;
  const auto* from = reinterpret_cast<const T*>(x.data);
  const Rows rows = rows_of(s, tile);
  const int64_t pitch = x.width * x.channels;
  T* tallest = reinterpret_cast<T*>(scratch);  // of each input column, one row of the input long
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    const Covered v = covered(oy, k.stride_height, k.pad_top, k.kernel_height, k.dilation_height, x.height);
    std::memset(tallest, 0, bytes(pitch) * sizeof(T));
    for (int64_t i = v.first; i < v.first + v.count; ++i) {
      const T* p = from + (oy * k.stride_height - k.pad_top + i * k.dilation_height) * pitch;
      for (int64_t n = 0; n < pitch; ++n) tallest[n] = tallest[n] < p[n] ? p[n] : tallest[n];
    }
    for (int64_t ox = 0; ox < s.out.width; ++ox) {
      const Covered h = covered(ox, k.stride_width, k.pad_left, k.kernel_width, k.dilation_width, x.width);
      T* out = reinterpret_cast<T*>(s.out.data) + (oy * s.out.width + ox) * s.out.channels;
      std::memset(out, 0, bytes(s.out.channels) * sizeof(T));
      for (int64_t j = h.first; j < h.first + h.count; ++j) {
        const T* p = tallest + (ox * k.stride_width - k.pad_left + j * k.dilation_width) * x.channels;
        for (int64_t c = 0; c < x.channels; ++c) out[c] = out[c] < p[c] ? p[c] : out[c];
      }
    }
  }
}

template <class T>
void reduce_max(const Step& s) {
  const Place& x = s.in[0];
  const auto* from = reinterpret_cast<const T*>(x.data);
  auto* out = reinterpret_cast<T*>(s.out.data);
  std::memset(out, 0, bytes(s.out.size()));
  const int64_t row = s.out.height == 1 ? 0 : s.out.width * s.out.channels;
  const int64_t pixel = s.out.width == 1 ? 0 : s.out.channels;
  const int64_t channel = s.out.channels == 1 ? 0 : 1;
  for (int64_t y = 0; y < x.height; ++y) {
    for (int64_t w = 0; w < x.width; ++w) {
      T* to = out + y * row + w * pixel;
      for (int64_t c = 0; c < x.channels; ++c, ++from) to[c * channel] = std::max(to[c * channel], *from);
    }
  }
}

template <class T>
void slice(const Step& s, int64_t tile) {
  const Place& x = s.in[0];
  const auto& k = s.record;
  const auto* from = reinterpret_cast<const T*>(x.data);
  const Rows rows = rows_of(s, tile);
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    const int64_t iy = k.start_height + oy * k.step_height;
    T* out = reinterpret_cast<T*>(s.out.data) + oy * s.out.width * s.out.channels;
    for (int64_t ox = 0; ox < s.out.width; ++ox, out += s.out.channels) {
      const T* p = from + (iy * x.width + k.start_width + ox * k.step_width) * x.channels + k.start_channel;
      if (k.step_channel == 1) {
        copy_elements(out, p, s.out.channels);
      } else {
        for (int64_t c = 0; c < s.out.channels; ++c) out[c] = p[c * k.step_channel];
      }
    }
  }
}

template <class T>
void pad(const Step& s, int64_t tile) {
  const Place& x = s.in[0];
  const auto& k = s.record;
  const auto* from = reinterpret_cast<const T*>(x.data);
  const Rows rows = rows_of(s, tile);
  for (int64_t oy = rows.first; oy < rows.last; ++oy) {
    const int64_t pitch = s.out.width * s.out.channels;
    T* out = reinterpret_cast<T*>(s.out.data) + oy * pitch;
    std::fill(out, out + pitch, static_cast<T>(k.output_zero));
    const int64_t iy = oy - k.start_height;
    if (iy < 0 || iy >= x.height) continue;
    for (int64_t ix = 0; ix < x.width; ++ix) {
      copy_elements(out + (ix + k.start_width) * s.out.channels + k.start_channel,
                    from + (iy * x.width + ix) * x.channels, x.channels);
    }
  }
}

template <class T>
void transpose(const Step& s, int64_t tile) {
  const Place& x = s.in[0];
  const int64_t strides[3] = {x.width * x.channels, x.channels, 1};
  const int64_t a = strides[s.record.permutation & 0xFF], b = strides[(s.record.permutation >> 8) & 0xFF],
                c = strides[(s.record.permutation >> 16) & 0xFF];
  const auto* from = reinterpret_cast<const T*>(x.data);
  const Rows rows = rows_of(s, tile);
  T* out = reinterpret_cast<T*>(s.out.data) + rows.first * s.out.width * s.out.channels;
  for (int64_t i = rows.first; i < rows.last; ++i) {
    for (int64_t j = 0; j < s.out.width; ++j) {
      for (int64_t k = 0; k < s.out.channels; ++k) *out++ = from[i * a + j * b + k * c];
    }
  }
}

}  // namespace

void run_pool_max(const Step& s, const KernelSet&, int64_t tile, uint8_t* scratch) {
  s.out.bytes == 1 ? pool_max<uint8_t>(s, tile, scratch) : pool_max<uint16_t>(s, tile, scratch);
}

void run_reduce_max(const Step& s, const KernelSet&, int64_t, uint8_t*) {
  s.out.bytes == 1 ? reduce_max<uint8_t>(s) : reduce_max<uint16_t>(s);
}

void run_slice(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  s.out.bytes == 1 ? slice<uint8_t>(s, tile) : slice<uint16_t>(s, tile);
}

void run_pad(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  s.out.bytes == 1 ? pad<uint8_t>(s, tile) : pad<uint16_t>(s, tile);
}

void run_transpose(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  s.out.bytes == 1 ? transpose<uint8_t>(s, tile) : transpose<uint16_t>(s, tile);
}

void run_reshape(const Step& s, const KernelSet&, int64_t, uint8_t*) {
  std::memcpy(s.out.data, s.in[0].data, bytes(s.out.size()));
}

void run_concatenate(const Step& s, const KernelSet&, int64_t tile, uint8_t*) {
  // Seen as [outer][axis and everything inside it], each input is a run of bytes per outer index. Tiles are rows of the
  // output, but for a concatenation of rows, which is one tile.
  const Rows rows = rows_of(s, tile);
  int64_t outer = 1, first = 0, last = 1;
  if (s.record.axis >= 1) {
    const int64_t inside = s.record.axis >= 2 ? s.out.width : 1;
    outer = s.out.height * inside;
    first = rows.first * inside;
    last = rows.last * inside;
  }
  const int64_t pitch = s.out.size() / outer;
  int64_t at = 0;
  for (const Place& x : s.in) {
    const int64_t run = x.size() / outer;
    for (int64_t i = first; i < last; ++i) copy_run(s.out.data + i * pitch + at, x.data + i * run, bytes(run));
    at += run;
  }
}

}  // namespace headrace
