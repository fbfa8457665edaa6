# SPDX-License-Identifier: Apache-2.0
"""The real networks of the end-to-end tests and of bench/: files, data as a user would feed them, what is expected.

Inputs are raw uint8 frames in NHWC; where a network wants them normalized, the model script does it on the device.
``MODELS`` are the three of the walking skeleton (tests/e2e/test_real_models.py), ``ZOO`` is all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo_data import (
    NO_LABELS,
    bgr,
    cifar_calibration,
    cifar_test,
    coco_crops,
    coco_images,
    imagenet_resized,
    imagenet_test,
    letterboxed,
    mnist_calibration,
    mnist_test,
    mosaics,
    person_heads,
    resized,
    rgb,
    text_images,
    text_pages,
    vww_test,
)

__all__ = ["MODELS", "ZOO", "ZooModel", "build", "calibrated_frames", "source_output", "text_images", "translate"]

Array = np.ndarray[Any, Any]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class ZooModel:
    """One network with its data.

    Attributes:
        name: network name.
        path: model file below the zoo; its suffix says which frontend reads it.
        calibration, test: zoo folder → frames (and labels, empty where there are none).
        mean, std: on-device normalization, or empty.
        shapes: sizes for open dimensions of the source input.
        source_layout: "NCHW" or "NHWC": the layout of the source file's input.
        least_codes: distinct output codes that data of this kind must at least give.
        least_snr: dB that the worst output must reach on the test frames; below 20 with a reason beside it.
        accuracy: what is judged on the device: "top1" (top-1 of float and device), "agreement" (same top-1 as float),
            "yolox" or "picodet" (COCO AP), or "" for SNR only.
        accuracy_points: how far the device may be below float, or below 100 % for "agreement", in points.
        first_class: class index of label 0.
        required: False: some stage may still refuse it, with a report.
        end_nodes: where the graph is cut, or empty; ``assemble`` then makes the file's outputs from the network's.
        stated: the file was quantized already: ``optimize`` gets no data and takes the file's codes; frames are the
            codes of its input, made unsigned, and ``mean`` and ``std`` what they stand for.
        native_error: how far the float network may be from the file's runtime, as a part of the output's range.
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
    least_snr: float = 20.0
    accuracy: str = ""
    accuracy_points: float = 0.3
    first_class: int = 0
    required: bool = True
    end_nodes: tuple[str, ...] = ()
    assemble: Callable[[list[Array]], list[Array]] = list
    stated: bool = False
    native_error: float = 1e-4

    @property
    def format(self) -> str:
        return Path(self.path).suffix[1:]

    @property
    def script(self) -> str:
        return (
            f"normalization1 = normalization({list(self.mean)}, {list(self.std)})\n"
            if self.mean and not self.stated
            else ""
        )

    def normalized(self, frames: Array) -> Array:
        """Frames as the network's first layer sees them, float32 NHWC."""
        x = frames.astype(np.float32)
        if not self.mean:
            return x
        return ((x - np.array(self.mean, np.float64)) / np.array(self.std, np.float64)).astype(np.float32)

    def values(self, frames: Array) -> Array:
        """Frames as a quantized network takes them: bytes, or what the codes of the file stand for."""
        return self.normalized(frames) if self.stated else frames

    def source_input(self, frames: Array) -> Array:
        """Frames as the source file's own runtime wants them: float32, normalized, in its layout."""
        x = self.normalized(frames)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self.source_layout == "NCHW" else x


def _coco(prepare: Callable[[Array], Array], order: Callable[[list[Array]], Array]) -> Callable[[Path], Any]:
    return lambda zoo: (order([prepare(image) for _, image in coco_images(zoo)]), NO_LABELS)


def _mosaic(prepare: Callable[[Array], Array], order: Callable[[list[Array]], Array]) -> Callable[[Path], Array]:
    return lambda zoo: order([prepare(image) for image in mosaics(zoo)])


def _plain(height: int, width: int) -> Callable[[Array], Array]:
    return lambda image: resized(image, height, width)


def _letterbox(size: int) -> Callable[[Array], Array]:
    return lambda image: letterboxed(image, size)


def _heads(size: int, half: int) -> Callable[[Path], Array]:
    def pick(zoo: Path) -> Array:
        crops, halves = person_heads(zoo, size)
        return crops[halves == half]

    return pick


def _text_test(zoo: Path) -> tuple[Array, Array]:
    return text_pages([image for _, image in coco_images(zoo)][:32], 320, 22), NO_LABELS


def _luminance(size: int, crops: Callable[[Path], Array]) -> Callable[[Path], Array]:
    def pick(zoo: Path) -> Array:
        y = (crops(zoo)[:, :size, :size].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).round()
        return y.astype(np.uint8)[..., None]

    return pick


def _classifiers() -> list[ZooModel]:
    cifar: dict[str, Any] = {"calibration": cifar_calibration, "test": cifar_test, "accuracy": "top1"}
    imagenet: dict[str, Any] = {
        "calibration": lambda zoo: coco_crops(zoo, 224),
        "test": imagenet_test,
        "mean": (127.5,) * 3,
        "std": (127.5,) * 3,
        "source_layout": "NHWC",
        "accuracy": "agreement",
        # A thousand probabilities: 22 dB and more reached. NNCF: 13.8 and 12.9 dB.
        "least_snr": 14.0,
    }
    normalized: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    mobilenet = "mobilenet_v1_0.25_224"
    return [
        ZooModel("resnet20", "resnet_cifar10_onnx/resnet20.onnx", **cifar, **normalized),
        ZooModel("resnet56", "resnet_cifar10_onnx/resnet56.onnx", **cifar, **normalized),
        ZooModel("resnet8", "derived_tf/resnet8/ic_resnet8_tf2onnx.onnx", **cifar, source_layout="NHWC"),
        ZooModel("resnet8_tflite", "mlperf_tiny/ic_resnet8_float.tflite", **cifar, source_layout="NHWC"),
        ZooModel(
            "mobilenet_v1", f"derived_tf/mobilenet_v1_025/{mobilenet}_tf2onnx.onnx", **imagenet, accuracy_points=10.0
        ),
        ZooModel(
            "mobilenet_v1_tflite",
            f"mobilenet_v1_025_imagenet/{mobilenet}_float.tflite",
            **imagenet,
            # 9.6 reached; variants of like SNR give 7 to 10. NNCF: 26.
            accuracy_points=11.0,
            first_class=1,
        ),
        ZooModel(
            "vww",
            "mlperf_tiny/vww_96_float.tflite",
            lambda zoo: imagenet_resized(zoo, 96, 128),
            vww_test,
            (0.0,) * 3,
            (255.0,) * 3,
            source_layout="NHWC",
            accuracy="top1",
            accuracy_points=100 * 3 / 292 + 1e-6,
        ),
        ZooModel("mnist", "mnist_cntk/mnist.onnx", mnist_calibration, mnist_test, accuracy="top1"),
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
            accuracy="top1",
            accuracy_points=1.0,
        ),
    ]


def yolox_rows(outputs: list[Array]) -> list[Array]:
    """Boxes, objectness and classes of three levels ``[N, h, w, 4 | 1 | 80]`` → the file's output ``[N, 3549, 85]``."""
    levels = sorted({o.shape[1] for o in outputs}, reverse=True)
    rows = []
    for side in levels:
        parts = sorted((o for o in outputs if o.shape[1] == side), key=lambda o: (4, 1, 80).index(o.shape[-1]))
        rows.append(np.concatenate(parts, axis=-1).reshape(len(outputs[0]), side * side, 85))
    return [np.concatenate(rows, axis=1)]


# Boxes and probabilities differ in range: as outputs of their own they keep their own scales.
YOLOX_HEADS = tuple(name for k in (327, 360, 393) for name in (f"Conv_{k}", f"Sigmoid_{k + 2}", f"Sigmoid_{k + 3}"))


def _detectors() -> list[ZooModel]:
    faces: dict[str, Any] = {
        "calibration": _mosaic(_plain(240, 320), rgb),
        "test": _coco(_plain(240, 320), rgb),
        "mean": (127.0,) * 3,
        "std": (128.0,) * 3,
        # Box regression on pictures mostly without faces. onnxruntime: 15.4 dB, NNCF: 14.8.
        "least_snr": 14.0,
    }
    ultraface = "ultraface/version-RFB-320_without_postprocessing"
    return [
        ZooModel(
            "yolox_nano",
            "yolox_nano/yolox_nano_coco80.onnx",
            _mosaic(_letterbox(416), bgr),
            _coco(_letterbox(416), bgr),
            accuracy="yolox",
            accuracy_points=1.0,
            least_snr=12.0,  # logits before and probabilities behind sigmoids; onnxruntime: 6.4 dB, NNCF: 6.7
            end_nodes=YOLOX_HEADS,
            assemble=yolox_rows,
        ),
        ZooModel(
            "yolox_nano_whole",
            "yolox_nano/yolox_nano_coco80.onnx",
            _mosaic(_letterbox(416), bgr),
            _coco(_letterbox(416), bgr),
            accuracy="",
            least_snr=12.0,
        ),
        ZooModel(
            "picodet_s",
            "picodet_s/picodet_s_320_coco.onnx",
            _mosaic(_plain(320, 320), bgr),
            _coco(_plain(320, 320), bgr),
            (103.53, 116.28, 123.675),
            (57.375, 57.12, 58.395),
            accuracy="picodet",
            accuracy_points=1.0,
            least_snr=14.0,  # NNCF: -1.9 dB
        ),
        ZooModel(
            "yunet",
            "yunet/yunet_n_320_320.onnx",
            _mosaic(_letterbox(320), bgr),
            _coco(_letterbox(320), bgr),
            # Scores of faces at stride 32 on pictures mostly without: 17.1 dB with plain ranges, 14.1 with what lifts
            # the eleven others by 3 to 5 dB and the worst about the mean, which decides, from 13.2 to 14.1 dB.
            # onnxruntime: 17.3 dB, NNCF: 4.8. The bound was 15 before outputs were judged about the mean.
            least_snr=14.0,
        ),
        ZooModel("ultraface", f"{ultraface}.onnx", **faces),
        # Ends that are named keep the decoding of the boxes on the device.
        ZooModel("ultraface_whole", "ultraface/version-RFB-320.onnx", **faces, end_nodes=("scores", "boxes")),
        ZooModel("ultraface_tflite", f"{ultraface}.tflite", **faces, source_layout="NHWC"),
        ZooModel(
            "text_detector",
            "ppocr_v4/ch_PP-OCRv4_det_infer.onnx",
            lambda zoo: text_pages(mosaics(zoo), 320, 21),
            _text_test,
            IMAGENET_MEAN,
            IMAGENET_STD,
            [1, 3, 320, 320],
            least_snr=15.0,  # NNCF: 15.2 dB
        ),
        ZooModel(
            "face_landmark",
            "mediapipe_face_float/face_landmark.tflite",
            _heads(192, 0),
            lambda zoo: (_heads(192, 1)(zoo), NO_LABELS),
            (0.0,) * 3,
            (255.0,) * 3,
            source_layout="NHWC",
            # The second output is one number, whether there is a face. NNCF on the same data: 33.3 and 14.8 dB.
            least_snr=16.0,
        ),
        ZooModel(
            "face_detection",
            "mediapipe_face_float/face_detection_front.tflite",
            _mosaic(_letterbox(128), rgb),
            _coco(_letterbox(128), rgb),
            (127.5,) * 3,
            (127.5,) * 3,
            source_layout="NHWC",
            least_snr=13.0,  # class logits; NNCF: 13.5 dB
        ),
    ]


def _upscalers() -> list[ZooModel]:
    return [
        ZooModel(
            name,
            f"tf_superres/{file}_x2.pb",
            _luminance(64, lambda zoo: coco_crops(zoo, 128)),
            lambda zoo: (_luminance(64, lambda z: imagenet_test(z)[0])(zoo)[:64], NO_LABELS),
            (0.0,),
            (255.0,),
            [1, 64, 64, 1],
            "NHWC",
            required=False,
        )
        for name, file in (("espcn", "ESPCN"), ("fsrcnn", "FSRCNN"))
    ]


def _kws_codes(zoo: Path) -> tuple[Array, Array]:
    data = np.load(zoo / "data_kws01" / "kws01_1000.npz")
    codes = (data["x_int8"].astype(np.int16) + 128).astype(np.uint8)
    return codes.reshape(-1, 49, 10, 1), data["y"].astype(np.int64).reshape(-1)


def _spectra(zoo: Path) -> tuple[Array, Array]:
    """Codes for the anomaly detector, of which the zoo has no sounds: slow noise about the middle of its input."""
    rng = np.random.default_rng(17)
    walk = rng.normal(0, 1, (64, 640)).cumsum(axis=1) - np.linspace(0, 30, 640)
    return np.clip(150 + 2 * walk, 0, 255).astype(np.uint8), NO_LABELS


def _quantized_files() -> list[ZooModel]:
    """Files that were quantized already, judged by LiteRT on the same codes: the float network lacks their rounding."""
    imagenet: dict[str, Any] = {
        "calibration": lambda zoo: coco_crops(zoo, 224),
        "test": imagenet_test,
        "mean": (128.0,) * 3,
        "std": (128.0,) * 3,
        "source_layout": "NHWC",
        "accuracy": "top1",
        "accuracy_points": 0.4,  # of 250 pictures one
        "first_class": 1,
        "stated": True,
        "native_error": 0.2,  # a probability, behind 28 and 53 layers of 8 bits
    }
    tiny: dict[str, Any] = {"source_layout": "NHWC", "stated": True, "accuracy": "top1"}
    vww: dict[str, Any] = {"mean": (0.0,) * 3, "std": (255.0,) * 3, "native_error": 0.15}
    return [
        ZooModel("mobilenet_v1_uint8", "mobilenet_v1_025_imagenet/mobilenet_v1_0.25_224_quant.tflite", **imagenet),
        ZooModel("mobilenet_v2_uint8", "quant_tflite/mobilenet_v2_1.0_224_quant.tflite", **imagenet),
        ZooModel(
            "resnet8_int8", "mlperf_tiny/ic_resnet8_int8.tflite", cifar_calibration, cifar_test, (0.0,) * 3, (1.0,) * 3,
            native_error=0.3, **tiny,
        ),
        ZooModel(
            "vww_int8", "mlperf_tiny/vww_96_int8.tflite", lambda zoo: imagenet_resized(zoo, 96, 128), vww_test,
            **vww, **tiny,
        ),
        ZooModel(
            "kws_int8", "mlperf_tiny/kws_dscnn_int8.tflite", lambda zoo: _kws_codes(zoo)[0], _kws_codes,
            (211.0,), (1 / 0.5847029089927673,), native_error=0.1, **tiny,
        ),
        ZooModel(
            "kws_hybrid", "mlperf_tiny/kws_dscnn_float.tflite", lambda zoo: _kws_codes(zoo)[0][::4], _kws_codes,
            (211.0,), (1 / 0.5847029089927673,), source_layout="NHWC", accuracy="top1", accuracy_points=0.5,
            native_error=0.2,  # LiteRT rounds the activations of each convolution to 8 bits; on the mean 0.0007
            least_codes=10,
        ),
        ZooModel(
            "autoencoder_int8", "mlperf_tiny/ad01_int8.tflite", lambda zoo: _spectra(zoo)[0], _spectra,
            (217.0,), (1 / 0.3910152316093445,), native_error=0.03, source_layout="NHWC", stated=True,
        ),
    ]  # fmt: skip


ZOO: dict[str, ZooModel] = {m.name: m for m in (*_classifiers(), *_detectors(), *_upscalers(), *_quantized_files())}
MODELS: dict[str, ZooModel] = {name: ZOO[name] for name in ("resnet20", "resnet8", "direction_classifier")}


def translate(model: ZooModel, zoo: Path, hw_arch: str = "hailo8") -> Any:
    """Parse the model's file; returns the runner.

    Raises:
        UnsupportedModelError, NotBuiltYetError: the frontend does not take it (yet).
    """
    from headrace.errors import Diagnostic, NotBuiltYetError
    from headrace.runner import ClientRunner

    runner = ClientRunner(hw_arch=hw_arch)
    if model.format == "onnx":
        cut = list(model.end_nodes) or None
        runner.translate_onnx_model(zoo / model.path, model.name, end_node_names=cut, net_input_shapes=model.shapes)
        return runner
    reader = getattr(runner, "translate_tf_model", None)
    if reader is None:
        raise NotBuiltYetError(Diagnostic("E-ZOO-FORMAT", model.path, f"there is no reader of .{model.format} yet"))
    if model.shapes is None:
        reader(zoo / model.path, model.name)
    else:
        reader(zoo / model.path, model.name, tensor_shapes=model.shapes)
    return runner


def calibrated_frames(model: ZooModel, zoo: Path, most: int | None = None) -> Array:
    """The calibration frames that Headrace and its peers alike are given."""
    frames = model.calibration(zoo)
    return frames if most is None else frames[:most]


def build(model: ZooModel, zoo: Path, calibration_size: int | None = None, min_snr: float = 0.0) -> Any:
    """Parse and optimize; returns the runner."""
    runner = translate(model, zoo)
    if model.script:
        runner.load_model_script(model.script)
    runner.optimize(None if model.stated else calibrated_frames(model, zoo, calibration_size), min_snr=min_snr)
    return runner


def _onnx_output(model: ZooModel, path: Path, frames: Array, batch: int) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    fixed = isinstance(entry.shape[0], int) and entry.shape[0] > 0
    step = entry.shape[0] if fixed else min(batch, 8 if frames[0].size > 100_000 else batch)
    parts = [
        session.run(None, {entry.name: model.source_input(frames[i : i + step])}) for i in range(0, len(frames), step)
    ]
    return [np.concatenate([p[k] for p in parts]) for k in range(len(parts[0]))]


def _as_codes(values: Array, tensor: dict[str, Any]) -> Array:
    """Values as an input of LiteRT has them: codes where the file has integers."""
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    info = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(values / scale) + zero, info.min, info.max).astype(tensor["dtype"])


def _as_values(codes: Array, tensor: dict[str, Any]) -> Array:
    """What an output of LiteRT stands for."""
    if tensor["dtype"] == np.float32:
        return codes
    scale, zero = tensor["quantization"]
    return (codes.astype(np.float32) - zero) * np.float32(scale)


def _tflite_output(model: ZooModel, path: Path, frames: Array) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=2)
    entry = interpreter.get_input_details()[0]
    interpreter.allocate_tensors()
    parts: list[list[Array]] = []
    for frame in frames:
        interpreter.set_tensor(entry["index"], _as_codes(model.source_input(frame[None]), entry))
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        parts.append([_as_values(interpreter.get_tensor(d["index"]).copy(), d) for d in outputs])
    return [np.concatenate([p[k] for p in parts]) for k in range(len(parts[0]))]


def _tensorflow_output(model: ZooModel, path: Path, frames: Array) -> list[Array]:
    """By TensorFlow where there is one (HEADRACE_TENSORFLOW); else the file's nodes in ONNX's words by onnxruntime."""
    from headrace.frontends import ParseOptions
    from headrace.frontends.formats import reader_of
    from headrace.frontends.graph import resolve_input_shapes
    from headrace.frontends.reader import Source
    from small_tflite import run_source
    from tensorflow_oracle import interpreter, results

    source, options = Source.of(path), ParseOptions(input_shapes=model.shapes)
    graph = reader_of(source).read(source, options)
    resolve_input_shapes(graph, options)
    feeds = {str(graph.graph.inputs[0].name): model.source_input(frames)}
    names = [str(value.name) for value in graph.graph.outputs]
    if interpreter() is not None:
        return results(path, feeds, names)
    made = run_source(graph, feeds)
    return [made[name] for name in names]


def source_output(model: ZooModel, zoo: Path, frames: Array, batch: int = 100) -> list[Array]:
    """Outputs of the source file's own runtime (onnxruntime, LiteRT, TensorFlow), float32, one array per output."""
    if model.format == "onnx":
        return _onnx_output(model, zoo / model.path, frames, batch)
    if model.format == "tflite":
        return _tflite_output(model, zoo / model.path, frames)
    return _tensorflow_output(model, zoo / model.path, frames)
