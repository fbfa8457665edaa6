# SPDX-License-Identifier: Apache-2.0
"""The closed form, row windows and the allocation, against hand-computed figures and brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from compiler_support import resnet
from headrace.errors import InputFileError
from headrace.hn import Network
from headrace.layers.rows import Family, RowKind, RowRule
from headrace.mapping import Allocation, Limits, Shortage, allocate, estimate, limits_of, options_of, stages_of
from headrace.mapping.allocate import shortage_of
from headrace.mapping.option_table import OptionTable
from headrace.targets import load_target
from headrace.timing import Flow, Plane, Work, row_window, row_windows
from layer_maker import make_layer

TARGET = load_target("hailo8")


def conv(size: int, cin: int, cout: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> Work:
    out = -(-size // stride)
    return Work(
        "net/conv1",
        "conv",
        Family.DENSE if groups == 1 else Family.GROUPED,
        (Plane("x", size, size, cin),),
        (RowRule(RowKind.WINDOW, kernel, stride, 1, kernel // 2),),
        Plane("net/conv1", out, out, cout),
        window=(kernel, kernel),
        stride=stride,
        groups=groups,
        weight_bytes=kernel * kernel * (cin // groups) * cout,
    )


def find(work: Work, columns: int, features: int, n: int) -> object:
    from headrace.mapping.options import _FAMILIES

    for o in _FAMILIES[work.family](work, TARGET):
        if (o.column_slices, o.feature_slices, o.subclusters_per_slice) == (columns, features, n):
            return o
    raise AssertionError("no such option")


def test_dense_engine_cycles_by_hand() -> None:
    # The published evidence for the drain: 61 column groups × (9 · 64 + 64) cycles per row of a 481-column image.
    work = replace(conv(481, 64, 64), output=Plane("o", 321, 481, 64), operands=(Plane("x", 321, 481, 64),))
    option = find(work, 1, 1, 8)
    assert option.engine == 61 * (9 * 64 + 64)
    assert option.engine * option.rows == 61 * 640 * 321
    assert option.controllers == 1
    assert option.subclusters == 8


def test_depthwise_engine_cycles_by_hand() -> None:
    # 32 channels at 112×112: unsplit 14 groups of 8 columns, 9 taps, 32 features.
    option = find(conv(112, 32, 32, groups=32), 1, 1, 1)
    assert option.engine == 14 * 9 * 32
    # Four column slices of 28 columns and 2 halo columns: 4 groups each.
    split = find(conv(112, 32, 32, groups=32), 4, 1, 1)
    assert split.engine == 4 * 9 * 32
    assert split.controllers == 5
    assert split.join_bytes == 112 * 112 * 32


def test_port_bound_by_hand() -> None:
    # 112×112×96 through an 8-byte port at 85 %: the widest tensor of MobileNetV2.
    one = find(conv(112, 16, 96, kernel=1), 1, 1, 8)
    assert one.output_bytes == 112 * 112 * 96
    assert one.join_bytes == 0
    option = find(conv(112, 16, 96, kernel=1), 2, 1, 8)
    assert option.output_bytes == 112 * 56 * 96
    assert option.join_bytes == 112 * 112 * 96
    assert option.output_row == -(-112 * 96 * 20 // (8 * 17))
    assert option.bound == "join"
    assert option.cycles == 112 * (option.output_row + 64)


def test_first_layer_uses_every_column() -> None:
    assert find(conv(224, 3, 32, stride=2), 1, 1, 4).engine == 14 * (9 * 3 + 32)


def test_fully_connected() -> None:
    work = Work(
        "fc", "dense", Family.DENSE, (Plane("x", 1, 1, 2048),), (RowRule(RowKind.WHOLE),), Plane("fc", 1, 1, 1000)
    )
    assert find(work, 1, 1, 8).engine == 2048 * 16 + 1000


def test_options_are_pareto_and_fit_a_cluster() -> None:
    for work in (conv(56, 64, 64), conv(7, 512, 2048, 1), conv(56, 96, 96, groups=96), conv(28, 64, 64, groups=4)):
        options = options_of(work, TARGET)
        assert options
        for a, b in itertools.permutations(options, 2):
            better = a.cycles <= b.cycles and all(x <= y for x, y in zip(a.use, b.use, strict=True))
            assert not better
        for o in options:
            assert o.controllers <= TARGET.controllers_per_cluster
            assert o.subclusters <= TARGET.subclusters_per_cluster


def test_weights_are_copied_by_columns_and_divided_by_features() -> None:
    work = conv(28, 256, 256)
    units = -(-work.weight_bytes // TARGET.memory_unit_bytes)
    assert find(work, 2, 1, 8).weight_units == 2 * units + 1
    assert find(work, 1, 2, 8).weight_units == 2 * -(-(work.weight_bytes // 2) // TARGET.memory_unit_bytes) + 1


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_window_rows_by_enumeration(kernel: int, stride: int, pad: int, dilation: int) -> None:
    h = 11
    extent = (kernel - 1) * dilation + 1
    pad = min(pad, extent - 1)
    rows = (h + 2 * pad - extent) // stride + 1
    rule = RowRule(RowKind.WINDOW, kernel, stride, dilation, pad)
    work = Work("w", "conv", Family.DENSE, (Plane("x", h, 4, 4),), (rule,), Plane("w", rows, 4, 4))
    for y in range(rows):
        touched = [y * stride - pad + i * dilation for i in range(kernel)]
        inside = [r for r in touched if 0 <= r < h]
        first, last = row_window(work, 0, y)
        assert first <= inside[0] <= inside[-1] <= last
        assert (first, last) == (max(touched[0], 0), min(touched[-1], h - 1))


def test_reshape_rows_by_enumeration() -> None:
    source, out = Plane("x", 6, 5, 4), Plane("w", 8, 3, 5)
    work = Work("w", "reshape", Family.MOVE, (source,), (RowRule(RowKind.RESHAPE),), out)
    owner = np.arange(120).reshape(6, 20)
    for y in range(8):
        wanted = range(y * 15, y * 15 + 15)
        rows = [r for r in range(6) if set(owner[r]) & set(wanted)]
        assert row_window(work, 0, y) == (rows[0], rows[-1])


def test_stacked_rows() -> None:
    rules = (RowRule(RowKind.STACK, offset=0), RowRule(RowKind.STACK, offset=3))
    work = Work("w", "concat", Family.MOVE, (Plane("a", 3, 1, 1), Plane("b", 2, 1, 1)), rules, Plane("w", 5, 1, 1))
    assert [tuple(map(int, p)) for p in zip(*row_windows(work, 0), strict=True)] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 2),
        (3, 2),
    ]
    assert [tuple(map(int, p)) for p in zip(*row_windows(work, 1), strict=True)] == [(0, -1)] * 3 + [(0, 0), (1, 1)]


# --- allocation ------------------------------------------------------------------------------------------------------


def best_by_force(table: OptionTable, limits: tuple[int, ...]) -> int | None:
    """The smallest frame time over every combination of options."""
    best: int | None = None
    for combination in itertools.product(*table.options):
        if all(sum(o.use[r] for o in combination) <= limits[r] for r in range(len(limits))):
            time = max(o.cycles for o in combination)
            best = time if best is None else min(best, time)
    return best


def test_choice_against_brute_force() -> None:
    rng = np.random.default_rng(5)
    exact = total = 0
    for _ in range(60):
        rows = []
        for _ in range(int(rng.integers(2, 5))):
            options = options_of(
                conv(int(rng.integers(8, 40)), int(rng.integers(3, 80)), int(rng.integers(8, 80))), TARGET
            )
            rows.append([options[i] for i in sorted(rng.choice(len(options), min(5, len(options)), replace=False))])
        table = OptionTable(rows)
        limits = tuple(int(rng.integers(len(rows), m)) for m in (24, 60, 24, 30, 40))
        want = best_by_force(table, limits)
        found = next((t for t in table.thresholds if table.choose(t, limits) is not None), None)
        if want is None:
            assert found is None
            continue
        total += 1
        if found is not None:
            assert found >= want  # never better than possible
            assert table.lower_bound(limits) <= want
            exact += found == want
    assert total > 20
    assert exact >= 0.9 * total  # the weighted sum may miss a corner; it must not do so often


def test_choice_keeps_the_limits() -> None:
    table = OptionTable([options_of(conv(28, 64, 64), TARGET)] * 6)
    for threshold in table.thresholds:
        chosen = table.choose(threshold, (30, 100, 60, 40, 50))
        if chosen is not None:
            uses = np.array([table.options[i][c].use for i, c in enumerate(chosen)]).sum(axis=0)
            assert (uses <= (30, 100, 60, 40, 50)).all()
            assert max(table.options[i][c].cycles for i, c in enumerate(chosen)) <= threshold


def test_more_resources_are_never_slower() -> None:
    flow = stages_of(resnet(blocks=2))
    times = []
    for share in (0.3, 0.5, 0.8, 1.0):
        result = allocate(flow, TARGET, limits_of(TARGET, flow, (share, share, share)))
        assert isinstance(result, Allocation)
        times.append(result.period)
        assert result.period >= result.lower_bound
    assert times == sorted(times, reverse=True)


def test_shares_use_the_written_decimal() -> None:
    flow = Flow((), (), ())
    assert limits_of(TARGET, flow, (0.9, 0.9, 0.9)) == Limits(115, 460, 921, 160, 256)


def test_impossible_says_what_is_short() -> None:
    flow = stages_of(resnet())
    result = allocate(flow, TARGET, Limits(10, 460, 1024))
    assert isinstance(result, Shortage)
    assert result.need[0] == len(flow.works)
    assert result.have[0] == 10
    assert shortage_of(flow, TARGET, Limits(10, 460, 1024)).need == result.need


def test_estimate_counts_devices() -> None:
    network = resnet(blocks=12)  # 90 stages: more controllers than a half-size device has
    flow = stages_of(network)
    small = estimate(flow, load_target("hailo8l"))
    assert not small.fits
    assert small.devices == -(-small.clusters // 4) == 2
    large = estimate(flow, TARGET)
    assert large.fits
    assert large.devices == 1
    assert large.fps > 0


def test_residual_adds_no_stage() -> None:
    assert len(stages_of(resnet(blocks=1)).stages) == 17  # 2 + 6 + 2 projections + 3 + softmax in 4


def test_huge_shapes_are_refused() -> None:
    network = Network("n")
    network.add(make_layer("n/input_layer1", "input_layer", [], {"shape": [-1, 1 << 20, 4, 4]}, (-1, 1 << 20, 4, 4)))
    with pytest.raises(InputFileError, match="too large to schedule"):
        stages_of(network)
