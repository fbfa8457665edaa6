# SPDX-License-Identifier: Apache-2.0
"""Ranges that follow from others: of values between those whose codes a model's file states.

What a range must hold is bounded by what the layer reads, so nothing that can occur is cut off. Sums of products are
left out: their bounds are far from what occurs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from headrace.data.plausible import raw_images_expected
from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.tensors import tensor_of
from headrace.hn import Layer, Network
from headrace.layers import (
    Activation,
    Add,
    AveragePool,
    Concat,
    InputLayer,
    Multiply,
    Normalization,
    OutputLayer,
    PerChannel,
    ResizeBilinear,
    Subtract,
)
from headrace.layers.activation import Activated
from headrace.layers.mac import MultiplyAccumulate
from headrace.numerics.quantization import TensorQuantization, from_range
from headrace.optimize.scales import precision
from headrace.optimize.scales.ranges import ScaleGroups, natural_range, stated

Range = tuple[float, float]
#: Points of a function at which its range is looked for.
_POINTS = 1025


def tensors_without_data(
    network: Network, groups: ScaleGroups
) -> tuple[dict[str, TensorQuantization], list[str], list[str]]:
    """One quantization per tensor, as far as the file, meanings and the rules of this module give them.

    Returns:
        The quantizations; first members of the groups whose range followed from others; those with none.
    """
    found: dict[str, TensorQuantization] = {}
    derived: list[str] = []
    waiting = dict(groups.members())
    while waiting:
        known = {root: made for root, names in waiting.items() if (made := _made(network, names, found)) is not None}
        if not known:
            break
        for root, (quantization, follows) in known.items():
            found.update(dict.fromkeys(waiting[root], quantization))
            if follows:
                derived.append(root)
            del waiting[root]
    return found, derived, list(waiting)


def _made(
    network: Network, names: Sequence[str], found: Mapping[str, TensorQuantization]
) -> tuple[TensorQuantization, bool] | None:
    """The quantization of tensors that share one, and whether it followed from others'; None while it does not."""
    codes = stated(network, names)
    if codes is not None:
        return codes, False
    behind = _all_see(network, names) or _raw_images(network, names)
    if behind is not None:
        return behind, True
    ranges = [_range(network, network[name], found) for name in names if not _passed(network, network[name], names)]
    if not ranges or any(one is None for one in ranges):
        return None
    known = [one[0] for one in ranges if one is not None]
    asked = max((network[name].wish.bits or 0 for name in names), default=0)
    follows = any(one is not None and one[1] for one in ranges)
    if not asked:  # such ranges are wide: with 16 bits that costs nothing
        asked = precision.WIDE if follows and precision.cannot_widen(network, list(names)) is None else 8
    span = min(r[0] for r in known), max(r[1] for r in known)
    return from_range(*span, asked), follows


def _all_see(network: Network, names: Sequence[str]) -> TensorQuantization | None:
    """The codes of which clamps behind some tensors are, where nothing else reads these tensors."""
    readers = [user for name in names for user in network.users(name) if user.name not in names]
    codes = [user.wish.codes for user in readers]
    clamps = all(isinstance(x.operation, Activation) and x.operation.clamp is not None for x in readers)
    ends = any(isinstance(network[name].operation, OutputLayer) for name in names)
    return codes[0] if readers and clamps and not ends and all(one == codes[0] for one in codes) else None


def _raw_images(network: Network, names: Sequence[str]) -> TensorQuantization | None:
    """The codes of an input that the device normalizes by numbers of raw images: bytes."""
    layer = network[names[0]]
    readers = network.users(layer.name)
    if len(names) > 1 or not isinstance(layer.operation, InputLayer) or not readers:
        return None
    if not all(isinstance(reader.operation, Normalization) for reader in readers):
        return None
    found = [raw_images_expected(reader.params["mean"], reader.params["std"]) for reader in readers]
    return None if any(one is None for one in found) else TensorQuantization(1.0, 0, 8)


def _passed(network: Network, layer: Layer, names: Sequence[str]) -> bool:
    """Whether a tensor is what its operands in the same group are."""
    return layer.operation.passes_codes and bool(layer.inputs) and all(name in names for name in layer.inputs)


def _range(network: Network, layer: Layer, found: Mapping[str, TensorQuantization]) -> tuple[Range, bool] | None:
    """The range of one tensor, and whether it followed from others."""
    meant = natural_range(network, layer, None)
    if meant is not None:
        return meant, False
    before = range_before(network, layer, found)
    if isinstance(layer.operation, Activated):
        low, high = layer.operation.clamp or (None, None)
        if low is not None and high is not None and max(abs(low), abs(high)) < 1e30:
            return (low, high), False
        summed = isinstance(layer.operation, MultiplyAccumulate) and not isinstance(layer.operation, PerChannel)
        if before is None or summed:
            return None
        return _through(layer, before), True
    return None if before is None else (before, True)


def range_before(network: Network, layer: Layer, found: Mapping[str, TensorQuantization]) -> Range | None:
    """What a layer's result can be in front of its activation, where the codes of what it reads are known."""
    if not layer.inputs or any(name not in found for name in layer.inputs):
        return None
    spans = [found[name].limits for name in layer.inputs]
    match layer.operation:
        case Activation() | ResizeBilinear():
            return spans[0]
        case AveragePool() as pool:
            count = pool.kernel_shape[0] * pool.kernel_shape[1] if pool.total else 1
            return spans[0][0] * count, spans[0][1] * count
        case Add():
            return spans[0][0] + spans[1][0], spans[0][1] + spans[1][1]
        case Subtract():
            return spans[0][0] - spans[1][1], spans[0][1] - spans[1][0]
        case Multiply():
            ends = [a * b for a, b in product(spans[0], spans[1])]
            return min(ends), max(ends)
        case Concat():
            return min(s[0] for s in spans), max(s[1] for s in spans)
        case MultiplyAccumulate() as operation:
            return _sums(network, layer, operation, spans)
        case _:
            return None


def _sums(network: Network, layer: Layer, operation: MultiplyAccumulate, spans: Sequence[Range]) -> Range:
    """What sums of products can be at most."""
    if isinstance(operation, PerChannel):
        factors, offset = operation.scale_offset(layer.params)
        ends = np.stack([factors * spans[0][0] + offset, factors * spans[0][1] + offset])
    else:
        kernel = network.param(layer, "kernel").astype(np.float64)
        flat = kernel.reshape(-1, kernel.shape[-1])
        given = layer.params.get("bias")
        offset = np.zeros(flat.shape[1]) if given is None else given.astype(np.float64)
        above, below = np.maximum(flat, 0).sum(axis=0), np.minimum(flat, 0).sum(axis=0)
        low, high = min(spans[0][0], 0.0), max(spans[0][1], 0.0)
        ends = np.stack([above * low + below * high + offset, above * high + below * low + offset])
    rest = spans[1:]
    return (
        float(ends.min()) + sum(min(s[0], 0.0) for s in rest),
        float(ends.max()) + sum(max(s[1], 0.0) for s in rest),
    )


def _through(layer: Layer, span: Range) -> Range:
    """What an activation makes of a range."""
    operation = layer.operation
    assert isinstance(operation, Activated)
    points = np.union1d(np.linspace(span[0], span[1], _POINTS), np.clip([0.0, -1.0, 1.0], *span)).astype(np.float32)
    slopes = layer.params.get("slope")
    if slopes is not None:
        ends = [point * float(s) for point in (span[0], 0.0) for s in (slopes.min(), slopes.max())]
        return min(0.0, *ends), max(span[1], *ends)
    values = operation.evaluate(TorchFloatOps(), tensor_of(points), {}).numpy().astype(np.float64)
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else span


__all__ = ["range_before", "tensors_without_data"]
