# SPDX-License-Identifier: Apache-2.0
"""Dilated convolutions written out as SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND.

Space-to-batch with block d takes every d-th position of the padded image into a frame of its own; a convolution of
these frames and batch-to-space back is one convolution with dilation d of the padded image. Cropping the front of the
result by c positions is padding the front of the image by c less. A convolution of one dimension stands between two
reshapes, to an image of one row and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.frontends.formats.tflite.read import Model, Operator

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
#: One tensor, any shape: they may stand between the convolution and batch-to-space.
_POINTWISE = frozenset({
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC", "HARD_SWISH", "ELU", "LEAKY_RELU", "ABS", "NEG",
    "DEQUANTIZE",
})  # fmt: skip
#: One tensor and constants per channel.
_WITH_CONSTANT = frozenset({"ADD", "SUB", "MUL", "DIV", "PRELU"})


@dataclass(frozen=True)
class Dilation:
    """What an operator is in a dilated convolution: "space", "conv", "batch", or "row" and "line" between them.

    Attributes:
        role: which of the operators; "row" makes an image of one row of a line, "line" the reverse.
        block: dilation of height and width.
        padding: top, left, bottom, right of the padded image, less what is cropped again.
        crop: what remains to be cropped of the result, in the same order.
        inner: tensors between the two ends, whose stated shapes are those of the split frames.
    """

    role: str
    block: tuple[int, int]
    padding: tuple[int, int, int, int]
    crop: tuple[int, int, int, int]
    inner: tuple[int, ...]


def _integers(model: Model, index: int, shape: tuple[int, ...]) -> list[int] | None:
    """A small integer constant of a certain shape."""
    tensor = model.tensors[index] if index >= 0 else None
    if tensor is None or tensor.data is None or tensor.type not in ("int32", "int64") or tensor.shape != shape:
        return None
    return [int(v) for v in tensor.array().reshape(-1)]


def _block_and_edges(model: Model, operator: Operator) -> tuple[tuple[int, int], list[int]] | None:
    """Block, and paddings or crops as top, left, bottom, right."""
    if len(operator.inputs) != 3 or len(operator.outputs) != 1 or operator.inputs[0] < 0:
        return None
    plain = len(model.tensors[operator.inputs[0]].shape) == 4
    block = _integers(model, operator.inputs[1], (2,) if plain else (1,))
    edges = _integers(model, operator.inputs[2], (2, 2) if plain else (1, 2))
    if block is None or edges is None or min(block) < 1 or min(edges) < 0 or max(block) > 1 << 16:
        return None
    if not plain:  # a line is the columns of an image of one row
        block, edges = [1, *block], [0, 0, *edges]
    return (block[0], block[1]), [edges[0], edges[2], edges[1], edges[3]]


class _Chains:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.users: list[list[Operator]] = [[] for _ in model.tensors]
        for operator in model.operators:
            for index in dict.fromkeys(operator.inputs):
                if index >= 0:
                    self.users[index].append(operator)

    def only_user(self, index: int) -> Operator | None:
        return self.users[index][0] if len(self.users[index]) == 1 and index not in self.model.outputs else None

    def _same_size(self, operator: Operator, index: int) -> bool:
        """Whether an operator works on each element of tensor ``index`` by itself."""
        if len(operator.outputs) != 1 or index not in operator.inputs:
            return False
        if operator.name in _POINTWISE:
            return True
        if operator.name not in _WITH_CONSTANT:
            return False
        others = [i for i in operator.inputs if i != index]
        shapes = [self.model.tensors[i].shape for i in others if i >= 0 and self.model.tensors[i].data is not None]
        return len(shapes) == 1 and int(np.prod(shapes[0][:-1], dtype=np.int64)) == 1

    def _turn(self, operator: Operator) -> str:
        """Which turn an operator is: "row" makes [N, 1, L, C] of [N, L, C], "line" the reverse, "" is neither."""
        one = len(operator.outputs) == 1 and bool(operator.inputs) and operator.inputs[0] >= 0
        if not one or operator.name not in ("EXPAND_DIMS", "RESHAPE", "SQUEEZE"):
            return ""
        before, after = (self.model.tensors[i].shape[1:] for i in (operator.inputs[0], operator.outputs[0]))
        if len(before) == 2 and after == (1, *before):
            return "row"
        return "line" if len(after) == 2 and before == (1, *after) else ""

    def follow(self, space: Operator) -> tuple[dict[str, Operator], list[int]] | None:
        """The operators after a space-to-batch up to its batch-to-space, by role, and the tensors between."""
        convolution: Operator | None = None
        turns: dict[str, Operator] = {}
        inner = [space.outputs[0]]
        while True:
            user = self.only_user(inner[-1])
            if user is None or len(inner) > 16:
                return None
            if user.name == "BATCH_TO_SPACE_ND" and convolution is not None and user.inputs[0] == inner[-1]:
                whole = len(turns) == (0 if len(self.model.tensors[space.inputs[0]].shape) == 4 else 2)
                return ({"conv": convolution, "batch": user, **turns}, inner) if whole else None
            if (
                user.name in _CONVOLUTIONS
                and convolution is None
                and user.inputs[0] == inner[-1]
                and len(user.outputs) == 1
            ):
                convolution = user
            elif self._turn(user) == ("line" if convolution else "row") and user.inputs[0] == inner[-1]:
                turns[self._turn(user)] = user
            elif not self._same_size(user, inner[-1]):
                return None
            inner.append(user.outputs[0])


def _inner_padding(model: Model, convolution: Operator, block: Sequence[int]) -> list[int] | None:
    """What the convolution of the split frames pads, as padding of the whole image; None when it is not that plain."""
    options = convolution.options
    if (
        any(options[key] != 1 for key in ("stride_w", "stride_h", "dilation_w", "dilation_h"))
        or len(convolution.inputs) < 2
    ):
        return None
    weights = model.tensors[convolution.inputs[1]]
    if len(weights.shape) != 4:
        return None
    if options["padding"] == "VALID":
        return [0, 0, 0, 0]
    totals = [weights.shape[1] - 1, weights.shape[2] - 1]
    before = [t // 2 * b for t, b in zip(totals, block, strict=True)]
    after = [(t - t // 2) * b for t, b in zip(totals, block, strict=True)]
    return [*before, *after]


def find_dilations(model: Model) -> dict[int, Dilation]:
    """The operators that make up dilated convolutions, by operator number."""
    found: dict[int, Dilation] = {}
    chains = _Chains(model)
    for space in model.operators:
        start = _block_and_edges(model, space) if space.name == "SPACE_TO_BATCH_ND" else None
        chain = chains.follow(space) if start is not None else None
        if start is None or chain is None:
            continue
        roles, inner = chain
        end = _block_and_edges(model, roles["batch"])
        extra = _inner_padding(model, roles["conv"], start[0])
        if end is None or extra is None or end[0] != start[0]:
            continue
        total = [a + b for a, b in zip(start[1], extra, strict=True)]
        taken = [min(p, c) for p, c in zip(total, end[1], strict=True)]
        padding = [p - t for p, t in zip(total, taken, strict=True)]
        crop = [c - t for c, t in zip(end[1], taken, strict=True)]
        for role, operator in {"space": space, **roles}.items():
            found[operator.index] = Dilation(
                role, start[0], (padding[0], padding[1], padding[2], padding[3]),
                (crop[0], crop[1], crop[2], crop[3]), tuple(inner),
            )  # fmt: skip
    return found
