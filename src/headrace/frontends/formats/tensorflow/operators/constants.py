# SPDX-License-Identifier: Apache-2.0
"""Constants, variables, and what feeds a graph."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import ONNX_TYPES, Operation, converts
from headrace.frontends.formats.tensorflow.records import Node
from headrace.frontends.formats.tensorflow.schema import type_name
from headrace.frontends.formats.tensorflow.states import Complex, Opaque, Variable
from headrace.frontends.formats.tensorflow.tensors import COMPLEX, array_of
from headrace.frontends.graph import Unsupported, constant, marks

converts("Range")(common.range_)
converts("Fill")(common.fill)

#: Graphs older than this state the shape of a placeholder that may have any as that of a number.
_SHAPES_SINCE = 24
_INPUTS = ("IteratorGetNext", "OneShotIteratorGetNext", "QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2")


@converts("Const")
def constant_(operation: Operation) -> None:
    message = operation.attributes.tensor("value")
    if message is None:
        raise Unsupported("it holds no value", "a tensor")
    try:
        made = operation.make(array_of(message, operation.builder.charge_bytes))
        operation.done(Complex(made) if type_name(message.dtype) in COMPLEX else made)
    except Unsupported as problem:  # whoever wants it reports it
        operation.done(Opaque(f"a constant that is not read ({problem})"))


def _flag(operation: Operation, value: bool | float, kind: str) -> None:
    operation.builder.note(kind, operation.label)
    operation.done(operation.make(np.array(value)))


@converts("Placeholder", "PlaceholderV2")
def placeholder(operation: Operation) -> None:
    """An input; a truth value says whether the graph trains, and here it does not."""
    kind, shape = operation.attributes.type("dtype"), operation.attributes.shape("shape")
    if shape == [] and operation.builder.producer < _SHAPES_SINCE:
        shape = None
    fixed = operation.builder.fixed_input(operation.label, kind, shape)
    if fixed is not None:
        operation.done(fixed)
        return
    if kind == "bool" and not shape:
        _flag(operation, False, "flag")
        return
    if kind in ("resource", "variant"):
        raise Unsupported(f"it is fed with a {kind}", "a network that is fed with tensors")
    operation.done(operation.builder.feed(operation.label, kind, shape))


@converts("PlaceholderWithDefault")
def placeholder_with_default(operation: Operation) -> None:
    """A number takes its default; of a picture the default says nothing."""
    shape = operation.attributes.shape("shape")
    fixed = operation.builder.fixed_input(operation.label, operation.attributes.type("dtype"), shape)
    if fixed is not None:
        operation.done(fixed)
        return
    default = operation.inputs[0] if operation.has(0) else None
    array = constant(default) if isinstance(default, ir.Value) else None
    if array is not None and array.ndim == 0 and not shape:
        operation.builder.note("default", operation.label)
        operation.done(operation.make(array))
        return
    if isinstance(default, Opaque):
        operation.done(default)
        return
    operation.done(operation.builder.feed(operation.label, operation.attributes.type("dtype"), shape))


def names_of_inputs(node: Node) -> list[str]:
    """Tensors at which a node of the graph is fed; none for one that is no input."""
    if node.op in _INPUTS:
        return [f"{node.name}:{i}" if i else node.name for i in range(len(feeds(node)))]
    return [node.name] if node.op in ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault") else []


def feeds(node: Node) -> list[tuple[str, list[int] | None]]:
    """Element types and shapes of what an input pipeline hands out."""
    kinds = node.attributes.types("output_types") or node.attributes.types("component_types")
    shapes = node.attributes.shapes("output_shapes")
    return [(kind, shapes[i] if i < len(shapes) else None) for i, kind in enumerate(kinds)]


@converts(*_INPUTS)
def handed_out(operation: Operation) -> None:
    """The end of an input pipeline: the network is fed there."""
    results = [
        operation.builder.feed(f"{operation.label}:{i}" if i else operation.label, kind, shape)
        for i, (kind, shape) in enumerate(feeds(operation.node))
    ]
    if not results:
        raise Unsupported("it does not say what it hands out", "element types")
    operation.done(*results)


def names_of_variable(node: Node) -> tuple[str, ...]:
    """What a variable may be called in a checkpoint."""
    shared = node.attributes.text("shared_name", "")
    return tuple(dict.fromkeys(name for name in (node.name, shared) if name))


@converts("VariableV2", "Variable", "AutoReloadVariable")
def variable(operation: Operation) -> None:
    operation.done(operation.builder.variable(Variable(names_of_variable(operation.node))))


@converts("VarHandleOp")
def handle(operation: Operation) -> None:
    operation.done(Variable(names_of_variable(operation.node)))


@converts("ReadVariableOp")
def read(operation: Operation) -> None:
    operation.done(operation.value(0))


@converts("DisableCopyOnRead", "VarIsInitializedOp", "NoOp", "Assert", "CheckNumerics", "PreventGradient", "Print")
def aside(operation: Operation) -> None:
    """Checks and remarks beside the network pass on what they look at."""
    passes = operation.name in ("CheckNumerics", "PreventGradient", "Print")
    operation.done(*([operation.value(0)] if passes else []))


@converts("Identity", "StopGradient", "Snapshot", "EnsureShape", "PlaceholderIdentity", "ReadVariableXlaSplitND")
def identity(operation: Operation) -> None:
    """The same tensor under another name; so that it can be named, a node of its own."""
    found = operation.inputs[0] if operation.has(0) else None
    if not isinstance(found, ir.Value) or constant(found) is not None or "kind" in marks(found):
        operation.done(found)
    else:
        operation.done(operation.emit("Identity", [found]))


@converts("GuaranteeConst")
def guaranteed(operation: Operation) -> None:
    operation.done(operation.value(0))


@converts("LinSpace")
def spaced(operation: Operation) -> None:
    first, last = (float(operation.array(i, "a bound").reshape(-1)[0]) for i in range(2))
    count = operation.integers(2, "the count")[0]
    if not 1 <= count <= 1 << 20 or not all(map(math.isfinite, (first, last))):
        raise Unsupported(f"{count} numbers from {first} to {last}", "1 to 2^20 numbers")
    operation.done(operation.make(np.linspace(first, last, count).astype(np.float32)))


def _filled(operation: Operation, number: float) -> None:
    """A tensor of one number, of the shape of the operand."""
    value = operation.value(0)
    shape = operation.builder.known_shape(value)
    if shape is None:
        zeros = operation.emit("Sub", [value, value])
        operation.done(zeros if number == 0 else operation.emit("Add", [zeros, operation.number(number)]))
        return
    array = constant(value)
    kinds = {v: k for k, v in ONNX_TYPES.items()}
    kind = str(array.dtype) if array is not None else kinds.get(int(value.dtype or 1), "float32")
    operation.builder.charge_bytes(8 * math.prod(shape))
    operation.done(operation.make(np.full(shape, number, np.dtype(kind if kind != "bfloat16" else "float32"))))


@converts("ZerosLike")
def zeros(operation: Operation) -> None:
    _filled(operation, 0)


@converts("OnesLike")
def ones(operation: Operation) -> None:
    _filled(operation, 1)
