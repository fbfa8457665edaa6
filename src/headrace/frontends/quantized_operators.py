# SPDX-License-Identifier: Apache-2.0
"""Operators on integers, as their definitions: the float operator between DequantizeLinear and QuantizeLinear.

Those of the ONNX standard and of onnxruntime (``com.microsoft``). Scales that are taken from the data of each frame
(DynamicQuantizeLinear) say nothing of the network: such nodes are read as the float operators that they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import (
    SourceGraph,
    Unsupported,
    constant,
    integer,
    integers,
    label,
    live_uses,
    marks,
    name_of,
    origins,
    real,
    set_constant,
)
from headrace.hn import Array
from headrace.hn.registering import entering

_DOMAINS = frozenset({"", "com.microsoft"})
_DYNAMIC = "dynamic codes"
#: Operators that move codes of which the scale is not known, on their way to one that knows.
_CARRY = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
Operand = ir.Value | None


class Expansion:
    """One node, and what takes its place."""

    def __init__(self, source: SourceGraph, node: ir.Node) -> None:
        self.source, self.node = source, node
        self._origins = origins(node)

    def operand(self, index: int) -> Operand:
        """Operand ``index``, None where it is absent."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def known(self, index: int, what: str) -> Array:
        """Operand ``index`` as a constant."""
        array = constant(self.operand(index))
        if array is None:
            raise Unsupported(f"{what} (input {index}, {name_of(self.operand(index))!r}) is computed", "a constant")
        return array

    def make(self, array: Array) -> ir.Value:
        """A new constant."""
        value = ir.Value(name=f"{label(self.node)}#")
        marks(value)["internal"] = True
        set_constant(value, array)
        return value

    def add(self, operator: str, inputs: Sequence[Operand], attributes: Sequence[ir.Attr] = ()) -> ir.Value:
        """A node of one output in front of the one that is expanded."""
        made = ir.Value(name=None)
        marks(made)["internal"] = True
        node = ir.Node("", operator, inputs, attributes, outputs=[made], name=label(self.node))
        marks(node).update({"label": label(self.node), "origins": self._origins})
        self.source.graph.insert_before(self.node, node)
        return made

    def real(self, first: int, axis: int | None = None) -> ir.Value:
        """What the codes of operand ``first`` stand for: their scale and zero point are the two operands behind it."""
        return self.dequantized(*(self.operand(first + i) for i in range(3)), axis=axis)

    def dequantized(self, codes: Operand, scale: Operand, zero: Operand, axis: int | None = None) -> ir.Value:
        """DequantizeLinear; ``axis`` is that of several scales."""
        if codes is None or scale is None:
            raise Unsupported("codes or their scale are absent")
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        return self.add("DequantizeLinear", [codes, scale, zero], attributes)

    def coded(self, value: ir.Value, first: int) -> ir.Value:
        """Codes of a value; scale and zero point are operands ``first`` and the one behind it."""
        return self.add("QuantizeLinear", [value, self.operand(first), self.operand(first + 1)])

    def bias(self, index: int, input_scale: int, weight_scale: int, factor: float = 1.0) -> list[ir.Value]:
        """The bias of 32 bits, in units of the product of two scales; empty where there is none."""
        if self.operand(index) is None:
            return []
        codes = self.known(index, "the bias")
        scales = [self.known(i, "a scale").astype(np.float64) for i in (input_scale, weight_scale)]
        unit = (scales[0].reshape(-1) * scales[1].reshape(-1) * factor) if scales[0].size == 1 else np.zeros(0)
        if unit.size not in (1, codes.size) or not np.all(np.isfinite(unit)):
            raise Unsupported(f"{codes.size} biases and scales of {[s.size for s in scales]}", "one unit, or one each")
        return [self.make((codes.astype(np.float64).reshape(-1) * unit).reshape(codes.shape))]

    def attributes(self, *without: str) -> list[ir.Attr]:
        """Those of the node that its float operator has too."""
        return [a for name, a in self.node.attributes.items() if name not in without]

    def pictures(self, operator: str, x: ir.Value, rest: Sequence[Operand] = (), last: bool = False) -> ir.Value:
        """A float operator on pictures; where their channels are last, with a Transpose on each side.

        Args:
            operator: of the standard, which has channels first.
            x: the pictures.
            rest: its other operands.
            last: the channels are last, whatever the attribute ``channels_last`` says.
        """
        attributes = self.attributes("channels_last")
        if not last and not integer(self.node, "channels_last", 0):
            return self.add(operator, [x, *rest], attributes)
        kernel, given = integers(self.node, "kernel_shape", None), self.operand(0)
        shape = None if given is None else given.shape
        # Shapes behind operators of onnxruntime are not inferred. Four is what it makes NHWC nodes of; another rank
        # does not fit the Transpose then, which is an error with a place.
        rank = len(kernel) + 2 if kernel is not None else 4 if shape is None else len(shape)
        first, back = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
        turned = self.add("Transpose", [x], [ir.AttrInt64s("perm", first)])
        return self.add("Transpose", [self.add(operator, [turned, *rest], attributes)], [ir.AttrInt64s("perm", back)])

    def done(self, *values: ir.Value) -> None:
        """Let these be the node's results."""
        for old, new in zip(self.node.outputs, values, strict=False):
            if new.const_value is None:
                new.name, new.shape, new.type = old.name, old.shape, old.type
                marks(new).pop("internal", None)
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        for index in range(len(self.node.inputs)):
            self.node.replace_input_with(index, None)
        self.source.expanded[label(self.node)] = self.node.op_type
        self.source.graph.remove(self.node, safe=False)


Rule = Callable[[Expansion], None]
_RULES: dict[str, Rule] = {}


def _expands(*operators: str) -> Callable[[Rule], Rule]:
    return entering(_RULES, operators)


def _rank(array: Array | None) -> int:
    return 2 if array is None else array.ndim


@_expands("QLinearConv")
def _convolution(e: Expansion) -> None:
    weights = e.real(3, axis=0)
    made = e.pictures("Conv", e.real(0), [weights, *e.bias(8, 1, 4)])
    e.done(e.coded(made, 6))


@_expands("QLinearMatMul")
def _product(e: Expansion) -> None:
    axis = _rank(constant(e.operand(3))) - 1
    made = e.add("MatMul", [e.real(0), e.real(3, axis=max(axis, 0))])
    e.done(e.coded(made, 6))


@_expands("QGemm")
def _dense(e: Expansion) -> None:
    axis = 0 if integer(e.node, "transB", 0) else 1
    bias = e.bias(6, 1, 4, real(e.node, "alpha", 1.0))
    made = e.add("Gemm", [e.real(0), e.real(3, axis=axis), *bias], e.attributes())
    e.done(made if e.operand(7) is None else e.coded(made, 7))


@_expands("QLinearAdd", "QLinearMul")
def _two(e: Expansion) -> None:
    e.done(e.coded(e.add(e.node.op_type.removeprefix("QLinear"), [e.real(0), e.real(3)]), 6))


@_expands("QLinearSigmoid", "QLinearLeakyRelu")
def _one(e: Expansion) -> None:
    e.done(e.coded(e.add(e.node.op_type.removeprefix("QLinear"), [e.real(0)], e.attributes()), 3))


@_expands("QLinearSoftmax")
def _softmax(e: Expansion) -> None:
    integer(e.node, "opset", 13)
    e.done(e.coded(e.add("Softmax", [e.real(0)], e.attributes("opset")), 3))


@_expands("QLinearGlobalAveragePool", "QLinearAveragePool")
def _pool(e: Expansion) -> None:
    e.done(e.coded(e.pictures(e.node.op_type.removeprefix("QLinear"), e.real(0)), 3))


@_expands("NhwcMaxPool")
def _largest(e: Expansion) -> None:
    codes = e.operand(0)
    if codes is None:
        raise Unsupported("its pictures are absent")
    e.done(e.pictures("MaxPool", codes, last=True))


@_expands("QLinearReduceMean")
def _mean(e: Expansion) -> None:
    axes = integers(e.node, "axes", None)
    inputs: list[Operand] = [e.real(0), *([] if axes is None else [e.make(np.array(axes, np.int64))])]
    e.done(e.coded(e.add("ReduceMean", inputs, e.attributes("axes")), 3))


@_expands("QLinearConcat")
def _join(e: Expansion) -> None:
    count = len(e.node.inputs) - 2
    if count < 3 or count % 3:
        raise Unsupported(f"{len(e.node.inputs)} operands", "a scale, a zero point, and three for each tensor")
    made = e.add("Concat", [e.real(i) for i in range(2, len(e.node.inputs), 3)], e.attributes())
    e.done(e.coded(made, 0))


@_expands("QLinearWhere")
def _choice(e: Expansion) -> None:
    e.done(e.coded(e.add("Where", [e.operand(0), e.real(1), e.real(4)]), 7))


# --- scales of each frame --------------------------------------------------------------------------------------------


def _is_dynamic(value: Operand) -> bool:
    """Whether a value stands for codes whose scale is that of each frame, which are read as what they stand for."""
    while value is not None and _DYNAMIC not in marks(value):
        producer = value.producer()
        if producer is None or producer.op_type not in _CARRY:
            return False
        value = producer.inputs[0]
    return value is not None


@_expands("DynamicQuantizeLinear")
def _dynamic(e: Expansion) -> None:
    readers = {user.op_type for user in live_uses(e.node.outputs[0])}
    others = readers - _CARRY - {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DequantizeLinear"}
    if others or any(value.is_graph_output() for value in e.node.outputs):
        told = ", ".join(sorted(others)) or "an output"
        raise Unsupported(f"codes whose scale differs from frame to frame are read by {told}", "a product of weights")
    made = e.add("Identity", [e.operand(0)])
    marks(made)[_DYNAMIC] = True
    values = [made, e.make(np.array(1.0, np.float32)), e.make(np.array(0, np.uint8))]
    e.done(*values[: len(e.node.outputs)])
    for user in live_uses(made):
        if user.op_type == "DequantizeLinear":
            user.outputs[0].replace_all_uses_with(made, replace_graph_outputs=True)
            e.source.graph.remove(user, safe=True)


def _difference(e: Expansion, index: int, zero: int) -> Operand:
    """Computed codes less their zero point, as numbers."""
    codes = e.operand(index)
    if _is_dynamic(codes) or e.operand(zero) is None:
        return codes
    array = e.known(zero, "the zero point")
    if array.size != 1:
        raise Unsupported(f"{array.size} zero points of a computed tensor", "one")
    return codes if not array.any() else e.add("Sub", [codes, e.make(array.astype(np.float32).reshape(()))])


def _weights(e: Expansion, index: int, zero: int, axis: int) -> ir.Value:
    """Weights less their zero point: of scale 1, for what follows multiplies."""
    e.known(index, "the weights")
    one = e.make(np.array(1.0, np.float32))
    offsets = e.operand(zero)
    several = offsets is not None and e.known(zero, "the zero point").size > 1
    if several:
        one = e.make(np.ones(e.known(zero, "the zero point").size, np.float32))
    return e.dequantized(e.operand(index), one, offsets, axis if several else None)


@_expands("ConvInteger")
def _integer_convolution(e: Expansion) -> None:
    e.done(e.add("Conv", [_difference(e, 0, 2), _weights(e, 1, 3, 0)], e.attributes()))


@_expands("MatMulInteger")
def _integer_product(e: Expansion) -> None:
    axis = _rank(constant(e.operand(1))) - 1
    e.done(e.add("MatMul", [_difference(e, 0, 2), _weights(e, 1, 3, max(axis, 0))]))


def _float_product(e: Expansion, x: Operand, scale: int, zero: int, bias: int) -> None:
    """A product with weights of codes, to floats."""
    axis = max(_rank(constant(e.operand(1))) - 1, 0)
    made = e.add("MatMul", [x, e.dequantized(e.operand(1), e.operand(scale), e.operand(zero), axis)])
    e.done(made if e.operand(bias) is None else e.add("Add", [made, e.operand(bias)]))


@_expands("DynamicQuantizeMatMul")
def _dynamic_product(e: Expansion) -> None:
    _float_product(e, e.operand(0), 2, 3, 4)


@_expands("MatMulIntegerToFloat")
def _scaled_product(e: Expansion) -> None:
    x = e.operand(0)
    _float_product(e, x if _is_dynamic(x) else e.dequantized(x, e.operand(2), e.operand(4)), 3, 5, 6)


@_expands("QuantizeLinear", "DequantizeLinear")
def _of_onnxruntime(e: Expansion) -> None:
    e.done(e.add(e.node.op_type, list(e.node.inputs), e.attributes()))


def _rule_of(node: ir.Node) -> Rule | None:
    """What expands a node; QuantizeLinear and DequantizeLinear of the standard are what the others become."""
    if node.domain not in _DOMAINS or (not node.domain and node.op_type in ("QuantizeLinear", "DequantizeLinear")):
        return None
    return _RULES.get(node.op_type)


def expand_quantized(source: SourceGraph) -> None:
    """Put definitions in the place of operators on integers; what is wrong with one is noted."""
    for node in list(source.graph):
        rule = _rule_of(node)
        if rule is None or node in source.broken:
            continue
        try:
            rule(Expansion(source, node))
        except Unsupported as problem:
            source.broken[node] = problem


__all__ = ["expand_quantized"]
