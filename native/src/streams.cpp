// SPDX-License-Identifier: Apache-2.0
#include "streams.hpp"

#include <cmath>

namespace headrace {
namespace {

template <class T>
void quantize_to(const float* from, T* to, int64_t n, float scale, int32_t zero) {
  const auto low = static_cast<float>(-zero);
  const auto high = static_cast<float>((int64_t{1} << (8 * sizeof(T))) - 1 - zero);
  for (int64_t i = 0; i < n; ++i) {
    // rintf rounds half to even in the default mode. Clamping before the zero point is added keeps infinities out of
    // the conversion; the bounds are exact in float32, so the result is that of the formula.
    float value = std::rint(from[i] / scale);
    value = value < low ? low : value;
    value = value > high ? high : value;
    to[i] = static_cast<T>(value == value ? static_cast<int32_t>(value) + zero : zero);
  }
}

template <class T>
void dequantize_from(const T* from, float* to, int64_t n, float scale, int32_t zero) {
  for (int64_t i = 0; i < n; ++i) to[i] = scale * static_cast<float>(static_cast<int32_t>(from[i]) - zero);
}

template <class T>
void dequantize_channels(const T* from, float* to, int64_t n, const ChannelScales& own) {
  const auto channels = static_cast<int64_t>(own.scale.size());
  for (int64_t i = 0; i < n; i += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      to[i + c] = own.scale[c] * static_cast<float>(static_cast<int32_t>(from[i + c]) - own.zero[c]);
    }
  }
}

}  // namespace

void quantize(const float* from, uint8_t* codes, const Place& to, float scale) {
  if (to.bytes == 1)
    quantize_to(from, codes, to.elements(), scale, to.zero);
  else
    quantize_to(from, reinterpret_cast<uint16_t*>(codes), to.elements(), scale, to.zero);
}

void dequantize(const uint8_t* codes, const Place& from, float* to, float scale, const ChannelScales& own) {
  const auto* wide = reinterpret_cast<const uint16_t*>(codes);
  if (!own.scale.empty() && from.bytes == 1)
    dequantize_channels(codes, to, from.elements(), own);
  else if (!own.scale.empty())
    dequantize_channels(wide, to, from.elements(), own);
  else if (from.bytes == 1)
    dequantize_from(codes, to, from.elements(), scale, from.zero);
  else
    dequantize_from(wide, to, from.elements(), scale, from.zero);
}

}  // namespace headrace
