# SPDX-License-Identifier: Apache-2.0
"""Dilated convolutions written out as SpaceToBatchND, convolution, BatchToSpaceND: one convolution with dilation.

Space-to-batch with block d takes every d-th position of the padded image into a frame of its own; a convolution of
these frames and batch-to-space back is one convolution with dilation d of the padded image. What stands between the two
ends is remembered, and converted when the other end tells what is cropped: cropping the front of the result by c
positions is padding the front of the image by c less.
"""

from __future__ import annotations

from headrace.frontends.formats.tensorflow.build import Operation, Result
from headrace.frontends.formats.tensorflow.evaluate import Demand, Evaluator, Scope, structures
from headrace.frontends.formats.tensorflow.operators.convolution import (
    CONVOLUTIONS,
    POINTWISE,
    TURNS,
    cropped,
    crops,
)
from headrace.frontends.formats.tensorflow.records import Node
from headrace.frontends.formats.tensorflow.states import SplitFrames
from headrace.frontends.graph import Unsupported

_NEED = "SpaceToBatchND, one convolution with stride 1, BatchToSpaceND, with constant blocks"
Edges = tuple[tuple[int, int], ...]


@structures("BatchToSpaceND")
def join(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """The other end: what was remembered is converted, with the dilation that both ends mean."""
    inputs = yield from evaluator.operands(scope, node.inputs)
    split = inputs[0] if inputs else None
    if not isinstance(split, SplitFrames):
        raise Unsupported("frames joined by BatchToSpaceND are read only as part of a dilated convolution", _NEED)
    label = evaluator.label(scope, node)
    operation = Operation(evaluator.builder, node, label, inputs, 1)
    if tuple(operation.integers(1, "the block")) != split.block:
        raise Unsupported("SpaceToBatchND and BatchToSpaceND have different blocks", _NEED)
    crop = crops(operation, len(split.block))
    taken = [(min(p[0], c[0]), min(p[1], c[1])) for p, c in zip(split.paddings, crop, strict=True)]
    edges = tuple((p[0] - t[0], p[1] - t[1]) for p, t in zip(split.paddings, taken, strict=True))
    rest = [(c[0] - t[0], c[1] - t[1]) for c, t in zip(crop, taken, strict=True)]
    value = _converted(evaluator, split, edges)
    return evaluator.aliases(scope, node, [cropped(operation, value, rest)])


def _converted(evaluator: Evaluator, split: SplitFrames, edges: Edges) -> Result:
    """The steps between, one after the other.

    Raises:
        Unsupported: they are not those of a dilated convolution.
    """
    value: Result = split.value
    block, turned, convolved = split.block, 0, 0
    for node, label, others in split.steps:
        inputs = [value if v is None else v for v in others]
        turned += TURNS.get(node.op, 0)
        if node.op in CONVOLUTIONS and others[0] is None:
            convolved += 1
            full = (1, *block) if turned else block
            padded = ((0, 0), *edges) if turned else edges

            def dilate(operation: Operation, block: tuple[int, ...] = full, edges: Edges = padded) -> None:
                operation.dilation = (block, edges)

            value = evaluator.converted(node, label, inputs, 1, dilate)[0]
        elif node.op in POINTWISE or node.op in TURNS:
            value = evaluator.converted(node, label, inputs, 1)[0]
        else:
            raise Unsupported(f"{node.op} ({label!r}) stands between SpaceToBatchND and BatchToSpaceND", _NEED)
    if convolved != 1 or turned:
        raise Unsupported("frames split by SpaceToBatchND are read only as part of a dilated convolution", _NEED)
    return value


__all__ = ["join"]
