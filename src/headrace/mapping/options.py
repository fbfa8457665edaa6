# SPDX-License-Identifier: Apache-2.0
"""Implementation options of a stage and their closed-form cost.

The rules are those of the fitted cost model: an engine of 8 columns × 8 output features per sub-cluster and one input
feature and kernel tap per cycle; ports of 8 bytes per cycle; a busy share; an overhead per output row. What they give
in cycles is told in :mod:`headrace.timing.rates`. Differences from the published formula: pools are charged the busy
share too (the device charges all stages alike), every operand arrives by a port of its own (the busiest counts), and
slices cost one controller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.layers.rows import Family, RowKind
from headrace.mapping.resources import MEMORY, Use, per_cluster
from headrace.targets import Target
from headrace.timing.rates import Rate, ceil_div, row_cycles
from headrace.timing.work import Work

COLUMNS = 8  # output columns a sub-cluster computes at once
FEATURES = 8  # output features a sub-cluster computes at once
MAX_SLICES = 8
MAX_SUBCLUSTERS = 8  # of one slice
LEAST_SLICE_WIDTH = 4  # columns
MOST_ENGINE_CYCLES = (1 << 32) - 1  # of one row: what a stage record holds
MOST_CYCLES = 1 << 48  # of one frame: days; keeps all sums of the schedule within 64 bits
FAN = 4  # a helper controller joins or feeds at most this many others


@dataclass(frozen=True)
class Option(Rate):
    """One way to build a stage: how fast it is and what it takes.

    Attributes:
        column_slices, feature_slices, subclusters_per_slice: dw, df, n.
        controllers, subclusters: with helpers.
        weight_units: memory units of the weights and helpers, without buffers.
        activation_units, input_aligners: of all slices, and of the joining controller.
    """

    column_slices: int
    feature_slices: int
    subclusters_per_slice: int
    controllers: int
    subclusters: int
    weight_units: int
    activation_units: int
    input_aligners: int

    @property
    def use(self) -> Use:
        return self.controllers, self.subclusters, self.weight_units, self.activation_units, self.input_aligners


def _make(
    work: Work,
    target: Target,
    slices: tuple[int, int, int],
    engine: int,
    features: tuple[int, int],
    controllers: int,
    helpers: int,
    weight_units: int,
) -> Option:
    """Fill in ports and totals; ``features`` are the input and output features of one slice."""
    columns, feature_slices, n = slices
    d = columns * feature_slices
    rows, out = work.output.height, work.output
    busiest = max(
        (features[0] if i == 0 else features[1] if p.channels == out.channels else p.channels)
        * ceil_div(p.width, columns)
        * p.height
        * p.element_bytes
        for i, p in enumerate(work.operands)
    )
    output = features[1] * ceil_div(out.width, columns) * rows * out.element_bytes
    join = out.frame_bytes if d > 1 else 0
    engine_row, input_row, output_row = row_cycles(target, rows, engine, busiest, output, join)
    return Option(
        rows=rows,
        engine=engine,
        input_bytes=busiest,
        output_bytes=output,
        join_bytes=join,
        engine_row=engine_row,
        input_row=input_row,
        output_row=output_row,
        overhead=target.row_overhead_cycles,
        column_slices=columns,
        feature_slices=feature_slices,
        subclusters_per_slice=n,
        controllers=controllers,
        subclusters=n * (controllers - helpers) + helpers,
        weight_units=weight_units + helpers,
        activation_units=d,
        input_aligners=d * len(work.operands) + (d if d > 1 else 0),
    )


def _column_groups(work: Work, columns: int) -> int:
    halo = (work.window[1] - 1) * work.dilation if columns > 1 and work.stride == 1 else 0
    return ceil_div(ceil_div(work.output.width, columns) + halo, COLUMNS)


def _mac_options(work: Work, target: Target) -> Iterator[Option]:
    taps = work.window[0] * work.window[1]
    inputs = work.operands[0].channels if work.rules[0].kind is not RowKind.WHOLE else _flat(work)
    outputs, grouped = work.output.channels, work.family is Family.GROUPED
    passes = work.operands[0].element_bytes  # 16-bit codes are multiplied half by half (docs/numerics.md, section 3)
    for columns in range(1, MAX_SLICES + 1):
        if columns > 1 and work.output.width < LEAST_SLICE_WIDTH * columns:
            continue
        groups = _column_groups(work, columns)
        for feature_slices in range(1, MAX_SLICES // columns + 1):
            # A grouped convolution cannot be cut finer than its groups.
            if feature_slices > (work.groups if grouped else outputs):
                continue
            slice_out = ceil_div(outputs, feature_slices)
            slice_in = ceil_div(inputs, feature_slices) if grouped else inputs
            d = columns * feature_slices
            helpers = (d > 1) + (feature_slices > 1 and grouped) + 2 * (d > FAN)
            units = d * max(1, ceil_div(ceil_div(work.weight_bytes, feature_slices), target.memory_unit_bytes))
            width = ceil_div(outputs, work.groups) if grouped else slice_out
            for n in range(1, MAX_SUBCLUSTERS + 1):
                if FEATURES * (n - 1) >= width:
                    break
                tiles = ceil_div(width, FEATURES * n)
                engine = groups * (passes * taps * slice_in * tiles + (0 if grouped else slice_out))
                yield _make(
                    work,
                    target,
                    (columns, feature_slices, n),
                    engine,
                    (slice_in, slice_out),
                    d + helpers,
                    helpers,
                    units,
                )


def _flat(work: Work) -> int:
    """Input features of a fully connected layer."""
    return work.operands[0].height * work.operands[0].row_elements


def _pool_options(work: Work, target: Target) -> Iterator[Option]:
    channels = work.output.channels
    for d in range(1, min(MAX_SLICES, channels) + 1):
        features = ceil_div(channels, d)
        engine = ceil_div(work.output.width, COLUMNS) * work.window[0] * work.window[1] * features
        helpers = 2 * (d > 1)
        yield _make(work, target, (1, d, 1), engine, (features, features), d + helpers, helpers, 0)


def _move_options(work: Work, target: Target) -> Iterator[Option]:
    # The ports are the work: the engine keeps up by definition.
    channels = (work.operands[0].channels, work.output.channels)
    yield _make(work, target, (1, 1, 1), 0, channels, work.controllers, 0, 0)


_FAMILIES = {
    Family.DENSE: _mac_options,
    Family.GROUPED: _mac_options,
    Family.POOL: _pool_options,
    Family.MOVE: _move_options,
}


def least_needs(work: Work, target: Target) -> tuple[Use, int, int]:
    """The least of each resource, of engine cycles a row and of cycles a frame that any way to build the stage takes,
    whether it fits or not.
    """
    ways = list(_FAMILIES[work.family](work, target))
    uses = tuple(min(column) for column in zip(*(o.use for o in ways), strict=True))
    return uses, min(o.engine for o in ways), min(o.cycles for o in ways)


def options_of(work: Work, target: Target) -> list[Option]:
    """The Pareto options of a stage that fit one cluster, fastest first.

    Pareto: no other option is at least as good in cycles and every resource and better in one.
    """
    there = per_cluster(target)  # memory alone may spill into other clusters
    fits = [
        o
        for o in _FAMILIES[work.family](work, target)
        if all(u <= have for u, have in zip(o.use[:MEMORY], there[:MEMORY], strict=True))
        and all(u <= have for u, have in zip(o.use[MEMORY + 1 :], there[MEMORY + 1 :], strict=True))
        and o.engine <= MOST_ENGINE_CYCLES
        and o.cycles <= MOST_CYCLES
    ]
    fits.sort(key=lambda o: (o.cycles, o.use))
    kept: list[Option] = []
    for option in fits:
        if not any(all(a <= b for a, b in zip(k.use, option.use, strict=True)) for k in kept):
            kept.append(option)
    return kept
