# SPDX-License-Identifier: Apache-2.0
"""The end of a network: what stands behind its last learned layers, computed for tensors of our choice.

A head is not told by how it is written, which every exporter does its own way, but by what it computes: numbers are put
where the last learned layers have their results, and what comes out is compared with a family's formula.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from headrace.frontends.fold import Budget
from headrace.frontends.folding import evaluate, folds
from headrace.frontends.graph import (
    SourceGraph,
    Unsupported,
    constant,
    declared_shape,
    integer,
    is_internal,
    live_uses,
    name_of,
)
from headrace.frontends.heads.shapes import Walk, walked
from headrace.frontends.quantization import grid_of
from headrace.hn import Array

MAX_NODES = 4000
MAX_LEARNED = 64
MAX_ELEMENTS = 1 << 25  # of all learned results together: 80 MiB of RetinaNet's with 91 classes at 800 × 1333
#: Behind a learned layer and still part of it: one number, or one per channel, applied to each element.
_AFFINE = frozenset({"Mul", "Add", "Sub", "Div", "BatchNormalization"})
_ROUNDS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_BEHIND = frozenset({"Sigmoid", "Relu", "Identity"}) | _ROUNDS
#: What only arranges numbers, or is an activation of theirs.
_ARRANGES = frozenset(
    {"Transpose", "Reshape", "Concat", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Sigmoid", "Softmax", "Split",
     "Slice", "Cast", "Shape", "Gather", "QuantizeLinear", "DequantizeLinear"}
)  # fmt: skip
_MOST_CONSTANTS = 1 << 16  # elements of an affine node's constant


@dataclass(frozen=True)
class Learned:
    """The result of a learned layer.

    Attributes:
        value: the tensor, activations that follow at once included.
        shape: of one frame as the file has it: (C, H, W), or (positions, C).
        channels_last: it is (H, W, C).
    """

    value: ir.Value
    shape: tuple[int, ...]
    channels_last: bool = False

    @property
    def name(self) -> str:
        return name_of(self.value)

    @property
    def channels(self) -> int:
        return self.shape[0] if len(self.shape) == 3 and not self.channels_last else self.shape[-1]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns; of a list of positions 1 and their number."""
        if len(self.shape) != 3:
            return 1, self.shape[0]
        return (self.shape[0], self.shape[1]) if self.channels_last else (self.shape[1], self.shape[2])

    @property
    def activation(self) -> str:
        """The operator that ends the layer: Sigmoid, Relu, or what else it is."""
        node = self.value.producer()
        if self.channels_last and node is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        return "" if node is None else node.op_type

    @property
    def steps(self) -> tuple[int, int]:
        """From position to position, and from channel to channel, in the flat tensor."""
        rows, columns = self.grid
        return (1, rows * columns) if len(self.shape) == 3 and not self.channels_last else (self.shape[-1], 1)


class NoTail(Exception):
    """Why a network has no end that could be a head."""


@dataclass
class Tail:
    """What stands behind the last learned layers.

    Attributes:
        learned: their results, in the file's order.
        nodes: all behind them, in the file's order.
        image: height and width of the network's input.
        sizes: results of Shape nodes behind them, by the tensor's identity, whatever these ask.
    """

    source: SourceGraph
    learned: list[Learned]
    nodes: list[ir.Node]
    image: tuple[int, int]
    sizes: dict[int, Array] = field(default_factory=dict[int, Array], repr=False)
    _constants: dict[int, Array] = field(default_factory=dict[int, Array], repr=False)

    @functools.cached_property
    def probe(self) -> dict[str, Array]:
        """Numbers of the size that learned results have; the same in every run."""
        generator = np.random.Generator(np.random.PCG64(5))
        return {
            one.name: np.abs(made) if one.activation in ("Relu", "Sigmoid") else made
            for one in self.learned
            for made in [generator.standard_normal(one.shape, np.float32)]
        }

    @functools.cached_property
    def made(self) -> dict[str, Array]:
        """The tensors of the tail for :attr:`probe`."""
        return self.compute(self.probe)

    @functools.cached_property
    def still(self) -> dict[str, Array]:
        """The tensors of the tail where every learned result is 0."""
        return self.compute({one.name: np.zeros(one.shape, np.float32) for one in self.learned})

    @functools.cached_property
    def arranges(self) -> bool:
        """Whether all that stands behind the learned layers arranges their numbers, or is an activation of them."""
        return all(node.op_type in _ARRANGES for node in self.nodes)

    def compute(self, given: Mapping[str, Array], linear: bool = False) -> dict[str, Array]:
        """The tensors of the tail for some results of the learned layers; what cannot be computed is left out.

        Args:
            given: by name, one frame each, in the file's shape without the batch.
            linear: leave out activations: the place of a number is looked for.
        """
        budget = Budget(self.source.opset)
        known = dict(self.sizes) | {id(one.value): given[one.name][None] for one in self.learned}
        for node in self.nodes:
            if node.outputs and id(node.outputs[0]) in self.sizes:
                continue
            operands = [self._operand(value, known) for value in node.inputs]
            if any(a is None and v is not None for a, v in zip(operands, node.inputs, strict=True)):
                continue
            # What a quantized file rounds its numbers to is no part of its formula.
            left_out = _ROUNDS | {"Sigmoid", "Softmax"} if linear else _ROUNDS
            if node.op_type in left_out and not node.domain and operands[0] is not None:
                known[id(node.outputs[0])] = operands[0]
                continue
            try:
                results = self.results(node, operands, budget)
            except Unsupported:
                continue
            known.update((id(v), a) for v, a in zip(node.outputs, results, strict=False))
        made = [v for node in self.nodes for v in node.outputs if id(v) in known]
        ends = [one.value for one in self.learned if one.value.is_graph_output()]
        return {name_of(v): known[id(v)] for v in [*made, *ends] if name_of(v)}

    def results(self, node: ir.Node, operands: list[Array | None], budget: Budget) -> list[Array]:
        """The results of one node.

        Raises:
            Unsupported: it is not computed here.
        """
        return _computed(node, operands, budget)

    def _operand(self, value: ir.Value | None, known: Mapping[int, Array]) -> Array | None:
        if value is None:
            return None
        if id(value) in known:
            return known[id(value)]
        if id(value) not in self._constants:
            array = constant(value)
            if array is None:
                return None
            self._constants[id(value)] = array
        return self._constants[id(value)]


def _computed(node: ir.Node, operands: list[Array | None], budget: Budget) -> list[Array]:
    """The results of a node; a weighted sum over few channels is computed here, for the reference takes long."""
    if node.op_type == "Conv":
        x, w = operands[0], operands[1]
        if x is None or w is None or len(operands) > 2 or x.ndim != 4 or not is_expectation(node):
            raise Unsupported("this convolution is not computed here")
        bins = np.arange(w.size, dtype=x.dtype).reshape(w.shape[0], -1)  # which a quantized file has rounded
        return [np.einsum("nchw,oc->nohw", x, bins)]
    if node.op_type == "Softmax" and operands[0] is not None:
        return [_softmax(node, operands[0])]
    if not folds(node):
        raise Unsupported("this operator is not computed")
    return evaluate(node, operands, budget)


def _softmax(node: ir.Node, x: Array) -> Array:
    """Along an axis, or, as older operator sets have it, along all from there on."""
    axis = integer(node, "axis", -1)
    if not -x.ndim <= axis < x.ndim:
        raise Unsupported("the axis is outside of the tensor")
    moved = np.moveaxis(x, axis, -1)
    if integer(node, "flatten", 0):
        moved = x.reshape(math.prod(x.shape[: axis % x.ndim]), -1)
    weights = np.exp(moved - moved.max(axis=-1, keepdims=True))
    result = np.asarray(weights / weights.sum(axis=-1, keepdims=True))
    return result.reshape(x.shape) if integer(node, "flatten", 0) else np.moveaxis(result, -1, axis)


def is_expectation(node: ir.Node) -> bool:
    """Whether a layer's weights are 0, 1, 2, …: it is no learned one, but takes the mean of a distribution."""
    for value in node.inputs[:2]:
        array, step = constant(value), grid_of(value)
        if array is not None and array.size <= 256 and array.size == max(array.shape, default=0):
            flat = array.reshape(-1)
            near = 1e-6 if step is None else 0.51 * float(np.max(step))
            return array.size > 1 and bool(np.allclose(flat, np.arange(flat.size), atol=near))
    return False


def _is_learned(node: ir.Node) -> bool:
    if node.domain or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    weights = [constant(v) for v in node.inputs[: 2 if node.op_type != "MatMul" else None]]
    known = [w for w in weights if w is not None and w.ndim >= 2]
    return bool(known) and not is_expectation(node)


def _behind(value: ir.Value) -> tuple[ir.Value, bool]:
    """The tensor after what is applied to each element of a learned result at once, and whether its channels are last.

    Files whose channels are last have no tensor in front of the transposition that puts them there.
    """
    last = False
    for _ in range(8):
        uses = live_uses(value)
        if value.is_graph_output():
            break
        if (product := _silu(value, uses)) is not None:
            value = product
            continue
        if len(uses) != 1:
            break
        node = uses[0]
        moves = not last and _puts_channels_last(node)
        if node.domain or not (
            moves or node.op_type in _BEHIND or (node.op_type in _AFFINE and _is_affine(node, value))
        ):
            break
        last = last or moves
        value = node.outputs[0]
    return value, last


def _puts_channels_last(node: ir.Node) -> bool:
    """Whether a node takes a nameless picture and gives the file's tensor."""
    before, given = (node.inputs[0] if node.inputs else None), node.attributes.get("perm")
    if node.op_type != "Transpose" or before is None or given is None:
        return False
    return is_internal(before) and tuple(given.as_ints()) == (0, 2, 3, 1)


def _silu(value: ir.Value, uses: Sequence[ir.Node]) -> ir.Value | None:
    """Its product with its sigmoid, of a tensor that goes nowhere else."""
    gates = [n for n in uses if n.op_type == "Sigmoid" and not n.domain]
    products = [n for n in uses if n.op_type == "Mul" and not n.domain]
    if len(uses) != 2 or len(gates) != 1 or len(products) != 1 or gates[0].outputs[0].is_graph_output():
        return None
    both = {id(v) for v in products[0].inputs} == {id(value), id(gates[0].outputs[0])}
    return products[0].outputs[0] if both and len(live_uses(gates[0].outputs[0])) == 1 else None


def _is_affine(node: ir.Node, value: ir.Value) -> bool:
    others = [constant(v) for v in node.inputs if v is not None and v is not value]
    if node.op_type in ("Sub", "Div") and node.inputs[0] is not value:
        return False
    if any(a is None or a.size > _MOST_CONSTANTS for a in others):
        return False
    if node.op_type == "BatchNormalization":
        return True
    known = [a for a in others if a is not None]
    return all(a.size == 1 or sum(d > 1 for d in a.shape) == 1 for a in known)


def find_tail(source: SourceGraph) -> Tail:
    """The end of a network.

    Args:
        source: its constants folded; not changed.

    Raises:
        NoTail: it has none that could be a head.
    """
    image = _image(source)
    seen: set[int] = set()
    inside: set[int] = set()
    learned: dict[int, ir.Value] = {}
    waiting = list(source.graph.outputs)
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if id(value) in seen or node is None or node.graph is None:
            continue
        seen.add(id(value))
        if _is_learned(node):
            learned[id(node)] = node.outputs[0]
            continue
        inside.add(id(node))
        if len(inside) > MAX_NODES or len(learned) > MAX_LEARNED:
            raise NoTail("too much stands behind the last learned layers")
        if node.op_type != "Shape" or node.domain:  # sizes are known, and not learned
            waiting += [v for v in node.inputs if v is not None]
    if len(learned) < 2:
        raise NoTail("fewer than two learned layers end in the outputs")
    ends = [_behind(learned[id(n)]) for n in source.graph if id(n) in learned]
    if any(is_internal(v) for v, _ in ends):
        raise NoTail("the file has no tensor where its last learned layers end")
    before = _between(learned.values(), [v for v, _ in ends])
    nodes = [n for n in source.graph if id(n) in inside and id(n) not in before]
    asked = [n.outputs[0] for n in nodes if n.op_type == "Shape" and not n.domain]
    shapes, walk = _shapes(source, [v for v, _ in ends], bool(asked))
    sizes = {id(v): a for v in asked if walk is not None and (a := walk.number(v)) is not None}
    made = [Learned(v, s, last and len(s) == 3) for (v, last), s in zip(ends, shapes, strict=True)]
    return Tail(source, made, nodes, image, sizes)


def _between(starts: Iterable[ir.Value], ends: list[ir.Value]) -> set[int]:
    """Nodes between learned results and the tensors that stand for them."""
    first = {id(v) for v in starts}
    found: set[int] = set()
    for end in ends:
        waiting = [end]
        while waiting:
            value = waiting.pop()
            node = None if id(value) in first else value.producer()
            if node is not None and id(node) not in found:
                found.add(id(node))
                waiting += [v for v in node.inputs if v is not None and constant(v) is None]
    return found


def _image(source: SourceGraph) -> tuple[int, int]:
    """Height and width of the only picture that the network reads."""
    shapes = [source.input_shapes.get(name_of(v)) or declared_shape(v) or [] for v in source.graph.inputs]
    found: list[tuple[int, int]] = []
    for shape in shapes:
        sizes = [s if isinstance(s, int) else 0 for s in shape][-3:]
        if len(sizes) < 3 or min(sizes) < 1:
            continue
        last = source.channels_last or (sizes[2] in (1, 3, 4) and sizes[0] not in (1, 3, 4))
        found.append((sizes[0], sizes[1]) if last else (sizes[1], sizes[2]))
    if len(found) != 1:
        raise NoTail("the network does not read one picture of a size that is known")
    return found[0]


def _shapes(source: SourceGraph, values: list[ir.Value], walk: bool) -> tuple[list[tuple[int, ...]], Walk | None]:
    """Shapes of one frame; and what is known of every tensor, if that is asked for or was needed."""
    declared = [declared_shape(v) for v in values]
    found = None
    if walk or any(s is None or not all(isinstance(d, int) for d in s[1:]) for s in declared):
        found = walked(source)
        declared = [found.shape(v) or known for v, known in zip(values, declared, strict=True)]
    shapes: list[tuple[int, ...]] = []
    for shape in declared:
        sizes = tuple(d for d in (shape or [])[1:] if isinstance(d, int) and d > 0)
        if len(sizes) not in (2, 3) or len(sizes) != len(shape or []) - 1:
            raise NoTail("the last learned layers do not give pictures or lists whose sizes are known")
        if isinstance((shape or [])[0], int) and (shape or [])[0] != 1:
            raise NoTail("the file takes several pictures at once")
        shapes.append(sizes)
    if sum(int(np.prod(s)) for s in shapes) > MAX_ELEMENTS:
        raise NoTail("the results of the last learned layers are too large")
    return shapes, found
