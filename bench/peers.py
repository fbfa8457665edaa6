# SPDX-License-Identifier: Apache-2.0
"""Other toolchains' int8 versions of the zoo's networks, made from the same calibration frames.

onnxruntime's static quantization (QDQ, per channel, unsigned activations, signed weights), NNCF's post-training
quantization run by OpenVINO, and the int8 files that come with a model run by LiteRT. Each gives a callable
``source frames → outputs``; each is None where the peer cannot take the model, with the reason logged by the caller.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo_models import Array, ZooModel

os.environ.setdefault("NNCF_CI", "1")  # its usage statistics stay at home

THREADS = 2
Run = Callable[[Array], list[Array]]
"""Frames as the source file wants them (float32, normalized) → one array per output."""

LITERT_FILES = {
    "resnet8": "mlperf_tiny/ic_resnet8_int8.tflite",
    "resnet8_tflite": "mlperf_tiny/ic_resnet8_int8.tflite",
    "vww": "mlperf_tiny/vww_96_int8.tflite",
    "mobilenet_v1": "mobilenet_v1_025_imagenet/mobilenet_v1_0.25_224_quant.tflite",
    "mobilenet_v1_tflite": "mobilenet_v1_025_imagenet/mobilenet_v1_0.25_224_quant.tflite",
}
"""The quantized files that exist beside a float network: the same architecture, not always the same training."""


class PeerError(RuntimeError):
    """The peer cannot take this network."""


def fixed_batch_shape(model: ZooModel, frames: Array, batch: int) -> list[int]:
    return [batch, *model.source_input(frames[:1]).shape[1:]]


# --- onnxruntime ---------------------------------------------------------------------------------------------------


def onnx_int8_file(model: ZooModel, zoo: Path, calibration: Array, folder: Path) -> Path:
    """Writes onnxruntime's static int8 version below ``folder``."""
    import onnx
    import onnxruntime
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if model.format != "onnx":
        raise PeerError(f"onnxruntime reads no .{model.format}")
    onnxruntime.set_default_logger_severity(3)
    logging.getLogger().setLevel(logging.ERROR)
    loaded = onnx.load(zoo / model.path)
    entry = next(i for i in loaded.graph.input if i.name not in {t.name for t in loaded.graph.initializer})
    shape = fixed_batch_shape(model, calibration, 1)
    # Older exporters list weights as inputs too; onnxruntime would then neither fold nor fuse them.
    weights = {t.name for t in loaded.graph.initializer}
    for item in [i for i in loaded.graph.input if i.name in weights]:
        loaded.graph.input.remove(item)
    loaded.ir_version = max(loaded.ir_version, 8)
    dims = entry.type.tensor_type.shape.dim
    open_batch = not dims[0].dim_value
    for dim, size in list(zip(dims, shape, strict=True))[1 if open_batch else 0 :]:
        dim.dim_value = size
    if loaded.opset_import[0].version < 13:
        # Per-channel QuantizeLinear needs opset 13.
        loaded = onnx.version_converter.convert_version(loaded, 13)
    fixed, prepared, out = folder / "fixed.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    onnx.save(loaded, fixed)
    quant_pre_process(str(fixed), str(prepared), skip_symbolic_shape=True)

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.frames: Iterator[Array] = (model.source_input(calibration[i : i + 1]) for i in range(len(calibration)))

        def get_next(self) -> Any:
            item = next(self.frames, None)
            return None if item is None else {entry.name: item}

    options: dict[str, Any] = {
        "quant_format": q.QuantFormat.QDQ,
        "per_channel": True,
        "activation_type": q.QuantType.QUInt8,
        "weight_type": q.QuantType.QInt8,
    }
    try:
        q.quantize_static(str(prepared), str(out), Reader(), **options)
    except ValueError:
        # Its adjustment of weight scales to int32 biases trips over biases of more than one dimension.
        options["extra_options"] = {"QDQDisableWeightAdjustForInt32Bias": True}
        q.quantize_static(str(prepared), str(out), Reader(), **options)
    return out


def onnx_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def with_onnx_batch(path: Path, batch: int) -> Path:
    """The same file with this batch size, where its own is fixed; written beside it.

    The caller runs it: constants inside (a Reshape to 1×…) may still hold the old size.
    """
    import onnx

    loaded = onnx.load(path)
    dims = loaded.graph.input[0].type.tensor_type.shape.dim
    if batch == 1 or not dims[0].dim_value:
        return path
    dims[0].dim_value = batch
    del loaded.graph.value_info[:]
    for output in loaded.graph.output:
        output.type.tensor_type.shape.dim[0].Clear()
    out = path.with_name(f"{path.stem}-batch{batch}.onnx")
    onnx.save(loaded, out)
    return out


def onnxruntime_int8(model: ZooModel, zoo: Path, calibration: Array, folder: Path, batch: int = 1) -> Run:
    session = onnx_session(onnx_int8_file(model, zoo, calibration, folder))
    entry = session.get_inputs()[0]
    step = entry.shape[0] if isinstance(entry.shape[0], int) else batch

    def run(source: Array) -> list[Array]:
        return in_steps(lambda part: session.run(None, {entry.name: part}), source, step)

    return run


def in_steps(run: Run, source: Array, step: int) -> list[Array]:
    """Runs ``step`` frames at a time and joins the outputs."""
    if len(source) <= step:
        return run(source)
    parts = [run(source[i : i + step]) for i in range(0, len(source), step)]
    return [np.concatenate([p[k] for p in parts]) for k in range(len(parts[0]))]


# --- NNCF and OpenVINO ---------------------------------------------------------------------------------------------


def nncf_model(model: ZooModel, zoo: Path, calibration: Array) -> Any:
    """NNCF's post-training quantization with its defaults, as an OpenVINO model of batch 1."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import nncf
        import openvino

        loaded = openvino.Core().read_model(zoo / model.path)
        if loaded.inputs[0].partial_shape.is_dynamic:
            loaded.reshape({loaded.inputs[0]: fixed_batch_shape(model, calibration, 1)})
        items = [model.source_input(calibration[i : i + 1]) for i in range(len(calibration))]
        return nncf.quantize(loaded, nncf.Dataset(items), subset_size=len(items))


def openvino_run(network: Any, batch: int = 1) -> Run:
    """Compiled for the CPU, float parts in fp32; frames go in one by one unless the model takes the batch."""
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": str(THREADS),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if batch > 1:
        network = network.clone()
        first = network.inputs[0]
        network.reshape({first: [batch, *list(first.partial_shape)[1:]]})
    compiled = core.compile_model(network, "CPU", options)
    request = compiled.create_infer_request()

    def one(part: Array) -> list[Array]:
        request.infer([part])
        return [np.array(request.get_output_tensor(k).data) for k in range(len(compiled.outputs))]

    return lambda source: in_steps(one, source, batch)


def nncf_openvino_int8(model: ZooModel, zoo: Path, calibration: Array, folder: Path) -> Run:
    return openvino_run(nncf_model(model, zoo, calibration))


# --- LiteRT --------------------------------------------------------------------------------------------------------


def litert_int8(model: ZooModel, zoo: Path, batch: int = 1) -> Run:
    """The int8 file that comes with the network; input and output are its codes (their meaning is not converted)."""
    from ai_edge_litert.interpreter import Interpreter

    if model.name not in LITERT_FILES:
        raise PeerError("there is no int8 TFLite file of this network")
    interpreter = Interpreter(str(zoo / LITERT_FILES[model.name]), num_threads=THREADS)
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], [batch, *entry["shape"][1:]])
    interpreter.allocate_tensors()
    outputs = [d["index"] for d in interpreter.get_output_details()]

    def run(codes: Array) -> list[Array]:
        interpreter.set_tensor(entry["index"], codes)
        interpreter.invoke()
        return [interpreter.get_tensor(k) for k in outputs]

    return run


def litert_codes(model: ZooModel, zoo: Path, frames: Array) -> Array:
    """Frames as the int8 file's input codes."""
    from ai_edge_litert.interpreter import Interpreter

    if model.name not in LITERT_FILES:
        raise PeerError("there is no int8 TFLite file of this network")
    entry = Interpreter(str(zoo / LITERT_FILES[model.name])).get_input_details()[0]
    scale, zero_point = entry["quantization"]
    limits = np.iinfo(entry["dtype"])
    codes = np.rint(model.normalized(frames) / scale) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(entry["dtype"])
