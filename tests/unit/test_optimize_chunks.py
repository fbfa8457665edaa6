# SPDX-License-Identifier: Apache-2.0
"""Chunks of frames on any pool: the same results in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import pytest

from headrace.optimize import OptimizeOptions, optimize
from headrace.optimize.chunks import ChunkRunner, evenly_spread
from random_graphs import random_frames, random_network
from same_bytes import params_digest


class Serial(futures.Executor):
    """Computes in the caller, at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Backwards(futures.Executor):
    """Computes what is waiting in the opposite order, when a result is asked for: the last chunk answers first."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self._waiting: list[tuple[futures.Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        pool = self

        class Asked(futures.Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                pool._compute()
                return super().result(timeout)

        future = Asked()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        self.done_args = args
        return future

    def _compute(self) -> None:
        while self._waiting:
            future, work = self._waiting.pop()
            future.set_result(work())
            self.done.append(future)


def test_results_come_in_chunk_order_whoever_is_first() -> None:
    computed: list[int] = []

    def work(start: int, stop: int) -> tuple[int, int]:
        computed.append(start)
        return start, stop

    runner = ChunkRunner(batch=64, threads=3, pool=lambda workers: Backwards())
    assert runner.all(work, 19, 4) == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 19)]
    assert computed != sorted(computed)


def test_another_pool_gives_the_same_bytes() -> None:
    net = random_network(11, 8)
    frames = random_frames(net, 40, 0)
    options = OptimizeOptions(min_snr=0, threads=2, batch=64)
    pools = {"threads": None, "serial": lambda workers: Serial(), "backwards": lambda workers: Backwards()}
    seen: dict[str, list[tuple[int, int, str]]] = {}
    results = {}
    for name, pool in pools.items():
        told = seen[name] = []
        chosen = {} if pool is None else {"pool": pool}
        results[name] = optimize(net, frames, options, lambda *step, told=told: told.append(step), **chosen)
    assert len({params_digest(result.network) for result in results.values()}) == 1
    assert all(result.report == results["threads"].report for result in results.values())
    assert seen["serial"] == seen["backwards"] == seen["threads"]  # progress does not tell pools apart


def test_workers_are_bounded_by_the_frames_in_flight() -> None:
    asked: list[int] = []

    def pool(workers: int) -> futures.Executor:
        asked.append(workers)
        return Serial()

    for batch, size in ((64, 16), (8, 16), (64, 4)):
        ChunkRunner(batch=batch, threads=5, pool=pool).all(lambda start, stop: None, 3, size)
    assert asked == [4, 1, 5]


def test_an_interrupt_stops_what_has_not_begun() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def work(start: int, stop: int) -> int:
        begun.append(start)
        if start:
            go_on.wait(10)
        return stop

    def progress(done: int, total: int, text: str) -> None:
        go_on.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ChunkRunner(batch=64, threads=1, progress=progress).all(work, 100, 1, "waiting")
    assert len(begun) <= 3  # the first, the one after it, and what two results per worker let wait


def test_an_error_in_a_chunk_is_the_callers() -> None:
    def work(start: int, stop: int) -> int:
        if start == 8:
            raise ValueError("chunk 2")
        return stop

    with pytest.raises(ValueError, match="chunk 2"):
        ChunkRunner(threads=2).all(work, 40, 4)


def test_frames_are_evenly_spread() -> None:
    assert evenly_spread(5, 8) == [0, 1, 2, 3, 4]
    assert evenly_spread(100, 4) == [0, 25, 50, 75]
