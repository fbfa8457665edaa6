# SPDX-License-Identifier: Apache-2.0
"""Model files in their own runtimes, in the process that :mod:`headrace.host.worker` starts: onnxruntime, LiteRT.

Errors are the runtimes' own; whoever asked tells them.
"""

from __future__ import annotations

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.hn import Array


class Program(ABC):
    """A model file that is open.

    Attributes:
        inputs: of the file: name, shape (-1: a size that the file leaves open) and numpy's name of the type of each.
    """

    inputs: list[tuple[str, list[int], str]]

    @abstractmethod
    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        """Tensors of the file by name; see :meth:`headrace.host.file_runtimes.FileRuntime.run`."""


class _OnnxRuntime(Program):
    """ONNX under onnxruntime: without its optimizations, each wanted tensor made an output."""

    def __init__(self, path: Path | None, data: bytes | None) -> None:
        import onnx

        self._path = path
        self._model = onnx.ModelProto.FromString(path.read_bytes() if path is not None else data or b"")
        self._made = {name for node in self._model.graph.node for name in node.output if name}
        weights = {tensor.name for tensor in self._model.graph.initializer}
        self.inputs = [
            (
                info.name,
                [d.dim_value if d.dim_value > 0 else -1 for d in info.type.tensor_type.shape.dim],
                np.dtype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)).str,
            )
            for info in self._model.graph.input
            if info.name not in weights
        ]

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
        given = {name: array for name, array in feeds.items() if name in {entry[0] for entry in self.inputs}}
        session = onnxruntime.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made: list[Any] = session.run(names, given) if names else []
        results: dict[str, Array] = {name: np.asarray(array) for name, array in zip(names, made, strict=True)}
        results.update((name, array) for name, array in given.items() if name in wanted)
        return results


class _LiteRT(Program):
    """TFLite under LiteRT, which keeps every tensor of the file."""

    def __init__(self, path: Path | None, data: bytes | None) -> None:
        how: dict[str, Any] = {"model_path": str(path)} if path is not None else {"model_content": data}
        package: Any = importlib.import_module("ai_edge_litert.interpreter")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping every tensor takes memory
            self._interpreter: Any = package.Interpreter(**how, num_threads=1, experimental_preserve_all_tensors=True)
        details: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._at = {str(entry["name"]): int(entry["index"]) for entry in details}
        self.inputs = [
            (str(entry["name"]), [int(n) for n in entry["shape_signature"]], np.dtype(entry["dtype"]).str)
            for entry in details
        ]

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        interpreter = self._interpreter
        for name, index in self._at.items():
            interpreter.resize_tensor_input(index, list(feeds[name].shape))
        interpreter.allocate_tensors()
        for name, index in self._at.items():
            interpreter.set_tensor(index, feeds[name])
        interpreter.invoke()
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


#: By format of the file: what opens it, given its path or its bytes.
PROGRAMS: dict[str, type[_OnnxRuntime] | type[_LiteRT]] = {"onnx": _OnnxRuntime, "tflite": _LiteRT}

__all__ = ["PROGRAMS", "Program"]
