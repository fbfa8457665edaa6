# SPDX-License-Identifier: Apache-2.0
"""When float arithmetic is exact on integers, and the one place that makes torch use it so.

A float32 convolution of integers is exact when every partial sum is an integer below 2^24 *and* the algorithm only
adds products (no Winograd, FFT, TF32, bfloat16). The bound is proven from the weights; the algorithm is pinned by
:func:`exact_arithmetic` and by using torch's convolution only on back ends that were tested.
"""

from __future__ import annotations

import contextlib
import inspect
import platform
import threading
from collections.abc import Generator, Sequence
from typing import Any, cast

import numpy as np
import torch

from headrace.emulator.tensors import set_onednn_flags
from headrace.errors import Diagnostic, InternalError, UsageError
from headrace.hn import Array

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53
CHECKED_POSITIONS = 64
BACKENDS = ("onednn", "matmul")

_lock = threading.Lock()
_depth = 0
_stack: contextlib.ExitStack | None = None


def default_backend() -> str:
    """``"onednn"`` where torch's float32 convolution was tested to be exact (oneDNN on x86-64), else ``"matmul"``."""
    tested = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
    return "onednn" if tested else "matmul"


def check_backend(name: str | None) -> str:
    """A back end's name, checked; ``None`` means the default of this machine."""
    if name is None:
        return default_backend()
    if name not in BACKENDS:
        raise UsageError(
            Diagnostic("E-EMULATOR-BACKEND", "emulator", "there is no such back end", repr(name), " or ".join(BACKENDS))
        )
    return name


def _enter() -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    stack.enter_context(torch.backends.nnpack.flags(enabled=False))
    # TF32 in oneDNN exists on Intel GPUs only, and touching its switch elsewhere warns: it is left alone (None).
    change = set_onednn_flags
    known = list(inspect.signature(change).parameters)
    wanted: dict[str, Any] = {"_enabled": True, "_deterministic": True, "_allow_tf32": None, "_fp32_precision": "ieee"}
    before = change(**{k: v for k, v in wanted.items() if k in known})
    restored: dict[str, Any] = {k: v for k, v in zip(known, before, strict=True) if k != "_allow_tf32"}
    stack.callback(lambda: change(**({"_allow_tf32": None} if "_allow_tf32" in known else {}), **restored))
    return stack


@contextlib.contextmanager
def exact_arithmetic() -> Generator[None]:
    """Within it, torch's float32 convolution only adds IEEE products: NNPACK and TF32 off, precision ``ieee``.

    The settings are global to the process; nested and concurrent uses share one change, undone by the last to leave.
    """
    global _depth, _stack
    with _lock:
        if _depth == 0:
            _stack = _enter()
        _depth += 1
    try:
        with torch.inference_mode():
            yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _stack is not None:
                _stack.close()
                _stack = None


def verify_convolution(
    result: torch.Tensor,
    centered: torch.Tensor,
    kernel: Array,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> None:
    """Compare up to 64 positions of a convolution against int64 sums.

    Args:
        result: ``[N, Ho, Wo, Cout]``, the sums without bias.
        centered: ``[N, H, W, Cin]``, the already padded input minus its zero point.
        kernel: int8 HWIO.
        strides: height, width.
        dilations: height, width.
        groups: channel groups.

    Raises:
        InternalError: a sum differs: this torch build is not exact here.
    """
    kh, kw, per_group, outputs = (int(size) for size in kernel.shape)
    total = result.numel()
    if total == 0:
        return
    count = min(CHECKED_POSITIONS, total)
    # A stride coprime with most sizes spreads the positions over batch, rows, columns and channels.
    flat = np.unique(np.linspace(0, total - 1, count).astype(np.int64))
    n, y, x, c = cast("tuple[Array, ...]", np.unravel_index(flat, tuple(result.shape)))
    rows = (y * strides[0])[:, None, None] + (np.arange(kh) * dilations[0])[None, :, None]
    columns = (x * strides[1])[:, None, None] + (np.arange(kw) * dilations[1])[None, None, :]
    group = c // (outputs // groups)
    channels = group[:, None] * per_group + np.arange(per_group)[None, :]
    picked = centered.numpy()[
        n[:, None, None, None], rows[..., None], columns[..., None], channels[:, None, None, :]
    ]  # [positions, kh, kw, cin / groups]
    patches = picked.astype(np.int64)
    want = (patches * np.moveaxis(kernel[:, :, :, c], 3, 0).astype(np.int64)).sum(axis=(1, 2, 3))
    got = result.numpy()[n, y, x, c].astype(np.float64)
    wrong = np.flatnonzero(got != want)
    if wrong.size:
        i = int(wrong[0])
        raise InternalError(
            Diagnostic(
                "E-EMULATOR-INEXACT",
                "emulator",
                "torch's convolution is not exact on this machine",
                f"{got[i]!r} for {want[i]} at frame {n[i]}, row {y[i]}, column {x[i]}, channel {c[i]}",
                "equal sums",
                ('use Executor(..., backend="matmul")', "report the machine and the torch version"),
            )
        )


@contextlib.contextmanager
def thread_count(threads: int | None) -> Generator[None]:
    """Let torch use this many threads inside (``None``: unchanged); the former number is restored."""
    if threads is None:
        yield
        return
    if threads < 1:
        raise UsageError(
            Diagnostic("E-EMULATOR-THREADS", "emulator", "the number of threads must be positive", str(threads), "≥ 1")
        )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
