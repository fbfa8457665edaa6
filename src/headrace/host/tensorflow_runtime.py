# SPDX-License-Identifier: Apache-2.0
"""TensorFlow and Keras files under TensorFlow, in a process of its own: this interpreter's, or another one's.

TensorFlow is large, is seldom where Headrace is, and does not like other packages' protobuf beside it. So it is always
another process that runs it: of the interpreter that :data:`VARIABLE` names, else of this one where TensorFlow is
installed in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError, MissingExtraError, UnsupportedModelError
from headrace.hn import Array
from headrace.host.file_runtimes import FileInput, FileRuntime, refused
from headrace.host.limits import bound_memory, call_bytes, call_seconds

#: The environment variable that names a Python interpreter with TensorFlow.
VARIABLE = "HEADRACE_TENSORFLOW"
_PROGRAM = Path(__file__).with_name("tensorflow_program.py")


def interpreter() -> str | None:
    """The Python interpreter that has TensorFlow; None where none is known."""
    named = os.environ.get(VARIABLE)
    return named or (sys.executable if importlib.util.find_spec("tensorflow") else None)


class TensorFlowRuntime(FileRuntime):
    """A model in a process with TensorFlow.

    Args:
        kind: ``graph`` (frozen), ``meta`` (a checkpoint's meta graph), ``saved`` (a SavedModel) or ``keras``.
        path: of the file with the graph.
        prefix: of the checkpoint; None where there is none.
        names: of a SavedModel the signature, then its tags.
        starts, ends: names of the tensors that the network starts and ends with.

    Raises:
        MissingExtraError: no interpreter with TensorFlow is known.
        InputFileError: the one that is named cannot be started.
        UnsupportedModelError: TensorFlow refuses the model.
    """

    def __init__(
        self, kind: str, path: Path, prefix: Path | None, names: Sequence[str], starts: Sequence[str],
        ends: Sequence[str],
    ) -> None:  # fmt: skip
        python = interpreter()
        if python is None:
            levers = (f"{VARIABLE}=/path/to/python of an environment with TensorFlow", "pip install tensorflow")
            rule, got = "the file's own runtime is TensorFlow, which is not installed here", "no module 'tensorflow'"
            need = f"TensorFlow here, or in the interpreter that {VARIABLE} names"
            raise MissingExtraError(Diagnostic("E-MISSING-EXTRA", "tensorflow", rule, got, need, levers))
        self._path, self.title = path, "TensorFlow"
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-tensorflow-")
        self._errors = Path(self._folder.name) / "errors"
        command = [python, str(_PROGRAM), kind, str(path), str(prefix or ""), *names]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("PYTHONPATH", None)  # Headrace's packages are not that interpreter's
        try:
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                    encoding="utf-8",
                )  # fmt: skip
        except OSError as error:
            self._folder.cleanup()
            rule, need = "the interpreter with TensorFlow cannot be started", "a Python interpreter"
            raise InputFileError(Diagnostic("E-COMPARE-PYTHON", VARIABLE, rule, f"{python}: {error}", need)) from None
        try:
            self.title = str(self._answer()["title"])
            told = self._ask({"what": "describe", "starts": list(starts), "ends": list(ends)})["inputs"]
        except UnsupportedModelError:
            self.close()
            raise
        self.inputs = tuple(FileInput(e["name"], tuple(e["shape"]), np.dtype(e["dtype"])) for e in told)

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, and its answer says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        seconds = call_seconds()  # there is one line for each question, so nothing of it waits in a buffer
        if not wait([self._process.stdout.fileno()], None if math.isinf(seconds) else seconds):
            self._process.kill()
            raise refused(self._path, self.title, RuntimeError(f"it takes longer than {seconds:.0f} s"))
        line = self._process.stdout.readline()
        if not line:
            said = self._errors.read_text("utf-8", "replace").strip().splitlines() or ["it ended without a word"]
            raise refused(self._path, self.title, RuntimeError(said[-1]))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise refused(self._path, self.title, RuntimeError(str(answer["error"])))
        return answer

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        given, made = f"{self._folder.name}/feeds.npz", f"{self._folder.name}/results.npz"
        own = {entry.name: feeds[entry.name] for entry in self.inputs}
        np.savez(given, allow_pickle=False, **{f"x{i}": array for i, array in enumerate(own.values())})
        bound_memory(call_bytes(), self._process.pid)
        question = {"what": "run", "names": list(own), "feeds": given, "results": made, "wanted": list(wanted)}
        names = self._ask(question)["names"]
        with np.load(made) as arrays:
            return {name: arrays[f"y{i}"] for i, name in enumerate(names)}

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # what was asked last, of a process that has ended
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()


__all__ = ["VARIABLE", "TensorFlowRuntime", "interpreter"]
