# SPDX-License-Identifier: Apache-2.0
"""Operators of a graph into the source graph: what a converter is, and what it sees of its operator.

A graph states the shapes of its inputs and hardly any other, and converters have to know ranks and sizes. So the shape
of every tensor is inferred as it is made, with a batch that the file leaves open taken for 1: the network takes its
frames one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.shape_inference import InferenceError, infer_node_outputs

from headrace.frontends.fixed_values import FixedInputs
from headrace.frontends.formats import operation as common
from headrace.frontends.formats.tensorflow.records import Attributes, Node
from headrace.frontends.formats.tensorflow.states import Variable
from headrace.frontends.graph import OPSET, Unsupported, constant, marks, name_of, set_constant
from headrace.frontends.node_builder import Attribute, NodeBuilder
from headrace.frontends.standard import has_negative_size
from headrace.hn import Array
from headrace.hn.registering import entering

ONNX_TYPES: dict[str, int] = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
    "float16": 1, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 1, "qint8": 3, "quint8": 2, "qint32": 6,
}  # fmt: skip
_NUMPY_TO_ONNX = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip
#: Constants that shape inference looks into have at most so many elements.
_SMALL = 64
_OPSET = [onnx.helper.make_opsetid("", OPSET)]
Shape = list[int | None]


class NeedsShape(Unsupported):
    """A converter has to know a shape that the file leaves open."""


class ShapedRefusal(Unsupported):
    """What an operator of the host does, and what reads its tensors can be translated, for their shapes are known.

    Attributes:
        operator: its name, see :mod:`headrace.host.operators`.
        attributes: of that operator.
        shapes, types: of what it makes.
    """

    def __init__(
        self, reason: str, need: str, operator: str, attributes: Mapping[str, Any], made: Sequence[tuple[Shape, str]]
    ) -> None:
        super().__init__(reason, need)
        self.operator, self.attributes = operator, dict(attributes)
        self.shapes = [shape for shape, _ in made]
        self.types = [kind for _, kind in made]


def _perm(rank: int, first: bool) -> tuple[int, ...]:
    """The order that brings channels of a tensor of this rank from last to first, or back."""
    return (0, rank - 1, *range(1, rank - 1)) if first else (0, *range(2, rank), 1)


class GraphBuilder(NodeBuilder):
    """The source graph under construction.

    Attributes:
        shapes: of tensors, a batch that is open taken for 1; None for a size that is not known. A tensor of unknown
            rank has none.
        producer: version of the graph's format.
        given: shapes that the user states for tensors of the file, by name.
        fixed: values that the user gives to inputs.
        inputs: what feeds the graph, so far.
        notes: what was taken out of a training graph → names.
    """

    def __init__(
        self, size: int, producer: int, given: Mapping[str, Sequence[int]], read: Callable[[Variable], Array],
        fixed: FixedInputs,
    ) -> None:  # fmt: skip
        super().__init__(size)
        self.shapes: dict[ir.Value, Shape] = {}
        self.producer = producer
        self.given = dict(given)
        self.fixed = fixed
        self.inputs: list[ir.Value] = []
        self.notes: dict[str, list[str]] = {}
        self._read = read
        self._variables: dict[Variable, ir.Value] = {}

    # --- shapes --------------------------------------------------------------------------------------------------

    def shape_of(self, value: ir.Value) -> Shape | None:
        """Its sizes as far as they are known; None where not even the rank is."""
        array = constant(value)
        return list(array.shape) if array is not None else self.shapes.get(value)

    def known_shape(self, value: ir.Value) -> list[int] | None:
        """Its sizes, or None where one of them is not known."""
        shape = self.shape_of(value)
        return None if shape is None or None in shape else [int(s or 0) for s in shape]

    def _type_of(self, value: ir.Value) -> onnx.TypeProto | None:
        array = constant(value)
        if array is not None:
            return onnx.helper.make_tensor_type_proto(_NUMPY_TO_ONNX.get(str(array.dtype), 1), array.shape)
        if value.dtype is None or value.dtype == ir.DataType.UNDEFINED:
            return None
        return onnx.helper.make_tensor_type_proto(int(value.dtype), self.shapes.get(value))

    def _infer(self, node: ir.Node) -> None:
        """Type and shape of what a node makes, by the operator's own rule."""
        if node.domain or not onnx.defs.has(node.op_type, OPSET):
            return
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        names: list[str] = []
        for index, value in enumerate(node.inputs):
            kind = None if value is None else self._type_of(value)
            if value is not None and (kind is None or has_negative_size(kind)):
                return
            names.append("" if value is None else f"i{index}")
            if value is not None and kind is not None:
                types[names[-1]] = kind
                array = constant(value)
                if array is not None and array.size <= _SMALL and array.dtype.kind in "biuf":
                    data[names[-1]] = onnx.numpy_helper.from_array(array)
        outputs = [f"o{i}" for i in range(len(node.outputs))]
        values = {name: a.value for name, a in node.attributes.items()}
        try:
            proto = onnx.helper.make_node(node.op_type, names, outputs, **values)
            schema = onnx.defs.get_schema(node.op_type, OPSET)
            found = infer_node_outputs(schema, proto, types, data, opset_imports=_OPSET)
        except (InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError, TypeError):
            return
        for name, value in zip(outputs, node.outputs, strict=True):
            if name in found:
                self._note(value, found[name].tensor_type)

    def _note(self, value: ir.Value, tensor: Any) -> None:
        if tensor.elem_type:
            value.dtype = ir.DataType(tensor.elem_type)
        if tensor.HasField("shape"):
            self.shapes[value] = [
                int(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else None for d in tensor.shape.dim
            ]

    # --- inputs and variables ------------------------------------------------------------------------------------

    def note(self, kind: str, name: str) -> None:
        """Remember what was taken out of a training graph, for a warning."""
        self.notes.setdefault(kind, []).append(name)

    def fixed_input(self, name: str, kind: str, stated: Sequence[int] | None) -> ir.Value | None:
        """The constant in the place of an input that has a value; operands as of :meth:`feed`."""
        dtype = np.dtype(kind) if kind in _NUMPY_TO_ONNX else None
        array = self.fixed.value(name, dtype, stated)
        if array is None:
            return None
        self.charge(array)
        value = ir.Value(name=name)
        set_constant(value, array.astype(np.float32) if kind == "float16" else array)
        return value

    def feed(self, name: str, kind: str, stated: Sequence[int] | None) -> ir.Value:
        """A new input of the graph, or the constant in its place.

        Args:
            name: of its tensor.
            kind: element type.
            stated: its sizes, -1 for an open one; None where the rank is not known either.
        """
        constant_input = self.fixed_input(name, kind, stated)
        if constant_input is not None:
            return constant_input
        value = ir.Value(name=name)
        marks(value)["internal"] = True
        value.dtype = ir.DataType(ONNX_TYPES.get(kind, 0))
        if kind not in ONNX_TYPES:
            marks(value)["kind"] = f"tensor of type {kind}"
        if stated is not None:
            value.shape = ir.Shape([s if s > 0 else None for s in stated])
        given = self.given.get(name)
        sizes = stated if given is None or (stated is not None and len(stated) != len(given)) else given
        if sizes is not None:
            self.shapes[value] = [s if s > 0 else (1 if i == 0 else None) for i, s in enumerate(sizes)]
        self.inputs.append(value)
        return value

    def variable(self, variable: Variable) -> ir.Value:
        """The value of a variable."""
        if variable not in self._variables:
            value = ir.Value(name=variable.names[0])
            try:
                array = self._read(variable)
                self.charge(array)
                set_constant(value, array)
            except Unsupported as problem:  # whoever wants it reports it
                marks(value)["kind"] = f"a variable whose value is not known ({problem})"
            self._variables[variable] = value
        return self._variables[variable]

    # --- nodes ---------------------------------------------------------------------------------------------------

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Attribute], label: str,
        glue: bool = False, outputs: int = 1, domain: str = "",
    ) -> ir.Node:  # fmt: skip
        node = super().add(op_type, inputs, attributes, label, glue, outputs, domain)
        if constant(node.outputs[0]) is None:
            self._infer(node)
        return node

    def image(self, value: ir.Value, rank: int, label: str) -> ir.Value:
        """An image whose channels are last, with its channels first."""
        if value not in self._channels_first:
            owner = self._labels.get(value, name_of(value) or label)
            made = self.add("Transpose", [value], {"perm": _perm(rank, True)}, owner, glue=True).outputs[0]
            if constant(value) is not None:
                return made
            self._channels_first[value] = made
        return self._channels_first[value]

    def channels_last(self, value: ir.Value, rank: int, label: str) -> ir.Value:
        """An image whose channels are first, with its channels last."""
        return self.add("Transpose", [value], {"perm": _perm(rank, False)}, label, glue=True).outputs[0]

    def declare(self, value: ir.Value, name: str) -> None:
        """Make ``value`` the tensor of the file that has this name; a shape that the user states for it holds."""
        value.name = name
        marks(value).pop("internal", None)
        if name in self.given and constant(value) is None:
            self.shapes[value] = list(self.given[name])
        shape = self.shapes.get(value)
        if shape is not None and value.shape is None:
            value.shape = ir.Shape(shape)


#: What an output of an operator is, where it is no tensor: state of a loop, a variable, a branch that does not run.
Result = Any
Converter = Callable[["Operation"], None]
CONVERTERS: dict[str, Converter] = {}


def converts(*operators: str) -> Callable[[Converter], Converter]:
    """Register a function as the translation of TensorFlow operators."""
    return entering(CONVERTERS, operators)


class Operation(common.Operation[GraphBuilder]):
    """One operator, as its converter sees it.

    Attributes:
        builder: what its nodes go into.
        node: its record.
        label: its name, unique among those that calls and rounds of loops make of it.
        outputs: how many of its outputs something reads.
        results: what it makes, once it is converted.
        dilation: where it stands between SpaceToBatchND and BatchToSpaceND: block and padding of height and width.
    """

    def __init__(self, builder: GraphBuilder, node: Node, label: str, inputs: Sequence[Result], outputs: int) -> None:
        self.builder, self.node, self.label = builder, node, label
        self.inputs, self.outputs = list(inputs), outputs
        self.results: list[Result] = []
        self.dilation: tuple[tuple[int, ...], tuple[tuple[int, int], ...]] | None = None

    # --- operands ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.node.op

    @property
    def attributes(self) -> Attributes:
        return self.node.attributes

    @property
    def count(self) -> int:
        return len(self.inputs)

    def has(self, index: int) -> bool:
        return index < self.count

    def value(self, index: int) -> ir.Value:
        """Operand ``index`` in the file's order."""
        if not self.has(index):
            raise Unsupported(f"input {index} is absent")
        found = self.inputs[index]
        if isinstance(found, Variable):
            found = self.builder.variable(found)
        if not isinstance(found, ir.Value):
            raise Unsupported(f"its input {index} is {getattr(found, 'what', 'no tensor')}", "a tensor")
        return found

    def sizes(self, index: int) -> Shape | None:
        """As far as they are known; an open batch is 1."""
        return self.builder.shape_of(self.value(index))

    def unknown(self, reason: str, need: str) -> NeedsShape:
        return NeedsShape(reason, need)

    def channels_last(self, default: str = "NHWC") -> bool:
        """Whether its images have their channels last."""
        word = self.attributes.text("data_format", default)
        if word not in ("NHWC", "NCHW", "NDHWC", "NCDHW", "NWC", "NCW"):
            raise Unsupported(f"data_format {word!r}", "NHWC, NCHW, NDHWC or NCDHW")
        return word.endswith("C")

    def image(self, index: int, rank: int = 4) -> ir.Value:
        """Operand ``index`` with its channels first, whichever way the operator has them."""
        value = self.value(index)
        shape = self.builder.shape_of(value)
        if shape is not None and len(shape) != rank:
            raise Unsupported(f"its input has shape {shape}", f"rank {rank}")
        return self.builder.image(value, rank, self.label) if self.channels_last() else value

    # --- results -------------------------------------------------------------------------------------------------

    def cast(self, value: ir.Value, kind: str) -> ir.Value:
        """``value`` with another type of elements."""
        if kind not in ONNX_TYPES:
            raise Unsupported(f"a tensor of type {kind}", "a numeric type")
        return self.emit("Cast", [value], {"to": ONNX_TYPES[kind]}, glue=True)

    def done(self, *results: Result) -> None:
        """The results, in the file's order of elements, one per output of the operator."""
        self.results = list(results)

    def done_image(self, value: ir.Value, rank: int = 4) -> None:
        """The one result, channels first, in the order that the operator has."""
        if not self.channels_last():
            self.done(value)
            return
        last = self.builder.channels_last(value, rank, self.label)
        self.done(last)


__all__ = [
    "CONVERTERS",
    "ONNX_TYPES",
    "GraphBuilder",
    "NeedsShape",
    "Operation",
    "Result",
    "Shape",
    "ShapedRefusal",
    "converts",
]
