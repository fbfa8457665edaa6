# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end: a real pretrained network from a PyPI package to bytes on the virtual device.

1. take the text-direction classifier out of a pinned wheel, checked by SHA-256
2. render text images (some upside down), calibration apart from evaluation
3. parse, optimise to int8, compile to a HEF
4. run float, emulator and device, and print one table
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from text_images import text_images

from headrace import reports
from headrace.errors import Diagnostic, HeadraceError, InputFileError
from headrace.hn.files import write_atomic
from headrace.runner import ClientRunner, InferenceContext

HERE = Path(__file__).resolve().parent
PACKAGE, VERSION = "rapidocr-onnxruntime", "1.4.4"
WHEEL_SHA256 = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
CALIBRATION, EVALUATION = 128, 256


def fetch_model(cache: Path) -> Path:
    """The classifier's ONNX file, out of the package that ships it."""
    model = cache / "direction_classifier.onnx"
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    if not wheel.exists():
        print(f"fetching {PACKAGE} {VERSION} (15 MB) with pip ...", flush=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--ignore-requires-python",  # only the model in it is wanted, and the package knows no Python after 3.12
            "--dest",
            str(cache),
            f"{PACKAGE}=={VERSION}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wheel.exists():
            raise InputFileError(
                Diagnostic(
                    "E-DEMO-DOWNLOAD",
                    PACKAGE,
                    "pip could not download the package that carries the model",
                    done.stderr.strip()[-500:],
                    "a reachable package index",
                    (f"put the wheel at {wheel}",),
                )
            )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise InputFileError(
            Diagnostic(
                "E-DEMO-DIGEST",
                str(wheel),
                "the package is not the one this demo was written for",
                digest,
                WHEEL_SHA256,
                ("delete the file and run again",),
            )
        )
    with zipfile.ZipFile(wheel) as archive:
        write_atomic(model, archive.read(MEMBER))
    return model


def seconds(start: float) -> str:
    return f"{time.perf_counter() - start:.1f} s"


def snr_db(signal: np.ndarray, other: np.ndarray) -> float:
    noise = float(np.square(signal.astype(np.float64) - other).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(signal.astype(np.float64)).sum() / noise))


def shown(path: Path) -> str:
    """A path as one types it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> int:
    model = fetch_model(HERE / "cache")
    calibration, _ = text_images(CALIBRATION, seed=1)
    images, labels = text_images(EVALUATION, seed=2)
    out = HERE / "out"
    out.mkdir(exist_ok=True)

    runner = ClientRunner(hw_arch="hailo8")
    start = time.perf_counter()
    runner.translate_onnx_model(model, "direction_classifier", net_input_shapes=[1, 3, 48, 192])
    runner.load_model_script("normalization1 = normalization([127.5, 127.5, 127.5], [127.5, 127.5, 127.5])\n")
    print(f"parse     {seconds(start):>8}   {len(runner.get_native_hn_model().layers)} layers", flush=True)
    start = time.perf_counter()
    runner.optimize(calibration)
    print(f"optimise  {seconds(start):>8}   {CALIBRATION} calibration images, int8", flush=True)
    start = time.perf_counter()
    hef = runner.compile()
    write_atomic(out / "direction_classifier.hef", hef)
    runner.save_har(out / "direction_classifier_compiled.har")
    print(f"compile   {seconds(start):>8}   {len(hef)} bytes of HEF for {runner.hw_arch}", flush=True)

    results: dict[str, np.ndarray] = {}
    speed: dict[str, float] = {}
    contexts = {
        "float": InferenceContext.SDK_NATIVE,
        "emulator": InferenceContext.SDK_QUANTIZED,
        "device": InferenceContext.SDK_HAILO_HW,
    }
    for name, context in contexts.items():
        data = (images.astype(np.float32) - 127.5) / 127.5 if name == "float" else images
        for _ in range(2):  # the second run is timed: the first one loads libraries
            start = time.perf_counter()
            results[name] = runner.infer(context, data, batch_size=16)
            speed[name] = EVALUATION / (time.perf_counter() - start)
    codes = [runner.infer(contexts[n], images, batch_size=16, quantized_io=True) for n in ("emulator", "device")]
    different = int(np.count_nonzero(codes[0] != codes[1]))

    timing = reports.of(runner.archive).timing
    assert timing is not None
    print(f"\n{EVALUATION} rendered text lines, none of them in the calibration set; upright or upside down\n")
    print(f"{'':10}{'correct':>10}{'as float':>10}{'SNR':>10}{'bytes that differ':>20}{'host speed':>14}")
    top = results["float"].argmax(axis=1)
    for name, value in results.items():
        right = f"{100 * (value.argmax(axis=1) == labels).mean():.1f} %"
        agree = "" if name == "float" else f"{100 * (value.argmax(axis=1) == top).mean():.1f} %"
        noise = "" if name == "float" else f"{snr_db(results['float'], value):.1f} dB"
        equal = f"{different} of {codes[0].size}" if name == "device" else ""
        print(f"{name:10}{right:>10}{agree:>10}{noise:>10}{equal:>20}{speed[name]:>10.0f} /s")
    print(
        f"\nvirtual {runner.hw_arch}: {timing.fps:.0f} frames per second, latency {timing.latency_ms:.2f} ms "
        "(event simulation of the device)"
    )
    written, command = shown(out / "direction_classifier.hef"), shown(Path(sys.executable).parent / "headrace")
    print(f"written: {written}\nnext:    {command} benchmark {written}")
    return 1 if different else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
