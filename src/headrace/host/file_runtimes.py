# SPDX-License-Identifier: Apache-2.0
"""A model file under its own runtime: onnxruntime, LiteRT. Every tensor of the file can be asked for by its name.

The runtimes run in a process of their own, bounded in time and memory: a file may end, fill or stop it.

TensorFlow's files have theirs in :mod:`headrace.host.tensorflow_runtime`.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, UnsupportedModelError, missing_extra
from headrace.hn import Array
from headrace.host.limits import call_bytes, call_seconds
from headrace.host.networks import BYTES_PER_SECOND, SPARE_SECONDS
from headrace.host.worker import Worker, WorkerError


@dataclass(frozen=True)
class FileInput:
    """An input of a model file.

    Attributes:
        name: in the file.
        shape: as the file states it; -1 where it leaves a size open.
        dtype: of its elements.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class FileRuntime(ABC):
    """A model file, opened by its own runtime.

    Attributes:
        title: the runtime and its version.
        inputs: of the file.
    """

    title: str
    inputs: tuple[FileInput, ...]

    @abstractmethod
    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        """Tensors of the file by name.

        Args:
            feeds: every input of the file by name, as the file has it.
            wanted: names of tensors; those that the runtime does not have are left out of the result.

        Raises:
            UnsupportedModelError: the runtime refuses the model or the data.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what the runtime keeps going."""


def open_in_its_runtime(format_name: str, path: Path | None, data: bytes | None) -> FileRuntime:
    """A model in the runtime of its format.

    Args:
        format_name: of its reader: ``onnx``, ``tflite``.
        path: of the file; None: it was given as bytes.
        data: the bytes; None: it was given as a path.

    Raises:
        MissingExtraError: the runtime is not installed.
        UnsupportedModelError: there is none for this format, or it refuses the model.
    """
    if format_name not in _PACKAGES:
        rule, need = (
            "there is no runtime to compare files of this format with",
            f"one of {', '.join(sorted(_PACKAGES))}",
        )
        raise UnsupportedModelError(Diagnostic("E-COMPARE-FORMAT", _where(path), rule, format_name, need))
    return _InWorker(format_name, path, data)


def _where(path: Path | None) -> str:
    return "model" if path is None else path.name


def refused(path: Path | None, title: str, error: Exception) -> UnsupportedModelError:
    """The error for a model that its own runtime does not run."""
    text = " ".join(str(error).split())[:300]
    rule = "the file's own runtime does not run it, so there is nothing to compare with"
    return UnsupportedModelError(
        Diagnostic("E-COMPARE-RUNTIME", _where(path), rule, f"{title}: {text}", "a model it runs")
    )


class _InWorker(FileRuntime):
    """A model file in another process, which ends with it.

    Args:
        format_name: of its reader.
        path, data: one of them.
    """

    def __init__(self, format_name: str, path: Path | None, data: bytes | None) -> None:
        package, module, extra = _PACKAGES[format_name]
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, extra)
        self.title = f"{_TITLES[format_name]} {version(package)}"
        self._path = path
        size = path.stat().st_size if path is not None else len(data or b"")
        seconds = SPARE_SECONDS + size / BYTES_PER_SECOND
        question = {"what": "open", "format": format_name, "path": None if path is None else str(path.resolve())}
        with self._told():
            self._worker = Worker()
        with self._told():
            model = {} if data is None else {"model": np.frombuffer(data, np.uint8)}
            found, _ = self._worker.ask(question, model, seconds=seconds, most=call_bytes())
        self.inputs = tuple(FileInput(name, tuple(shape), np.dtype(kind)) for name, shape, kind in found["inputs"])

    @contextmanager
    def _told(self) -> Generator[None]:
        """Errors of the runtime, as those of the model; nothing runs on behind one."""
        try:
            yield
        except WorkerError as error:
            if hasattr(self, "_worker"):
                self.close()
            raise refused(self._path, self.title, error) from None

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        with self._told():
            question = {"what": "tensors", "wanted": list(wanted)}
            return self._worker.ask(question, feeds, seconds=call_seconds(), most=call_bytes())[1]

    def close(self) -> None:
        """End the process."""
        self._worker.end()


_TITLES = {"onnx": "onnxruntime", "tflite": "LiteRT"}
#: By format: the package of its runtime, its module, the extra that installs it.
_PACKAGES = {
    "onnx": ("onnxruntime", "onnxruntime", "host"),
    "tflite": ("ai-edge-litert", "ai_edge_litert", "compare"),
}
