# SPDX-License-Identifier: Apache-2.0
"""The records of a TFLite file into the source graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import operation as common
from headrace.frontends.formats.tflite.dilation import find_dilations
from headrace.frontends.formats.tflite.flatbuffer import DamagedError
from headrace.frontends.formats.tflite.read import Model, Operator, Tensor
from headrace.frontends.formats.tflite.schema import NUMPY_TYPES
from headrace.frontends.formats.tflite.states import States
from headrace.frontends.formats.tflite.stored import BIASES, dequantized, int4_codes
from headrace.frontends.graph import Unsupported, constant, marks, set_constant
from headrace.frontends.node_builder import CHANNELS_LAST, Attribute, NodeBuilder
from headrace.frontends.quantization import CODE_TYPES, codes_of_type, grid_of, set_grid
from headrace.hn import Array
from headrace.hn.registering import entering

_DTYPES = {
    "float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT, "bfloat16": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE, "int8": ir.DataType.INT8, "uint8": ir.DataType.UINT8, "int16": ir.DataType.INT16,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64, "bool": ir.DataType.BOOL, "uint16": ir.DataType.UINT16, "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64, "string": ir.DataType.STRING, "complex64": ir.DataType.COMPLEX64,
    "complex128": ir.DataType.COMPLEX128,
}  # fmt: skip
#: Operators of ONNX that multiply by weights, which the file may have stored as codes.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Complex tensors are real ones with the two parts as their last dimension.
COMPLEX = "complex64"
_MAX_DEPTH = 32
_MAX_WRITTEN_OUT = 100_000
_FUSED = "NONE, RELU, RELU6 or RELU_N1_TO_1"
Converter = Callable[["Operation"], None]
CONVERTERS: dict[str, Converter] = {}


def converts(*operators: str) -> Callable[[Converter], Converter]:
    """Register a function as the translation of TFLite operators."""
    return entering(CONVERTERS, operators)


def _biases(model: Model) -> frozenset[int]:
    """Tensors that are added to sums of products."""
    found = ((o, BIASES[o.name]) for o in model.operators if o.name in BIASES)
    return frozenset(o.inputs[place] for o, place in found if place < len(o.inputs))


class GraphBuilder(NodeBuilder):
    """The source graph under construction.

    Attributes:
        model: the file's records.
        values: tensor number → its value in the file's order.
        dilations: operators that are part of a dilated convolution written out, by number.
        free_shapes: tensors whose stated shape does not hold, because such a convolution was put together.
        prefix: of the names of tensors of a graph that another one calls.
        depth: how many calls lead to the graph.
        broken: nodes that stand for operators which cannot be translated, with the reason.
        states: what the file keeps from one frame to the next.
        warnings: sentences for the report.
        run: translates the operators of :attr:`model`, set by what walks over the file.
    """

    run: Callable[[], None]

    def __init__(self, model: Model) -> None:
        super().__init__(model.bytes)
        self.prefix, self.depth, self._operators = "", 0, 0
        self.broken: dict[ir.Node, Unsupported] = {}
        self.states = States(model)
        self.warnings: list[str] = []
        self._open(model, {})

    def _open(self, model: Model, values: dict[int, ir.Value]) -> None:
        self.model, self.values = model, values
        self.dilations = find_dilations(model)
        self.free_shapes = {i for d in self.dilations.values() for i in d.inner}
        self._biases = _biases(model)

    def call(self, graph: int, arguments: Sequence[ir.Value], label: str) -> list[ir.Value]:
        """What another graph of the file makes of some values.

        Raises:
            Unsupported: there is no such graph, the values are not as many as it takes, or calls are nested too deep.
        """
        graphs = self.model.graphs
        if not 0 <= graph < len(graphs):
            raise Unsupported(f"it calls graph {graph}", f"a graph below {len(graphs)}")
        called = graphs[graph]
        if len(called.inputs) != len(arguments):
            raise Unsupported(f"it gives a graph {len(arguments)} tensors", f"{len(called.inputs)}")
        if self.depth >= _MAX_DEPTH:
            raise Unsupported(f"calls are nested {self.depth} deep", f"at most {_MAX_DEPTH}")
        self._operators += len(called.operators) + 1
        if self._operators > _MAX_WRITTEN_OUT:
            raise Unsupported(f"calls and loops write out more than {_MAX_WRITTEN_OUT} operators", "fewer of them")
        before = self.model, self.values, self.prefix
        self._open(called, dict(zip(called.inputs, arguments, strict=True)))
        self.prefix, self.depth = f"{label}/", self.depth + 1
        try:
            self.run()
            return [self.value(i) for i in called.outputs]
        finally:
            self._open(before[0], before[1])
            self.prefix, self.depth = before[2], self.depth - 1

    def state_input(self, name: str, tensor: Tensor) -> tuple[ir.Value, ir.Value]:
        """What something held at the end of the frame before: a new input of the network.

        Args:
            name: of it.
            tensor: whose type and shape it has.

        Returns:
            The input, and what it stands for, which differs where the tensor holds codes.
        """
        index = tensor.index
        kept = self.values.get(index)
        value = ir.Value(name=None)
        self.declare(index, value)
        value.name = name
        if kept is not None:
            self.values[index] = kept
        else:
            del self.values[index]
        return value, self.coded(index, value, name)

    @contextmanager
    def attempt(self) -> Generator[None]:
        broken = dict(self.broken)
        try:
            with super().attempt():
                yield
        except Unsupported:
            self.broken = broken
            raise

    # --- constants -----------------------------------------------------------------------------------------------

    def constant_of(self, tensor: Tensor) -> Array | None:
        """The array of a constant that can be read; float16 becomes float32."""
        if tensor.type == "int4":
            return int4_codes(tensor)
        if tensor.type not in NUMPY_TYPES:
            if tensor.type != "bfloat16" or tensor.sparsity is not None or tensor.data is None or len(tensor.data) % 2:
                return None
            if len(tensor.data) != 2 * math.prod(tensor.shape):
                return None
            wide = np.frombuffer(tensor.data, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(tensor.shape)
        if tensor.sparsity is not None:  # a few bytes of the file may stand for a large tensor
            self.charge_bytes(math.prod(tensor.shape) * NUMPY_TYPES[tensor.type].itemsize)
        try:
            array = tensor.array()
        except DamagedError as error:
            raise Unsupported(
                f"the sparse tensor {tensor.name!r} is damaged: {error}", "a valid TFLite model"
            ) from None
        return array.astype(np.float32) if tensor.type == "float16" else array

    def value(self, index: int) -> ir.Value:
        """The value of a tensor; constants are made when first asked for."""
        if index not in self.values:
            tensor = self.model.tensors[index]
            value = self.values[index] = ir.Value(name=self.prefix + tensor.name)
            try:
                array = self.constant_of(tensor) if tensor.data is not None else None
                if array is not None:
                    self.charge(array)
                codes = array is not None and tensor.quantization is not None and self.stands_for_reals(tensor)
                real = dequantized(tensor, array) if codes and array is not None else array
            except Unsupported as problem:  # whoever wants the constant reports it
                marks(value)["kind"] = f"a constant that cannot be read ({problem})"
                return value
            if real is not None:
                set_constant(value, real)
                if codes and tensor.quantization is not None:
                    set_grid(value, np.array(tensor.quantization.scale))
            elif tensor.variable:
                marks(value)["kind"] = "a variable, which keeps its value from one frame to the next"
            elif tensor.sparsity is not None:
                marks(value)["kind"] = f"a sparse tensor of type {tensor.type}"
            else:
                marks(value)["kind"] = f"a tensor of type {tensor.type}"
        return self.values[index]

    def stands_for_reals(self, tensor: Tensor) -> bool:
        """Whether a tensor's integers are codes of real values, and not numbers themselves."""
        if tensor.quantization is None:
            return False
        return tensor.type in CODE_TYPES or (tensor.type in ("int32", "int64") and tensor.index in self._biases)

    def coded(self, index: int, value: ir.Value, label: str) -> ir.Value:
        """A value with what the file says of its tensor's codes: float from here on.

        Raises:
            Unsupported: its scales make no sense, or are several.
        """
        tensor = self.model.tensors[index]
        how = tensor.quantization
        if how is None or tensor.type not in CODE_TYPES:
            return value
        if len(how.scale) != 1:
            raise Unsupported(
                f"the computed tensor {tensor.name!r} has {len(how.scale)} scales, one per index of axis {how.axis}",
                "one scale for the whole tensor",
            )
        codes_of_type(how.scale[0], how.zero_point[0], tensor.type)
        numbers = [ir.Value(name=f"{label}#"), ir.Value(name=f"{label}#")]
        set_constant(numbers[0], np.array(how.scale[0], np.float32))
        set_constant(numbers[1], np.array(how.zero_point[0], tensor.type))
        for number in numbers:
            marks(number)["internal"] = True
        codes = self.add("QuantizeLinear", [value, *numbers], {}, label, glue=True).outputs[0]
        return self.add("DequantizeLinear", [codes, *numbers], {}, label, glue=True).outputs[0]

    def declare(self, index: int, value: ir.Value) -> None:
        """Make ``value`` stand for a tensor: its name, and the shape and type that the file states."""
        tensor = self.model.tensors[index]
        value.name = self.prefix + tensor.name
        marks(value).pop("internal", None)
        reals = self.stands_for_reals(tensor)
        value.dtype = ir.DataType.FLOAT if reals else _DTYPES.get(tensor.type, ir.DataType.UNDEFINED)
        if tensor.type == COMPLEX:
            value.dtype = ir.DataType.FLOAT
        if index not in self.free_shapes:
            parts = [2] if tensor.type == COMPLEX else []
            value.shape = ir.Shape([*(s if s > 0 else None for s in tensor.shape), *parts])
        self.values[index] = value


class Operation(common.Operation[GraphBuilder]):
    """One TFLite operator, as its converter sees it."""

    def __init__(self, builder: GraphBuilder, record: Operator) -> None:
        self.builder, self.record = builder, record
        tensors = builder.model.tensors
        own = tensors[record.outputs[0]].name if record.outputs else f"operator {record.index}"
        self.label = builder.prefix + own
        self.dilation = builder.dilations.get(record.index)

    # --- operands ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.record.name

    def integer(self, option: str) -> int:
        value = self.record.options[option]
        assert isinstance(value, int)
        return value

    def flag(self, option: str) -> bool:
        return bool(self.record.options[option])

    def real(self, option: str) -> float:
        value = self.record.options[option]
        assert isinstance(value, (int, float))
        return float(value)

    def word(self, option: str) -> str:
        return str(self.record.options[option])

    def numbers(self, option: str) -> list[float]:
        """An option that is a list, which is empty where the file leaves it out."""
        value = self.record.options[option]
        assert isinstance(value, list)
        return [float(v) for v in value]

    def whole_numbers(self, option: str) -> list[int]:
        """An option that is a list of integers."""
        value = self.record.options[option]
        assert isinstance(value, list)
        return [int(v) for v in value]

    @property
    def count(self) -> int:
        return len(self.record.inputs)

    def has(self, index: int) -> bool:
        return index < self.count and self.record.inputs[index] >= 0

    def sizes(self, index: int) -> tuple[int | None, ...]:
        """As the file states them."""
        return tuple(s if s >= 0 else None for s in self.tensor(index).shape)

    def unknown(self, reason: str, need: str) -> Unsupported:
        return Unsupported(reason, need)

    def tensor(self, index: int) -> Tensor:
        """The record of operand ``index``."""
        if not self.has(index):
            raise Unsupported(f"input {index} is absent")
        return self.builder.model.tensors[self.record.inputs[index]]

    def value(self, index: int) -> ir.Value:
        """Operand ``index`` in the file's order."""
        self.tensor(index)
        return self.builder.value(self.record.inputs[index])

    def image(self, index: int) -> ir.Value:
        """Operand ``index``, N×H×W×C in the file, as N×C×H×W."""
        tensor = self.tensor(index)
        if len(tensor.shape) != 4:
            raise Unsupported(f"its input has shape {list(tensor.shape)}", "N×H×W×C")
        return self.builder.channels_first(self.value(index))

    def made(self, index: int) -> Tensor:
        """The record of result ``index``."""
        if index >= len(self.record.outputs):
            raise Unsupported(f"it has {len(self.record.outputs)} outputs", f"more than {index}")
        return self.builder.model.tensors[self.record.outputs[index]]

    def channels(self, index: int) -> int:
        """The last size of operand ``index``, as the file states it."""
        shape = self.tensor(index).shape
        if not shape or shape[-1] < 1:
            raise Unsupported(
                f"the file leaves the channels of {self.tensor(index).name!r} open", "a number of channels"
            )
        return shape[-1]

    # --- results -------------------------------------------------------------------------------------------------

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Attribute] | None = None,
        glue: bool = False,
    ) -> ir.Value:  # fmt: skip
        """A node of one output; ``glue`` when it is not the operation itself but prepares or finishes it."""
        """Weights keep the step of the codes that the file has of them."""
        if op_type in WEIGHTED and len(inputs) > 1 and inputs[1] is not None and constant(inputs[1]) is not None:
            grid = next(
                (g for g in (grid_of(self.builder.values.get(i)) for i in self.record.inputs[:2]) if g is not None),
                None,
            )
            if grid is not None:
                set_grid(inputs[1], grid)
        return super().emit(op_type, inputs, attributes, glue)

    def activated(self, value: ir.Value) -> ir.Value:
        """``value`` after the operator's fused activation."""
        word = self.word("activation") if "activation" in self.record.options else "NONE"
        if word in ("TANH", "SIGN_BIT"):  # in the schema, but LiteRT computes nothing for it
            raise Unsupported(f"the fused activation {word} means nothing to TFLite's own run time", _FUSED)
        return value if word == "NONE" else self.activation(word, value)

    def activation(self, word: str, value: ir.Value) -> ir.Value:
        """An activation by its TFLite name."""
        bounds = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}.get(word)
        if bounds is not None:
            return self.emit("Clip", [value, *(self.make(np.array(b, np.float32)) for b in bounds)])
        plain = {"RELU": "Relu", "TANH": "Tanh", "LOGISTIC": "Sigmoid", "HARD_SWISH": "HardSwish"}.get(word)
        if plain is None:
            raise Unsupported(f"the activation {word} is not supported")
        return self.emit(plain, [value])

    def done(self, *values: ir.Value) -> None:
        """The results, in the file's order of elements, one per output of the operator."""
        if len(values) != len(self.record.outputs):
            raise Unsupported(f"it has {len(self.record.outputs)} outputs", f"{len(values)}")
        for index, value in zip(self.record.outputs, values, strict=True):
            if self.builder.states.is_handle(value):  # no tensor, and nothing computes with it
                self.builder.values[index] = value
                continue
            fresh = self.builder.coded(index, value, self.label)
            if "internal" not in marks(fresh):
                fresh = self.emit("Identity", [fresh], glue=True)
            self.builder.declare(index, fresh)

    def done_image(self, value: ir.Value) -> None:
        """The result, N×C×H×W, after the fused activation."""
        self.done(self.emit("Transpose", [self.activated(value)], {"perm": CHANNELS_LAST}, glue=True))


__all__ = ["COMPLEX", "CONVERTERS", "GraphBuilder", "Operation", "converts"]
