# SPDX-License-Identifier: Apache-2.0
"""What a user gets of real networks on the device: words, digits, pictures, boxes, beside the file's own runtime.

Each task has its aim beside it. ``judge(NAME, zoo)`` measures one; tools/results_page.py writes the table, and
tests/e2e/test_zoo_accuracy.py holds each to its aim. Calibration data are never test data.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import zoo_data
from zoo_models import ZOO, ZooModel, build, source_output, translate

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Aim:
    """How far the device may be from the file's own runtime, in the task's unit; the least share of equal answers."""

    apart: float
    same: float = 0.0

    def __str__(self) -> str:
        return f"≤ {self.apart:g}" + (f", ≥ {self.same:g} % the same" if self.same else "")


@dataclass
class Judged:
    """One task, measured.

    Attributes:
        task: its name. file: below the zoo. judged_on: how many of what.
        unit: of ``own`` and ``device``. own: the file's own runtime. device: ours.
        same: answers that are equal, in points of 100; None where that says nothing.
        aim: in words. met: whether it is.
        seconds: of the whole measurement.
    """

    task: str
    file: str
    judged_on: str
    unit: str
    own: float
    device: float
    same: float | None = None
    aim: str = ""
    met: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """A file, how near it should come, and how it is measured; ``reached``: how near it comes while it misses that."""

    file: str
    aim: Aim
    measure: Callable[[str, Path], Judged]
    reached: float | None = None


def judge(name: str, zoo: Path) -> Judged:
    """Measure one task of :data:`TASKS`."""
    task, begin = TASKS[name], time.perf_counter()
    found = task.measure(name, zoo)
    found.aim = str(task.aim)
    # 1e-9: 0.3 points of 1,000 are three, whatever floats make of them.
    found.met = abs(found.own - found.device) <= task.aim.apart + 1e-9 and (found.same or 100.0) >= task.aim.same
    found.seconds = round(time.perf_counter() - begin, 1)
    return found


def _first(values: Any) -> Array:
    return np.asarray(values[0] if isinstance(values, (list, tuple)) else values)


def _on_device(runner: Any, values: Array | dict[str, Array], whole: bool = False) -> Array:
    from headrace.runner import InferenceContext

    runner.compile()
    options: dict[str, Any] = {"whole": True} if whole else {"batch_size": 16, "source_layout": True}
    return _first(runner.infer(InferenceContext.SDK_HAILO_HW, values, **options))


def _classes(name: str, file: str, told: str, own: Array, device: Array, labels: Array) -> Judged:
    a, b = (np.asarray(x).reshape(len(labels), -1).argmax(axis=1) for x in (own, device))
    return Judged(
        name, file, told, "top-1, %", round(100 * float((a == labels).mean()), 2),
        round(100 * float((b == labels).mean()), 2), round(100 * float((a == b).mean()), 2),
    )  # fmt: skip


# --- files that were quantized already -------------------------------------------------------------------------------


def _of_codes(name: str, zoo: Path) -> Judged:
    """A file of codes: without data, against LiteRT on the same codes."""
    model = ZOO[name]
    frames, labels = model.test(zoo)
    device, own = _on_device(build(model, zoo), model.values(frames)), source_output(model, zoo, frames)[0]
    if len(labels):
        return _classes(name, model.path, f"{len(labels)} frames", own, device, labels + model.first_class)
    # No labels: how much of a frame comes back, which is what the network is asked for, and the codes that are equal.
    given = model.values(frames).reshape(len(frames), -1)
    errors = [round(float(np.square(o.reshape(given.shape) - given).mean()), 4) for o in (own, device)]
    same = round(100 * float((own.reshape(given.shape) == device.reshape(given.shape)).mean()), 2)
    return Judged(name, model.path, f"{len(frames)} frames", "squared error", *errors, same)


# --- float networks --------------------------------------------------------------------------------------------------


def _keywords(name: str, zoo: Path) -> Judged:
    """The last 100 frames calibrate, the others judge."""
    frames, labels = ZOO["kws_int8"].test(zoo)
    model, count = _float_keywords(TASKS[name].file), len(frames) - 100
    runner = translate(model, zoo) if model.format == "tflite" else _runner(zoo / model.path)
    runner.optimize(model.normalized(frames[count:]), min_snr=0)
    own = source_output(model, zoo, frames[:count])[0]
    device = _on_device(runner, model.normalized(frames[:count]))
    return _classes(name, model.path, f"{count} spoken words", own, device, labels[:count])


def _float_keywords(path: str) -> ZooModel:
    known = ZOO["kws_int8"]
    return ZooModel("kws", path, known.calibration, known.test, known.mean, known.std, None, "NHWC")


def _runner(path: Path, shapes: list[int] | None = None) -> Any:
    from headrace.runner import ClientRunner

    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_tf_model(path, "net", tensor_shapes=shapes)
    return runner


def _read_as_is(name: str, shapes: list[int] | None = None) -> ZooModel:
    """A task's file for its own runtime, on frames that are made already."""
    return ZooModel(name, TASKS[name].file, lambda _: NO_FRAMES, lambda _: (NO_FRAMES, NO_FRAMES), shapes=shapes,
                    source_layout="NHWC")  # fmt: skip


NO_FRAMES = np.zeros(0)
SIDE = 64


def _small_and_large(crops: Array) -> tuple[Array, Array]:
    """Luminance 0 … 1 of a picture's middle, at ``SIDE`` and at twice that; bytes, as pictures are."""
    y = np.rint(crops.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))
    edge = (y.shape[1] - 2 * SIDE) // 2
    large = y[:, edge : edge + 2 * SIDE, edge : edge + 2 * SIDE]
    small = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in large]
    return np.clip(np.rint(np.stack([np.asarray(s) for s in small])), 0, 255)[..., None] / 255, large[..., None] / 255


def _enlarged(name: str, zoo: Path) -> Judged:
    """PSNR of 64 pictures made twice as large, against the pictures that they were made from."""
    runner = _runner(zoo / TASKS[name].file, [1, SIDE, SIDE, 1])
    if name.endswith("_16bit"):
        runner.load_model_script("quantization_param({conv*}, precision_mode=a8_w8_a16)\n")
    runner.optimize(_small_and_large(zoo_data.coco_crops(zoo, 224))[0][:64], min_snr=0)
    small, large = _small_and_large(zoo_data.imagenet_test(zoo)[0][:64])
    own = source_output(_read_as_is(name, [1, SIDE, SIDE, 1]), zoo, small)[0]
    device = _on_device(runner, small)

    def psnr(found: Array) -> float:
        noise = np.square(np.clip(found.reshape(large.shape), 0, 1) - large).mean(axis=(1, 2, 3))
        return round(float(np.mean(-10 * np.log10(np.maximum(noise, 1e-12)))), 3)

    return Judged(name, TASKS[name].file, f"{len(small)} pictures", "PSNR, dB", psnr(own), psnr(device))


def _digits(name: str, zoo: Path) -> Judged:
    """LiteRT's variables are reset before each digit, whose rows are a sequence of their own."""
    from ai_edge_litert.interpreter import Interpreter

    path, (x, labels) = zoo / TASKS[name].file, zoo_data.mnist_test(zoo)
    runner = _runner(path)
    runner.optimize((zoo_data.mnist_calibration(zoo)[..., 0] / 255).astype(np.float32), min_snr=0)
    frames, interpreter = (x[..., 0] / 255).astype(np.float32), Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, end, own = interpreter.get_input_details()[0], interpreter.get_output_details()[0], []
    for frame in frames:
        interpreter.reset_all_variables()
        interpreter.set_tensor(entry["index"], frame[None])
        interpreter.invoke()
        own.append(interpreter.get_tensor(end["index"])[0].copy())
    return _classes(name, TASKS[name].file, f"{len(labels)} digits", np.stack(own), _on_device(runner, frames), labels)


# --- speech ----------------------------------------------------------------------------------------------------------

#: Classes of the keyword transformer, in the order of the Speech Commands set: silence, unknown, yes, no …
WORDS = {"silence": 0, "yes": 2, "no": 3}


def _sound(path: Path) -> Array:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return np.pad(samples[:16000], (0, max(0, 16000 - len(samples))))


def _said(zoo: Path) -> tuple[Array, Array]:
    """Each recording earlier and later by up to 80 ms, and at half the volume."""
    sounds, labels = [], []
    for word, label in WORDS.items():
        sound = _sound(zoo / "data_speech_wavs" / f"{word}_1000ms.wav")
        for shift in range(-1280, 1281, 320):
            for gain in (0.5, 1.0):
                sounds.append(np.clip(np.roll(sound, shift) * np.float32(gain), -1, 1))
                labels.append(label)
    return np.stack(sounds), np.array(labels)


def _spoken(name: str, zoo: Path) -> Judged:
    """Calibrated on the recordings backwards: sounds of the same kind, and no test data.

    Nothing is named: parsing leaves the spectrum and its logarithm to the host, of a range of 1e-7 … 36, which 8 bits
    cannot show.
    """
    from headrace.runner import ClientRunner

    path, (sounds, labels) = zoo / TASKS[name].file, _said(zoo)
    backwards = [_sound(p)[::-1] for p in sorted((zoo / "data_speech_wavs").glob("*.wav"))]
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_tf_model(path, "net")
    calibration = [np.roll(s, k * 1000) * gain for s in backwards for k, gain in enumerate((1, 0.4))]
    given = runner.archive.whole.inputs[0].name
    runner.optimize({given: np.stack(calibration).astype(np.float32)}, min_snr=0)
    own = source_output(_read_as_is(name), zoo, sounds)[0]
    right = own.reshape(len(labels), -1).argmax(axis=1) == labels
    # Judged where the float network is right: what it takes for another word says nothing of the device.
    told = f"{int(right.sum())} of {len(labels)} sounds that float knows"
    device = _on_device(runner, {given: sounds}, whole=True)
    return _classes(name, TASKS[name].file, told, own[right], device[right], labels[right])


# --- from pictures to boxes, by the command line alone ---------------------------------------------------------------

#: Kind of the decoder of tests/detection, and how the commands are told of pictures.
COMMANDS = {
    "yolox_nano": ("yolox", "", ["--resize", "letterbox-corner", "--channels", "bgr"]),
    "picodet_s": (
        "picodet", f"normalization1 = normalization({[103.53, 116.28, 123.675]}, {[57.375, 57.12, 58.395]})\n",
        ["--resize", "stretch", "--channels", "bgr"],
    ),
}  # fmt: skip


def _headrace(folder: Path, *words: str | Path) -> None:
    command = [sys.executable, "-m", "headrace", *map(str, words), "--quiet", "--force"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def _boxes(name: str, zoo: Path) -> Judged:
    """JPEG files in, boxes.json out: parse, optimize, compile, run; nothing of the network is named."""
    from detection.coco import average_precision, boxes_of

    kind, script, pictures = COMMANDS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "calibration").mkdir()
        (folder / "net.alls").write_text(script)
        for number, picture in enumerate(zoo_data.mosaics(zoo)):
            Image.fromarray(picture).save(folder / "calibration" / f"{number:03}.png")
        data = ["--calib-set-path", folder / "calibration", *pictures, "--model-script", folder / "net.alls"]
        _headrace(folder, "parse", zoo / TASKS[name].file, "--har-path", folder / "net.har")
        _headrace(folder, "optimize", folder / "net.har", *data, "--min-snr", "0", "-o", folder / "net_q.har")
        _headrace(folder, "compile", folder / "net_q.har", "-o", folder / "net.hef")
        images, out = zoo / "data_coco64" / "images", folder / "out"
        _headrace(folder, "run", folder / "net.hef", "--input-files", images, *pictures, "--output-dir", out,
                  "--score-threshold", "0.01")  # fmt: skip
        device = average_precision(_read_boxes(out / "boxes.json", zoo), zoo)
    frames, _ = ZOO[name].test(zoo)
    own = average_precision(boxes_of(kind, source_output(ZOO[name], zoo, frames), zoo), zoo)
    told = f"{len(frames)} JPEG files, by `headrace run`"
    return Judged(name, TASKS[name].file, told, "AP", round(own["AP"], 2), round(device["AP"], 2))


def _read_boxes(path: Path, zoo: Path) -> list[Any]:
    """Detections in the order of the pictures of data_coco64."""
    from detection.boxes import Detections

    found = {Path(frame["picture"]).name: frame["boxes"] for frame in json.loads(path.read_text())["frames"]}
    rows = [found[entry["file_name"]] for entry in zoo_data.coco_annotations(zoo)["images"]]
    return [
        Detections(
            np.array([b["box"] for b in boxes], np.float64).reshape(-1, 4),
            np.array([b["score"] for b in boxes], np.float64),
            np.array([b["class"] for b in boxes], np.int64),
        )
        for boxes in rows
    ]


def _quantized(apart: float = 0.3) -> Aim:
    return Aim(apart, 99.0)


TASKS: dict[str, Task] = {
    **{
        name: Task(ZOO[name].path, _quantized(), _of_codes)
        for name in ("mobilenet_v1_uint8", "mobilenet_v2_uint8", "resnet8_int8", "kws_int8", "vww_int8")
    },
    "autoencoder_int8": Task(ZOO["autoencoder_int8"].path, Aim(0.05, 99.0), _of_codes),
    "kws_saved_model": Task("mlperf_tiny/kws_saved_model", Aim(0.5), _keywords),
    "kws_hybrid": Task("mlperf_tiny/kws_dscnn_float.tflite", Aim(0.5), _keywords),
    "fsrcnn": Task("tf_superres/FSRCNN_x2.pb", Aim(0.1), _enlarged, reached=0.2),
    "fsrcnn_16bit": Task("tf_superres/FSRCNN_x2.pb", Aim(0.1), _enlarged),
    "espcn": Task("tf_superres/ESPCN_x2.pb", Aim(0.1), _enlarged),
    "espcn_16bit": Task("tf_superres/ESPCN_x2.pb", Aim(0.1), _enlarged),
    "keyword_transformer": Task("kwt1/kwt1_non_stream.tflite", Aim(0.0), _spoken),
    "lstm_mnist": Task("tflm_lstm_mnist/trained_lstm.tflite", Aim(0.3), _digits),
    "yolox_nano": Task("yolox_nano/yolox_nano_coco80.onnx", Aim(1.0), _boxes),
    "picodet_s": Task("picodet_s/picodet_s_320_coco.onnx", Aim(1.0), _boxes),
}
