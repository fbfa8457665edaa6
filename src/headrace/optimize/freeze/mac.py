# SPDX-License-Identifier: Apache-2.0
"""Convolution, depthwise, dense, per-channel multiply-add: weights, biases, multipliers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headrace.hn import Array, Layer
from headrace.layers import Convolving, Dense, PerChannel
from headrace.layers.mac import KERNEL_SCALE
from headrace.numerics.quantization import TensorQuantization, on_grid
from headrace.numerics.requantize import accumulator_bits
from headrace.optimize.freeze.context import ROUNDING_OFFSET, FreezeContext
from headrace.optimize.freeze.families import freezes
from headrace.optimize.freeze.near_halves import float32_ratio, on_the_runtimes_side

WEIGHT_LIMIT = 127
BIAS_LIMIT = 2**30
ACCUMULATOR_LIMIT = 2**31
#: Of codes of 16 bits: sums have 64 bits then, and multipliers keep 20.
WIDE_ACCUMULATOR_LIMIT = 2**41
CONSTANT_BIAS = 2.0**24  # integer bias of a channel that is a constant: plenty of precision, far from the limit


class FrozenWeights:
    """Integers of one multiply-accumulate layer.

    Attributes:
        kernel: int8, in the shape it came; int16 where weights of the file are differences beyond int8.
        bias: int32 ``[channels]``.
        units: float64 ``[channels]``, the real value of one accumulator unit (``scale_x · scale_w``).
        bounds: int64 ``[channels]``, the largest \\|accumulator\\|, bias included.
        widened: channels whose weight scale the bias or the accumulator widened.
        constant: channels without any weight left.
        stated: channels with the file's own weights and steps.

    Args:
        rounder: kernel and scale → integer weights; to the nearest by default, and where the accumulator's bound asks.
        steps: of each channel's weights, where the model's file states them; they hold where the weights are whole
            multiples of them and no sum can leave 32 bits.
    """

    def __init__(
        self,
        kernel: Array,
        bias: Array,
        x: TensorQuantization,
        rounder: Callable[[Array, Array], Array] | None = None,
        steps: Array | None = None,
    ) -> None:
        flat = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
        offset = bias.astype(np.float64)
        natural = np.abs(flat).max(axis=0) / WEIGHT_LIMIT
        scale = np.maximum(natural, np.abs(offset) / (x.scale * (BIAS_LIMIT - 1)))
        scale[scale <= 0] = 1.0
        weights, integers = _round(flat, offset, scale, x)
        # A widened channel may lose all its weights; its bias then gets a scale of its own.
        self.constant = ~weights.any(axis=0)
        own = np.abs(offset) / (x.scale * CONSTANT_BIAS)
        scale = np.where(self.constant & (offset != 0), own, np.where(self.constant, 1.0, scale))
        weights, integers = _round(np.where(self.constant, 0.0, flat), offset, scale, x)
        bounds = _bounds(weights, integers, x)
        limit = ACCUMULATOR_LIMIT if x.bits == 8 else WIDE_ACCUMULATOR_LIMIT
        while np.any(bounds >= limit):
            scale = np.where(bounds >= limit, scale * 1.25, scale)
            weights, integers = _round(np.where(self.constant, 0.0, flat), offset, scale, x)
            bounds = _bounds(weights, integers, x)
        if rounder is not None:
            chosen = rounder(np.where(self.constant, 0.0, flat).reshape(kernel.shape), scale).reshape(flat.shape)
            wider = _bounds(chosen, integers, x)
            if np.all(wider < limit):
                weights, bounds = chosen, wider
        self.stated = np.zeros(flat.shape[-1], bool)
        whole = None if steps is None else on_grid(flat, steps.astype(np.float64))
        if steps is not None and whole is not None:
            own = np.rint(offset / (steps * x.scale))
            fits = np.abs(own) < ACCUMULATOR_LIMIT
            codes = np.where(fits, own, 0).astype(np.int64)
            bound = _bounds(whole, codes, x)
            self.stated = fits & (bound < limit)
            weights = np.where(self.stated, whole, weights)
            integers, bounds = np.where(self.stated, codes, integers), np.where(self.stated, bound, bounds)
            scale = np.where(self.stated, steps.astype(np.float64), scale)
            self.constant = self.constant & ~self.stated
        narrow = bool(np.all((weights >= -128) & (weights <= 127)))
        self.kernel: Array = weights.astype(np.int8 if narrow else np.int16).reshape(kernel.shape)
        self.bias: Array = integers.astype(np.int32)
        self.units: Array = scale * x.scale
        self.bounds: Array = bounds
        self.widened = np.flatnonzero(~self.constant & ~self.stated & (scale > natural))


def _round(flat: Array, offset: Array, scale: Array, x: TensorQuantization) -> tuple[Array, Array]:
    weights = np.clip(np.rint(flat / scale), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int64)
    return weights, np.rint(offset / (scale * x.scale)).astype(np.int64)


def _bounds(weights: Array, bias: Array, x: TensorQuantization) -> Array:
    return np.abs(bias) + x.magnitude * np.abs(weights).sum(axis=0)


def _freeze(context: FreezeContext, layer: Layer, kernel: Array, bias: Array | None) -> None:
    inputs = context.inputs(layer)
    channels = kernel.shape[-1]
    offset = np.zeros(channels) if bias is None else bias
    output = context.tensors[layer.name]
    steps = layer.params.get(ROUNDING_OFFSET)
    if steps is not None:
        offset = offset + steps.astype(np.float64) * output.steps.astype(np.float64)
    if not output.uniform:
        # The device adds one zero point to all channels: 0. Each channel's own comes with its bias.
        offset = offset + output.steps.astype(np.float64) * output.zeros
    steps = layer.params.get(KERNEL_SCALE)
    frozen = FrozenWeights(kernel, offset, inputs[0], context.rounders.get(layer.name), steps)
    units, bounds = [frozen.units], [frozen.bounds]
    for residual in inputs[1:]:
        units.append(np.full(channels, residual.scale))
        bounds.append(np.full(channels, residual.magnitude, np.int64))
    rq = context.requantization(layer, np.stack(units), np.stack(bounds))
    if steps is not None and layer.wish.codes is not None and inputs[0].bits == output.bits == 8:
        rq = on_the_runtimes_side(rq, float32_ratio(inputs[0], steps, output), frozen.bounds, frozen.stated)
    context.store(layer, rq, {"kernel_q": frozen.kernel, "bias_q": frozen.bias})
    width = accumulator_bits(int(frozen.bounds.max(initial=0)))
    layer.accumulator_bits = width
    context.note(
        layer,
        accumulator_bits=width,
        accumulator_bound=int(frozen.bounds.max(initial=0)),
        widened_channels=tuple(frozen.widened.tolist()),
        constant_channels=tuple(np.flatnonzero(frozen.constant).tolist()),
        stated_weights=bool(frozen.stated.all()) if steps is not None else None,
    )


@freezes(Convolving, Dense)
def freeze_weighted(context: FreezeContext, layer: Layer) -> None:
    params = layer.params
    _freeze(context, layer, context.network.param(layer, "kernel"), params.get("bias"))


@freezes(PerChannel)
def freeze_per_channel(context: FreezeContext, layer: Layer) -> None:
    operation = layer.operation
    assert isinstance(operation, PerChannel)
    scale, offset = operation.scale_offset(layer.params)
    _freeze(context, layer, scale.reshape(1, 1, 1, -1), offset)
