# SPDX-License-Identifier: Apache-2.0
"""The source graph under construction, for formats whose operators are said in ONNX's words.

Tensors of such formats mostly have their channels last, ONNX images theirs first. Every tensor of the file is a value
in the file's own order; where an operator of ONNX wants channels first, a Transpose stands on each side of it. The
symbolic layout of the common path makes these free. They are marked as glue and carry no name of their own into the
network.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import onnx_ir as ir

from headrace.frontends.fold import Budget
from headrace.frontends.folding import evaluate, folds
from headrace.frontends.graph import Unsupported, constant, marks, set_constant
from headrace.frontends.quantization import carry_grid
from headrace.hn import Array

CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)
#: Bytes of constants that may be touched, counted once per use, for each byte of the file.
_REUSE = 32
_SPARE_BYTES = 64 << 20
Attribute = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


def _attribute(name: str, value: Attribute) -> ir.Attr:
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    if any(isinstance(v, str) for v in value):
        return ir.AttrStrings(name, [str(v) for v in value])
    if any(isinstance(v, float) for v in value):
        return ir.AttrFloat32s(name, [float(v) for v in value])
    return ir.AttrInt64s(name, [int(v) for v in value])


def _detach(node: ir.Node) -> None:
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)


class NodeBuilder:
    """Nodes in the order they run; what depends on constants alone is computed at once.

    Attributes:
        nodes: so far.
        folded: how many nodes were computed instead.
    """

    def __init__(self, size: int) -> None:
        """Begin; ``size`` is that of the file in bytes, which bounds how often its constants may be used."""
        self.nodes: list[ir.Node] = []
        self.folded = 0
        self._channels_first: dict[ir.Value, ir.Value] = {}
        self._labels: dict[ir.Value, str] = {}
        self._left = _REUSE * size + _SPARE_BYTES
        self._budget = Budget()

    def charge(self, array: Array) -> None:
        """Count one use of a constant: a small file may name one large tensor thousands of times."""
        self.charge_bytes(array.nbytes)

    def charge_bytes(self, count: int) -> None:
        """Count ``count`` bytes of constants as used."""
        self._left -= count
        if self._left < 0:
            raise Unsupported("the constants of this file are used too often", f"{_REUSE} times their size in all")

    def made(self, array: Array, label: str) -> ir.Value:
        """A new constant of no name in the file."""
        value = ir.Value(name=f"{label}#")
        marks(value)["internal"] = True
        set_constant(value, array)
        return value

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Attribute], label: str,
        glue: bool = False, outputs: int = 1, domain: str = "",
    ) -> ir.Node:  # fmt: skip
        made = [ir.Value(name=None) for _ in range(outputs)]
        for value in made:
            marks(value)["internal"] = True
        node = ir.Node(
            domain, op_type, inputs, [_attribute(k, v) for k, v in attributes.items()], outputs=made,
            name=f"{label}/{len(self.nodes)}",
        )  # fmt: skip
        marks(node)["label"] = label
        if glue:
            marks(node)["origins"] = []
        if not self._folds(node):
            self.nodes.append(node)
        for value in made:
            self._labels[value] = label
        return node

    def _folds(self, node: ir.Node) -> bool:
        """Compute a node of constants at once, so that what it makes can be a kernel, an axis or a size."""
        arrays = [constant(v) for v in node.inputs]
        known = all(a is not None or v is None for a, v in zip(arrays, node.inputs, strict=True))
        if not arrays or not known or not folds(node):
            return False
        for array in arrays:
            if array is not None:
                self.charge(array)
        results = evaluate(node, arrays, self._budget)
        given = sum(array.nbytes for array in arrays if array is not None)
        self.charge_bytes(max(sum(array.nbytes for array in results) - given, 0))  # what a few numbers spread over
        for value, array in zip(node.outputs, results, strict=False):
            set_constant(value, array)
        carry_grid(node)
        _detach(node)
        self.folded += 1
        return True

    def channels_first(self, value: ir.Value) -> ir.Value:
        """An image in ONNX order; one Transpose per tensor, counted to the operator that makes the tensor."""
        if value not in self._channels_first:
            label = self._labels.get(value, value.name or "")
            node = self.add("Transpose", [value], {"perm": CHANNELS_FIRST}, label, glue=True)
            if constant(value) is not None:
                return node.outputs[0]
            self._channels_first[value] = node.outputs[0]
        return self._channels_first[value]

    @contextmanager
    def attempt(self) -> Generator[None]:
        """Forget the nodes of an operator that turns out not to be supported."""
        nodes, known = len(self.nodes), dict(self._channels_first)
        try:
            yield
        except Unsupported:
            for node in self.nodes[nodes:]:
                _detach(node)
            del self.nodes[nodes:]
            self._channels_first = known
            raise


__all__ = ["CHANNELS_FIRST", "CHANNELS_LAST", "Attribute", "NodeBuilder"]
