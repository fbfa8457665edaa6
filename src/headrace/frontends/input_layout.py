# SPDX-License-Identifier: Apache-2.0
"""Which dimension of a network input is height, width and channels: told by the first operators that depend on it."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.graph import SourceGraph, Unsupported, constant, integers, live_uses
from headrace.frontends.layout import CHANNELS, CHANNELS_LAST, HEIGHT, WIDTH, Arrangement, Groups

_CHANNELS_FIRST: dict[int, Arrangement] = {3: (None, CHANNELS, WIDTH), 4: (None, CHANNELS, HEIGHT, WIDTH)}
_ROWS: dict[int, Arrangement] = {3: (None, WIDTH, CHANNELS), 4: CHANNELS_LAST}
_FIRST = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
    "InstanceNormalization", "LRN", "DepthToSpace", "SpaceToDepth", "Resize", "Upsample",
})  # fmt: skip
_LAST = frozenset({"MatMul", "LayerNormalization"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_THROUGH = frozenset({
    "Identity", "Dropout", "Cast", "Add", "Sub", "Mul", "Div", "Sum", "Neg", "Relu", "Sigmoid", "Tanh", "HardSwish",
    "HardSigmoid", "LeakyRelu", "Elu", "Swish", "Clip", "Pad", "Slice", "Split", "Concat", "Abs", "Sqrt", "Exp", "Log",
    "Max", "Min", "Pow", "Mish", "Softplus", "Softsign", "Selu", "Celu", "Gelu", "ThresholdedRelu", "Reciprocal", "Erf",
    "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
_MAX_STEPS = 10_000


def input_arrangement(source: SourceGraph, value: ir.Value, shape: list[int]) -> Arrangement:
    """The arrangement of an input of rank 3 or 4.

    Follows the tensor forward, through transposes and operators that keep its dimensions, to the first operator that
    says which dimension is what; without one, a constant that varies along one dimension, or a last dimension of
    1, 3 or 4, tells the channels.
    """
    rank = len(shape)
    queue: list[tuple[ir.Value, tuple[int, ...]]] = [(value, tuple(range(rank)))]
    seen = {id(value)}
    hint: Arrangement | None = None
    for _ in range(_MAX_STEPS):
        if not queue:
            break
        current, dims = queue.pop(0)
        for node in live_uses(current):
            told = _told_by(node, current, rank)
            if told is not None:
                return _through(told, dims)
            guess = _hinted_by(node, current, rank)
            hint = hint or (_through(guess, dims) if guess is not None else None)
            following = _follow(node, dims)
            if following is None:
                continue
            for output in node.outputs:
                if id(output) not in seen:
                    seen.add(id(output))
                    queue.append((output, following))
    if hint is not None:
        return hint
    if rank == 4:
        last = shape[3] in (1, 3, 4) and min(shape[1:3]) > 4
        return CHANNELS_LAST if last else _CHANNELS_FIRST[4]
    return _ROWS[rank]


def input_groups(source: SourceGraph, value: ir.Value, shape: list[int]) -> Groups:
    """The dimensions that are height, width and channels of an input of rank 5 or more, each in the file's order.

    N,C,D,H,W becomes H × W × (C,D), and N,D,H,W,C (D,H) × W × C: nothing moves.
    """
    rank = len(shape)
    if _last_are_channels(source, value, rank):
        return list(range(1, rank - 2)), [rank - 2], [rank - 1]
    return [rank - 2], [rank - 1], list(range(1, rank - 2))


def _last_are_channels(source: SourceGraph, value: ir.Value, rank: int) -> bool:
    """Whether the first operator that tells sees the channels last; as in the rest of the source where none does."""
    queue, seen = [value], {id(value)}
    for _ in range(_MAX_STEPS):
        if not queue:
            break
        for node in live_uses(queue.pop(0)):
            if node.domain:
                continue
            if node.op_type in _FIRST:
                return False
            if node.op_type == "Transpose":
                order = _follow(node, tuple(range(rank)))
                return order is not None and order[1] == rank - 1
            if node.op_type in _THROUGH:
                queue += [v for v in node.outputs if id(v) not in seen]
                seen.update(id(v) for v in node.outputs)
    return source.channels_last


def _told_by(node: ir.Node, current: ir.Value, rank: int) -> Arrangement | None:
    if node.domain or not node.inputs or node.inputs[0] is not current:
        return None
    if node.op_type in _FIRST:
        return _CHANNELS_FIRST[rank]
    if node.op_type in _RECURRENT:
        return _ROWS[rank] if rank == 3 else None
    if node.op_type in _LAST and len(node.inputs) > 1 and constant(node.inputs[1]) is not None:
        return _ROWS[rank]
    return None


def _hinted_by(node: ir.Node, current: ir.Value, rank: int) -> Arrangement | None:
    """A constant that varies along one dimension only is taken for one value per channel."""
    if node.domain or node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    array = constant(node.inputs[1] if node.inputs[0] is current else node.inputs[0])
    if array is None or array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    varying = [i for i, size in enumerate(shape) if size > 1]
    return {1: _CHANNELS_FIRST[rank], rank - 1: _ROWS[rank]}.get(varying[0]) if len(varying) == 1 else None


def _follow(node: ir.Node, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    if node.domain:
        return None
    if node.op_type in _THROUGH:
        return dims
    if node.op_type == "Transpose":
        try:
            order = integers(node, "perm", range(len(dims))[::-1]) or []
        except Unsupported:
            return None
        return tuple(dims[i] for i in order) if sorted(order) == list(range(len(dims))) else None
    return None


def _through(arrangement: Arrangement, dims: tuple[int, ...]) -> Arrangement:
    """The arrangement of the input whose dimension ``dims[i]`` became dimension i."""
    if dims[0] != 0:
        return _ROWS[len(dims)]
    result: list[int | None] = [None] * len(dims)
    for index, source in enumerate(dims):
        result[source] = arrangement[index]
    return tuple(result)
