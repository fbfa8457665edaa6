# SPDX-License-Identifier: Apache-2.0
"""Fixtures and the closing lines shared by all tests.

Real models and data (the "zoo") are no part of the repository. They are looked for in ``$HEADRACE_ZOO`` and then
in ``../shared/zoo``. Where they are absent a test that needs them is skipped and counted in the closing lines; with
``CI=true`` it fails, so that CI can never pass by having nothing to test.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Also in what tests start: after every pass the network and what the pass has to leave alone are checked.
os.environ["HEADRACE_VERIFY_PASSES"] = "1"


def _folder(variable: str, default: Path) -> Path | None:
    named = os.environ.get(variable)
    folder = Path(named).expanduser() if named else default
    return folder.resolve() if folder.is_dir() else None


def zoo_path() -> Path | None:
    """The folder of real models, or None where there is none."""
    return _folder("HEADRACE_ZOO", ROOT.parent / "shared" / "zoo")


def reference_path() -> Path | None:
    """The folder of public facts (model scripts, format notes), or None where there is none."""
    return _folder("HEADRACE_REFERENCE", ROOT.parent / "shared" / "reference")


def _require(folder: Path | None, variable: str, what: str) -> Path:
    if folder is not None:
        return folder
    reason = f"no {what}: set {variable}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason} (CI=true does not allow its absence)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The folder of real models; skips where it is absent, fails with ``CI=true``."""
    return _require(zoo_path(), "HEADRACE_ZOO", "zoo of real models")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of public reference facts; skips where it is absent, fails with ``CI=true``."""
    return _require(reference_path(), "HEADRACE_REFERENCE", "folder of public reference facts")


def cases_path() -> Path | None:
    """The folder of inputs that failed once, or None where there is none."""
    return _folder("HEADRACE_CASES", ROOT.parent / "shared" / "cases")


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of inputs that failed once; skips where it is absent, fails with ``CI=true``."""
    return _require(cases_path(), "HEADRACE_CASES", "folder of inputs that failed")


def pytest_sessionstart() -> None:
    """With ``CI=true`` nothing may be skipped for want of a part that CI has to have built or installed."""
    if os.environ.get("CI", "").lower() != "true":
        return
    needed = ("headrace.runtime._native", "torch", "onnx", "onnx_ir", "onnxruntime", "PIL")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise pytest.UsageError(f"CI=true needs {', '.join(missing)}: run `make setup`")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says how many tests did not run because the zoo is absent, so that a green run is read for what it is."""
    for variable, what in (
        ("HEADRACE_ZOO", "zoo of real models"),
        ("HEADRACE_REFERENCE", "reference folder"),
        ("HEADRACE_CASES", "folder of inputs that failed"),
    ):
        missed = [r for r in terminalreporter.stats.get("skipped", []) if variable in str(r.longrepr)]
        if missed:
            terminalreporter.write_line(
                f"{len(missed)} tests were skipped because the {what} is absent (set {variable})", yellow=True
            )


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden``: write the files in tests/golden anew instead of comparing."""
    parser.addoption("--update-golden", action="store_true", help="write the files in tests/golden anew")
