# SPDX-License-Identifier: Apache-2.0
"""The command line in a process of its own, and a folder with what its commands make of the small model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from small_onnx import write_small


def headrace(
    *args: object, cwd: Path, preexec_fn: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``headrace ARGS`` to its end; nothing is checked."""
    command = [sys.executable, "-m", "headrace", *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, preexec_fn=preexec_fn, timeout=300, check=False
    )


def write_archives(folder: Path) -> Path:
    """``small.onnx`` and ``calibration.npy``; parsed ``small.har``, optimized ``q.har``, compiled ``c.har`` and
    ``small.hef``; returns the folder."""
    write_small(folder)
    for command in (
        ["parse", "small.onnx", "--har-path", "small.har"],
        ["optimize", "small.har", "--calib-set-path", "calibration.npy", "--output-har-path", "q.har"],
        ["compile", "q.har", "--output-har-path", "c.har", "-o", "small.hef"],
    ):
        done = headrace(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder
