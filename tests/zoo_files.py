# SPDX-License-Identifier: Apache-2.0
"""Every model file of the zoo, of whatever family, through every stage; found by looking, so new files come along.

As a program: ZOO FILE [quick] measures one file and prints its row as JSON; each file has a process of its own, whose
memory after parsing is that of parsing.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Sizes of an only input, or of several by name.
Sizes = list[int] | dict[str, list[int]] | None
#: Sizes of files that leave theirs open, and that no row of tests/zoo_models.py has.
SHAPES: dict[str, Sizes] = {
    "tf_superres/ckpt_x2": [1, 64, 64, 1],
    "yunet/yunet_n_dynamic.onnx": [1, 3, 320, 320],
    "silero_vad/silero_vad.onnx": {"input": [1, 576], "state": [2, 1, 128]},
}
#: Inputs that decide which branch of a file is taken.
VALUES = {"silero_vad/silero_vad.onnx": {"sr": np.array(16000, np.int64)}}
#: Part of a path → the network of tests/zoo_models.py whose pictures such a file takes, as that one takes them.
PICTURES = {
    "resnet8": "resnet8_tflite",
    "mobilenet_v1_0.25_224": "mobilenet_v1_tflite",
    "mobilenet_v2_1.0_224": "mobilenet_v1_tflite",
    "vww_96": "vww",
    "yunet_n_dynamic": "yunet",
}
#: Part of a path → the range of random numbers that its network was made for; -1 to 1 elsewhere.
RANGES = {"style_transfer/": (0.0, 255.0)}
CALIBRATION, FRAMES, SECONDS = 16, 3, 1800


@dataclass
class FileRow:
    """What was measured of one file.

    Attributes:
        stopped: "" or the first stage that ended in a coded error, and its first diagnostic.
        seconds, peak: of parsing; MiB of the process after it. file_size: MiB.
        host_steps: parts of the model that the host runs.
        native: largest difference of the whole native model from the file's runtime, as a part of an output's range.
        runtime: whose; "" where there is none here.
        different: bytes that differ between quantized emulator and device, in ``compared`` layers of ``frames`` frames.
        snr: dB of the whole model on the device against the runtime, the worst output.
    """

    file: str
    format: str = ""
    stopped: str = ""
    seconds: float | None = None
    peak: float | None = None
    file_size: float = 0.0
    layers: int = 0
    host_steps: int = 0
    runtime: str = ""
    native: float | None = None
    different: int | None = None
    compared: int = 0
    frames: int = 0
    snr: float | None = None
    notes: list[str] = field(default_factory=list)


def zoo_files(zoo: Path) -> list[str]:
    """Paths of all models below the zoo, folders (SavedModel, checkpoint) as one; sorted."""
    return sorted(str(path.relative_to(zoo)) for path in _models(zoo))


def _models(folder: Path) -> Iterator[Path]:
    names = {entry.name for entry in folder.iterdir()}
    if names & {"saved_model.pb", "saved_model.pbtxt"} or any(name.endswith(".meta") for name in names):
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if not entry.name.startswith("data_"):
                yield from _models(entry)
        elif entry.suffix in (".onnx", ".tflite", ".pb", ".keras", ".h5"):
            yield entry


def measure_file(zoo: Path, file: str, quick: bool = False) -> FileRow:
    """The row of one file, from a process of its own; ``quick``: as far as the native results."""
    command = [sys.executable, str(Path(__file__).resolve()), str(zoo), file, *(["quick"] if quick else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return FileRow(file, stopped=f"it took more than {SECONDS} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return FileRow(file, stopped=f"the process ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return FileRow(**json.loads(lines[-1]))


# --- in the process ---------------------------------------------------------------------------------------------------


def _peak() -> float:
    """MiB that this process has had at most; ``getrusage`` would count what its parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _size(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 2**20


def _shapes(file: str) -> Sizes:
    from zoo_models import ZOO

    return next((m.shapes for m in ZOO.values() if m.path == file and m.shapes is not None), SHAPES.get(file))


def _parse(row: FileRow, path: Path) -> Any:
    import headrace.frontends.parsing  # noqa: F401  # what is imported once is no part of parsing
    from headrace.frontends.formats import reader_of
    from headrace.frontends.reader import Source
    from headrace.runner import ClientRunner

    runner = ClientRunner()
    onnx = reader_of(Source.of(path)).framework == "onnx"
    begin = time.perf_counter()
    if onnx:
        values = {name: value.tolist() for name, value in VALUES.get(row.file, {}).items()}
        runner.translate_onnx_model(path, "net", net_input_shapes=_shapes(row.file), input_values=values or None)
    else:
        runner.translate_tf_model(path, "net", tensor_shapes=_shapes(row.file))
    row.seconds = round(time.perf_counter() - begin, 2)
    row.peak = round(_peak(), 1)
    source = runner.archive.reports["parse"]["source"]
    row.format = str(source["format"])
    row.layers = len(runner.archive.native.layers)
    row.host_steps = sum(step is not runner.archive.whole.device for step in runner.archive.whole.steps)
    return runner


def _pictures(file: str, zoo: Path, frames: int) -> Array | None:
    """Pictures that a network of tests/zoo_models.py takes, as a file of its path, or of its kind, takes them."""
    from zoo_models import ZOO

    model = next((m for m in ZOO.values() if m.path == file), None)
    model = model or next((ZOO[name] for part, name in PICTURES.items() if part in file), None)
    return None if model is None else model.source_input(model.test(zoo)[0][:frames])


def _feeds(file: str, whole: Any, shapes: Sizes, zoo: Path, frames: int) -> dict[str, Array]:
    """Pictures where they are known, else random numbers, for every input of the file; sound for a WAV file."""
    random, pictures = np.random.default_rng(7), _pictures(file, zoo, frames) if len(whole.inputs) == 1 else None
    if pictures is not None and pictures.size % max(math.prod(s for s in whole.inputs[0].shape[1:] if s > 0), 1) == 0:
        return {whole.inputs[0].name: pictures}
    feeds: dict[str, Array] = {}
    for tensor in whole.inputs:
        shape = list(tensor.shape)
        if tensor.frame_axis >= 0 and shape[tensor.frame_axis] < 1:
            shape[tensor.frame_axis] = frames
        sizes = shapes.get(tensor.name) if isinstance(shapes, dict) else shapes if len(whole.inputs) == 1 else None
        if sizes is not None:
            shape = [s if s > 0 else given for s, given in zip(shape, sizes, strict=True)]
        shape = [max(s, 1) for s in shape]
        if tensor.dtype == "string":
            feeds[tensor.name] = np.array(sorted((zoo / "data_speech_wavs").glob("*.wav"))[0].read_bytes(), object)
        elif tensor.dtype.startswith(("int", "uint")):
            end = 256 if tensor.dtype == "uint8" else 8
            feeds[tensor.name] = random.integers(0, end, shape).astype(tensor.dtype)
        elif tensor.dtype == "bool":
            feeds[tensor.name] = random.integers(0, 2, shape).astype(bool)
        else:
            low, high = next((span for part, span in RANGES.items() if part in file), (-1.0, 1.0))
            feeds[tensor.name] = random.uniform(low, high, shape).astype(tensor.dtype)
    return feeds


def _coded(path: Path, feeds: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Feeds of a TFLite file that takes codes: as codes for its runtime, and the reals that those stand for."""
    from ai_edge_litert.interpreter import Interpreter

    codes, reals = dict(feeds), dict(feeds)
    for entry in Interpreter(str(path)).get_input_details():
        (scale, zero), name, kind = entry["quantization"], entry["name"], np.dtype(entry["dtype"])
        if scale and kind.kind in "iu" and feeds[name].dtype.kind == "f":
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            codes[name] = np.clip(np.rint(feeds[name] / scale) + zero, low, high).astype(kind)
            reals[name] = ((codes[name].astype(np.float64) - zero) * scale).astype(np.float32)
    return codes, reals


def _reals(row: FileRow, path: Path, outputs: list[str], values: Any) -> list[Array]:
    """The outputs of a whole model as reals, where the file gives codes."""
    found = list(values) if isinstance(values, (list, tuple)) else [values]
    if row.format != "tflite":
        return found
    from ai_edge_litert.interpreter import Interpreter

    how = {entry["name"]: entry["quantization"] for entry in Interpreter(str(path)).get_output_details()}
    for index, name in enumerate(outputs):
        scale, zero = how.get(name, (0.0, 0))
        if scale and found[index].dtype.kind in "iu":
            found[index] = (found[index].astype(np.float64) - zero) * scale
    return found


def _by_runtime(row: FileRow, path: Path, feeds: dict[str, Array], outputs: list[str]) -> list[Array] | None:
    """What the file's own runtime computes; None where there is none here."""
    from headrace.host.file_runtimes import open_in_its_runtime
    from tensorflow_oracle import interpreter, results

    if row.format == "tensorflow":
        if interpreter() is None:
            row.runtime = "onnxruntime, of its nodes in ONNX's words"
            return _by_onnxruntime(path, _shapes(row.file), feeds, outputs)
        row.runtime = "TensorFlow"
        return results(path, feeds, outputs)
    runtime = open_in_its_runtime(row.format, path, None)
    row.runtime = runtime.title
    found = runtime.run(feeds, outputs)
    return [found[name] for name in outputs]


def _by_onnxruntime(path: Path, shapes: Sizes, feeds: dict[str, Array], outputs: list[str]) -> list[Array] | None:
    """The file as its reader understood it, before anything is a layer; None with operators of the host's own."""
    from headrace.frontends import ParseOptions
    from headrace.frontends.formats import reader_of
    from headrace.frontends.reader import Source
    from small_tflite import run_source

    source = Source.of(path)
    graph = reader_of(source).read(source, ParseOptions(input_shapes=shapes))
    if any(node.domain for node in graph.graph):
        return None
    made = run_source(graph, feeds)
    return [made[name] for name in outputs]


def _error(want: list[Array], got: list[Array]) -> float:
    worst = 0.0
    for w, g in zip(want, got, strict=True):
        difference = np.abs(np.asarray(g, np.float64).reshape(w.shape) - w)
        # A single number has no range of its own: it is judged by its size.
        wide = float(np.ptp(w)) if w.size > 1 and np.ptp(w) > 0 else float(np.abs(w).max(initial=0))
        worst = max(worst, float(difference.max() / max(wide, 1e-30)) if w.size else 0.0)
    return worst


def _snr(want: list[Array], got: list[Array]) -> float:
    worst = 200.0
    for w, g in zip(want, got, strict=True):
        signal, noise = float(np.square(w, dtype=np.float64).sum()), float(
            np.square(w - np.asarray(g, np.float64).reshape(w.shape)).sum()
        )  # fmt: skip
        worst = min(worst, 200.0 if noise == 0 else 10 * np.log10(max(signal, 1e-300) / noise))
    return round(float(worst), 1)


def _optimize(row: FileRow, runner: Any, zoo: Path, shapes: list[int] | None) -> None:
    """Without data where the file was quantized already; else with those of its inputs, through the host's steps."""
    from headrace.errors import HeadraceError
    from headrace.host import WholeRun

    try:
        runner.optimize(min_snr=0)
        row.notes.append("optimized without data")
        return
    except HeadraceError:
        pass
    whole = runner.archive.whole
    calls = [_feeds(row.file, whole, shapes, zoo, CALIBRATION)]
    run = WholeRun(whole, lambda frames: frames, row.file)
    data = [run.device_inputs(feeds) for feeds in calls]
    runner.optimize({name: np.concatenate([d[name] for d in data]) for name in data[0]}, min_snr=0)


def _bytes(row: FileRow, runner: Any) -> None:
    from headrace.emulator import Executor
    from headrace.hn import output_quantization
    from headrace.runtime import _native

    network, random = runner.archive.quantized, np.random.default_rng(11)
    codes = {}
    for layer in network.input_layers:
        how, shape = output_quantization(layer), (FRAMES, *layer.output_shape[1:])
        codes[layer.name] = random.integers(0, how.high + 1, shape).astype(how.dtype)
    names = [layer.name for layer in network if not layer.operation.is_boundary]
    want = Executor(network, "quantized").run(codes, names, batch_size=2)
    shaped = {name: x.reshape(x.shape[0], *network[name].frame_shape) for name, x in codes.items()}
    got = _native.Device(None, threads=2).load(runner.hef).infer_all(shaped)
    row.different = sum(int(np.count_nonzero(np.asarray(got[n]).reshape(want[n].shape) != want[n])) for n in names)
    row.compared, row.frames = len(names), FRAMES


def _measured(zoo: Path, file: str, quick: bool) -> FileRow:
    from headrace.errors import HeadraceError
    from headrace.runner import InferenceContext

    row, stage, path = FileRow(file), "parse", zoo / file
    row.file_size = round(_size(path), 2)
    try:
        runner, shapes = _parse(row, path), _shapes(file)
        whole = runner.archive.whole
        outputs = [tensor.name for tensor in whole.outputs]
        stage = "native"
        feeds = _feeds(file, whole, shapes, zoo, 1)
        codes, reals = _coded(path, feeds) if row.format == "tflite" else (feeds, feeds)
        own = {t.name: codes if t.dtype.startswith(("int", "uint")) else reals for t in whole.inputs}
        feeds = {name: array[name] for name, array in own.items()}
        want = _by_runtime(row, path, codes | VALUES.get(file, {}), outputs)
        got = _reals(row, path, outputs, runner.infer(InferenceContext.SDK_NATIVE, feeds, whole=True))
        row.native = None if want is None else _error(want, got)
        if quick:
            return row
        stage = "optimize"
        _optimize(row, runner, zoo, shapes)
        stage = "compile"
        runner.compile()
        stage = "bytes"
        _bytes(row, runner)
        stage = "whole"
        got = _reals(row, path, outputs, runner.infer(InferenceContext.SDK_HAILO_HW, feeds, whole=True))
        row.snr = None if want is None else _snr(want, got)
    except HeadraceError as error:
        first = error.diagnostics[0]
        more = len(error.diagnostics) - 1
        row.stopped = f"{stage}: {first.code}: {first.rule}{f' (and {more} more)' if more else ''}"[:400]
    return row


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["quick"]))))
