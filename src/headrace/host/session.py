# SPDX-License-Identifier: Apache-2.0
"""A network of the host in onnxruntime. The only module that knows it; imported by name, so that nothing needs it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.errors import DataError, Diagnostic, InputFileError, missing_extra, out_of_memory
from headrace.hn import Array
from headrace.hn.whole import OnnxStep
from headrace.host.trust import check_model

_RUNTIME = "onnxruntime"
_QUIET = 4  # onnxruntime prints nothing but what ends the process
#: Codes are made and read where the model says so; moving that to other nodes fails for some models (1.32).
_AS_STATED = ("session.disable_quant_qdq", "1")
_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_, "tensor(string)": np.object_,
}  # fmt: skip


def build_session(runtime: Any, model: bytes) -> Any:
    """A session of onnxruntime; where its rewriting fails, which it does on some right models, one without.

    Args:
        runtime: the module.
        model: an ONNX model.
    """
    options = runtime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry(*_AS_STATED)
    levels = runtime.GraphOptimizationLevel
    for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
        options.graph_optimization_level = level
        try:
            return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception:
            if level == levels.ORT_DISABLE_ALL:
                raise
    return None


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
        check_model(step.model, step.inputs, step.outputs, where)
        if importlib.util.find_spec(_RUNTIME) is None:
            raise missing_extra(_RUNTIME, "host")
        runtime: Any = importlib.import_module(_RUNTIME)
        self._step, self._where = step, where
        try:
            self._session: Any = build_session(runtime, step.model)
        except Exception as error:
            rule, levers = "onnxruntime does not take this network", ("a newer onnxruntime",)
            raise out_of_memory(error, where) or InputFileError(
                Diagnostic("E-HOST-MODEL", where, rule, _short(error), "a network it can run", levers)
            ) from error
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
