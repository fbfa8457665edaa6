# SPDX-License-Identifier: Apache-2.0
"""A network of the host in onnxruntime, which another process imports, so that nothing here needs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.errors import DataError, Diagnostic, HeadraceError, InputFileError, MemoryLimitError, missing_extra
from headrace.hn import Array
from headrace.hn.whole import OnnxStep
from headrace.host.limits import BYTES_VARIABLE, SECONDS_VARIABLE
from headrace.host.networks import NETWORKS, level_for
from headrace.host.trust import check_model
from headrace.host.worker import WorkerError

_RUNTIME = "onnxruntime"
_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_, "tensor(string)": np.object_,
}  # fmt: skip


def check_step(step: OnnxStep, where: str) -> str:
    """The level of rewriting at which onnxruntime takes a network of the host, tried in another process.

    Args:
        step: its step; its model is not trusted.
        where: how it is called in errors.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        InputFileError: the model must not be run, or onnxruntime does not take it.
        MemoryLimitError: it takes too much memory to load.
    """
    _check(step, where)
    try:
        return level_for(step.model)
    except WorkerError as error:
        raise _not_taken(error, where) from error


def _check(step: OnnxStep, where: str) -> None:
    check_model(step.model, step.inputs, step.outputs, where)
    if importlib.util.find_spec(_RUNTIME) is None:
        raise missing_extra(_RUNTIME, "host")


def _not_taken(error: WorkerError, where: str) -> HeadraceError:
    rule, levers = "onnxruntime does not take this network", ("a newer onnxruntime",)
    if error.kind == "memory":
        levers = ("ulimit -v unlimited", "close other programs")
        return MemoryLimitError(Diagnostic("E-HOST-MEMORY", where, rule, str(error), "memory to load it", levers))
    text = f"loading {error}" if error.kind in ("time", "ended") else str(error)
    return InputFileError(Diagnostic("E-HOST-MODEL", where, rule, text, "a network it can run", levers))


class Session:
    """A network of the host, ready to run in another process.

    Args:
        step: its step; its model is not trusted.
        where: how it is called in errors.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        InputFileError: the model must not be run, or onnxruntime does not take it.
        MemoryLimitError: it takes too much memory to load.
    """

    def __init__(self, step: OnnxStep, where: str) -> None:
        _check(step, where)
        self._step, self._where = step, where
        try:
            self._network = NETWORKS.open(step.model)
        except WorkerError as error:
            raise _not_taken(error, where) from error

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name.

        Args:
            tensors: those that it reads, others may be among them.

        Raises:
            DataError: onnxruntime refuses them, takes longer than it may, or ends its process on them.
            MemoryLimitError: it takes more memory than it may.
            UsageError: a limit in the environment is none.
        """
        feeds = {name: self._typed(name, tensors[name]) for name in self._step.inputs}
        try:
            return self._network.run(feeds, self._step.outputs)
        except (WorkerError, TypeError) as error:
            raise self._failed(error, feeds) from error

    def _failed(self, error: WorkerError | TypeError, feeds: Mapping[str, Array]) -> HeadraceError:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())[:300]
        kind, one = getattr(error, "kind", "refused"), "one frame at a time: batch_size=1, --batch-size 1"
        if kind == "memory":
            levers = (one, f"{BYTES_VARIABLE}=BYTES, more than half of the memory that is free (0: no limit)")
            rule = "a network of the host takes more memory than it may"
            return MemoryLimitError(Diagnostic("E-HOST-MEMORY", self._where, rule, str(error), shapes, levers))
        if kind == "time":
            levers = (f"{SECONDS_VARIABLE}=SECONDS (0: no limit)", one)
            rule = "a network of the host takes longer than it may"
            return DataError(Diagnostic("E-HOST-TIME", self._where, rule, str(error), shapes, levers))
        rule = "a network of the host does not run on these tensors"
        return DataError(Diagnostic("E-HOST-RUN", self._where, rule, str(error), shapes, (one,)))

    def _typed(self, name: str, array: Array) -> Array:
        """The array in the element type that the network takes: the device gives float32 whatever the file has."""
        wanted = _TYPES.get(self._network.types.get(name, ""))
        return array if wanted is None or array.dtype.kind not in "fiub" else as_type(array, np.dtype(wanted))


def as_type(array: Array, wanted: np.dtype[Any]) -> Array:
    """Numbers in another element type; where the device gives whole numbers they are near these."""
    if array.dtype == wanted:
        return array
    whole = array.dtype.kind == "f" and wanted.kind in "iub"
    return (np.rint(array) if whole else array).astype(wanted)
