# SPDX-License-Identifier: Apache-2.0
"""The native queue through its binding: order, bounds, cancelling, several models, the end of the interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from native.test_soak import model

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

SHAPES = [((12, 13, 16), 5), ((9, 16, 8), 3), ((20, 24, 3), 4)]


class Counted:
    """Callbacks of submitted runs: (index, status, outputs) in the order they came."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, Any]] = []
        self.changed = threading.Condition()

    def callback(self, index: int) -> Any:
        def done(status: int, problems: Any, outputs: Any) -> None:
            assert isinstance(problems, tuple) and bool(problems) == (status != 0)
            with self.changed:
                self.seen.append((index, status, {k: v.copy() for k, v in outputs.items()}))
                self.changed.notify_all()

        return done

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.seen) >= count, 60)
            assert len(self.seen) == count


def inputs(index: int, frames: int) -> dict[str, Any]:
    rng = np.random.default_rng(index)
    return {"x": rng.integers(0, 256, (frames, *SHAPES[index % 3][0]), np.uint8)}


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_models_share_a_device_and_end_in_order(threads: int) -> None:
    device = native.Device(None, threads, None)
    networks = [device.load(model(i, *SHAPES[i])) for i in range(3)]
    want = [networks[i % 3].infer(inputs(i, 1 + i % 4))["z"] for i in range(60)]
    counted = Counted()
    for i in range(60):
        networks[i % 3].submit(inputs(i, 1 + i % 4), False, counted.callback(i))
    counted.wait(60)
    assert all(status == 0 for _, status, _ in counted.seen)
    for index, _, outputs in counted.seen:
        assert (outputs["z"] == want[index]).all()
    for k in range(3):
        order = [index for index, _, _ in counted.seen if index % 3 == k]
        assert order == sorted(order)


def test_a_full_queue_refuses_and_cancelling_frees_it() -> None:
    network = native.Device(None, 2, None).load(model(0, (64, 64, 16), 6))
    network.set_queue_size(8)
    x = {"x": np.zeros((1, 64, 64, 16), np.uint8)}
    counted, sent, refused = Counted(), 0, 0
    for _ in range(200):
        try:
            network.submit(x, False, counted.callback(sent))
            sent += 1
        except native.NativeError as error:
            assert error.status == 6 and "full" in error.problems[0].rule
            refused += 1
    assert refused > 0 and sent >= 8
    network.cancel_all()  # returns when every callback has
    assert sorted(i for i, _, _ in counted.seen) == list(range(sent))
    assert {status for _, status, _ in counted.seen} <= {0, 1002}
    with pytest.raises(native.NativeError) as caught:
        network.submit({"x": np.zeros((9, 64, 64, 16), np.uint8)}, False, counted.callback(0))
    assert caught.value.status == 6
    with pytest.raises(native.NativeError) as caught:
        network.submit({"x": np.zeros((0, 64, 64, 16), np.uint8)}, False, counted.callback(0))
    assert caught.value.status == 2


def test_a_callback_may_submit_and_cancel() -> None:
    network = native.Device(None, 2, None).load(model(1, *SHAPES[1]))
    counted = Counted()
    x = inputs(1, 2)

    def first(status: int, problems: Any, outputs: Any) -> None:
        network.submit(x, False, counted.callback(1))
        network.cancel_all()  # of the runs before: itself
        counted.callback(0)(status, problems, outputs)

    network.submit(x, False, first)
    counted.wait(2)
    assert {i: s for i, s, _ in counted.seen} == {0: 0, 1: 1002}


def test_callbacks_that_raise_and_interpreters_that_end(tmp_path: Path) -> None:
    """Neither ends the process badly; runs still under way at the end are waited for or dropped."""
    (tmp_path / "net.hef").write_bytes(model(1, *SHAPES[1]))
    code = """
import sys, numpy as np
from headrace.runtime import _native as native
network = native.Device(None, 2, None).load(open(sys.argv[1], "rb").read())
def bad(*_): raise RuntimeError("mine")
x = {"x": np.zeros((4, 9, 16, 8), np.uint8)}
for _ in range(10): network.submit(x, False, bad)
network.cancel_all()
from headrace.runtime import VDevice
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.hef")], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "mine" in result.stderr
