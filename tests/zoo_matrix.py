# SPDX-License-Identifier: Apache-2.0
"""One network of the zoo through every stage, measured: what tests/e2e asserts and tools/results_page.py prints.

Each step's figure is kept even when a later step is not possible yet: a network that cannot be compiled is still
judged on the emulator, which gives the device's bytes.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emulator_process import EmulatorProcess
from headrace import reports
from headrace.profiler import profile
from headrace.reports.profile import ProfileReport
from zoo_metrics import Metrics, metrics_of
from zoo_models import Array, ZooModel, calibrated_frames, source_output, translate


@dataclass(frozen=True)
class Effort:
    """How much to run: frames for each check, calibration frames (None: all), every kernel set and thread count."""

    native_frames: int = 2
    byte_frames: int = 3
    snr_frames: int = 8
    calibration: int | None = 32
    every_setting: bool = False
    accuracy: bool = False


QUICK = Effort()
METRICS = Effort(native_frames=0, byte_frames=0)
"""The figures of tests/golden/metrics.json and nothing else: as QUICK, bytes and native results not compared."""
FULL = Effort(native_frames=16, byte_frames=104, snr_frames=64, calibration=None, every_setting=True, accuracy=True)
"""The conditions of the skeleton; data sets with fewer than 104 frames give all they have."""


@dataclass
class Row:
    """What was measured of one network.

    Attributes:
        stopped: "" or the first stage that ended in a coded error, and its first diagnostic.
        native_error: largest difference of native emulator and source runtime, as a part of the output's range.
        compared: (settings, layers, frames) of the byte comparison; different: bytes that differ in all of them.
        snr: output name → dB against the source runtime's float.
        codes: distinct output codes.
        accuracy: figure name → value.
        metrics: of a network that was compiled.
        reports: read as their types and written again; changed_reports: those whose JSON is another then.
    """

    name: str
    format: str
    stopped: str = ""
    error: str = ""
    diagnostics: int = 0
    layers: int = 0
    contexts: int = 0
    native_error: float | None = None
    settings: int = 0
    compared_layers: int = 0
    frames: int = 0
    different: int | None = None
    codes: int = 0
    snr: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    judged_on: str = ""
    metrics: Metrics | None = None
    reports: int = 0
    changed_reports: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def worst_snr(self) -> float:
        return min(self.snr.values(), default=math.nan)

    def as_dict(self) -> dict[str, Any]:
        """All but the metrics, which have a file of their own."""
        return {key: value for key, value in asdict(self).items() if key != "metrics"}


def snr_db(want: Array, got: Array) -> float:
    """10·log10(Σ want² / Σ (want - got)²), at most 200."""
    signal = float(np.sum(np.square(want, dtype=np.float64)))
    noise = float(np.sum(np.square(want.astype(np.float64) - got.reshape(want.shape).astype(np.float64))))
    return 200.0 if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)


def as_list(outputs: Any) -> list[Array]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def outputs_of(runner: Any, model: ZooModel, where: Any, frames: Array) -> list[Array]:
    """Outputs of one context, as the model's own decoder wants them: in the source file's layout unless it was cut."""
    values = runner.infer(where, frames, batch_size=4, source_layout=not model.end_nodes)
    return model.assemble(as_list(values))


def range_error(want: Sequence[Array], got: Sequence[Array]) -> float:
    """Largest difference over the outputs, each as a part of that output's range."""
    return max(
        float(np.abs(g.reshape(w.shape) - w).max() / max(float(w.max() - w.min()), 1e-30))
        for w, g in zip(want, got, strict=True)
    )


def measure(model: ZooModel, zoo: Path, effort: Effort, emulator: EmulatorProcess) -> Row:
    """Every stage of one network, as far as it goes.

    Errors other than Headrace's own are not caught: they are bugs.
    """
    from headrace.errors import HeadraceError

    row = Row(model.name, model.format)
    steps = (
        ("parse", _parse),
        ("optimize", _optimize),
        ("compile", _compile),
        ("reports", _reports),
        ("bytes", _bytes),
        ("SNR", _snr),
        ("accuracy", _accuracy),
    )
    state: dict[str, Any] = {"model": model, "zoo": zoo, "effort": effort, "emulator": emulator, "row": row}
    with tempfile.TemporaryDirectory() as folder:
        state["folder"] = Path(folder)
        for stage, step in steps:
            start = time.perf_counter()
            try:
                step(state)
            except HeadraceError as error:
                row.stopped = row.stopped or f"{stage}: {type(error).__name__}: {_first_line(error)}"
                row.error, row.diagnostics = row.error or type(error).__name__, len(error.diagnostics)
                if stage in ("parse", "optimize"):
                    break
            row.seconds[stage] = time.perf_counter() - start
    return row


def _first_line(error: Any) -> str:
    first = error.diagnostics[0]
    more = len(error.diagnostics) - 1
    return f"{first.rule}{f' (got {first.got})' if first.got else ''}{f', and {more} more' if more else ''}"


def _parse(state: dict[str, Any]) -> None:
    from headrace.runner import InferenceContext

    model, zoo, row = state["model"], state["zoo"], state["row"]
    state["runner"] = runner = translate(model, zoo)
    row.layers = len(runner.archive.native.layers)
    state["frames"], state["labels"] = model.test(zoo)
    frames = state["frames"][: state["effort"].native_frames]
    if not len(frames):
        return
    got = outputs_of(runner, model, InferenceContext.SDK_NATIVE, model.normalized(frames))
    row.native_error = range_error(source_output(model, zoo, frames), got)


def _optimize(state: dict[str, Any]) -> None:
    model, runner = state["model"], state["runner"]
    if model.script:
        runner.load_model_script(model.script)
    frames = None if model.stated else calibrated_frames(model, state["zoo"], state["effort"].calibration)
    runner.optimize(frames, min_snr=0)


def _compile(state: dict[str, Any]) -> None:
    runner, row = state["runner"], state["row"]
    runner.compile()
    compiled = reports.of(runner.archive).compile
    assert compiled is not None
    row.contexts = compiled.figures.contexts


def _reports(state: dict[str, Any]) -> None:
    """Every report of the archive, and the profile, through its type and back."""
    runner, row = state["runner"], state["row"]
    known = reports.of(runner.archive)
    found = {name: getattr(known, name) for name in runner.archive.reports if hasattr(known, name)}
    plain = {name: runner.archive.reports[name] for name in found}
    profiled = profile(runner.archive)
    plain["profile"] = profiled.as_dict()
    found["profile"] = ProfileReport.from_dict(json.loads(json.dumps(plain["profile"])), "profile")
    row.reports = len(found)
    row.changed_reports = [
        name for name, report in found.items() if json.dumps(report.as_dict()) != json.dumps(plain[name])
    ]


def _bytes(state: dict[str, Any]) -> None:
    from headrace.runtime import _native

    runner, row, effort = state["runner"], state["row"], state["effort"]
    if runner.hef is None or not effort.byte_frames:
        return
    har = state["folder"] / "net.har"
    runner.save_har(har)
    frames = state["frames"][: effort.byte_frames]
    (source,) = runner.archive.quantized.input_layers
    entry = source.name
    heads = [layer.inputs[0] for layer in runner.archive.quantized.output_layers]
    loaded = _settings(_native, runner.hef, effort.every_setting)
    inner = {layer.name for layer in runner.archive.quantized if layer.kind not in ("input_layer", "output_layer")}
    codes: list[set[int]] = [set() for _ in heads]
    row.different, row.frames, row.settings = 0, len(frames), len(loaded)
    # Each chunk is one batch, so the sizes of the chunks are the batches of the device; the emulator uses another.
    # Every layer of a chunk is held in memory: with large pictures the chunks are small.
    sizes = (1, 2, 16, 33, 16) if effort.every_setting and frames[0].size <= 250_000 else (1, 2, 8)
    start = 0
    for k in range(len(frames)):
        part = np.ascontiguousarray(frames[start : start + sizes[k % len(sizes)]])
        if not len(part):
            break
        start += len(part)
        want = state["emulator"].layers(har, part, (33, 2, 1, 16)[k % 4])
        for device in loaded:
            got = device.infer_all({entry: part.reshape(len(part), *source.frame_shape)})
            assert set(got) == set(want) == inner, sorted((set(got) | inner) ^ set(want))
            row.different += sum(
                int(np.count_nonzero(np.asarray(got[n]).reshape(w.shape) != w)) for n, w in want.items()
            )
        row.compared_layers = len(want)
        for seen, head in zip(codes, heads, strict=True):
            seen.update(np.unique(want[head]).tolist())
    row.codes = min(len(seen) for seen in codes)


def _settings(native: Any, hef: bytes, every: bool) -> list[Any]:
    kernels = list(native.kernel_sets()) if every else [None]
    threads = (1, 2, 5) if every else (2,)
    return [
        native.Device(None, threads=t, **({} if k is None else {"kernels": k})).load(hef)
        for k in kernels
        for t in threads
    ]


def quantized_outputs(state: dict[str, Any], frames: Array) -> list[Array]:
    """On the device where the network compiled, else on the emulator, which gives the same bytes."""
    from headrace.runner import InferenceContext

    runner, row = state["runner"], state["row"]
    where = InferenceContext.SDK_QUANTIZED if runner.hef is None else InferenceContext.SDK_HAILO_HW
    row.judged_on = "emulator" if runner.hef is None else "device"
    return outputs_of(runner, state["model"], where, state["model"].values(frames))


def _both(state: dict[str, Any], count: int | None) -> tuple[list[Array], list[Array]]:
    """Float and quantized outputs of the first ``count`` test frames, kept for the next step."""
    frames = state["frames"][:count]
    if len(state.get("want", [[]])[0]) < len(frames):
        state["want"] = source_output(state["model"], state["zoo"], frames)
        state["got"] = [
            g.reshape(w.shape) for w, g in zip(state["want"], quantized_outputs(state, frames), strict=True)
        ]
    n = len(frames)
    return [w[:n] for w in state["want"]], [g[:n] for g in state["got"]]


def _snr(state: dict[str, Any]) -> None:
    wanted = state["effort"].snr_frames
    everything = state["effort"].accuracy and state["model"].accuracy
    want, got = _both(state, None if everything else wanted)
    names = [layer.name.split("/", 1)[1] for layer in state["runner"].archive.quantized.output_layers]
    if state["model"].end_nodes:
        names = [f"assembled{k + 1}" for k in range(len(want))]
    state["row"].snr = {
        name: round(snr_db(w[:wanted], g[:wanted]), 2) for name, w, g in zip(names, want, got, strict=True)
    }
    if state["runner"].hef is not None:
        state["row"].metrics = metrics_of(state["runner"].archive, state["row"].snr)


def _accuracy(state: dict[str, Any]) -> None:
    model, row = state["model"], state["row"]
    if not model.accuracy or not state["effort"].accuracy:
        return
    want, got = _both(state, None)
    if model.accuracy in ("yolox", "picodet"):
        from detection.coco import average_precision, boxes_of

        for name, outputs in (("float", want), ("device", got)):
            points = average_precision(boxes_of(model.accuracy, outputs, state["zoo"]), state["zoo"])
            row.accuracy |= {f"{name} {key}": round(value, 2) for key, value in points.items()}
        return
    labels = state["labels"] + model.first_class
    row.accuracy = top1(want[0], got[0], labels)


def top1(want: Array, got: Array, labels: Array) -> dict[str, float]:
    """Top-1 of float and device, and how often both agree, in points of 100."""
    a, b = (o.reshape(len(labels), -1).argmax(axis=1) for o in (want, got))
    return {
        "images": len(labels),
        "float top-1": round(100 * float((a == labels).mean()), 2),
        "device top-1": round(100 * float((b == labels).mean()), 2),
        "agreement": round(100 * float((a == b).mean()), 2),
    }


def loss(model: ZooModel, row: Row) -> float:
    """Points that the device is below float in the model's own figure; for "agreement", below 100 %."""
    if model.accuracy == "agreement":
        return 100.0 - row.accuracy["agreement"]
    key = "AP" if model.accuracy in ("yolox", "picodet") else "top-1"
    return row.accuracy[f"float {key}"] - row.accuracy[f"device {key}"]


def keep(row: Row, path: Path) -> None:
    """Puts a row into the file of all rows, in place of an older one of its name."""
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    rows[row.name] = row.as_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")
