# SPDX-License-Identifier: Apache-2.0
"""A model file under its own runtime: onnxruntime, LiteRT. Every tensor of the file can be asked for by its name.

TensorFlow's files have theirs in :mod:`headrace.host.tensorflow_runtime`.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, UnsupportedModelError, missing_extra
from headrace.hn import Array


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
    if format_name not in _RUNTIMES:
        rule, need = (
            "there is no runtime to compare files of this format with",
            f"one of {', '.join(sorted(_RUNTIMES))}",
        )
        raise UnsupportedModelError(Diagnostic("E-COMPARE-FORMAT", _where(path), rule, format_name, need))
    return _RUNTIMES[format_name](path, data)


def _where(path: Path | None) -> str:
    return "model" if path is None else path.name


def refused(path: Path | None, title: str, error: Exception) -> UnsupportedModelError:
    """The error for a model that its own runtime does not run."""
    text = " ".join(str(error).split())[:300]
    rule = "the file's own runtime does not run it, so there is nothing to compare with"
    return UnsupportedModelError(
        Diagnostic("E-COMPARE-RUNTIME", _where(path), rule, f"{title}: {text}", "a model it runs")
    )


class _OnnxRuntime(FileRuntime):
    """ONNX under onnxruntime: without its optimizations, each wanted tensor made an output."""

    def __init__(self, path: Path | None, data: bytes | None) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise missing_extra("onnxruntime", "host")
        import onnx

        self.title = f"onnxruntime {version('onnxruntime')}"
        self._path = path
        self._model = onnx.ModelProto.FromString(path.read_bytes() if path is not None else data or b"")
        self._made = {name for node in self._model.graph.node for name in node.output if name}
        weights = {tensor.name for tensor in self._model.graph.initializer}
        self.inputs = tuple(
            FileInput(
                info.name,
                tuple(d.dim_value if d.dim_value > 0 else -1 for d in info.type.tensor_type.shape.dim),
                np.dtype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)),
            )
            for info in self._model.graph.input
            if info.name not in weights
        )

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        import onnx

        onnxruntime: Any = importlib.import_module("onnxruntime")
        names = [name for name in dict.fromkeys(wanted) if name in self._made]
        asked = onnx.ModelProto()
        asked.CopyFrom(self._model)
        stated = {info.name: info for info in self._model.graph.output}  # with types, which some nodes need (If)
        del asked.graph.output[:]
        asked.graph.output.extend(stated.get(name) or onnx.ValueInfoProto(name=name) for name in names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self._path is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self._path.resolve().parent)
            )
        given = {name: array for name, array in feeds.items() if name in {entry.name for entry in self.inputs}}
        try:
            session = onnxruntime.InferenceSession(
                asked.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            made: list[Any] = session.run(names, given) if names else []
        except Exception as error:  # noqa: BLE001 - another package's code, with its own exceptions
            raise refused(self._path, self.title, error) from None
        results: dict[str, Array] = {name: np.asarray(array) for name, array in zip(names, made, strict=True)}
        results.update((name, array) for name, array in given.items() if name in wanted)
        return results


class _LiteRT(FileRuntime):
    """TFLite under LiteRT, which keeps every tensor of the file."""

    def __init__(self, path: Path | None, data: bytes | None) -> None:
        if importlib.util.find_spec("ai_edge_litert") is None:
            raise missing_extra("ai-edge-litert", "compare")
        self.title = f"LiteRT {version('ai-edge-litert')}"
        self._path = path
        how: dict[str, Any] = {"model_path": str(path)} if path is not None else {"model_content": data}
        try:
            package: Any = importlib.import_module("ai_edge_litert.interpreter")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that keeping every tensor takes memory
                self._interpreter: Any = package.Interpreter(
                    **how, num_threads=1, experimental_preserve_all_tensors=True
                )
        except Exception as error:  # noqa: BLE001 - another package's code, with its own exceptions
            raise refused(path, self.title, error) from None
        details: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._at = {str(entry["name"]): int(entry["index"]) for entry in details}
        self.inputs = tuple(
            FileInput(str(entry["name"]), tuple(int(n) for n in entry["shape_signature"]), np.dtype(entry["dtype"]))
            for entry in details
        )

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        interpreter = self._interpreter
        try:
            for name, index in self._at.items():
                interpreter.resize_tensor_input(index, list(feeds[name].shape))
            interpreter.allocate_tensors()
            for name, index in self._at.items():
                interpreter.set_tensor(index, feeds[name])
            interpreter.invoke()
        except Exception as error:  # noqa: BLE001 - another package's code, with its own exceptions
            raise refused(self._path, self.title, error) from None
        known: dict[str, dict[str, Any]] = {}
        for entry in interpreter.get_tensor_details():
            known.setdefault(str(entry["name"]), entry)
        found: dict[str, Array] = {}
        for name in wanted:
            if name in known:
                try:
                    found[name] = _real(interpreter.get_tensor(known[name]["index"]), known[name])
                except ValueError:  # the runtime gave the tensor no memory
                    continue
        return found


def _real(array: Array, entry: Mapping[str, Any]) -> Array:
    """The real values of a tensor that the file has quantized."""
    parameters = entry["quantization_parameters"]
    scales, zeros = np.asarray(parameters["scales"]), np.asarray(parameters["zero_points"])
    if not scales.size or array.dtype.kind == "f":
        return array
    shape = [1] * array.ndim
    if scales.size > 1:
        shape[int(parameters["quantized_dimension"])] = scales.size
    return (array.astype(np.float64) - zeros.reshape(shape)) * scales.reshape(shape)


_RUNTIMES: dict[str, type[_OnnxRuntime] | type[_LiteRT]] = {"onnx": _OnnxRuntime, "tflite": _LiteRT}
