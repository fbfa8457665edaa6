# SPDX-License-Identifier: Apache-2.0
"""LSTM and RNN over a sequence, forward and in both directions, as ONNX's LSTM and RNN.

Their states are variables of the file: its run time keeps them from one frame to the next unless it is told to reset
them. Here every frame begins with states of zero, as after a reset.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute
from headrace.frontends.to_hn.handlers.recurrent import CELL_CLIP
from headrace.hn import Array

#: Operators that own the variables which they read.
STATEFUL = frozenset({
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN", "SVDF", "RNN", "LSTM",
})  # fmt: skip
_ACTIVATIONS = {"TANH": "Tanh", "RELU": "Relu"}
#: Gates of a file are input, forget, cell, output; ONNX's input, output, forget, cell.
_ORDER = (0, 3, 1, 2)


def _check_state(operation: Operation, *indices: int) -> None:
    """The states are variables that only this operator reads, so that they begin with zero."""
    for index in indices:
        tensor = operation.tensor(index)
        number = operation.record.inputs[index]
        others = [o for o in operation.builder.model.operators if number in o.inputs and o is not operation.record]
        if not tensor.variable or tensor.data is not None or others:
            raise Unsupported(f"its state {tensor.name!r} is no variable of its own", "a variable that it alone reads")
    told = "the states of recurrent layers begin with zero in every frame, as after the run time's reset of variables"
    if told not in operation.builder.warnings:
        operation.builder.warnings.append(told)


def recurrent_activation(operation: Operation) -> str:
    """The activation that is not the gates', in ONNX's words."""
    word = operation.word("activation")
    if word not in _ACTIVATIONS:
        raise Unsupported(f"the activation {word} of a recurrent layer", "TANH or RELU")
    return _ACTIVATIONS[word]


def matrix(operation: Operation, index: int, what: str, rank: int = 2) -> Array:
    """A constant operand of a certain rank, no size 0."""
    array = operation.array(index, what)
    if array.ndim != rank or not array.size:
        raise Unsupported(f"{what} have shape {list(array.shape)}", f"{rank} sizes above 0")
    return array


def _gates(operation: Operation, first: int, what: str, rank: int = 2) -> Array:
    """Four operands from ``first`` on, one below the other in ONNX's order; without the first one the input gate is one
    minus the forget gate: 1 - sigmoid(x) = sigmoid(-x).
    """
    arrays = [matrix(operation, first + i, what, rank) for i in range(1, 4)]
    own = matrix(operation, first, what, rank) if operation.has(first) else -arrays[0]
    arrays.insert(0, own)
    if len({a.shape for a in arrays}) > 1:
        raise Unsupported(f"{what} have shapes {[list(a.shape) for a in arrays]}", "one shape")
    return np.concatenate([arrays[i] for i in _ORDER])


def _peepholes(operation: Operation, first: int) -> Array | None:
    given = [operation.has(first + i) for i in range(3)]
    if not any(given):
        return None
    if not given[1] or not given[2]:
        raise Unsupported("peepholes of some gates", "of all gates, or of none")
    forget, leave = (matrix(operation, first + i, "the peepholes", 1) for i in (1, 2))
    enter = matrix(operation, first, "the peepholes", 1) if given[0] else -forget
    return np.concatenate([enter, leave, forget])


def direction_weights(operation: Operation, weights: int, peepholes: int, biases: int) -> list[Array | None]:
    """W, R, B and P of one direction."""
    if operation.has(biases + 4) or operation.has(biases + 5):
        raise Unsupported("a projection of the state", "an LSTM without projection")
    peeping = [peepholes] if operation.has(peepholes + 1) else []
    if len({operation.has(i) for i in (weights, weights + 4, biases, *peeping)}) > 1:
        raise Unsupported("some operands of the input gate are absent", "all of them, or none")
    bias = _gates(operation, biases, "the biases", 1)
    return [
        _gates(operation, weights, "the weights of the input"),
        _gates(operation, weights + 4, "the weights of the state"),
        np.concatenate([bias, np.zeros_like(bias)]),
        _peepholes(operation, peepholes),
    ]


def _plain(operation: Operation, first: int) -> list[Array | None]:
    bias = matrix(operation, first + 2, "the biases", 1)
    weights = [matrix(operation, first + i, what) for i, what in enumerate(("the weights", "the weights of the state"))]
    return [*weights, np.concatenate([bias, np.zeros_like(bias)]), None]


def stacked(operation: Operation, arrays: Sequence[Array | None]) -> ir.Value | None:
    """One operand of all directions."""
    known = [a for a in arrays if a is not None]
    if not known:
        return None
    if len(known) < len(arrays):
        raise Unsupported("peepholes of one direction", "of both directions, or of none")
    if len({a.shape for a in known}) > 1:
        raise Unsupported("directions of unlike sizes", "one size")
    return operation.make(np.ascontiguousarray(np.stack(known), np.float32))


def _emit(operation: Operation, op_type: str, cells: Sequence[Sequence[Array | None]], clip: float = 0.0) -> None:
    """The node, and its results in the file's order."""
    directions = len(cells)
    recurrence = cells[0][1]
    assert recurrence is not None
    weight, state, bias, peephole = (stacked(operation, column) for column in zip(*cells, strict=True))
    activation = recurrent_activation(operation)
    names = ["Sigmoid", activation, activation] if op_type == "LSTM" else [activation]
    time_major = operation.flag("time_major")
    attributes: dict[str, Attribute] = {
        "activations": names * directions,
        "direction": "bidirectional" if directions > 1 else "forward",
        "hidden_size": recurrence.shape[-1],
        "layout": 0 if time_major else 1,
    }
    if clip:
        attributes[CELL_CLIP] = float(clip)
    inputs = [operation.value(0), weight, state, bias]
    if peephole is not None:
        inputs += [None, None, None, peephole]
    y = operation.emit(op_type, inputs, attributes)
    if time_major:
        y = operation.emit("Transpose", [y], {"perm": [0, 2, 1, 3]}, glue=True)
    if directions == 1:
        operation.done(operation.emit("Squeeze", [y, operation.list([2])], glue=True))
    elif operation.flag("merge_outputs"):
        operation.done(operation.emit("Reshape", [y, operation.list([0, 0, -1])], glue=True))
    else:
        parts = operation.emit_all("Split", [y], {"axis": 2, "num_outputs": 2}, 2)
        operation.done(*(operation.emit("Squeeze", [part, operation.list([2])], glue=True) for part in parts))


def _check_rank(operation: Operation) -> None:
    if len(operation.tensor(0).shape) != 3:
        raise Unsupported(f"its input has shape {list(operation.tensor(0).shape)}", "a batch of sequences of vectors")


@converts("UNIDIRECTIONAL_SEQUENCE_LSTM")
def unidirectional_lstm(operation: Operation) -> None:
    _check_rank(operation)
    _check_state(operation, 18, 19)
    if operation.flag("diagonal"):
        raise Unsupported("weights of the state that are diagonals", "matrices")
    if any(operation.has(i) for i in range(20, 24)):
        raise Unsupported("normalization of the gates", "an LSTM without layer normalization")
    _emit(operation, "LSTM", [direction_weights(operation, 1, 9, 12)], operation.real("cell_clip"))


@converts("BIDIRECTIONAL_SEQUENCE_LSTM")
def bidirectional_lstm(operation: Operation) -> None:
    _check_rank(operation)
    _check_state(operation, 35, 36, 37, 38)
    if any(operation.has(i) for i in range(39, 48)):
        raise Unsupported("an auxiliary input", "one input")
    cells = [direction_weights(operation, 1, 9, 12), direction_weights(operation, 18, 26, 29)]
    _emit(operation, "LSTM", cells, operation.real("cell_clip"))


@converts("UNIDIRECTIONAL_SEQUENCE_RNN")
def unidirectional_rnn(operation: Operation) -> None:
    _check_rank(operation)
    _check_state(operation, 4)
    _emit(operation, "RNN", [_plain(operation, 1)])


@converts("BIDIRECTIONAL_SEQUENCE_RNN")
def bidirectional_rnn(operation: Operation) -> None:
    _check_rank(operation)
    _check_state(operation, 4, 8)
    if any(operation.has(i) for i in range(9, 12)):
        raise Unsupported("an auxiliary input", "one input")
    _emit(operation, "RNN", [_plain(operation, 1), _plain(operation, 5)])
