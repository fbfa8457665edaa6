# SPDX-License-Identifier: Apache-2.0
"""Constants that a TFLite file stores as codes: weights and biases of quantized models."""

from __future__ import annotations

import math

import numpy as np

from headrace.frontends.formats.tflite.read import Tensor
from headrace.frontends.formats.tflite.schema import TRANSPOSE_CONV_BIAS
from headrace.frontends.graph import Unsupported
from headrace.hn import Array
from headrace.numerics.quantization import LARGEST, TINY

#: Operators with a bias, whose codes have 32 or 64 bits, and which of their inputs it is.
BIASES = {
    "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "CONV_3D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3,
    TRANSPOSE_CONV_BIAS: 2,
}  # fmt: skip
#: Zero points of constants may be any code; more would not be exact.
_MOST_ZERO = 1 << 31


def dequantized(tensor: Tensor, codes: Array) -> Array:
    """A constant's real values, float32: ``scale · (code − zero point)``.

    Raises:
        Unsupported: a scale or zero point makes no sense.
    """
    how = tensor.quantization
    assert how is not None
    # A channel whose weights are all zero may have the scale 0.
    bad = [s for s in how.scale if not (s == 0 or TINY <= s <= LARGEST)]
    if bad:
        raise Unsupported(f"the tensor {tensor.name!r} has the scale {bad[0]:g}", "positive, normal float32 numbers")
    if any(abs(z) > _MOST_ZERO for z in how.zero_point):
        raise Unsupported(f"a zero point of the tensor {tensor.name!r} is no code of its type", f"{tensor.type}")
    shape = [1] * codes.ndim
    if len(how.scale) > 1:
        shape[how.axis] = len(how.scale)
    scale = np.array(how.scale, np.float32).reshape(shape)
    zero = np.array(how.zero_point, np.int64).reshape(shape)
    centred = codes.astype(np.int64) - zero
    # Products in float64: a bias of 32 bits has more of them than float32.
    return (centred * scale.astype(np.float64)).astype(np.float64 if codes.dtype.itemsize >= 4 else np.float32)


def int4_codes(tensor: Tensor) -> Array:
    """int8: the codes of a constant of 4-bit elements, two to a byte, the lower half first.

    Raises:
        Unsupported: the bytes do not fit the shape.
    """
    count = math.prod(tensor.shape)
    if tensor.data is None or tensor.sparsity is not None or len(tensor.data) != (count + 1) // 2 or count < 0:
        got = 0 if tensor.data is None else len(tensor.data)
        raise Unsupported(f"the 4-bit tensor {tensor.name!r} has {got} bytes", f"{(count + 1) // 2} for its shape")
    pairs = np.frombuffer(tensor.data, np.uint8)
    halves = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(-1)[:count]
    return ((halves.astype(np.int8) ^ 8) - 8).astype(np.int8).reshape(tensor.shape)
