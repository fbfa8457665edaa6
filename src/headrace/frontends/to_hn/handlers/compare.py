# SPDX-License-Identifier: Apache-2.0
"""Questions to a computed tensor whose answer is known: its numbers are finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.frontends.fold import broadcast
from headrace.frontends.graph import Unsupported, constant
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array

_COMPARISONS = "comparisons of computed tensors are not supported"


def _never(builder: Builder, shape: Sequence[int]) -> Array:
    builder.budget.take(shape, np.dtype(bool))
    return np.zeros(shape, bool)


@handles("IsNaN", "IsInf")
def is_not_a_number(builder: Builder, node: SourceNode) -> list[Result]:
    node.integer("detect_negative", 1)
    node.integer("detect_positive", 1)
    return [_never(builder, node.view(0).shape)]


@handles("Equal")
def equal(builder: Builder, node: SourceNode) -> list[Result]:
    """With infinity: never, as attention asks whether a whole row is masked."""
    known = [constant(v) for v in node.inputs]
    if len(known) != 2 or all(a is None for a in known):
        raise Unsupported(_COMPARISONS, "operands that are known")
    at = 0 if known[0] is not None else 1
    array = node.constant(at, "the operand")
    if array.dtype.kind != "f" or not array.size or not np.isinf(array).all():
        raise Unsupported(_COMPARISONS, "operands that are known")
    return [_never(builder, broadcast(node.view(1 - at).shape, array.shape))]
