# SPDX-License-Identifier: Apache-2.0
"""What every family needs to freeze a layer: quantizations of its tensors, and the integers of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from headrace.hn import Array, Layer, Network, store_requantization
from headrace.layers.activation import GAIN, Activated
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization, choose_multipliers
from headrace.optimize.freeze.lookup import Grid, choose_lookup, choose_lookups, reaches
from headrace.reports.optimize import FreezeNotes

# Beyond this ratio any accumulator but zero already leaves the code range, so a larger one gives the same codes.
MAX_RATIO = 2.0**20
WIDE = 16
MAX_STEPS = 2.0**17  # from one end of any code range to beyond the other
#: Beyond these reals, sigmoid, tanh and the like are within half a 16-bit code of their bounds.
WHOLE_FUNCTION = (-16.0, 16.0)
#: Parameter float32 ``[channels]``: what is added to a result, in steps of the output's scale, before it is rounded.
ROUNDING_OFFSET = "rounding_offset"


@dataclass
class FreezeContext:
    """State of one freezing.

    Attributes:
        network: becomes the quantized network; its layers are changed in topological order.
        tensors: quantization of every layer's output.
        before: measured range in front of activations.
        rounders: layer name → rounds its weights (kernel and scale → integers); to the nearest where there is none.
        notes: per layer, for the report (index bits, widened channels …).
    """

    network: Network
    tensors: Mapping[str, TensorQuantization]
    before: Mapping[str, tuple[float, float]]
    rounders: dict[str, Callable[[Array, Array], Array]] = field(default_factory=dict)
    notes: dict[str, FreezeNotes] = field(default_factory=dict[str, FreezeNotes])

    def inputs(self, layer: Layer) -> list[TensorQuantization]:
        return [self.tensors[name] for name in layer.inputs]

    def note(self, layer: Layer, **facts: object) -> None:
        """Set fields of a layer's :class:`FreezeNotes`."""
        self.notes[layer.name] = replace(self.notes.get(layer.name, FreezeNotes()), **facts)

    def store(self, layer: Layer, rq: Requantization | None, params: Mapping[str, Array] | None = None) -> None:
        """Record the integers and drop the layer's float parameters."""
        layer.params = {key: value for key, value in layer.params.items() if value.dtype.kind != "f"}
        layer.params.update(params or {})
        store_requantization(layer, self.tensors[layer.name], rq)

    def requantization(self, layer: Layer, units: Array, magnitudes: Array, grid: Grid | None = None) -> Requantization:
        """The integers that turn accumulators into this layer's output codes, its activation included.

        Args:
            layer: the layer.
            units: float64 ``[terms, channels]``, the real value of one unit of each accumulator.
            magnitudes: ``[terms, channels]``, the largest absolute accumulator.
            grid: the few reals that the sum can take, if they are few.
        """
        operation = layer.operation
        output = self.tensors[layer.name]
        params = layer.params
        if isinstance(operation, Activated) and operation.by_sign:
            return by_sign(units[0], magnitudes[0], operation.slopes(params), output)
        gain = params.get(GAIN)
        if gain is not None:
            assert isinstance(operation, Activated)
            return self._with_gains(layer, operation, units, magnitudes, gain.astype(np.float64))
        clamp = operation.clamp if isinstance(operation, Activated) else (None, None)
        if not output.uniform:
            # Zero points are in the bias, and a clamp ends at the ends of the codes (optimize.scales.parts.can_differ).
            assert clamp is not None
            multipliers, shifts = choose_multipliers(_ratios(units, output.steps.astype(np.float64)), magnitudes)
            return Requantization(multipliers, shifts, 0, 0, output.high)
        if clamp is not None:
            low, high = clamp_codes(output, *clamp)
            multipliers, shifts = choose_multipliers(_ratios(units, output.scale), magnitudes)
            return Requantization(multipliers, shifts, output.zero_point, low, high)
        assert isinstance(operation, Activated)
        measured, parameters = self.before[layer.name], dict(operation.activation_params)
        bottom, top = operation.range
        if output.bits == WIDE and bottom is not None and top is not None:
            whole = reaches(operation.activation, parameters, WHOLE_FUNCTION, (bottom, top), output)
            # The codes show what lies beyond the measured values; so must the index.
            if whole:
                measured = min(measured[0], WHOLE_FUNCTION[0]), max(measured[1], WHOLE_FUNCTION[1])
        found = choose_lookup(operation.activation, parameters, measured, output, grid)
        index = found.index
        self.note(layer, table_bits=index.bits, table_range=tuple(round(v, 6) for v in index.limits))
        multipliers, shifts = choose_multipliers(_ratios(units, index.scale), magnitudes)
        return Requantization(multipliers, shifts, index.zero_point, 0, index.high, found.table)

    def _with_gains(
        self, layer: Layer, operation: Activated, units: Array, magnitudes: Array, gain: Array
    ) -> Requantization:
        """As :meth:`requantization`, where each channel's result is multiplied by its gain."""
        output = self.tensors[layer.name]
        if operation.clamp is not None:
            low, high = clamp_codes(output, *operation.clamp)
            multipliers, shifts = choose_multipliers(_ratios(units * gain, output.scale), magnitudes)
            return Requantization(multipliers, shifts, output.zero_point, low, high)
        distinct, numbers = np.unique(gain, return_inverse=True)
        found = choose_lookups(
            operation.activation,
            dict(operation.activation_params),
            self.before[layer.name],
            output,
            [float(g) for g in distinct],
        )
        first = found.indices[0]
        self.note(layer, table_bits=first.bits, tables=len(distinct), largest_gain=float(distinct[-1]))
        scales = np.array([index.scale for index in found.indices])[numbers]
        multipliers, shifts = choose_multipliers(_ratios(units, scales), magnitudes)
        own = numbers.astype(np.uint8)
        return Requantization(multipliers, shifts, first.zero_point, 0, first.high, found.tables, own)


def by_sign(units: Array, magnitudes: Array, slopes: Array, output: TensorQuantization) -> Requantization:
    """The integers of a function that multiplies negative accumulators by a slope: a second term ``min(a, 0)``.

    Args:
        units: float64 ``[c]`` or ``[1]``, the real value of one unit of the accumulator.
        magnitudes: as ``units``, the largest absolute accumulator.
        slopes: float64 ``[c]`` or ``[1]``.
        output: quantization of the result.
    """
    ratios, slopes, magnitudes = np.broadcast_arrays(_ratios(units, output.scale), slopes, magnitudes)
    factors = np.stack([ratios, np.clip(ratios * (slopes - 1.0), -MAX_RATIO, MAX_RATIO)])
    multipliers, shifts = choose_multipliers(factors, np.stack([magnitudes, magnitudes]))
    return Requantization(multipliers, shifts, output.zero_point, 0, output.high)


def _ratios(units: Array, scale: float | Array) -> Array:
    return np.clip(units / scale, -MAX_RATIO, MAX_RATIO)


def clamp_codes(output: TensorQuantization, low: float | None, high: float | None) -> tuple[int, int]:
    """Real clamp bounds as codes inside the code range, at least one code wide."""

    def code(bound: float) -> int:
        steps = min(max(bound / output.scale, -MAX_STEPS), MAX_STEPS)  # the quotient may be infinite
        return min(max(output.zero_point + round(steps), 0), output.high)

    bottom = 0 if low is None else code(low)
    top = output.high if high is None else code(high)
    return bottom, max(bottom, top)
