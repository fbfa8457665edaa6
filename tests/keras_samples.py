# SPDX-License-Identifier: Apache-2.0
"""Tiny models as Keras wrote them (tests/make_keras_samples.py), with what Keras computed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

ARCHIVE = Path(__file__).parent / "golden" / "keras_samples.zip"


def sample_files() -> list[str]:
    """Names of all files: NAME.keras and NAME.h5."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return [name for name in archive.namelist() if not name.endswith(".npz")]


def sample(file: str) -> bytes:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(file)


def sample_arrays(file: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(inputs, outputs) of a sample, in the model's order; two frames each."""
    with zipfile.ZipFile(ARCHIVE) as archive, np.load(io.BytesIO(archive.read(f"{Path(file).stem}.npz"))) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return tuple([found[f"{kind}{i}"] for i in range(sum(n[0] == kind for n in found))] for kind in "xy")
