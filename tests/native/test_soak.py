# SPDX-License-Identifier: Apache-2.0
"""Four client threads, three models and random cancels and closes under the thread and the address sanitizer.

20 seconds each; ``HEADRACE_SOAK_SECONDS=600`` makes it ten minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headrace.hef.microcode import Opcode, TensorRole
from native.programs import Builder, add_pipeline, hef_of, in_shared_contexts, requantization

SECONDS = os.environ.get("HEADRACE_SOAK_SECONDS", "20")


def model(seed: int, shape: tuple[int, int, int], layers: int, shared: bool = False) -> bytes:
    """Convolutions and depthwise layers in turn, and a sum with the input: lanes, tables and a long-lived tensor;
    ``shared``: in two contexts, with stages that share controllers."""
    rng = np.random.default_rng(seed)
    b = Builder()
    channels = shape[2]
    first = last = b.tensor("x", shape, 9, TensorRole.INPUT)
    window = {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1, "bias": np.zeros(channels, np.int32)}
    for i in range(layers):
        y = b.tensor(f"c{i}", shape, 9)
        depthwise = i % 2 == 1
        size = (3, 3, channels) if depthwise else (channels, 3, 3, channels)
        fields = requantization(rng, 2000 if depthwise else 20000, channels, table_bits=10 if depthwise else 0)
        fields |= window | {"weight": rng.integers(-128, 128, size).astype(np.int8)}
        opcode = Opcode.DEPTHWISE if depthwise else Opcode.CONVOLUTION
        b.kernel(f"c{i}", opcode, [last], y, groups=channels if depthwise else 1, **fields)
        last = y
    z = b.tensor("z", shape, 9, TensorRole.OUTPUT)
    b.kernel("z", Opcode.ELEMENTWISE_ADD, [first, last], z, **requantization(rng, 255, 1, 2))
    add_pipeline(b.program, 32)
    b.build()
    return hef_of(in_shared_contexts(b.program, 2, 3) if shared else b.program)


@pytest.fixture(scope="module", params=["HEADRACE_SANITIZE_THREAD", "HEADRACE_SANITIZE"])
def soak(request: pytest.FixtureRequest, native_build: Callable[..., Path]) -> Path:
    """The program, built with one sanitizer."""
    return native_build("soak", f"-D{request.param}=ON", "-DHEADRACE_SOAK=ON", "-DHEADRACE_FUZZ_DRIVER=ON") / "soak"


@pytest.mark.slow
@pytest.mark.timeout(float(SECONDS) * 3 + 400, func_only=True)
def test_soak(soak: Path, tmp_path: Path) -> None:
    files = []
    for seed, (shape, layers) in enumerate([((12, 13, 16), 5), ((9, 16, 8), 3), ((20, 24, 3), 4)]):
        files.append(tmp_path / f"{seed}.hef")
        files[-1].write_bytes(model(seed, shape, layers, seed == 0))
    # The thread sanitizer of older compilers cannot place its shadow memory under full address randomisation.
    prefix = ["setarch", "-R"] if shutil.which("setarch") else []
    command = [*prefix, str(soak), SECONDS, "1", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=float(SECONDS) * 3 + 300, check=False)
    assert result.returncode == 0 and "Sanitizer" not in result.stderr, result.stdout[-2000:] + result.stderr[-6000:]
    assert "frames submitted" in result.stdout
