# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers written out over a known number of steps.

The product of the inputs with their weights is one convolution over the whole sequence. Sequences of one frame that
stand beside one another (the columns of a picture) are rows, each with its own state. A step adds the product of the
state, a 1×1 convolution over the rows whose weights each step has for itself: the device has no weights that layers
share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.frontends.fold import Budget
from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import CHANNELS_LAST, View, arranged_view
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, clipped, combine, per_channel
from headrace.frontends.to_hn.compositions.parts import cut, join
from headrace.hn import Array
from headrace.hn.value import Wish
from headrace.layers import Add, Convolution, Multiply, Subtract

#: Layers and weights of the state that one recurrent layer may become.
MAX_LAYERS = 8192
MAX_WEIGHTS = 1 << 26
_WIDE = Wish(bits=16)
#: [N, rows, 1, size] of the device, or ``[size]`` numbers that are known.
State = View | Array


@dataclass(frozen=True)
class Gate:
    """What makes a gate of its sum: an activation with its parameters, or a factor and an offset (``affine``)."""

    name: str
    params: tuple[tuple[str, float], ...] = ()
    clip: float = math.inf

    def __call__(self, builder: Builder, view: View) -> View:
        if math.isfinite(self.clip):
            view = clipped(builder, view, -self.clip, self.clip)
        params = dict(self.params)
        match self.name:
            case "affine":
                return per_channel(builder, view, params["alpha"], params["beta"])
            case "scaled_tanh":
                inner = applied(builder, per_channel(builder, view, params["beta"]), "tanh")
                return per_channel(builder, inner, params["alpha"])
            case name:
                return applied(builder, view, name, **params)


@dataclass(frozen=True)
class Moment:
    """What the inputs make of the sums of all gates, at one step.

    Attributes:
        builder: the network.
        sums: of all steps and directions, [N, rows, steps, columns].
        step: which of them.
        column: where the direction's own begin.
        size: of the state.
    """

    builder: Builder
    sums: View
    step: int
    column: int
    size: int

    def gates(self, first: int, count: int = 1) -> View:
        """The sums of ``count`` gates from gate ``first`` on, [N, rows, 1, count·size]."""
        start, rows = self.column + first * self.size, self.sums.shape[1]
        return cut(self.builder, self.sums, [(0, 1, 1), (0, rows, 1), (self.step, 1, 1), (start, count * self.size, 1)])


@dataclass(frozen=True)
class Cell(ABC):
    """One direction of a recurrent layer: its weights, and what a step does.

    Attributes:
        size: of the state.
        weight: of the inputs, ``[inputs, gates·size]``.
        recurrence: of the state, ``[size, gates·size]``.
        bias: ``[gates·size]``, added to the products of both.
    """

    size: int
    weight: Array
    recurrence: Array
    bias: Array

    @abstractmethod
    def step(self, inputs: Moment, states: Sequence[State]) -> list[State]:
        """The states after a step, the first of which is the result."""

    #: Layers that a step has at most.
    layers_of_a_step: ClassVar[int] = 16

    def sums(self, inputs: Moment, state: State, first: int, count: int = 1) -> View:
        """The sums of ``count`` gates from gate ``first`` on, [N, rows, 1, count·size]."""
        columns = slice(first * self.size, (first + count) * self.size)
        own = inputs.gates(first, count)
        return added(inputs.builder, own, product(inputs.builder, state, self.recurrence[:, columns]))

    def parts(self, builder: Builder, gates: View) -> list[View]:
        """A tensor of several gates, gate by gate."""
        rows, columns = gates.shape[1], gates.shape[3]
        return [
            cut(builder, gates, [(0, 1, 1), (0, rows, 1), (0, 1, 1), (start, self.size, 1)])
            for start in range(0, columns, self.size)
        ]


def wide(builder: Builder, view: View) -> View:
    """The tensor, whose errors a state would add up, asked for in 16 bits."""
    builder.network[view.layer].output.wish = _WIDE
    return view


def product(builder: Builder, state: State, weight: Array, bias: Array | None = None) -> State:
    """A state times ``[size, outputs]``."""
    if not isinstance(state, View):
        return state @ weight + (0.0 if bias is None else bias)
    layer = builder.arrange(state, CHANNELS_LAST, vector=False)
    inputs, outputs = weight.shape
    params = {"kernel": weight.reshape(1, 1, inputs, outputs), "bias": np.zeros(outputs) if bias is None else bias}
    made = builder.emit(Convolution(kernel_shape=(1, 1, inputs, outputs)), [layer], params)
    return builder.output(made, CHANNELS_LAST)


def added(builder: Builder, view: View, other: State) -> View:
    if isinstance(other, View):
        return combine(builder, Add(), view, other)
    return per_channel(builder, view, 1.0, other) if np.any(other) else view


def multiplied(builder: Builder, view: View, other: State) -> State:
    """The product of the elements; known where the other is 0."""
    if isinstance(other, View):
        return combine(builder, Multiply(), view, other)
    return per_channel(builder, view, other) if np.any(other) else other


# --- cells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainCell(Cell):
    """``h = f(W·x + R·h + b)``."""

    f: Gate
    layers_of_a_step: ClassVar[int] = 4

    def step(self, inputs: Moment, states: Sequence[State]) -> list[State]:
        return [self.f(inputs.builder, self.sums(inputs, states[0], 0))]


@dataclass(frozen=True)
class GatedCell(Cell):
    """GRU, gates z, r, h. With ``state_bias`` the reset gate acts on the product of the state and this bias."""

    f: Gate
    g: Gate
    state_bias: Array | None

    def step(self, inputs: Moment, states: Sequence[State]) -> list[State]:
        builder = inputs.builder
        state = states[0]
        columns = slice(2 * self.size, 3 * self.size)
        update, reset = self.parts(builder, self.f(builder, self.sums(inputs, state, 0, 2)))
        own = inputs.gates(2)
        if self.state_bias is not None:
            kept = multiplied(builder, reset, product(builder, state, self.recurrence[:, columns], self.state_bias))
        else:
            kept = product(builder, multiplied(builder, reset, state), self.recurrence[:, columns])
        new = self.g(builder, added(builder, own, kept))
        if isinstance(state, View):  # new + update · (state - new)
            difference = wide(builder, combine(builder, Subtract(), state, new))
        else:
            difference = per_channel(builder, new, -1.0, state)
        return [added(builder, new, wide(builder, combine(builder, Multiply(), update, difference)))]


@dataclass(frozen=True)
class LongShortCell(Cell):
    """LSTM, gates i, o, f, c; states are the result and the cell.

    Attributes:
        f, g, h: functions of the gates, of the new values, and of the cell.
        peephole: factors of the cell in the sums of i, o, f, ``[3·size]``, or None.
        coupled: the forget gate is one minus the input gate.
        cell_clip: bound of the cell, or infinity.
    """

    f: Gate
    g: Gate
    h: Gate
    peephole: Array | None
    coupled: bool
    cell_clip: float = math.inf
    layers_of_a_step: ClassVar[int] = 24

    def step(self, inputs: Moment, states: Sequence[State]) -> list[State]:
        builder = inputs.builder
        state, cell = states
        new = self.g(builder, self.sums(inputs, state, 3))
        if self.peephole is None:
            gates = self.f(builder, self.sums(inputs, state, 0, 3))
            enter, leave, forget = self.parts(builder, gates)
        else:
            enter, forget = (self._peeping(inputs, state, cell, i) for i in (0, 2))
            leave = None
        if self.coupled:
            forget = per_channel(builder, enter, -1.0, 1.0)
        kept = multiplied(builder, forget, cell)
        if isinstance(kept, View):
            wide(builder, kept)
        entered = wide(builder, combine(builder, Multiply(), enter, new))
        cell = added(builder, entered, kept)
        if math.isfinite(self.cell_clip):
            cell = clipped(builder, cell, -self.cell_clip, self.cell_clip)
        wide(builder, cell)
        leave = self._peeping(inputs, state, cell, 1) if leave is None else leave
        return [combine(builder, Multiply(), leave, self.h(builder, cell)), cell]

    def _peeping(self, inputs: Moment, state: State, cell: State, gate: int) -> View:
        """A gate that sees the cell."""
        assert self.peephole is not None
        builder = inputs.builder
        factor = self.peephole[gate * self.size : (gate + 1) * self.size]
        seen = per_channel(builder, cell, factor) if isinstance(cell, View) else cell * factor
        return self.f(builder, added(builder, self.sums(inputs, state, gate), seen))


# --- over time --------------------------------------------------------------------------------------------------------


def check_work(budget: Budget, cells: Sequence[Cell], steps: int) -> None:
    """Refuse what would become too large a network."""
    layers = sum(cell.layers_of_a_step for cell in cells) * steps
    weights = sum(cell.recurrence.size for cell in cells) * steps
    if layers > MAX_LAYERS or weights > MAX_WEIGHTS:
        raise Unsupported(
            f"written out over its {steps} steps it would be up to {layers} layers with {weights} weights of the state",
            f"≤ {MAX_LAYERS} layers, ≤ {MAX_WEIGHTS} weights",
            ("export with a shorter sequence",),
        )
    budget.repeat(layers, weights)


def unrolled(
    builder: Builder, inputs: View, cells: Sequence[Cell], backward: Sequence[bool], states: Sequence[Sequence[State]]
) -> tuple[View, list[list[State]]]:
    """Every direction of a recurrent layer over all steps.

    Args:
        builder: the network.
        inputs: [N, rows, steps, features]; the rows are sequences beside one another, each with its own state.
        cells: one per direction.
        backward: whether the direction begins at the end.
        states: per direction the states at its beginning, the result first.

    Returns:
        The results [N, rows, steps, directions·size], and per direction the states at its end.
    """
    steps = inputs.shape[2]
    check_work(builder.budget, cells, steps)
    layer = builder.arrange(inputs, CHANNELS_LAST, vector=False)
    weight = np.concatenate([cell.weight for cell in cells], axis=1)
    bias = np.concatenate([cell.bias for cell in cells])
    made = builder.emit(
        Convolution(kernel_shape=(1, 1, *weight.shape)), [layer], {"kernel": weight[None, None], "bias": bias}
    )
    sums = arranged_view(made.name, made.frame_shape, CHANNELS_LAST)
    results: list[View] = []
    last: list[list[State]] = []
    column = 0
    for cell, reverse, first in zip(cells, backward, states, strict=True):
        width = cell.weight.shape[1]
        now, made_states = list(first), dict[int, View]()
        for t in reversed(range(steps)) if reverse else range(steps):
            now = cell.step(Moment(builder, sums, t, column, cell.size), now)
            assert isinstance(now[0], View)
            made_states[t] = now[0]
        results.append(join(builder, [made_states[t] for t in range(steps)], 2))
        last.append(now)
        column += width
    return join(builder, results, 3), last
