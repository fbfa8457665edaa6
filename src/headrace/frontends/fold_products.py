# SPDX-License-Identifier: Apache-2.0
"""Products of constants: matrices, Einsum, convolutions of any rank.

Sums are taken in float64, term by term in one order, and rounded once: the libraries that multiply matrices fastest add
up in an order that depends on the processor, and a network must have the same weights on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import Budget, Operands, broadcast, evaluates, operand, optional
from headrace.frontends.graph import Unsupported, integer, integers, real, text
from headrace.frontends.standard import LONGEST_EQUATION
from headrace.hn import Array

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MAX_RANK = 8
_TILE = 1 << 15


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _product(left: Array, right: Array, budget: Budget) -> Array:
    """``left @ right`` by numpy's rules; integers stay integers."""
    if not left.ndim or not right.ndim:
        raise Unsupported("a matrix product with a number")
    a = left[None, :] if left.ndim == 1 else left
    b = right[:, None] if right.ndim == 1 else right
    if a.shape[-1] != b.shape[-2]:
        raise Unsupported(f"the product of constants of shape {list(left.shape)} and {list(right.shape)}")
    shape = [*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]]
    budget.take(shape, np.dtype(np.float64))
    budget.spend(math.prod(shape) * max(a.shape[-1], 1))
    total = np.zeros(shape, np.result_type(a, b))
    rows = max(_TILE // max(math.prod(shape) // max(shape[-2], 1), 1), 1)  # a tile that stays in the cache
    for start in range(0, shape[-2], rows):
        tile, part = total[..., start : start + rows, :], a[..., start : start + rows, :]
        term = np.empty_like(tile)
        for k in range(a.shape[-1]):
            np.multiply(part[..., k, None], b[..., None, k, :], out=term)
            tile += term
    if left.ndim == 1:
        total = total[..., 0, :]
    return total[..., 0] if right.ndim == 1 else total


@evaluates("MatMul")
def matmul(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    left, right = operand(operands, 0), operand(operands, 1)
    return [_product(_wide(left), _wide(right), budget).astype(left.dtype)]


@evaluates("Gemm")
def gemm(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    left, right, bias = operand(operands, 0), operand(operands, 1), optional(operands, 2)
    if left.ndim != 2 or right.ndim != 2:
        raise Unsupported(f"Gemm of constants of shape {list(left.shape)} and {list(right.shape)}", "two matrices")
    a = left.T if integer(node, "transA", 0) else left
    b = right.T if integer(node, "transB", 0) else right
    total = real(node, "alpha", 1.0) * _product(_wide(a), _wide(b), budget)
    beta = real(node, "beta", 1.0)
    if bias is not None:
        if broadcast(bias.shape, total.shape) != list(total.shape):
            raise Unsupported(f"Gemm of constants with a bias of shape {list(bias.shape)}", str(list(total.shape)))
        total = total + beta * _wide(bias)
    return [total.astype(left.dtype)]


def einsum_labels(equation: str, shapes: Sequence[Sequence[int]]) -> tuple[list[str], str, dict[str, int]]:
    """Labels of every operand and of the result, and the size of each label; without an ellipsis.

    Raises:
        Unsupported: the equation is not valid, or does not fit the shapes.
    """
    if len(equation) > LONGEST_EQUATION:
        raise Unsupported(f"an equation of {len(equation)} characters", f"at most {LONGEST_EQUATION}")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in equation:
        raise Unsupported(f"Einsum {equation[:80]!r} with an ellipsis", "one letter per dimension")
    if len(terms) != len(shapes) or any(len(t) != len(s) for t, s in zip(terms, shapes, strict=True)):
        raise Unsupported(f"Einsum {equation[:80]!r} of shapes {[list(s) for s in shapes]}")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if letter not in _LETTERS or sizes.setdefault(letter, size) != size:
                raise Unsupported(f"Einsum {equation[:80]!r} of shapes {[list(s) for s in shapes]}")
    if not arrow:
        right = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if len(set(right)) != len(right) or set(right) - set(sizes):
        raise Unsupported(f"Einsum {equation[:80]!r} is not valid")
    return terms, right, sizes


@evaluates("Einsum")
def einsum(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    arrays = [operand(operands, i) for i in range(len(operands))]
    terms, result, sizes = einsum_labels(text(node, "equation", ""), [a.shape for a in arrays])
    if len(sizes) > 24:
        raise Unsupported("Einsum of more than 24 letters")
    budget.take([sizes[c] for c in result], np.dtype(np.float64))
    budget.spend(math.prod(sizes.values()) * len(arrays))
    equation = f"{','.join(terms)}->{result}"
    return [np.asarray(np.einsum(equation, *map(_wide, arrays), optimize=False)).astype(arrays[0].dtype)]


def _padding(node: ir.Node, size: Sequence[int], extents: Sequence[int], strides: Sequence[int]) -> list[int]:
    mode, rank = text(node, "auto_pad", "NOTSET") or "NOTSET", len(size)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(size, strides, extents, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    pads = integers(node, "pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
    if mode not in ("NOTSET", "VALID") or pads is None or len(pads) != 2 * rank or min(pads) < 0:
        raise Unsupported(f"auto_pad {mode!r}, pads {pads}", "sizes that are not negative")
    return pads


def _sizes(node: ir.Node, name: str, rank: int) -> list[int]:
    found = integers(node, name, [1] * rank) or []
    if len(found) != rank or min(found) < 1:
        raise Unsupported(f"{name} {found}", f"{rank} positive integers")
    return found


@evaluates("Conv")
def convolution(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """Of any rank: one pass over the output for every tap of every input channel."""
    x, weight, bias = operand(operands, 0), operand(operands, 1), optional(operands, 2)
    rank, groups = x.ndim - 2, integer(node, "group", 1)
    if not 1 <= rank <= _MAX_RANK or weight.ndim != x.ndim or not weight.size or x.dtype.kind != "f":
        raise Unsupported(f"Conv of constants of shape {list(x.shape)} and {list(weight.shape)}")
    outputs, depth, *window = weight.shape
    if groups < 1 or x.shape[1] != depth * groups or outputs % groups:
        raise Unsupported(f"Conv of {x.shape[1]} channels, {groups} groups and a kernel {list(weight.shape)}")
    if integers(node, "kernel_shape", window) != window or (bias is not None and bias.shape != (outputs,)):
        raise Unsupported(f"Conv with a kernel {list(weight.shape)} and another kernel_shape or bias")
    strides, dilations = _sizes(node, "strides", rank), _sizes(node, "dilations", rank)
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    pads = _padding(node, x.shape[2:], extents, strides)
    padded = [n + a + b for n, a, b in zip(x.shape[2:], pads[:rank], pads[rank:], strict=True)]
    out = [(n - e) // s + 1 for n, e, s in zip(padded, extents, strides, strict=True)]
    if min(out) < 1:
        raise Unsupported(f"Conv of a constant of shape {list(x.shape)} that its kernel does not fit")
    shape = [x.shape[0], groups, outputs // groups, *out]
    budget.take([*x.shape[:2], *padded], np.dtype(np.float64))
    budget.take(shape, np.dtype(np.float64))
    budget.spend(math.prod(shape) * depth * math.prod(window))
    wide = np.pad(_wide(x), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    wide = wide.reshape(x.shape[0], groups, depth, *padded)
    kernel = _wide(weight).reshape(groups, outputs // groups, depth, *window)
    total = np.zeros(shape)
    for tap in np.ndindex(*window):
        places = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, out, strides, strict=True)
        )
        for channel in range(depth):
            factor = kernel[(slice(None), slice(None), channel, *tap)].reshape(1, groups, -1, *[1] * rank)
            total += wide[(slice(None), slice(None), channel, *places)][:, :, None] * factor
    result = total.reshape(x.shape[0], outputs, *out)
    if bias is not None:
        result += _wide(bias).reshape(1, -1, *[1] * rank)
    return [result.astype(x.dtype)]
