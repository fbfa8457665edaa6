# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and SimpleRNN, alone and in both directions, as ONNX's nodes of these names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Shape, Tensor, converts, flat
from headrace.frontends.formats.keras.config import Layer, read_wrapped
from headrace.frontends.formats.keras.layers.activation import function_name
from headrace.frontends.formats.keras.weights import LayerWeights
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute
from headrace.hn import Array

#: Options of a layer over time, which its cell does not have.
_OVER_TIME = ("return_sequences", "return_state", "go_backwards", "stateful", "time_major")
_FAR = int(np.iinfo(np.int64).max)
#: Keras' order of gates → ONNX's, and how many.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "SimpleRNN": (0,)}
_NODES = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
_FUNCTIONS = {
    "tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus",
    "hard_sigmoid": "HardSigmoid", "linear": "Affine", "elu": "Elu",
}  # fmt: skip
#: alpha and beta of the functions that have them.
_ALPHA = {"hard_sigmoid": 0.2, "linear": 1.0, "elu": 1.0}
_BETA = {"hard_sigmoid": 0.5, "linear": 0.0}


@dataclass(frozen=True)
class _Direction:
    """What one direction of a recurrent layer computes with: W, R and B as ONNX has them, without their first axis."""

    kernel: Array
    recurrent: Array
    bias: Array
    reset_after: bool


def _direction(call: LayerCall, kind: str, weights: LayerWeights, inputs: int, units: int) -> _Direction:
    gates = _GATES[kind]
    count = len(gates)
    cell = weights.part(("cell",))

    def blocks(array: Array) -> Array:
        """[…, gates · units] → [gates · units, …] in ONNX's order."""
        parts = np.split(array, count, axis=-1)
        return np.concatenate([np.moveaxis(parts[g], -1, 0) for g in gates])

    kernel = blocks(call.weight(0, [inputs, count * units], "kernel", cell))
    recurrent = blocks(call.weight(1, [units, count * units], "recurrent kernel", cell))
    bias = np.zeros(2 * count * units, np.float32)
    after = kind == "GRU" and call.flag("reset_after", not call.builder.is_version_2)
    if call.flag("use_bias", True):
        if after:
            own = call.weight(2, [2, count * units], "bias", cell)
            bias = np.concatenate([blocks(own[0]), blocks(own[1])])
        else:
            bias[: count * units] = blocks(call.weight(2, [count * units], "bias", cell))
    return _Direction(kernel, recurrent, bias, after)


def _functions(call: LayerCall, kind: str, directions: int) -> dict[str, list[str] | list[float]]:
    """The functions of the gates and of the state."""
    own = function_name(call.option("activation", "tanh"))
    names = [own]
    if kind != "SimpleRNN":
        default = "hard_sigmoid" if call.builder.is_version_2 else "sigmoid"
        gate = function_name(call.option("recurrent_activation", default))
        names = [gate, own, own] if kind == "LSTM" else [gate, own]
    for name in names:
        if name not in _FUNCTIONS:
            raise Unsupported(f"its activation {name[:80]!r}", f"one of {', '.join(sorted(_FUNCTIONS))}")
    names = names * directions
    attributes: dict[str, list[str] | list[float]] = {"activations": [_FUNCTIONS[n] for n in names]}
    slope = 0.2 if call.builder.is_version_2 else 1 / 6
    alpha = [slope if n == "hard_sigmoid" else _ALPHA[n] for n in names if n in _ALPHA]
    if alpha:
        attributes["activation_alpha"] = alpha
    beta = [_BETA[n] for n in names if n in _BETA]
    if beta:
        attributes["activation_beta"] = beta
    return attributes


def _states(call: LayerCall, kind: str, directions: int) -> list[ir.Value]:
    """The states that a call begins with, as ONNX wants them: [directions, N, units]."""
    given = flat(call.named.get("initial_state")) + call.tensors[1:] + flat(call.arguments[1:])
    if not given:
        return []
    each = 2 if kind == "LSTM" else 1
    if len(given) != each * directions:
        raise Unsupported(f"it is given {len(given)} states", f"{each * directions}")
    made: list[ir.Value] = []
    for state in range(each):
        parts = [call.emit("Unsqueeze", [t.value, call.list([0])], glue=True) for t in given[state::each]]
        made.append(parts[0] if len(parts) == 1 else call.emit("Concat", parts, {"axis": 0}, glue=True))
    return made


def _run(call: LayerCall, kind: str, directions: Sequence[_Direction], word: str, units: int) -> Sequence[ir.Value]:
    """The node; results Y [T, directions, N, units], the last states [directions, N, units]."""
    x = call.tensors[0]
    value = call.transposed(x.value, [1, 0, 2])
    constants = [
        call.make(np.stack([getattr(d, part) for d in directions])) for part in ("kernel", "recurrent", "bias")
    ]
    states = _states(call, kind, len(directions))
    inputs: list[ir.Value | None] = [value, *constants, *([None, *states] if states else [])]
    attributes: dict[str, Attribute] = {
        "hidden_size": units,
        "direction": word,
        **_functions(call, kind, len(directions)),
    }
    if kind == "GRU":
        attributes["linear_before_reset"] = int(directions[0].reset_after)
    return call.emit_all(_NODES[kind], inputs, attributes, 3 if kind == "LSTM" else 2)


def _check(call: LayerCall) -> int:
    """What no recurrent layer may have; how many inputs each step has."""
    call.unmasked()
    if call.flag("stateful"):
        raise Unsupported("it keeps its state from one frame to the next", "a layer that is not stateful")
    if call.flag("time_major"):
        raise Unsupported("time is its first dimension", "the batch first")
    if not call.tensors or call.tensors[0].rank != 3:
        raise Unsupported(f"tensors of ranks {[t.rank for t in call.tensors]}", "a sequence N×T×C")
    return call.tensors[0].channels


@converts(*_GATES)
def recurrent(call: LayerCall) -> list[Tensor]:
    inputs, units = _check(call), call.integer("units")
    back = call.flag("go_backwards")
    found = _direction(call, call.kind, call.weights, inputs, units)
    y, *last = _run(call, call.kind, [found], "reverse" if back else "forward", units)
    steps = call.tensors[0].shape[1]
    if call.flag("return_sequences"):
        value = call.transposed(call.emit("Squeeze", [y, call.list([1])], glue=True), [1, 0, 2])
        if back:  # in the order in which it was computed
            value = call.emit("Slice", [value, *(call.list([n]) for n in (-1, -_FAR, 1, -1))])
        made = [Tensor(value, (None, steps, units))]
    else:
        made = [Tensor(call.emit("Squeeze", [last[0], call.list([0])], glue=True), (None, units))]
    if call.flag("return_state"):
        made += [Tensor(call.emit("Squeeze", [s, call.list([0])], glue=True), (None, units)) for s in last]
    return made


@converts("RNN")
def of_a_cell(call: LayerCall) -> list[Tensor]:
    """A cell, over a sequence: the layer that the cell is that of."""
    cell = read_wrapped(call.option("cell"), call.label, call.label)
    kind = cell.kind.removesuffix("Cell")
    if kind not in _GATES or kind == cell.kind:
        raise Unsupported(f"a cell of class {cell.kind[:80]}", "LSTMCell, GRUCell or SimpleRNNCell")
    own = {key: call.option(key) for key in _OVER_TIME if call.option(key) is not None}
    layer = Layer(kind, cell.name, "keras.layers", {**cell.config, **own})
    inner = LayerCall(call.builder, layer, call.weights, call.label, call.arguments, call.named)
    made = list(flat(recurrent(inner)))
    inner.check_options_read()
    return made


@converts("Bidirectional")
def bidirectional(call: LayerCall) -> list[Tensor]:
    """Both directions in one node: what Keras turns back to the order of time, ONNX leaves in it."""
    inner = read_wrapped(call.option("layer"), call.label, call.label)
    if inner.kind not in _GATES or inner.config.get("go_backwards"):
        raise Unsupported(f"it wraps a layer of class {inner.kind[:80]}", "LSTM, GRU or SimpleRNN, forwards")
    own, other = call.option("layer"), call.option("backward_layer")
    if other is not None and _differ(own, other):
        raise Unsupported("its backward layer is another than its forward layer", "a copy of it")
    outer = LayerCall(call.builder, inner, call.weights, call.label, call.arguments, call.named)
    inputs, units = _check(outer), outer.integer("units")
    parts = [call.weights.part((f"{way}_layer",), i, 2) for i, way in enumerate(("forward", "backward"))]
    found = [_direction(outer, inner.kind, part, inputs, units) for part in parts]
    y, *last = _run(outer, inner.kind, found, "bidirectional", units)
    sequences, states = outer.flag("return_sequences"), outer.flag("return_state")
    outer.check_options_read()
    mode = call.option("merge_mode", "concat")
    steps = call.tensors[0].shape[1]
    shape: Shape = (None, steps, units) if sequences else (None, units)
    ways = [_way(call, y if sequences else last[0], sequences, i) for i in range(2)]
    made = [Tensor(v, shape) for v in ways] if mode is None else [_merged(call, ways, shape, str(mode))]
    if states:
        made += [Tensor(_way(call, s, False, i), (None, units)) for i in range(2) for s in last]
    return made


def _way(call: LayerCall, value: ir.Value, sequence: bool, index: int) -> ir.Value:
    """One direction of Y [T, 2, N, units] as [N, T, units], or of a state [2, N, units] as [N, units]."""
    axis = 1 if sequence else 0
    index_value = call.make(np.array(index, np.int64))
    found = call.emit("Gather", [value, index_value], {"axis": axis}, glue=True)
    return call.transposed(found, [1, 0, 2]) if sequence else found


def _merged(call: LayerCall, ways: list[ir.Value], shape: Shape, mode: str) -> Tensor:
    if mode == "concat":
        size = shape[-1]
        assert size is not None
        return Tensor(call.emit("Concat", ways, {"axis": -1}), (*shape[:-1], 2 * size))
    operator = {"sum": "Add", "ave": "Add", "mul": "Mul"}.get(mode)
    if operator is None:
        raise Unsupported(f"merge_mode {mode[:40]!r}", "concat, sum, mul, ave or None")
    value = call.emit(operator, ways)
    return Tensor(call.emit("Mul", [value, call.number(0.5)]) if mode == "ave" else value, shape)


def _differ(own: object, other: object) -> bool:
    """Whether the options of the two layers differ in more than names and the direction."""
    a, b = (read_wrapped(x, "", "").config for x in (own, other))
    aside = {"name", "go_backwards", "dtype"}
    keys = [k for k in sorted(set(a) | set(b)) if k not in aside and not k.endswith(("_initializer", "seed"))]
    return any(a.get(k) != b.get(k) for k in keys)
