# SPDX-License-Identifier: Apache-2.0
"""Same bytes across runs, thread counts and PYTHONHASHSEED, stage by stage."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_onnx import write_small

pytest.importorskip("headrace.runtime._native")

CODE = """
import sys, hashlib, numpy as np
from headrace.hn import archive
from headrace.runner import ClientRunner, InferenceContext
threads = int(sys.argv[1])
import torch
torch.set_num_threads(threads)
r = ClientRunner(hw_arch="hailo8")
r.translate_onnx_model("small.onnx", "small")
print("parse", archive.digest(archive.members(r.archive)))
r.optimize("calibration.npy", min_snr=0, threads=threads)
print("optimize", archive.digest(archive.members(r.archive)))
r.compile()
print("compile", archive.digest(archive.members(r.archive)), hashlib.sha256(r.hef).hexdigest())
x = np.load("calibration.npy")
for batch in (1, 16):
    out = r.infer(InferenceContext.SDK_QUANTIZED, x, batch_size=batch, quantized_io=True)
    print("emulate", hashlib.sha256(out.tobytes()).hexdigest())
out = r.infer(InferenceContext.SDK_HAILO_HW, x, quantized_io=True)
print("device", hashlib.sha256(out.tobytes()).hexdigest())
"""


def test_same_bytes_everywhere(tmp_path: Path) -> None:
    write_small(tmp_path)
    outputs = {}
    for threads, seed in ((1, "0"), (2, "1"), (5, "4242"), (2, "random")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(threads)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs[threads, seed] = done.stdout
    first = next(iter(outputs.values()))
    assert all(text == first for text in outputs.values()), outputs
    lines = dict(line.split(" ", 1) for line in first.splitlines())
    assert lines["emulate"] == lines["device"]
    assert len(hashlib.sha256(first.encode()).hexdigest()) == 64


def test_marked_so_that_no_real_device_accepts_it(tmp_path: Path) -> None:
    from headrace.runner import ClientRunner
    from hef_validator import validate

    write_small(tmp_path)
    for arch in ("hailo8", "hailo8l"):
        runner = ClientRunner(hw_arch=arch)
        runner.translate_onnx_model(tmp_path / "small.onnx", "small")
        runner.optimize(tmp_path / "calibration.npy", min_snr=0)
        assert validate(runner.compile()) == []
