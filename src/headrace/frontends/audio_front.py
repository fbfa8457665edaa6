# SPDX-License-Identifier: Apache-2.0
"""The spectrum in front of an audio network: from a file's inputs to the logarithm of a power spectrum.

A power spectrum spans many powers of ten and its logarithm is read where it is small, so 8 bits in front of the
logarithm leave nothing of quiet sounds. It is found by structure. Walking back from a logarithm (or a strong root):
steps that keep numbers non-negative (sums, a mel matrix, limits, roots), then squares or magnitudes, then linear steps
of constants, until inputs of the file. What tells it from learned layers of this form is the transform: operators for
it, or constants whose outputs come in pairs of a cosine and a sine. ``c + i·s`` of such a pair has frequencies of one
sign only; of any two other filters it has as much of both.

Where the logarithm is then divided by its own deviation (mean and variance of each feature or frame), that is left to
the host too: the squares of it are few codes again. What only scales it by its largest or smallest value is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import SourceGraph, Unsupported, constant, integer, label
from headrace.hn import Array

WHY = (
    "it makes a power spectrum and its logarithm: the spectrum spans more powers of ten than 8 bits show, and the "
    "logarithm reads its smallest values"
)
STANDARDIZES = (
    "it divides the logarithm of a spectrum by its own deviation: squares of small differences are few codes of 8 bits"
)
#: What puts it on the device all the same, where all of the file is fit for that.
LEVER = "--device-only, at the cost of accuracy"


class _Kind(IntEnum):
    """What a value on the way back is."""

    POWER = 0  # not negative: a sum of squares or magnitudes, limited or weighted
    SIGNAL = 1  # in front of the squares


#: Operators of our own on the host that make a spectrum.
_OWN = frozenset({"audio_spectrogram"})
_TRANSFORMS = frozenset({"DFT", "STFT"})
#: Steps that move values: the data are input 0, what remains of them says where.
_MOVES = frozenset({
    "Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather",
    "Expand", "Tile", "Pad", "Split", "CastLike",
})  # fmt: skip
_JOINS = frozenset({"Concat", "Add", "Sum"})
#: Of values that are not negative these are not either, and where a signal is made ready they do no harm.
_LIMITS = frozenset({"Relu", "Clip", "Max", "Min"})
_REDUCTIONS = frozenset({
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "AveragePool", "GlobalAveragePool", "MaxPool",
})  # fmt: skip
_MAGNITUDES = frozenset({"Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare"})
_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
#: Steps with which a tensor is standardized by its own mean and variance.
_ELEMENTWISE = frozenset({
    "Add", "Sub", "Sum", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "Pow", "Clip", "Max", "Min", "Abs", "Concat",
})  # fmt: skip
_STANDARDIZING = frozenset({"InstanceNormalization", "LayerNormalization", "MeanVarianceNormalization"})
#: The largest exponent of a root that reads small values as a logarithm does.
_ROOT = 0.4
#: Nodes walked over for one file; a real front end has tens to hundreds.
_MOST_STEPS = 100_000
#: A pair of outputs is a cosine and a sine where so much of its energy is in frequencies of one sign.
_ONE_SIDED = 0.9
#: So many of a matrix's pairs have to be (the lowest bins of a window are not).
_PAIRS = 0.75
#: Fewer taps or pairs tell nothing: short filters are one-sided by chance.
_LEAST_TAPS, _LEAST_PAIRS = 16, 3
_SAMPLED = 64  # pairs looked at, about
_MOST_ELEMENTS = 1 << 26  # of a matrix
_MOST_CEPSTRA = 512  # columns of a cosine transform
#: An output whose norm is so small a part of the largest is none (the sine of frequency 0).
_NOTHING = 1e-3


class _NoFront(Exception):
    """What a logarithm is taken of is no spectrum of an input."""


@dataclass
class _Walk:
    """What was met on the way back from one logarithm.

    Attributes:
        nodes: all of them.
        matrices: of linear steps in front of the squares that make several outputs of each position, [taps, outputs].
        transformed: an operator is a Fourier transform.
    """

    nodes: dict[ir.Node, None] = field(default_factory=dict[ir.Node, None])
    matrices: list[Array] = field(default_factory=list[Array])
    transformed: bool = False

    @property
    def is_spectrum(self) -> bool:
        """Whether there is a transform, and every matrix in front of the squares is one or chooses samples."""
        others = [matrix for matrix in self.matrices if not _chooses(matrix)]
        return (self.transformed or bool(others)) and _all_paired(others)


def spectrum_nodes(source: SourceGraph) -> dict[str, str]:
    """Labels of the nodes from inputs of the file to logarithms of power spectra, and of their standardizing → why.

    Args:
        source: as it was read, constants folded, not cut.
    """
    inputs, own = dict.fromkeys(source.graph.inputs), _own_spectra(source)
    found: dict[ir.Node, str] = {}
    ends: list[ir.Node] = []
    left = [_MOST_STEPS]
    for node in source.graph:
        if not _compresses(node):
            continue
        try:
            walk = _walked(node, inputs, own, left)
        except (_NoFront, Unsupported):
            continue
        if walk.is_spectrum:
            found.update(dict.fromkeys(walk.nodes, WHY))
            ends.append(node)
    if ends:
        found = dict.fromkeys(_standardizing(source, ends), STANDARDIZES) | found
    return {label(node): found[node] for node in source.graph if node in found}


def _own_spectra(source: SourceGraph) -> frozenset[str]:
    return frozenset(name for made in source.host_operators if made.operator in _OWN for name in made.nodes)


def _compresses(node: ir.Node) -> bool:
    """Whether a node is a logarithm, or a root that reads small values nearly as one does."""
    if node.domain:
        return False
    power = _exponent(node)
    return node.op_type == "Log" or (power is not None and 0 < power <= _ROOT)


def _exponent(node: ir.Node) -> float | None:
    """The constant exponent of a power; None where it is none, or no power."""
    return _number(node.inputs[1]) if node.op_type == "Pow" and len(node.inputs) == 2 else None


def _walked(start: ir.Node, inputs: dict[ir.Value, None], own: frozenset[str], left: list[int]) -> _Walk:
    """All that leads to a logarithm.

    Args:
        start: the logarithm.
        inputs: of the file.
        own: labels of nodes that an operator of ours makes a spectrum in place of.
        left: steps that may still be made.

    Raises:
        _NoFront: something else than a spectrum's steps leads to it.
    """
    walk = _Walk({start: None})
    waiting: list[tuple[ir.Value | None, _Kind]] = [(value, _Kind.POWER) for value in start.inputs[:1]]
    seen = dict.fromkeys(waiting)
    while waiting:
        value, kind = waiting.pop()
        left[0] -= 1
        if value is None or constant(value) is not None:
            continue
        if value in inputs:
            if kind is _Kind.POWER:
                raise _NoFront  # a spectrum that the file is given
            continue
        node = value.producer()
        if left[0] < 0 or node is None or node.graph is not start.graph:
            raise _NoFront
        if label(node) in own:  # its place is the host in any case
            walk.transformed = True
            continue
        walk.nodes[node] = None
        new = [entry for entry in _step(node, kind, walk) if entry not in seen]
        seen.update(dict.fromkeys(new))
        waiting += new
    return walk


def _step(node: ir.Node, kind: _Kind, walk: _Walk) -> list[tuple[ir.Value | None, _Kind]]:
    """What a node reads, and what that has to be for the result to be of this kind.

    Raises:
        _NoFront: the node is no step of a spectrum.
    """
    name, first = node.op_type, node.inputs[0] if node.inputs else None
    if node.domain or first is None:
        raise _NoFront
    if name in _MAGNITUDES or _is_square(node):
        return [(first, _Kind.SIGNAL)]
    if name in _MOVES or name in _REDUCTIONS:
        return [(first, kind)]
    if name in _JOINS or name in _LIMITS:
        return [(value, kind) for value in node.inputs]
    if name == "Sqrt" or 0 < (_exponent(node) or 0) <= 1:
        return [(first, _Kind.POWER)]
    if name in ("Mul", "Div"):
        return _scaled(node, kind)
    if name in _PRODUCTS:
        return _weighted(node, kind, walk)
    if kind is _Kind.SIGNAL and name in ("Sub", "Neg"):
        return [(value, kind) for value in node.inputs]
    if kind is _Kind.SIGNAL and name in _TRANSFORMS:
        walk.transformed = True
        return [(first, kind)]
    raise _NoFront


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul" and len(node.inputs) == 2:
        return node.inputs[0] is node.inputs[1]
    return _exponent(node) in (2.0, 4.0)


def _scaled(node: ir.Node, kind: _Kind) -> list[tuple[ir.Value | None, _Kind]]:
    """A product with constants, or a quotient; the constants of powers are not negative."""
    known = [constant(value) for value in node.inputs]
    if node.op_type == "Mul" and all(array is None for array in known):
        raise _NoFront
    if kind is _Kind.POWER and any(array is not None and not _not_negative(array) for array in known):
        raise _NoFront
    return [(value, kind) for value in node.inputs]


def _weighted(node: ir.Node, kind: _Kind, walk: _Walk) -> list[tuple[ir.Value | None, _Kind]]:
    """A product with a constant matrix or kernel; of powers it is not negative, as a mel matrix."""
    known = [constant(value) for value in node.inputs[:2]]
    data = [value for value, array in zip(node.inputs[:2], known, strict=True) if array is None]
    if len(data) != 1 or (node.op_type == "Conv" and known[1] is None):
        raise _NoFront
    weights = next(array for array in known if array is not None)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    if weights.dtype.kind not in "fiu" or bias is None:
        raise _NoFront
    if kind is _Kind.POWER:
        if not (_not_negative(weights) and _not_negative(bias)):
            raise _NoFront
        return [(data[0], kind)]
    matrix = _as_matrix(node, weights, known[0] is not None)
    if matrix.shape[1] > 1:
        walk.matrices.append(matrix)
    return [(data[0], kind)]


def _as_matrix(node: ir.Node, weights: Array, is_first: bool) -> Array:
    """The weights as [taps, outputs].

    Raises:
        _NoFront: they are no matrix, or there are too many.
    """
    if weights.size > _MOST_ELEMENTS:
        raise _NoFront
    if node.op_type == "Conv":
        return weights.reshape(weights.shape[0], -1).T
    if weights.ndim != 2:
        raise _NoFront
    transposed = node.op_type == "Gemm" and integer(node, "transA" if is_first else "transB", 0) != 0
    return weights.T if transposed != is_first else weights


def _number(value: ir.Value | None) -> float | None:
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None


def _not_negative(array: Array) -> bool:
    return array.dtype.kind in "fiu" and bool((array >= 0).all())


# --- behind the logarithm ---------------------------------------------------------------------------------------------


def _standardizing(source: SourceGraph, ends: Sequence[ir.Node]) -> list[ir.Node]:
    """Nodes behind logarithms up to where these are divided by their own deviation; none where they are not.

    Args:
        source: in the order of computing.
        ends: the logarithms.
    """
    squared = {value: False for node in ends for value in node.outputs}  # whether squares were added up for it
    sizes: dict[ir.Value, None] = {}  # of tensors, and what follows from them: as good as constants
    last: list[ir.Node] = []
    for node in source.graph:
        data = [v for v in node.inputs if v is not None and constant(v) is None and v not in sizes]
        if not data or node.op_type in ("Shape", "Size"):
            sizes |= dict.fromkeys(node.outputs)
            continue
        if node.domain or any(value not in squared for value in data) or node in ends:
            continue
        if node.op_type in _STANDARDIZING or _divides(node, squared):
            last.append(node)
            made = False
        elif node.op_type in _MAGNITUDES or _is_square(node):
            made = node.op_type != "Abs"
        elif node.op_type in _MOVES | _REDUCTIONS | _ELEMENTWISE or _rotates(node):
            made = any(squared[value] for value in data)
        else:
            continue
        squared |= dict.fromkeys(node.outputs, made)
    kept: dict[ir.Node, None] = dict.fromkeys(last)
    for node in (waiting := list(last)):
        makers = [value.producer() for value in node.inputs if value is not None and value in squared]
        new = [maker for maker in makers if maker is not None and maker not in kept and maker not in ends]
        kept |= dict.fromkeys(new)
        waiting += new
    return list(kept)


def _divides(node: ir.Node, squared: dict[ir.Value, bool]) -> bool:
    """Whether a tensor is divided by, or multiplied with, what follows from sums of squares."""
    flags = [squared[value] for value in node.inputs if value is not None and value in squared]
    return (node.op_type == "Div" and flags == [False, True]) or (node.op_type == "Mul" and set(flags) == {False, True})


def _rotates(node: ir.Node) -> bool:
    """Whether a node is a product with a matrix of columns at right angles, as those of a cosine transform."""
    matrix = constant(node.inputs[1]) if node.op_type == "MatMul" and len(node.inputs) == 2 else None
    if matrix is None or matrix.ndim != 2 or matrix.dtype.kind != "f" or matrix.shape[1] > _MOST_CEPSTRA:
        return False
    products = np.abs(matrix.T.astype(np.float64) @ matrix)
    return bool((products - np.diag(products.diagonal())).max() <= _NOTHING * products.max())


# --- the constants of a transform -------------------------------------------------------------------------------------


def _chooses(matrix: Array) -> bool:
    """Whether each output is one of the taps, as where frames are cut by a convolution."""
    return bool(((matrix != 0).sum(axis=0) <= 1).all())


def _all_paired(matrices: Sequence[Array]) -> bool:
    """Whether each matrix holds cosines and sines, or has another beside it that holds the sines to its cosines."""
    alone = [any(_are_pairs(c, s) for c, s in _halves(matrix)) for matrix in matrices]
    for i, matrix in enumerate(matrices):
        if not alone[i] and not any(
            other.shape == matrix.shape and _are_pairs(matrix, other)
            for j, other in enumerate(matrices)
            if j != i and not alone[j]
        ):
            return False
    return True


def _halves(matrix: Array) -> Iterator[tuple[Array, Array]]:
    """The ways in which one matrix may hold both: one behind the other, or in turn."""
    count = matrix.shape[1]
    if count % 2 == 0:
        yield matrix[:, : count // 2], matrix[:, count // 2 :]
        yield matrix[:, 0::2], matrix[:, 1::2]


def _are_pairs(first: Array, second: Array) -> bool:
    """Whether outputs of the same number are nearly all a cosine and a sine under one window, [taps, outputs] each."""
    taps, count = first.shape
    if taps < _LEAST_TAPS or count < _LEAST_PAIRS:
        return False
    chosen = range(0, count, max(1, count // _SAMPLED))
    c, s = (np.asarray(part[:, chosen], np.float64) for part in (first, second))
    norms = np.stack([np.linalg.norm(c, axis=0), np.linalg.norm(s, axis=0)])
    real = norms.min(axis=0) > _NOTHING * norms.max()
    if real.sum() < _LEAST_PAIRS:
        return False
    energy = np.abs(np.fft.fft(c[:, real] + 1j * s[:, real], axis=0)) ** 2
    half = (taps + 1) // 2
    rising, falling = energy[1:half].sum(axis=0), energy[taps - half + 1 :].sum(axis=0)
    one_sided = np.maximum(rising, falling) >= _ONE_SIDED * energy.sum(axis=0)
    return bool(one_sided.mean() >= _PAIRS)


__all__ = ["LEVER", "STANDARDIZES", "WHY", "spectrum_nodes"]
