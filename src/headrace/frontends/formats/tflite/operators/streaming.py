# SPDX-License-Identifier: Apache-2.0
"""SVDF, and LSTM and RNN of one step: each frame is a step, and what one keeps for the next enters and leaves."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.formats.tflite.operators.recurrent import (
    direction_weights,
    matrix,
    recurrent_activation,
    stacked,
)
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute
from headrace.frontends.to_hn.handlers.recurrent import CELL_CLIP


def _state(operation: Operation, index: int) -> tuple[str, ir.Value, ir.Value]:
    """A variable that the operator reads and writes: its name, the input of the network, and what that stands for."""
    tensor = operation.tensor(index)
    if not tensor.variable or tensor.data is not None:
        raise Unsupported(f"its state {tensor.name!r} is no variable", "a variable")
    return (tensor.name, *operation.builder.state_input(tensor.name, tensor))


def _row(operation: Operation) -> int:
    """The length of the one vector that a frame brings."""
    shape = operation.sizes(0)
    if len(shape) != 2 or shape[0] not in (1, None) or shape[1] is None:
        raise Unsupported(f"its input has shape {list(operation.tensor(0).shape)}", "one vector per frame")
    return shape[1]


@converts("SVDF")
def filtered(operation: Operation) -> None:
    """Features of a frame join those of the frames before, and each feature is weighted in time; ``rank`` of them make
    one output.
    """
    width, rank = _row(operation), operation.integer("rank")
    features, times = matrix(operation, 1, "the weights of features"), matrix(operation, 2, "the weights in time")
    count, memory = times.shape
    if features.shape != (count, width) or rank < 1 or count % rank:
        raise Unsupported(
            f"weights {list(features.shape)} and {list(times.shape)} of rank {rank}", f"[{count}, {width}]"
        )
    name, fed, held = _state(operation, 4)
    if tuple(operation.tensor(4).shape) != (1, memory * count):
        raise Unsupported(f"a state of shape {list(operation.tensor(4).shape)}", f"[1, {memory * count}]")
    held = operation.emit("Reshape", [held, operation.list([1, count, memory])])
    made = operation.emit("MatMul", [operation.value(0), operation.make(features.T)])
    made = operation.emit("Reshape", [made, operation.list([1, count, 1])])
    if memory > 1:
        edges = [operation.list([n]) for n in (1, memory, 2)]
        made = operation.emit("Concat", [operation.emit("Slice", [held, *edges]), made], {"axis": 2})
    after = operation.emit("Reshape", [made, operation.list([1, count * memory])])
    y = operation.emit("Mul", [made, operation.make(times[None])])
    y = operation.emit("Reshape", [y, operation.list([1, count // rank, rank * memory])])
    y = operation.emit("ReduceSum", [y, operation.list([2])], {"keepdims": 0})
    if operation.has(3):
        y = operation.emit("Add", [y, operation.value(3)])
    operation.done(operation.activated(y))
    operation.builder.states.keep(name, fed, after)


@converts("RNN")
def one_step(operation: Operation) -> None:
    _row(operation)
    weights, recurrence = (
        matrix(operation, i, what) for i, what in ((1, "the weights"), (2, "the weights of the state"))
    )
    bias = matrix(operation, 3, "the biases", 1)
    name, fed, held = _state(operation, 4)
    x = operation.emit("MatMul", [operation.value(0), operation.make(weights.T)])
    h = operation.emit("MatMul", [held, operation.make(recurrence.T)])
    total = operation.emit("Add", [operation.emit("Add", [x, h]), operation.make(bias)])
    y = operation.emit(recurrent_activation(operation), [total])
    operation.done(y)
    operation.builder.states.keep(name, fed, y)


@converts("LSTM")
def one_long_step(operation: Operation) -> None:
    if operation.integer("kernel_type"):
        raise Unsupported("an LSTM of the basic kind, whose gates are one matrix", "the full kind")
    _row(operation)
    if any(operation.has(i) for i in range(20, 24)):
        raise Unsupported("normalization of the gates", "an LSTM without layer normalization")
    names = [_state(operation, i) for i in (18, 19)]
    arrays = direction_weights(operation, 1, 9, 12)
    assert arrays[1] is not None
    weight, state, bias, peephole = (stacked(operation, [a]) for a in arrays)
    activation = recurrent_activation(operation)
    attributes: dict[str, Attribute] = {
        "activations": ["Sigmoid", activation, activation], "direction": "forward",
        "hidden_size": int(arrays[1].shape[-1]), "layout": 0,
    }  # fmt: skip
    if operation.real("cell_clip"):
        attributes[CELL_CLIP] = operation.real("cell_clip")
    first = operation.list([0])
    step = operation.emit("Unsqueeze", [operation.value(0), first], glue=True)
    held = [operation.emit("Unsqueeze", [value, first], glue=True) for _, _, value in names]
    inputs = [step, weight, state, bias, None, *held, *([peephole] if peephole is not None else [])]
    _, hidden, cell = operation.emit_all("LSTM", inputs, attributes, 3)
    after = [operation.emit("Squeeze", [value, first], glue=True) for value in (hidden, cell)]
    operation.done(after[0])
    for (name, fed, _), value in zip(names, after, strict=True):
        operation.builder.states.keep(name, fed, value)
