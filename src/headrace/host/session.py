# SPDX-License-Identifier: Apache-2.0
"""A network of the host in onnxruntime, which is imported by name, so that nothing needs it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.errors import DataError, Diagnostic, HeadraceError, InputFileError, missing_extra, out_of_memory
from headrace.hn import Array
from headrace.hn.whole import OnnxStep
from headrace.host.probe import ProbeError, level_for, options_of
from headrace.host.trust import check_model

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
    """
    check_model(step.model, step.inputs, step.outputs, where)
    if importlib.util.find_spec(_RUNTIME) is None:
        raise missing_extra(_RUNTIME, "host")
    try:
        return level_for(step.model)
    except ProbeError as error:
        raise _not_taken(error, where) from error


def _not_taken(error: Exception, where: str) -> HeadraceError:
    rule, levers = "onnxruntime does not take this network", ("a newer onnxruntime",)
    return out_of_memory(error, where) or InputFileError(
        Diagnostic("E-HOST-MODEL", where, rule, _short(error), "a network it can run", levers)
    )


class Session:
    """A network of the host, ready to run.

    Args:
        step: its step; its model is not trusted.
        where: how it is called in errors.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        InputFileError: the model must not be run, or onnxruntime does not take it.
    """

    def __init__(self, step: OnnxStep, where: str) -> None:
        level = check_step(step, where)
        runtime: Any = importlib.import_module(_RUNTIME)
        self._step, self._where = step, where
        try:
            options = options_of(runtime, level)
            self._session: Any = runtime.InferenceSession(step.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _not_taken(error, where) from error
        self._types = {value.name: _TYPES.get(value.type) for value in self._session.get_inputs()}

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name.

        Args:
            tensors: those that it reads, others may be among them.

        Raises:
            DataError: onnxruntime refuses them.
        """
        feeds = {name: self._typed(name, tensors[name]) for name in self._step.inputs}
        try:
            results = self._session.run(list(self._step.outputs), feeds)
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            levers = ("one frame at a time: batch_size=1, --batch-size 1",)
            rule = "a network of the host does not run on these tensors"
            raise out_of_memory(error, self._where) or DataError(
                Diagnostic("E-HOST-RUN", self._where, rule, _short(error), shapes[:300], levers)
            ) from error
        return {name: np.asarray(value) for name, value in zip(self._step.outputs, results, strict=True)}

    def _typed(self, name: str, array: Array) -> Array:
        """The array in the element type that the network takes: the device gives float32 whatever the file has."""
        wanted = self._types.get(name)
        return array if wanted is None or array.dtype.kind not in "fiub" else as_type(array, np.dtype(wanted))


def as_type(array: Array, wanted: np.dtype[Any]) -> Array:
    """Numbers in another element type; where the device gives whole numbers they are near these."""
    if array.dtype == wanted:
        return array
    whole = array.dtype.kind == "f" and wanted.kind in "iub"
    return (np.rint(array) if whole else array).astype(wanted)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
