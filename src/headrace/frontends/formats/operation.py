# SPDX-License-Identifier: Apache-2.0
"""What a converter sees of its operator, whichever format the file has: operands that are not trusted, nodes to emit.

A *call* emits nodes of the source graph under one label. An *operation* has numbered operands as well, in the file's
own order of elements, some of them constants; what TensorFlow and TFLite say alike is translated with it
(:mod:`headrace.frontends.formats.common_operators`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import onnx_ir as ir

from headrace.frontends.graph import Unsupported, constant, kind_of, name_of
from headrace.frontends.node_builder import Attribute, NodeBuilder
from headrace.hn import Array

BuilderT = TypeVar("BuilderT", bound=NodeBuilder)
#: Constants that state sizes, axes or places have at most so many elements.
MAX_LISTED = 64


class Call(Generic[BuilderT]):
    """Nodes of one label.

    Attributes:
        builder: what they go into.
        label: that they carry.
    """

    builder: BuilderT
    label: str

    def make(self, array: Array) -> ir.Value:
        """A new constant."""
        return self.builder.made(np.ascontiguousarray(array) if array.ndim else array, self.label)

    def number(self, value: float) -> ir.Value:
        """A new constant number of type float32."""
        return self.make(np.array(value, np.float32))

    def list(self, numbers: Sequence[int]) -> ir.Value:
        """A new constant list of int64."""
        if any(not -(1 << 63) <= n < 1 << 63 for n in numbers):
            raise Unsupported("a size or place beyond 64 bits", "sizes that a tensor can have")
        return self.make(np.array(list(numbers), np.int64))

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Attribute] | None = None,
        glue: bool = False,
    ) -> ir.Value:  # fmt: skip
        """A node of one output; ``glue`` when it is not the operation itself but prepares or finishes it."""
        return self.builder.add(op_type, inputs, attributes or {}, self.label, glue).outputs[0]

    def emit_all(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Attribute], count: int
    ) -> list[ir.Value]:
        """A node of ``count`` outputs."""
        return list(self.builder.add(op_type, inputs, attributes, self.label, outputs=count).outputs)


class Operation(Call[BuilderT], ABC):
    """One operator with numbered operands."""

    # --- operands ------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def count(self) -> int:
        """How many operands the file gives, absent ones included."""

    @abstractmethod
    def has(self, index: int) -> bool:
        """Whether operand ``index`` is given."""

    @abstractmethod
    def value(self, index: int) -> ir.Value:
        """Operand ``index`` in the file's order of elements.

        Raises:
            Unsupported: it is absent.
        """

    @abstractmethod
    def sizes(self, index: int) -> Sequence[int | None] | None:
        """The shape of operand ``index``, None for an open size; None where not even the rank is known."""

    @abstractmethod
    def unknown(self, reason: str, need: str) -> Unsupported:
        """The error for a shape or an operand that has to be known and is not."""

    @abstractmethod
    def image(self, index: int) -> ir.Value:
        """Operand ``index``, an image, with its channels first."""

    @abstractmethod
    def done(self, *results: Any) -> None:
        """The results in the file's order of elements, one per output."""

    @abstractmethod
    def done_image(self, value: ir.Value) -> None:
        """The one result, an image whose channels are first."""

    def values(self, start: int = 0, stop: int | None = None) -> list[ir.Value]:
        """Operands in the file's order of elements."""
        return [self.value(i) for i in range(start, self.count if stop is None else stop)]

    def shape(self, index: int) -> list[int]:
        """The sizes of operand ``index``, all of which must be known."""
        found = self.sizes(index)
        if found is None or None in found:
            name = name_of(self.value(index))
            raise self.unknown(f"the shape of its input {index} ({name!r}) is not known", "known sizes")
        return [int(size or 0) for size in found]

    def rank(self, index: int) -> int:
        """The rank of operand ``index``, which must be known."""
        found = self.sizes(index)
        if found is None:
            name = name_of(self.value(index))
            raise self.unknown(f"the rank of its input {index} ({name!r}) is not known", "a known rank")
        return len(found)

    def is_constant(self, index: int) -> bool:
        return constant(self.value(index)) is not None

    def is_float(self, index: int) -> bool:
        """Whether operand ``index`` has elements of a float type, as far as that is known."""
        array = constant(self.value(index))
        if array is not None:
            return array.dtype.kind == "f"
        return self.value(index).dtype in (None, ir.DataType.FLOAT, ir.DataType.DOUBLE)

    def array(self, index: int, what: str) -> Array:
        """Operand ``index`` as a constant."""
        found = constant(self.value(index))
        if found is None:
            kind, name = kind_of(self.value(index)), name_of(self.value(index))
            text = f"{what} (input {index}, {name!r}) is {kind or 'computed'}, not a constant"
            raise Unsupported(text, "a constant") if kind else self.unknown(text, "a constant")
        self.builder.charge(found)
        return found

    def integers(self, index: int, what: str) -> list[int]:
        """Operand ``index`` as a short constant list."""
        array = self.array(index, what)
        if array.size > MAX_LISTED or array.dtype.kind not in "iu":
            raise Unsupported(f"{what} is not a short list of integers", f"at most {MAX_LISTED} integers")
        return [int(v) for v in array.reshape(-1)]

    def integer_operand(self, index: int, what: str) -> int:
        """Operand ``index`` as one constant integer."""
        found = self.integers(index, what)
        if len(found) != 1:
            raise Unsupported(f"{what} is {found}", "one integer")
        return found[0]

    def axis(self, index: int) -> int:
        """Operand ``index`` as one axis."""
        return self.integer_operand(index, "the axis")

    def shape_value(self, index: int) -> ir.Value:
        """Operand ``index``, a shape or the like, as ONNX wants it: int64."""
        if self.is_constant(index):
            return self.list(self.integers(index, "the shape"))
        return self.emit("Cast", [self.value(index)], {"to": int(ir.DataType.INT64)}, glue=True)


__all__ = ["MAX_LISTED", "BuilderT", "Call", "Operation"]
