# SPDX-License-Identifier: Apache-2.0
"""Every real network of the zoo through every stage; `make results` writes the same figures into docs/results.md.

Quick by default: a few frames of each network, 32 calibration frames. The slow test runs the conditions of the walking
skeleton (every kernel set, 1, 2 and 5 threads, several batches, 104 frames or all there are) and the accuracy figures.
With ``HEADRACE_RESULTS=bench/out/results.json`` it keeps what it measured, for ``tools/results_page.py --render-only``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zoo_metrics
from emulator_process import EmulatorProcess
from zoo_matrix import FULL, QUICK, Row, keep, loss, measure
from zoo_models import ZOO, ZooModel

pytest.importorskip("headrace.runtime._native")
pytest.importorskip("ai_edge_litert")

NOT_YET = {"UnsupportedModelError", "UnsupportedNodesError", "NotBuiltYetError", "InputFileError", "CapacityError"}


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess() as process:
        yield process


def judge(model: ZooModel, row: Row) -> None:
    """What every network must satisfy at whatever effort."""
    print(row)
    if row.stopped and not model.required:
        # It may be refused, but only with a report.
        assert row.error in NOT_YET and row.diagnostics >= 1, row.stopped
        pytest.skip(f"not yet: {row.stopped}")
    assert not row.stopped, row.stopped
    assert row.native_error is not None and row.native_error <= model.native_error
    assert row.different == 0
    assert row.compared_layers > 0
    assert row.reports >= 6 and row.changed_reports == []
    assert row.codes >= 2


@pytest.fixture(scope="module")
def measured(zoo: Path, emulator: EmulatorProcess) -> Callable[[str], Row]:
    """A network's row, which is measured when it is first asked for."""
    return functools.cache(lambda name: measure(ZOO[name], zoo, QUICK, emulator))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_stage(name: str, measured: Callable[[str], Row]) -> None:
    judge(ZOO[name], measured(name))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_figure_moved(name: str, measured: Callable[[str], Row]) -> None:
    """Speed, latency, contexts, sizes, SNR against tests/golden/metrics.json; `make metrics` writes it anew."""
    after = measured(name).metrics
    found = {} if after is None else {name: after}
    golden = {known: metrics for known, metrics in zoo_metrics.read().items() if known == name}
    assert not zoo_metrics.moved(golden.get(name), after), (
        "figures moved; if that is meant: make metrics, then read the diff\n" + zoo_metrics.moved_text(golden, found)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_setting_and_the_accuracy(name: str, zoo: Path, emulator: EmulatorProcess) -> None:
    if name in ("yolox_nano", "picodet_s"):
        pytest.importorskip("pycocotools")
    model = ZOO[name]
    row = measure(model, zoo, FULL, emulator)
    if kept := os.environ.get("HEADRACE_RESULTS"):
        keep(row, Path(kept))
    judge(model, row)
    assert row.codes >= model.least_codes
    assert row.worst_snr >= model.least_snr, row.snr
    if model.accuracy:
        assert loss(model, row) <= model.accuracy_points + 1e-6, row.accuracy
    if model.accuracy and model.stated:
        assert row.accuracy["agreement"] >= 99.0, row.accuracy
