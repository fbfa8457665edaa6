# SPDX-License-Identifier: Apache-2.0
"""A process beside ours for code of others that may end, fill or stop the process in which it runs.

It is asked one thing at a time. Each question is bounded in time and memory; a process that does not answer in time, or
whose answer nobody waits for any more (Ctrl-C), is ended. What it does is in :mod:`headrace.host.served`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from typing import IO, Any

from headrace.hn import Array
from headrace.host.messages import Head, TooLargeError, packed, received

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline());"
    "from headrace.host.served import serve; serve()"
)
_PIPE_BYTES = 1 << 20
#: glibc sets room aside for each thread, which counts as taken where memory is bounded; two rooms are enough.
_ALLOCATION = {"MALLOC_ARENA_MAX": "2"}


class WorkerError(Exception):
    """Why a question has no answer, a clause.

    Attributes:
        kind: ``refused``: an error of the code that was asked; ``time``, ``memory``: it would take more than it may;
            ``ended``: its process has ended.
    """

    def __init__(self, text: str, kind: str = "refused") -> None:
        super().__init__(text)
        self.kind = kind


class _Late(Exception):
    """Time is over."""


class Worker:
    """A process; it starts at once, and ends with ours.

    Raises:
        WorkerError: no process can be started.
    """

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START], bufsize=0, env={**os.environ, **_ALLOCATION},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # a program that has Python inside of it, too many processes
            raise WorkerError(f"no process can be started for it: {sys.executable!r}: {error}") from None
        self.owner = os.getpid()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into: IO[bytes] = self._process.stdin
        self._out: Any = self._process.stdout
        atexit.register(self.end)
        for pipe in (self._into, self._out):
            _widen(pipe)
        with contextlib.suppress(OSError):
            self._write(json.dumps(sys.path).encode() + b"\n")

    @property
    def alive(self) -> bool:
        """Whether it still runs and is this process's, not that of one from which this was forked."""
        return self.owner == os.getpid() and self._process.poll() is None

    def ask(
        self, head: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, *, seconds: float, most: int
    ) -> tuple[Head, dict[str, Array]]:
        """The answer to a question.

        Args:
            head: plain data: what is asked.
            arrays: numbers, truth values or strings by name.
            seconds: that it may take; infinity: no limit.
            most: bytes that it may take, and that the arrays of the answer may have.

        Raises:
            WorkerError: there is none.
            TypeError: an array holds neither numbers nor strings.
        """
        message = packed({**head, "most": most}, arrays or {})
        deadline = time.monotonic() + seconds
        try:
            with contextlib.suppress(OSError):  # it may end while it reads
                for piece in message:
                    self._write(piece)
            answer, made = received(functools.partial(self._fill, deadline), most)
        except EOFError:
            code = self._process.wait()  # as it ended by itself
            self.end()
            raise WorkerError(f"it ends its process ({_ending(code)})", "ended") from None
        except _Late:
            self.end()
            raise WorkerError(f"it takes longer than {seconds:.0f} s", "time") from None
        except TooLargeError as error:
            self.end()
            raise WorkerError(f"its results are too large: {error}", "memory") from None
        except BaseException:
            self.end()
            raise
        if "error" in answer:
            raise WorkerError(str(answer["error"]), str(answer["kind"]))
        return answer, made

    def _write(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        while view:
            view = view[self._into.write(view) :]

    def _fill(self, deadline: float, view: memoryview) -> None:
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not wait([self._out.fileno()], None if math.isinf(left) else left):
                raise _Late
            count = self._out.readinto(view)
            if not count:
                raise EOFError
            view = view[count:]

    def end(self) -> None:
        """End the process, where it still runs and is ours."""
        atexit.unregister(self.end)
        if self.owner != os.getpid():
            return
        self._process.kill()
        for pipe in (self._into, self._out):
            with contextlib.suppress(OSError):  # what it did not read
                pipe.close()
        self._process.wait()


def _widen(pipe: Any) -> None:
    """Let a pipe hold more at once, where the system can."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _ending(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"signal {-code}"


__all__ = ["Worker", "WorkerError"]
