# SPDX-License-Identifier: Apache-2.0
"""Native programs that slow tests build, each once a session.

Building takes minutes where others work too, and says nothing of what is tested: tests that use ``native_build`` limit
themselves with ``@pytest.mark.timeout(seconds, func_only=True)``, which leaves fixtures out.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def native_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``native_build(target, *options)``: configures CMake with the options, builds the target, returns the folder.

    Targets of the same options share a folder, so the library is compiled once.
    """

    @functools.cache
    def configured(options: tuple[str, ...]) -> Path:
        if shutil.which("cmake") is None:
            pytest.skip("no cmake")
        folder = tmp_path_factory.mktemp("native")
        subprocess.run(["cmake", "-S", ROOT, "-B", folder, *options], check=True, capture_output=True)
        return folder

    def build(target: str, *options: str) -> Path:
        folder = configured(options)
        command = ["cmake", "--build", str(folder), "--target", target, "--parallel", "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return folder

    return build
