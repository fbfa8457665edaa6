# SPDX-License-Identifier: Apache-2.0
"""Networks of the host in onnxruntime, in a process of its own: some files end the process that loads or runs them.

The process is started when it is first needed and holds all networks of this process; it is bounded in memory and time
(:mod:`headrace.host.limits`). Where one network ends it, the others are loaded again when they are next needed.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.hn import Array
from headrace.host.limits import call_bytes, call_seconds
from headrace.host.worker import Worker, WorkerError

#: What a model may take to be loaded, beside what it holds itself.
SPARE_BYTES = 2 << 30
SPARE_SECONDS = 60.0
_COPIES = 6  # of its weights, while it is loaded
_BYTES_PER_CORE = 16 << 20  # each has a thread, with a stack
BYTES_PER_SECOND = 10 << 20
#: Rewriting of a model that onnxruntime does when it loads it, the most first.
LEVELS = ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL")


class Networks:
    """Networks in one process, which is started anew where it has ended."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._worker: Worker | None = None
        self._levels: dict[tuple[int, int], str] = {}  # of models that were taken
        self._numbers = 0
        self._forget: deque[int] = deque()

    @property
    def worker(self) -> Worker:
        """The process that runs now."""
        if self._worker is None or not self._worker.alive:
            self._worker = Worker()
            self._forget.clear()
        return self._worker

    def level(self, model: bytes) -> str:
        """The level of rewriting at which onnxruntime takes a model; see :func:`level_for`."""
        key = len(model), hash(model)
        with self._lock:
            if key not in self._levels:
                self._load(model, None)
            return self._levels[key]

    def open(self, model: bytes) -> Network:
        """A model, loaded.

        Raises:
            WorkerError: onnxruntime takes it at no level: an error of its own, too much memory or time, its end.
        """
        return Network(self, model)

    def load(self, network: Network) -> None:
        """Load a network where the process does not have it."""
        with self._lock:
            worker = self.worker
            if network.loaded_in is worker:
                return
            if network.number is None:
                self._numbers += 1
                network.number = self._numbers
                weakref.finalize(network, self._forget.append, network.number)
            network.types = self._load(network.model, network.number)
            network.loaded_in = self.worker

    def run(self, network: Network, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """What a network makes."""
        seconds, most = call_seconds(), call_bytes()
        with self._lock:
            self.load(network)
            head = {"what": "run", "number": network.number, "outputs": list(outputs), "forget": self._forgotten()}
            return self.worker.ask(head, feeds, seconds=seconds, most=most)[1]

    def _forgotten(self) -> list[int]:
        return [self._forget.popleft() for _ in range(len(self._forget))]

    def _load(self, model: bytes, number: int | None) -> dict[str, str]:
        """Load a model; where the process ended at the first level, another one tries the others.

        Returns:
            onnxruntime's name of the type of each input.
        """
        key = len(model), hash(model)
        levels = (self._levels[key],) if key in self._levels else LEVELS
        for at in range(len(levels)):
            head: dict[str, Any] = {
                "what": "load",
                "number": number,
                "levels": levels[at:],
                "forget": self._forgotten(),
            }
            seconds, most = SPARE_SECONDS + len(model) / BYTES_PER_SECOND, _bytes_to_load(model)
            try:
                answer, _ = self.worker.ask(head, {"model": np.frombuffer(model, np.uint8)}, seconds=seconds, most=most)
            except WorkerError as error:
                if error.kind == "refused" or at + 1 == len(levels):
                    raise
            else:
                self._levels[key] = str(answer["level"])
                return {str(name): str(kind) for name, kind in answer["types"].items()}
        raise WorkerError("it is not taken")


class Network:
    """A model in the process of networks.

    Attributes:
        model: its bytes.
        types: onnxruntime's name of the type of each input.
        number: by which the process knows it.
        loaded_in: the process.
    """

    def __init__(self, networks: Networks, model: bytes) -> None:
        self._networks, self.model = networks, model
        self.types: dict[str, str] = {}
        self.number: int | None = None
        self.loaded_in: Worker | None = None
        networks.load(self)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Its outputs by name.

        Raises:
            WorkerError: onnxruntime refuses the tensors, takes too much memory or time, or ends its process.
            UsageError: a limit in the environment is none.
        """
        return self._networks.run(self, feeds, outputs)


def _bytes_to_load(model: bytes) -> int:
    return _COPIES * len(model) + SPARE_BYTES + (os.cpu_count() or 1) * _BYTES_PER_CORE


NETWORKS = Networks()


def level_for(model: bytes) -> str:
    """The level of rewriting at which onnxruntime takes a model, tried in another process.

    Args:
        model: an ONNX model that :func:`headrace.host.trust.check_model` lets through.

    Raises:
        WorkerError: it takes it at none: an error of its own, the end of its process, too much memory or time.
    """
    return NETWORKS.level(model)


__all__ = ["LEVELS", "NETWORKS", "Network", "Networks", "level_for"]
