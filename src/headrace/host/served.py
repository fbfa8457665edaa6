# SPDX-License-Identifier: Apache-2.0
"""What the process of :mod:`headrace.host.worker` does: networks in onnxruntime, model files in their own runtimes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import says_out_of_memory
from headrace.hn import Array
from headrace.host.limits import bound_memory
from headrace.host.messages import Head, packed, received

Answer = tuple[Head, dict[str, Array]]
Question = Callable[[Head, dict[str, Array]], Answer]
_QUIET = 4  # onnxruntime prints nothing but what ends the process
#: Codes are made and read where the model says so; moving that to other nodes fails for some models (1.32).
_AS_STATED = ("session.disable_quant_qdq", "1")
_ANY_SIZE = 1 << 62


class _Served:
    """The questions that the process answers.

    Attributes:
        sessions: networks that are loaded, by number.
        file: a model file in its own runtime.
    """

    def __init__(self) -> None:
        self.sessions: dict[int, Any] = {}
        self.file: Any = None
        self.questions: dict[str, Question] = {
            "load": self.load, "run": self.run, "open": self.open, "tensors": self.tensors
        }  # fmt: skip

    def load(self, head: Head, arrays: dict[str, Array]) -> Answer:
        """Load a network at the first level of rewriting at which onnxruntime takes it; kept under its number."""
        runtime: Any = importlib.import_module("onnxruntime")
        model, error = arrays["model"].tobytes(), None
        for level in head["levels"]:
            options = runtime.SessionOptions()
            options.log_severity_level = _QUIET
            options.add_session_config_entry(*_AS_STATED)
            options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
            try:
                session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            except Exception as problem:  # noqa: BLE001, of any kind: it is told to whoever asked
                error = problem
                continue
            if head["number"] is not None:
                self.sessions[head["number"]] = session
            return {"level": level, "types": {value.name: value.type for value in session.get_inputs()}}, {}
        assert error is not None
        raise error

    def run(self, head: Head, arrays: dict[str, Array]) -> Answer:
        made = self.sessions[head["number"]].run(head["outputs"], arrays)
        return {}, {name: np.asarray(array) for name, array in zip(head["outputs"], made, strict=True)}

    def open(self, head: Head, arrays: dict[str, Array]) -> Answer:
        """Open a model file in the runtime of its format."""
        from headrace.host.file_programs import PROGRAMS

        path = None if head["path"] is None else Path(head["path"])
        self.file = PROGRAMS[head["format"]](path, arrays["model"].tobytes() if "model" in arrays else None)
        return {"inputs": self.file.inputs}, {}

    def tensors(self, head: Head, arrays: dict[str, Array]) -> Answer:
        """Tensors of the file, those that have numbers."""
        found: Mapping[str, Array] = self.file.run(arrays, head["wanted"])
        return {}, {name: array for name, array in found.items() if array.dtype.kind in "fiub"}

    def answer(self, head: Head, arrays: dict[str, Array]) -> list[bytes | memoryview]:
        """The answer to a question, or what is told in place of it."""
        for number in head.get("forget", ()):
            self.sessions.pop(number, None)
        try:
            bound_memory(int(head["most"]))
            return packed(*self.questions[head["what"]](head, arrays))
        except Exception as problem:  # noqa: BLE001
            text = " ".join(str(problem).split())[:300]
            kind = "memory" if says_out_of_memory(problem) else "refused"
            return packed({"error": text or type(problem).__name__, "kind": kind}, {})


def serve() -> None:
    """Answer one question after another until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    served = _Served()
    source: Any = sys.stdin.buffer

    def fill(view: memoryview) -> None:
        while view:
            count = source.readinto(view)
            if not count:
                raise EOFError
            view = view[count:]

    while True:
        try:
            question = received(fill, _ANY_SIZE)
        except EOFError:
            return
        for piece in served.answer(*question):
            answers.write(piece)
        answers.flush()


def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended, whatever runs here."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


__all__ = ["serve"]
