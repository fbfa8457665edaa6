# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from headrace.frontends.graph import MixesFrames, Unsupported, reals, strings
from headrace.frontends.layout import BATCH, Atom, View, permute, regroup
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.parts import cut, join
from headrace.frontends.to_hn.compositions.recurrent import (
    Cell,
    Gate,
    GatedCell,
    LongShortCell,
    PlainCell,
    State,
    unrolled,
)
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn import Array

#: An attribute that other formats' LSTM has and ONNX's has not: the bound of the cell itself; 0 for none.
CELL_CLIP = "cell_clip"
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
#: Activations by their name in lower case: that of the network's, and alpha and beta where they are used; None where
#: the standard has no value for a file that states none (run times differ).
_ACTIVATIONS: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "relu": ("relu", ()),
    "tanh": ("tanh", ()),
    "sigmoid": ("sigmoid", ()),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "affine": ("affine", (None, None)),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", (None,)),
    "scaledtanh": ("scaled_tanh", (None, None)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "elu": ("elu", (1.0,)),
}


def _gates(node: SourceNode, directions: int) -> list[list[Gate]]:
    """The functions of each direction; alphas and betas are taken in the order of those that have one."""
    count = len(_DEFAULTS[node.op_type])
    names = strings(node.node, "activations") or list(_DEFAULTS[node.op_type]) * directions
    if len(names) != count * directions:
        raise Unsupported(f"{len(names)} activations", f"{count * directions}")
    lists = [reals(node.node, f"activation_{which}") or [] for which in ("alpha", "beta")]
    clip = node.real("clip", 0.0)
    if clip < 0:
        raise Unsupported(f"clip {clip:g}", "a positive bound")
    gates: list[Gate] = []
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise Unsupported(f"the activation {name[:40]!r}", ", ".join(sorted(_ACTIVATIONS)))
        own, defaults = _ACTIVATIONS[name.lower()]
        values = [given.pop(0) if given else default for given, default in zip(lists, defaults, strict=False)]
        params: list[tuple[str, float]] = []
        for which, value in zip(("alpha", "beta"), values, strict=False):
            if value is None:
                raise Unsupported(f"the activation {name} without activation_{which}", "the number itself")
            params.append((which, value))
        gates.append(Gate(own, tuple(params), clip or math.inf))
    return [gates[i * count : (i + 1) * count] for i in range(directions)]


def _weights(node: SourceNode, index: int, what: str, shape: Sequence[int]) -> Array:
    array = node.weights(index, what)
    if array.shape != tuple(shape):
        raise Unsupported(f"{what} has shape {list(array.shape)}", str(list(shape)))
    return array


def _check_lengths(node: SourceNode, steps: int) -> None:
    lengths = node.optional(4, "sequence_lens")
    if lengths is not None and not (lengths == steps).all():
        raise Unsupported(
            f"sequence_lens {lengths.reshape(-1)[:4].tolist()}: the steps that count differ from the {steps} there are",
            f"{steps}, or none", ("export without sequence lengths (no packed sequences)",),
        )  # fmt: skip


def _rows_apart(builder: Builder, view: View) -> View:
    """A tensor whose first dimension is the batch, or holds other dimensions of a frame beside it: these as rows.

    Args:
        builder: the network.
        view: [N·rows, …], where the file fixes the batch to 1 it may stand anywhere.

    Returns:
        [N, rows, …].
    """
    batch, first = Atom(BATCH, 1), view.dims[0]
    if builder.batch != 1 and first[:1] != (batch,):
        raise MixesFrames(f"the batch is not the outermost part of dimension 0 of a tensor of shape {list(view.shape)}")
    others = tuple(tuple(a for a in d if a != batch) for d in view.dims)
    return replace(view, dims=((batch,), *others))


def _rows_back(view: View) -> View:
    """[N, rows, …] as [N·rows, …]."""
    return replace(view, dims=((*view.dims[0], *view.dims[1]), *view.dims[2:]))


def _states(builder: Builder, node: SourceNode, index: int, directions: int, rows: int, size: int) -> list[State]:
    """Initial states, per direction."""
    layout = node.integer("layout", 0)
    if not node.has(index):
        return [np.zeros(size) for _ in range(directions)]
    array = node.known(index)
    if array is not None:
        array = node.weights(index, "an initial state")
        array = array if layout == 0 or array.ndim != 3 else array.transpose(1, 0, 2)
        if array.ndim != 3 or array.shape[0] != directions or array.shape[2] != size or not array.size:
            raise Unsupported(f"an initial state of shape {list(array.shape)}", f"{directions} × batch × {size}")
        if not (array == array[:, :1]).all():
            raise MixesFrames("an initial state that differs from frame to frame")
        return list(array[:, 0])
    view = node.view(index)
    if view.rank != 3:
        raise Unsupported(f"an initial state of shape {list(view.shape)}", f"{directions} × batch × {size}")
    view = _rows_apart(builder, view if layout else permute(view, (1, 0, 2)))
    if view.shape[1:] != (rows, directions, size):
        raise Unsupported(f"an initial state of shape {list(view.shape)}", f"batch × {rows} × {directions} × {size}")
    return [cut(builder, view, [(0, 1, 1), (0, rows, 1), (d, 1, 1), (0, size, 1)]) for d in range(directions)]


def _final(builder: Builder, states: Sequence[State], layout: int) -> Result:
    """Final states as the operator gives them."""
    views = [s for s in states if isinstance(s, View)]
    if len(views) < len(states):
        raise Unsupported("a final state that does not depend on the input", "a computed state")
    view = _rows_back(join(builder, views, 2))
    return view if layout else permute(view, (1, 0, 2))


def _cells(node: SourceNode, inputs: int, size: int, directions: int) -> list[Cell]:
    columns = _GATES[node.op_type] * size
    weights = _weights(node, 1, "the weights of the input", (directions, columns, inputs))
    recurrences = _weights(node, 2, "the weights of the state", (directions, columns, size))
    biases = np.zeros((directions, 2 * columns))
    if node.has(3):
        biases = _weights(node, 3, "the bias", (directions, 2 * columns))
    cells: list[Cell] = []
    for d, functions in enumerate(_gates(node, directions)):
        weight, recurrence = weights[d].T, recurrences[d].T
        of_input, of_state = biases[d, :columns], biases[d, columns:]
        match node.op_type:
            case "RNN":
                cells.append(PlainCell(size, weight, recurrence, of_input + of_state, functions[0]))
            case "GRU":
                kept = None
                if node.integer("linear_before_reset", 0):
                    kept, of_state = of_state[2 * size :], np.concatenate([of_state[: 2 * size], np.zeros(size)])
                f, g = functions
                cells.append(GatedCell(size, weight, recurrence, of_input + of_state, f, g, kept))
            case _:
                peephole = _weights(node, 7, "the peepholes", (directions, 3 * size))[d] if node.has(7) else None
                peephole = peephole if peephole is not None and np.any(peephole) else None
                coupled = node.integer("input_forget", 0) == 1
                bound = node.real(CELL_CLIP, 0.0) or math.inf
                f, g, h = functions
                h = replace(h, clip=math.inf)  # as the run time has it: the bound is one of the gates' sums
                bias = of_input + of_state
                cells.append(LongShortCell(size, weight, recurrence, bias, f, g, h, peephole, coupled, bound))
    return cells


@handles("LSTM", "GRU", "RNN")
def recurrent(builder: Builder, node: SourceNode) -> list[Result]:
    view, layout = node.view(0), node.integer("layout", 0)
    direction = node.text("direction", "forward")
    if direction not in _DIRECTIONS or layout not in (0, 1) or view.rank != 3:
        raise Unsupported(
            f"direction {direction[:40]!r}, layout {layout}, input of shape {list(view.shape)}",
            "forward, reverse or bidirectional, layout 0 or 1, [steps, N, features]",
        )
    backward = _DIRECTIONS[direction]
    recurrence = node.constant(2, "the weights of the state")
    size = node.integer("hidden_size", recurrence.shape[-1] if recurrence.ndim else 0)
    if not 0 < size < 1 << 20:
        raise Unsupported(f"hidden_size {size}", "a positive size")
    inputs = _rows_apart(builder, view if layout else permute(view, (1, 0, 2)))
    rows, steps, features = inputs.shape[1:]
    _check_lengths(node, steps)
    cells = _cells(node, features, size, len(backward))
    states = [_states(builder, node, 5, len(backward), rows, size)]
    if node.op_type == "LSTM":
        states.append(_states(builder, node, 6, len(backward), rows, size))
    result, last = unrolled(builder, inputs, cells, backward, list(zip(*states, strict=True)))
    whole = _rows_back(regroup(result, [builder.frames, rows, steps, len(backward), size], builder.frames))
    finals = [_final(builder, s, layout) for s in zip(*last, strict=True)]
    return [whole if layout else permute(whole, (1, 2, 0, 3)), *finals]
