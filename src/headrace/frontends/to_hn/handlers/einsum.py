# SPDX-License-Identifier: Apache-2.0
"""Einsum: transposes, sums and products of matrices, operand by operand."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from headrace.frontends.graph import MixesFrames, Unsupported
from headrace.frontends.layout import View, permute
from headrace.frontends.standard import LONGEST_EQUATION
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import combine, per_channel
from headrace.frontends.to_hn.compositions.product import product, times_matrices
from headrace.frontends.to_hn.compositions.reduce import reduce_over, total
from headrace.frontends.to_hn.compositions.repeat import enlarged
from headrace.frontends.to_hn.compositions.rows import rows_times
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array
from headrace.layers import Multiply

#: A tensor, or a constant, and the label of each of its dimensions.
Labelled = tuple["View | Array", str]
_MAX_OPERANDS = 8


def _equation(text: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Labels of each operand and of the result, an ellipsis written out as labels of its own."""
    if len(text) > LONGEST_EQUATION:
        raise Unsupported(f"an equation of {len(text)} characters", f"at most {LONGEST_EQUATION}")
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise Unsupported(f"the equation {text!r} for {len(ranks)} operands", "one term for each")
    used = set(text)
    spare = [c for c in string.ascii_letters if c not in used]
    width = max([r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t], default=0)
    if width < 0 or width > len(spare):
        raise Unsupported(f"the equation {text!r} for operands of ranks {list(ranks)}", "labels that fit")
    dots = "".join(spare[:width])
    out: list[str] = []
    for term, rank in zip(terms, ranks, strict=True):
        labels = term.replace("...", dots[width - (rank - len(term.replace("...", ""))) :] if "..." in term else "")
        if len(labels) != rank or not (labels.isalpha() or not labels):
            raise Unsupported(f"the term {term!r} for an operand of rank {rank}", "one letter for each dimension")
        if len(set(labels)) < len(labels):
            raise Unsupported(f"the term {term!r} takes a diagonal", "a letter only once in a term")
        out.append(labels)
    if not arrow:
        once = sorted(c for c in set("".join(terms)) - {"."} if "".join(terms).count(c) == 1)
        return out, dots + "".join(once)
    result = right.replace("...", dots)
    if len(set(result)) < len(result) or not set(result) <= set("".join(out)):
        raise Unsupported(f"the equation {text!r}", "letters of the operands, each once, in the result")
    return out, result


def _summed(builder: Builder, operand: Labelled, keep: set[str]) -> Labelled:
    """The operand without the dimensions that nothing else has."""
    value, labels = operand
    gone = [i for i, label in enumerate(labels) if label not in keep]
    rest = "".join(label for label in labels if label in keep)
    if not gone:
        return operand
    if not isinstance(value, View):
        return value.sum(axis=tuple(gone)), rest
    return reduce_over(builder, value, gone, False, total), rest


def _ordered(value: View | Array, labels: str, wanted: str) -> View | Array:
    """Dimensions in the order of ``wanted``, of size 1 where the operand has none."""
    order = [labels.index(c) for c in wanted if c in labels]
    if isinstance(value, View):
        dims = iter(permute(value, order).dims)
        return View(value.layer, value.extent, tuple(next(dims) if c in labels else () for c in wanted))
    shape = [value.shape[labels.index(c)] if c in labels else 1 for c in wanted]
    return value.transpose(order).reshape(shape)


def _sizes(*operands: Labelled) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for value, labels in operands:
        for label, size in zip(labels, value.shape, strict=True):
            if sizes.setdefault(label, size) != size and 1 not in (size, sizes[label]):
                raise Unsupported(f"dimension {label!r} is {sizes[label]} and {size}", "one size for each letter")
            sizes[label] = max(sizes[label], size)
    return sizes


def _joined(value: View, groups: Sequence[str], labels: str) -> View:
    """Dimensions of each group as one."""
    dims = tuple(tuple(a for c in group for a in value.dims[labels.index(c)]) for group in groups)
    return View(value.layer, value.extent, dims)


def _times(builder: Builder, first: Labelled, second: Labelled, keep: set[str]) -> Labelled:
    """The product of two operands, summed over what is not kept."""
    if not isinstance(first[0], View):
        first, second = second, first
    (left, a), (right, b) = first, second
    if not isinstance(left, View):
        raise Unsupported("all of its operands are constants")
    sizes = _sizes(first, second)
    inner = "".join(c for c in a if c in b and c not in keep)
    both = "".join(c for c in a if c in b and c in keep)
    rows, columns = ("".join(c for c in own if c not in other) for own, other in ((a, b), (b, a)))
    if not inner:
        wanted = both + rows + columns
        one, two = _ordered(left, a, wanted), _ordered(right, b, wanted)
        assert isinstance(one, View)
        if isinstance(two, View):
            return combine(builder, Multiply(), one, two), wanted
        return per_channel(builder, enlarged(builder, one, two), two), wanted
    made = _matrices(builder, (left, a), (right, b), (both, rows, columns, inner))
    shape = [sizes[c] for c in both + rows + columns]
    return builder.regroup(made, _with_batch(builder, made, shape, both + rows)), both + rows + columns


def _with_batch(builder: Builder, made: View, shape: list[int], labels: str) -> list[int]:
    """The shape with the frames of the file in the dimension that has the batch, the first."""
    if labels and builder.frames > 1:
        shape = [shape[0] * builder.frames, *shape[1:]]
    return shape


def _matrices(builder: Builder, first: tuple[View, str], second: Labelled, parts: tuple[str, str, str, str]) -> View:
    (left, a), (right, b) = first, second
    both, rows, columns, inner = parts
    groups = [*both, rows, inner]
    matrix = _joined(left, groups, a)
    if left.batch_dim >= 0 and a[left.batch_dim] in inner and not builder.one_frame:
        raise MixesFrames("a sum over the batch mixes its frames", "another dimension")
    if isinstance(right, View):
        return product(builder, matrix, _joined(right, [*both, inner, columns], b))
    weight = _ordered(right, b, both + inner + columns)
    assert not isinstance(weight, View)
    front = weight.shape[: len(both)]
    depth = int(np.prod(weight.shape[len(both) : len(both) + len(inner)], dtype=np.int64))
    weight = weight.reshape(*front, depth, -1)
    if all(size == 1 for size in front):
        return rows_times(builder, matrix, weight.reshape(weight.shape[-2:]))
    return times_matrices(builder, matrix, weight)


@handles("Einsum")
def einsum(builder: Builder, node: SourceNode) -> list[Result]:
    count = len(node.inputs)
    if not 1 <= count <= _MAX_OPERANDS:
        raise Unsupported(f"{count} operands", f"1 to {_MAX_OPERANDS}")
    first = next((i for i in range(count) if node.known(i) is None), None)
    if first is None:
        raise Unsupported("all of its operands are constants")
    values = [
        node.view(i) if node.known(i) is None else divided(builder, node.view(first), node.weights(i, "an operand"))
        for i in range(count)
    ]
    terms, wanted = _equation(node.text("equation", ""), [len(v.shape) for v in values])
    operands: list[Labelled] = list(zip(values, terms, strict=True))
    for i in range(count):
        elsewhere = set(wanted).union(*(set(t) for k, t in enumerate(terms) if k != i))
        operands[i] = _summed(builder, operands[i], elsewhere)
    operands.sort(key=lambda o: not isinstance(o[0], View))
    result = operands[0]
    for i, operand in enumerate(operands[1:], start=2):
        keep = set(wanted).union(*(set(labels) for _, labels in operands[i:]))
        result = _summed(builder, _times(builder, result, operand, keep), keep)
    made = _ordered(result[0], result[1], wanted)
    assert isinstance(made, View)
    return [made]
