# SPDX-License-Identifier: Apache-2.0
"""What an operation is, and the registry of kinds (design, section 4).

A kind of layer is one frozen dataclass: its fields are the attributes, its methods the rules. A family's module holds
everything that is true of it whatever the file format or device: shape rule, float meaning, integer meaning, counts,
and the facts that other packages ask for in place of its name. Nothing else branches on a layer's kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError, unknown_name
from headrace.layers.attributes import attribute_values, read_attributes, write_attributes
from headrace.layers.rows import RowCost, row_by_row
from headrace.numerics.ops import AnyTensor, FloatOps, IntegerOps
from headrace.numerics.quantization import MOST_STEPS, TensorQuantization
from headrace.numerics.requantize import Array, Requantization

Shape = tuple[int, ...]


class ScaleRule(Enum):
    """How a layer's output scale comes about."""

    OWN = "own"  # its range is measured, its codes are computed
    PASSES = "passes"  # codes pass unchanged: output and all inputs share one scale
    FIXED = "fixed"  # the layer's meaning fixes the range (softmax, sigmoid …)
    CONCAT = "concat"  # inputs take the output's scale when nobody else reads them, else are requantized


@dataclass(frozen=True)
class Counts:
    """Work of one layer per frame."""

    macs: int = 0
    weights: int = 0
    operations: int = 0
    output_elements: int = 0


#: Element type of frozen weights: int8, or int16 in −255 … 255: differences of 8-bit codes and a zero point.
WEIGHT_CODES = "int8 or int16"


class Parameter(NamedTuple):
    """What an array of a layer has to be.

    Attributes:
        shape: the shape; ``None``: any vector with at least one element.
        dtype: ``"float"`` for any float type, :data:`WEIGHT_CODES`, else the exact dtype.
        required: the layer cannot do without.
        nonzero: it is divided by.
        most: the greatest value of an unsigned one; None: whatever its type holds.
    """

    shape: Shape | None
    dtype: str = "float"
    required: bool = True
    nonzero: bool = False
    most: int | None = None

    def fits(self, array: Array) -> bool:
        """Whether an array has the element type."""
        if self.dtype == WEIGHT_CODES:
            return array.dtype == np.int8 or (array.dtype == np.int16 and bool(np.all(np.abs(array) <= MOST_STEPS)))
        return array.dtype == np.dtype(self.dtype) if self.dtype != "float" else array.dtype.kind == "f"

    def __str__(self) -> str:
        bound = "" if self.most is None else f", at most {self.most}"
        return f"{self.dtype} {'[n]' if self.shape is None else list(self.shape)}{bound}"


class Weights(NamedTuple):
    """The array that a layer multiplies its input by.

    Attributes:
        name: of the float parameter; the frozen one is ``<name>_q``.
        input_axis: axis along the input channels of one group.
        output_axis: axis along the output channels.
    """

    name: str
    input_axis: int
    output_axis: int


class Frozen(NamedTuple):
    """What ``optimize`` leaves of a layer that computes.

    Attributes:
        parameters: integer arrays beside the requantization.
        terms: numbers of terms that its requantization may have.
        channels: of the output; its multipliers have so many columns, or one.
        divisors: of an average; its multipliers have one column for each entry of ``counts``, which has all of them.
    """

    parameters: dict[str, Parameter]
    terms: tuple[int, ...]
    channels: int
    divisors: Array | None = None


@dataclass
class QuantizedLayer:
    """A typed view of one layer of a quantized network: the integers that ``optimize`` froze.

    Attributes:
        name: of the layer, for errors.
        output_shape: shape of the result, the batch first.
        inputs: quantization of each operand.
        output: quantization of the result.
        requantization: ``None`` where codes pass unchanged.
        params: the layer's parameters (``kernel_q``, ``bias_q``, ``counts`` …).
    """

    name: str
    output_shape: Shape
    inputs: list[TensorQuantization]
    output: TensorQuantization
    requantization: Requantization | None
    params: Mapping[str, Array]

    @property
    def rq(self) -> Requantization:
        if self.requantization is None:
            raise InputFileError(
                Diagnostic(
                    "E-HN-QUANTIZATION", self.name, "the layer's requantization is absent", "nothing", "integers"
                )
            )
        return self.requantization

    def weights(self, ndim: int) -> Array:
        """``kernel_q``, int8 or int16 (see :data:`WEIGHT_CODES`), with its rank checked."""
        wide = self.params.get("kernel_q")
        return self.param("kernel_q", np.int8 if wide is None or wide.dtype != np.int16 else np.int16, ndim)

    def param(self, key: str, dtype: type[np.generic], ndim: int) -> Array:
        """A parameter with its dtype and rank checked."""
        value = self.params.get(key)
        if value is None or value.dtype != np.dtype(dtype) or value.ndim != ndim:
            got = "nothing" if value is None else f"{value.dtype} of rank {value.ndim}"
            raise InputFileError(
                Diagnostic(
                    "E-HN-PARAM",
                    f"{self.name}/{key}",
                    "a frozen integer parameter is not valid",
                    got,
                    f"{np.dtype(dtype)} of rank {ndim}",
                )
            )
        return value


@dataclass(frozen=True)
class Operation:
    """What a layer computes: a kind with its attributes. Shapes have the batch first, -1; the rest is H, W, C or C.

    Fields may be int, float, str, bool, tuples of int, or dict[str, float]. Facts are class variables, or properties
    where they depend on the attributes; the least that can be said of any operation stands here.

    Attributes:
        kind: its name in files.
        prefix: of the names of its layers.
        description: for the page of layers.
        arity: least and greatest number of operands.
        scale_rule: how the output's scale comes about.
        has_integer_form: it runs on the device; else a pass decomposes it.
        is_boundary: it is an input or an output of the network.
        copies_codes: every element of the output is an element of an input.
        reads_wide: it takes 16-bit codes and computes with them.
        weights: the array it multiplies by and sums over, if any.
        additive: name of the float parameter that is added to the result, if any.
        one_accumulator: what is requantized is one accumulator, whose sign may choose its factor.
        requantizes_by_channel: each output channel may have multiplier, shift and table of its own.
        elementwise: an element of the output depends on the elements at its own place alone (broadcast apart).
        channelwise: an element of the output depends on its own channel of the input alone.
        passes_factors: a positive factor of an input channel comes out as a factor of that channel.
    """

    kind: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    description: ClassVar[str] = ""
    arity: ClassVar[tuple[int, int]] = (1, 1)
    scale_rule: ClassVar[ScaleRule] = ScaleRule.OWN
    has_integer_form: ClassVar[bool] = True
    is_boundary: ClassVar[bool] = False
    copies_codes: ClassVar[bool] = False
    reads_wide: ClassVar[bool] = False
    weights: ClassVar[Weights | None] = None
    additive: ClassVar[str | None] = None
    one_accumulator: ClassVar[bool] = False
    requantizes_by_channel: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    channelwise: ClassVar[bool] = False
    passes_factors: ClassVar[bool] = False

    @property
    def passes_codes(self) -> bool:
        """The codes of the output are codes of the operands, where these have its scale."""
        return self.scale_rule in (ScaleRule.PASSES, ScaleRule.CONCAT)

    @property
    def keeps_constants(self) -> bool:
        """An input that is one constant per channel comes out as that constant."""
        return False

    @property
    def is_linear(self) -> bool:
        """Neither an activation nor a residual follows what the kind itself computes."""
        return True

    @property
    def json_attributes(self) -> dict[str, Any]:
        """Plain JSON values of the attributes; those at their default are left out."""
        return write_attributes(self)

    @property
    def all_attributes(self) -> dict[str, Any]:
        """Plain JSON values of all attributes."""
        return attribute_values(self)

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        """The shape of the result.

        Raises:
            InputFileError: the operands do not fit; ``where`` is the place it names.
        """
        raise NotImplementedError

    def output_shapes(self, shapes: Sequence[Shape], where: str) -> tuple[Shape, ...]:
        """The shapes of all results; most operations have one, that of :meth:`output_shape`."""
        return (self.output_shape(shapes, where),)

    def float_results(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> tuple[AnyTensor, ...]:
        """The float meaning of all results; most operations have one, that of :meth:`forward_float`."""
        return (self.forward_float(ops, params, inputs),)

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        """The float meaning."""
        raise NotImplementedError

    def forward_integer(
        self, ops: IntegerOps[AnyTensor], quantized: QuantizedLayer, inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        """The integer meaning: codes in, codes out."""
        raise NotBuiltYetError(
            Diagnostic(
                "E-LAYER-NO-INTEGER",
                quantized.name,
                f"{self.kind} has no integer form; a pass decomposes it first",
            )
        )

    def parameters(self, shapes: Sequence[Shape], output: Shape) -> dict[str, Parameter]:
        """The float parameters of the layer by name."""
        return {}

    def frozen(self, shapes: Sequence[Shape], output: Shape) -> Frozen | None:
        """The integers of the quantized layer; None where codes pass and there are none."""
        return None

    def integers_of_attributes(self, shapes: Sequence[Shape]) -> dict[str, Array]:
        """Those of the frozen integers that follow from attributes and shapes alone; ``optimize`` stores them."""
        return {}

    def fixed_range(self) -> tuple[float, float] | None:
        """The real range of the output where the meaning fixes it."""
        return None

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        """Work per frame."""
        elements = int(np.prod(output[1:], dtype=np.int64))
        return Counts(operations=elements, output_elements=elements)

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        """Which rows of its operands an output row reads, and what its cycles are made of.

        Operations that are element-wise read row by row; any other says it itself.
        """
        if not self.elementwise:
            raise NotImplementedError(f"{self.kind} does not say which rows it reads")
        return row_by_row(shapes)


@dataclass(frozen=True)
class UnknownOperation(Operation):
    """A kind of a newer version: kept as its JSON says, shown and saved, never computed."""

    kind: str = ""  # pyright: ignore[reportIncompatibleVariableOverride]  (of each layer its own)
    raw: tuple[tuple[str, Any], ...] = ()
    arity = (0, 1 << 16)

    @property
    def is_linear(self) -> bool:
        """Neither an activation nor a residual follows what the kind itself computes."""
        return True

    @property
    def json_attributes(self) -> dict[str, Any]:
        return dict(self.raw)

    @property
    def all_attributes(self) -> dict[str, Any]:
        return dict(self.raw)

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        raise _unknown(self.kind, where)


_REGISTRY: dict[str, type[Operation]] = {}
OperationType = TypeVar("OperationType", bound=type[Operation])


def register(operation: OperationType) -> OperationType:
    """Class decorator: the kind can be read from files from now on."""
    _REGISTRY[operation.kind] = operation
    return operation


def _unknown(kind: str, where: str) -> InputFileError:
    return InputFileError(unknown_name("E-LAYER-KIND", "layer kind", kind, _REGISTRY, where))


def operation_type(kind: str, where: str = "") -> type[Operation]:
    """The class of a kind.

    Raises:
        InputFileError: this version does not know the kind.
    """
    found = _REGISTRY.get(kind)
    if found is None:
        raise _unknown(kind, where)
    return found


def all_operations() -> list[type[Operation]]:
    """Every kind, by name."""
    return [_REGISTRY[kind] for kind in sorted(_REGISTRY)]


def read_operation(kind: str, attributes: Mapping[str, Any], where: str) -> Operation:
    """The operation that JSON values describe; a kind that is not known is kept as it is.

    Raises:
        InputFileError: an attribute is unknown, of the wrong type, or breaks a rule of its kind.
    """
    found = _REGISTRY.get(kind)
    if found is None:
        return UnknownOperation(kind, tuple(attributes.items()))
    return read_attributes(found, attributes, where)
