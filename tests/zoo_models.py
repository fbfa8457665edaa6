# SPDX-License-Identifier: Apache-2.0
"""The real networks of the end-to-end tests and of bench/: files, data as a user would feed them, labels.

Inputs are raw uint8 frames in NHWC; where a network wants them normalised, the model script does it on the device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
Array = np.ndarray[Any, Any]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class ZooModel:
    """One network with its data.

    Attributes:
        name: network name.
        path: model file below the zoo.
        mean, std: on-device normalisation, or empty.
        shapes: sizes for open dimensions of the source input.
        least_codes: distinct output codes that data of this kind must at least give.
        accuracy_points: how far top-1 on the device may be below float, in points.
        source_layout: "NCHW" or "NHWC": the layout of the source file's input.
        calibration, test: zoo folder → frames (and labels).
    """

    name: str
    path: str
    calibration: Callable[[Path], Array]
    test: Callable[[Path], tuple[Array, Array]]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    shapes: list[int] | None = None
    source_layout: str = "NCHW"
    least_codes: int = 20
    accuracy_points: float = 0.3

    @property
    def script(self) -> str:
        return f"normalization1 = normalization({list(self.mean)}, {list(self.std)})\n" if self.mean else ""

    def source_input(self, frames: Array) -> Array:
        """Frames as the source file's own runtime wants them: float32, normalised, in its layout."""
        x = frames.astype(np.float32)
        if self.mean:
            x = ((x - np.array(self.mean, np.float64)) / np.array(self.std, np.float64)).astype(np.float32)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self.source_layout == "NCHW" else x


def _cifar_calibration(zoo: Path) -> Array:
    return np.load(zoo / "data_cifar10" / "calib512.npz")["x"]


def _cifar_test(zoo: Path) -> tuple[Array, Array]:
    data = np.load(zoo / "data_cifar10" / "test2000.npz")
    return data["x"], data["y"].astype(np.int64).reshape(-1)


def text_images(count: int, seed: int) -> tuple[Array, Array]:
    """Rendered text lines (demo/text_images.py)."""
    if str(ROOT / "demo") not in sys.path:
        sys.path.insert(0, str(ROOT / "demo"))
    from text_images import text_images as render

    return render(count, seed)


MODELS: dict[str, ZooModel] = {
    m.name: m
    for m in (
        ZooModel(
            "resnet20",
            "resnet_cifar10_onnx/resnet20.onnx",
            _cifar_calibration,
            _cifar_test,
            IMAGENET_MEAN,
            IMAGENET_STD,
        ),
        ZooModel(
            "resnet8",
            "derived_tf/resnet8/ic_resnet8_tf2onnx.onnx",
            _cifar_calibration,
            _cifar_test,
            source_layout="NHWC",
        ),
        ZooModel(
            "direction_classifier",
            "ppocr_v4/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            lambda zoo: text_images(128, 11)[0],
            lambda zoo: text_images(400, 12),
            (127.5,) * 3,
            (127.5,) * 3,
            [1, 3, 48, 192],
            # Two probabilities that are nearly always 0 and 1: few codes occur, and 400 pictures make 0.25 points each.
            least_codes=8,
            accuracy_points=1.0,
        ),
    )
}


def build(model: ZooModel, zoo: Path, calibration_size: int | None = None, min_snr: float = 0.0) -> Any:
    """Parse and optimise; returns the runner."""
    from headrace.runner import ClientRunner

    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(zoo / model.path, model.name, net_input_shapes=model.shapes)
    if model.script:
        runner.load_model_script(model.script)
    frames = model.calibration(zoo)
    runner.optimize(frames[:calibration_size] if calibration_size else frames, min_snr=min_snr)
    return runner


def source_output(model: ZooModel, zoo: Path, frames: Array, batch: int = 100) -> list[Array]:
    """Outputs of onnxruntime on the source file, float32, one array per output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(zoo / model.path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    fixed = isinstance(entry.shape[0], int) and entry.shape[0] > 0
    step = entry.shape[0] if fixed else batch
    parts = [
        session.run(None, {entry.name: model.source_input(frames[i : i + step])}) for i in range(0, len(frames), step)
    ]
    return [np.concatenate([p[k] for p in parts]) for k in range(len(parts[0]))]
