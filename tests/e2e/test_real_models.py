# SPDX-License-Identifier: Apache-2.0
"""Real networks, end to end: the source file's own runtime, the emulator in a process of its own, and the device.

Bytes are compared for every layer, on real data, with the output's SNR and its number of distinct codes beside it, so
that a dead network cannot pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.runner import InferenceContext
from zoo_models import MODELS, ZooModel, build, source_output

native = pytest.importorskip("headrace.runtime._native")

FRAMES = 104
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module", params=sorted(MODELS))
def built(request: pytest.FixtureRequest, zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model: ZooModel = MODELS[request.param]
    runner = build(model, zoo)
    runner.compile()
    folder = tmp_path_factory.mktemp(model.name)
    runner.save_har(folder / "net.har")
    frames, labels = model.test(zoo)
    np.save(folder / "frames.npy", frames[:FRAMES])
    return {"model": model, "runner": runner, "folder": folder, "frames": frames, "labels": labels, "zoo": zoo}


def emulate(built: dict[str, Any], batch: int) -> dict[str, np.ndarray[Any, Any]]:
    folder = built["folder"]
    out = folder / f"layers{batch}.npz"
    done = subprocess.run(
        [sys.executable, str(HERE / "emulate_layers.py"), folder / "net.har", folder / "frames.npy", out, str(batch)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["modules"] == [] and facts["libraries"] == [], "the emulator loaded our native library"
    with np.load(out) as data:
        return {name: data[name] for name in data.files}


def test_native_emulator_equals_the_files_own_runtime(built: dict[str, Any]) -> None:
    model, frames = built["model"], built["frames"][:FRAMES]
    want = source_output(model, built["zoo"], frames)[0]
    runner = built["runner"]
    got = runner.infer(
        InferenceContext.SDK_NATIVE,
        model.source_input(frames)
        if model.source_layout == "NHWC"
        else model.source_input(frames).transpose(0, 2, 3, 1),
    )
    error = np.abs(got.reshape(want.shape) - want).max() / (want.max() - want.min())
    print(f"{model.name}: native against onnxruntime: {error:.2e} of the range")
    assert error <= 1e-4
    optimized = runner.infer(InferenceContext.SDK_FP_OPTIMIZED, frames)
    assert np.abs(optimized.reshape(want.shape) - want).max() / (want.max() - want.min()) <= 1e-4


def test_every_layer_is_byte_equal_on_emulator_and_device(built: dict[str, Any]) -> None:
    runner, frames = built["runner"], built["frames"][:FRAMES]
    network = runner.archive.quantized
    by_batch = {batch: emulate(built, batch) for batch in (1, 2, 16, 33)}
    reference = by_batch[33]
    for batch, layers in by_batch.items():
        for name, codes in layers.items():
            assert np.array_equal(codes, reference[name]), f"emulator, batch {batch}, {name}"
    report = runner.archive.reports["optimize"]
    output = network.output_layers[0].inputs[0]
    snr = (
        next(iter(report["outputs"].values()))["snr_db"]
        if isinstance(report["outputs"], dict)
        else report["outputs"][0]["snr_db"]
    )
    input_name = network.input_layers[0].name
    rows = 0
    for kernels in native.kernel_sets():
        for threads in (1, 2, 5):
            device = native.Device(None, threads=threads, kernels=kernels)
            assert device.kernels == kernels
            loaded = device.load(runner.hef)
            for batch in (1, 2, 16, 33) if threads == 2 else (33,):
                different, compared = 0, set()
                for start in range(0, FRAMES, batch):
                    part = loaded.infer_all({input_name: np.ascontiguousarray(frames[start : start + batch])})
                    for name, codes in part.items():
                        want = reference[name][start : start + batch]
                        different += int(np.count_nonzero(np.asarray(codes).reshape(want.shape) != want))
                        compared.add(name)
                assert compared == set(reference), sorted(set(reference) ^ compared)
                distinct = len(np.unique(reference[output]))
                print(
                    f"{built['model'].name:22} kernels {kernels:11} threads {threads} batch {batch:2}: "
                    f"{different} bytes differ in {len(compared)} layers × {FRAMES} frames; "
                    f"output SNR {snr:.1f} dB, {distinct} distinct codes"
                )
                assert different == 0
                assert distinct >= built["model"].least_codes
                rows += 1
    assert rows >= 6
    assert snr >= 20.0


def test_accuracy_on_the_device(built: dict[str, Any]) -> None:
    model, labels = built["model"], built["labels"]
    want = source_output(model, built["zoo"], built["frames"])[0].argmax(axis=1)
    got = built["runner"].infer(InferenceContext.SDK_HAILO_HW, built["frames"]).reshape(len(labels), -1).argmax(axis=1)
    float_top1, device_top1 = 100 * float((want == labels).mean()), 100 * float((got == labels).mean())
    agreement = 100 * float((want == got).mean())
    scores = f"float {float_top1:.2f}, device {device_top1:.2f}, same class {agreement:.2f} %"
    print(f"{model.name}: {scores}, {len(labels)} images")
    assert device_top1 >= float_top1 - model.accuracy_points
