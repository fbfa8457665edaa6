# SPDX-License-Identifier: Apache-2.0
"""Tries in a process of its own whether onnxruntime takes a model: some files end the process that loads them.

The process is started when the first model is tried, gets one after another through a pipe, and is bounded in memory
and time. It builds a session and runs nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import IO, Any

#: What a model may take to be loaded, beside what it holds itself.
SPARE_BYTES = 2 << 30
SPARE_SECONDS = 60.0
_COPIES = 6  # of its weights, while it is loaded
_BYTES_PER_SECOND = 10 << 20
_LENGTH = struct.Struct("<Q")
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline());"
    "from headrace.host.probe import serve; serve()"
)
#: Rewriting of a model that onnxruntime does when it loads it, the most first.
LEVELS = ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL")
_QUIET = 4  # onnxruntime prints nothing but what ends the process
#: Codes are made and read where the model says so; moving that to other nodes fails for some models (1.32).
_AS_STATED = ("session.disable_quant_qdq", "1")


def options_of(runtime: Any, level: str) -> Any:
    """How sessions are made.

    Args:
        runtime: the module onnxruntime.
        level: one of :data:`LEVELS`.
    """
    options = runtime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry(*_AS_STATED)
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    return options


class ProbeError(Exception):
    """onnxruntime does not take a model; the message is a clause that says how that ends."""


class _Child:
    """The process, and one model at a time in it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.owner = os.getpid()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into: IO[bytes] = self._process.stdin
        self._out: IO[bytes] = self._process.stdout
        self._into.write(json.dumps(sys.path).encode() + b"\n")

    def alive(self) -> bool:
        return self.owner == os.getpid() and self._process.poll() is None

    def level(self, model: bytes, levels: Sequence[str]) -> str:
        """The first of some levels at which it takes the model.

        Raises:
            ProbeError: it takes it at none.
        """
        limit = SPARE_SECONDS + len(model) / _BYTES_PER_SECOND
        with contextlib.suppress(OSError):  # it may end while it reads
            self._into.write(json.dumps(levels).encode() + b"\n" + _LENGTH.pack(len(model)))
            self._into.write(model)
            self._into.flush()
        line = self._line(time.monotonic() + limit)
        if line is None:
            self.end()
            raise ProbeError(f"it takes longer than {limit:.0f} s to load")
        if not line.endswith(b"\n"):
            code = self._process.wait()  # as it ended by itself
            self.end()
            raise ProbeError(f"onnxruntime ends its process on it ({_ending(code)})")
        told = json.loads(line)
        if "error" in told:
            raise ProbeError(str(told["error"]))
        return str(told["level"])

    def _line(self, deadline: float) -> bytes | None:
        """What it answers; less than a line where it ended, None where time is over."""
        found = b""
        while not found.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not wait([self._out.fileno()], left):
                return None
            more = os.read(self._out.fileno(), 1 << 16)
            if not more:
                return found
            found += more
        return found

    def end(self) -> int:
        """End the process, where it still runs and is ours; how it ended."""
        if self.owner != os.getpid():
            return 0
        self._process.kill()
        for pipe in (self._into, self._out):
            with contextlib.suppress(OSError):  # what it did not read
                pipe.close()
        return self._process.wait()


def _ending(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"signal {-code}"


class _Prober:
    """Tries models, each once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._known: dict[tuple[int, int], str] = {}

    def level(self, model: bytes) -> str:
        key = len(model), hash(model)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._tried(model)
            return self._known[key]

    def _tried(self, model: bytes) -> str:
        """The level; where the process ended at the first, another one tries the others."""
        for at in range(len(LEVELS)):
            if self._child is None or not self._child.alive():
                self._child = _Child()
                atexit.register(self._child.end)
            try:
                return self._child.level(model, LEVELS[at:])
            except ProbeError:
                if self._child.alive() or at + 1 == len(LEVELS):
                    raise
        raise ProbeError("it is not taken")


_PROBER = _Prober()


def level_for(model: bytes) -> str:
    """The level of rewriting at which onnxruntime takes a model, tried in another process.

    Args:
        model: an ONNX model that :func:`headrace.host.trust.check_model` lets through.

    Raises:
        ProbeError: it takes it at none: an error of its own, the end of its process, too much memory or time.
    """
    return _PROBER.level(model) if sys.executable else LEVELS[0]


# --- in the other process --------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer for one model after another until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides
    runtime: Any = importlib.import_module("onnxruntime")
    read = sys.stdin.buffer.read
    while line := sys.stdin.buffer.readline():
        head = read(_LENGTH.size)
        model = read(_LENGTH.unpack(head)[0])
        answers.write(json.dumps(_answer(runtime, model, json.loads(line))).encode() + b"\n")


def _answer(runtime: Any, model: bytes, levels: Sequence[str]) -> dict[str, str]:
    """The first level at which it is taken, or the error at the last."""
    _limit(_COPIES * len(model) + SPARE_BYTES)
    error = ""
    for level in levels:
        options = options_of(runtime, level)
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # noqa: BLE001, of any kind: it is told to whoever asked
            error = " ".join(str(problem).split())[:300] or type(problem).__name__
        else:
            return {"level": level}
    return {"error": error}


def _limit(more: int) -> None:
    """Bound the memory of this process to what it has now and so many bytes."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = now + more if hard == resource.RLIM_INFINITY else min(now + more, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    except (ImportError, OSError, ValueError):
        return  # a system without such bounds


__all__ = ["LEVELS", "ProbeError", "level_for", "options_of", "serve"]
