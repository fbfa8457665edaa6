# SPDX-License-Identifier: Apache-2.0
"""Seconds, memory and speed ratios, each measured side by side with its peer in this one run.

Machines are noisy and shared: read the ratios, not the seconds. Results: bench/out/bench.json and bench.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from conftest import zoo_path  # noqa: E402
from headrace import runtime  # noqa: E402
from headrace.emulator import Executor  # noqa: E402
from headrace.hn import archive  # noqa: E402
from zoo_models import MODELS, ZooModel  # noqa: E402

OUT = ROOT / "bench" / "out"
THREADS = 2


def interleaved(functions: dict[str, Callable[[], Any]], rounds: int, inner: int = 1) -> dict[str, float]:
    """Median seconds of each function; one call of each per round, so that noise hits all alike."""
    for function in functions.values():
        function()
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(inner):
                function()
            samples[name].append((time.perf_counter() - start) / inner)
    return {name: statistics.median(values) for name, values in samples.items()}


def stages(folder: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for stage in ("parse", "optimize", "compile"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "bench" / "stage.py"), stage, name, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{name}: {stage} failed\n{done.stderr}")
        result[stage] = json.loads(done.stdout.splitlines()[-1])
    return result


def emulator_against_float(har: archive.Archive, frames: np.ndarray[Any, Any]) -> dict[str, float]:
    """Exact integer emulator against the float emulator (torch) of the same network, batch 16."""
    import torch

    torch.set_num_threads(THREADS)
    assert har.fp_optimized is not None and har.quantized is not None
    exact, real = Executor(har.quantized, "quantized"), Executor(har.fp_optimized, "fp_optimized")
    name = har.quantized.input_layers[0].name
    floats = frames.astype(np.float32)
    times = interleaved(
        {
            "exact": lambda: exact.run({name: frames}, batch_size=16),
            "float": lambda: real.run({name: floats}, batch_size=16),
        },
        7,
    )
    return {**times, "ratio": times["float"] / times["exact"]}


def static_int8_session(model: ZooModel, source: Path, calibration: np.ndarray[Any, Any], folder: Path) -> Any:
    """onnxruntime's own static int8 quantisation (QDQ, per channel, u8 × s8) on the same calibration frames."""
    import onnx
    import onnxruntime as ort
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    loaded = onnx.load(source)
    shape = model.shapes or [1, *([3, 32, 32] if model.source_layout == "NCHW" else [32, 32, 3])]
    for dim, size in zip(loaded.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    fixed, prepared, out = folder / "fixed.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    onnx.save(loaded, fixed)
    quant_pre_process(str(fixed), str(prepared), skip_symbolic_shape=True)

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.frames: Iterator[Any] = iter(
                model.source_input(calibration[i : i + 1]) for i in range(len(calibration))
            )

        def get_next(self) -> Any:
            item = next(self.frames, None)
            return None if item is None else {loaded.graph.input[0].name: item}

    q.quantize_static(
        str(prepared),
        str(out),
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    return ort.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])


def device_against_onnxruntime(model: ZooModel, zoo: Path, har: archive.Archive, folder: Path) -> dict[str, Any]:
    """The device engine against onnxruntime static int8: batch 1, two threads, same pictures."""
    assert har.hef is not None and har.quantized is not None
    frames, _ = model.test(zoo)
    session = static_int8_session(model, zoo / model.path, model.calibration(zoo)[:128], folder)
    source = model.source_input(frames[:1])
    native = runtime.native.native_module()
    device = native.Device(None, threads=THREADS)
    loaded = device.load(har.hef)
    name = har.quantized.input_layers[0].name
    one = np.ascontiguousarray(frames[:1])
    feed = {session.get_inputs()[0].name: source}
    times = interleaved(
        {"device": lambda: loaded.infer({name: one}), "onnxruntime_int8": lambda: session.run(None, feed)}, 41, 10
    )
    return {**times, "ratio": times["onnxruntime_int8"] / times["device"], "kernels": device.kernels}


def help_seconds() -> dict[str, float]:
    def run(*command: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, *command], capture_output=True, check=True)

    return interleaved({"headrace --help": run("-m", "headrace", "--help"), "python -c pass": run("-c", "pass")}, 7)


def render(results: dict[str, Any]) -> str:
    lines = ["| network | stage | seconds | peak MiB |", "|---|---|---|---|"]
    for name, entry in results["models"].items():
        for stage, value in entry["stages"].items():
            note = f" ({value['frames']} frames)" if value["frames"] else ""
            lines.append(f"| {name} | {stage}{note} | {value['seconds']:.2f} | {value['peak_mib']:.0f} |")
    lines += [
        "",
        "| network | exact emulator / float torch speed | device / onnxruntime int8 speed | device ms | onnxruntime ms |",
        "|---|---|---|---|---|",
    ]
    for name, entry in results["models"].items():
        e, d = entry["emulator"], entry["device"]
        lines.append(
            f"| {name} | {e['ratio']:.2f} | {d['ratio']:.2f} ({d['kernels']}) | {1e3 * d['device']:.3f} | {1e3 * d['onnxruntime_int8']:.3f} |"
        )
    lines += ["", *(f"`{name}`: {value:.3f} s" for name, value in results["help"].items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    zoo = zoo_path()
    if zoo is None:
        sys.exit("bench needs the zoo of real models: set HEADRACE_ZOO")
    OUT.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"models": {}}
    for name, model in MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            entry: dict[str, Any] = {"stages": stages(folder, name)}
            har = archive.load(folder / "compiled.har")
            entry["emulator"] = emulator_against_float(har, model.test(zoo)[0][:128])
            entry["device"] = device_against_onnxruntime(model, zoo, har, folder)
            results["models"][name] = entry
            print(name, json.dumps(entry), flush=True)
    results["help"] = help_seconds()
    (OUT / "bench.json").write_text(json.dumps(results, indent=1))
    text = render(results)
    (OUT / "bench.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
