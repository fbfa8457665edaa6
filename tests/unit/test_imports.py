# SPDX-License-Identifier: Apache-2.0
"""What may be imported where, and when: the parts of the import rule that import-linter cannot see."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from import_blocker import without

SOURCES = Path(__file__).resolve().parents[2] / "src" / "headrace"

ROOT = SOURCES.parents[1]
OPTIONAL = ("torch", "onnx", "onnx_ir", "onnxruntime", "PIL")


def python(program: str) -> str:
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["optimize", "--help"], ["run", "--help"], ["nonsense"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys, json\n"
        "from headrace.cli.app import run\n"
        f"run({arguments!r})\n"
        "heavy = {'numpy', 'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'google.protobuf', 'PIL', 'rich'}\n"
        "print('\\n' + json.dumps(sorted(heavy & set(sys.modules))))\n"
    )
    assert json.loads(python(program).splitlines()[-1]) == []


@pytest.mark.parametrize(
    "module",
    [
        "headrace.runtime",
        "headrace.hef.container",
        "headrace.hef.disassembler",
        "headrace.hn.archive",
        "headrace.targets",
        "headrace.script",
        "headrace.layers",
        "headrace.numerics",
        "headrace.runner",
        "headrace.cli.run_command",
        "headrace.cli.benchmark_command",
        "headrace.cli.hef_command",
        "headrace.cli.devices_command",
        "headrace.cli.stages",
    ],
)
def test_imports_without_torch_and_onnx(module: str) -> None:
    python(without(*OPTIONAL) + f"import {module}\n")


def test_devices_without_torch_and_onnx() -> None:
    program = without(*OPTIONAL) + "from headrace.cli.app import run\nassert run(['devices', '--json']) == 0\n"
    assert "hailo8" in python(program)


def test_a_missing_package_names_its_extra(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"\x08\x07")
    program = without("onnx", "onnx_ir")
    program += f"from headrace.cli.app import run\nassert run(['parse', {str(model)!r}]) == 10\n"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "pip install 'headrace[sdk]'" in result.stderr


def imported_names(path: Path) -> list[tuple[int, str]]:
    names: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return names


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("torch", {"emulator", "optimize"}),
        ("onnx", {"frontends", "host"}),
        ("onnx_ir", {"frontends", "host"}),
        ("onnxruntime", {"host"}),
        ("headrace.runtime._native", {"runtime"}),
        ("click", {"cli"}),
        ("rich", {"cli"}),
    ],
)
def test_packages_are_imported_only_in_their_place(package: str, allowed: set[str]) -> None:
    wrong: list[str] = []
    for path in sorted(SOURCES.rglob("*.py")):
        place = path.relative_to(SOURCES)
        for line, name in imported_names(path):
            if (name == package or name.startswith(f"{package}.")) and place.parts[0] not in allowed:
                wrong.append(f"{place}:{line}: {name}")
    assert wrong == []


def test_no_import_is_hidden_in_a_string() -> None:
    """The native module may also be loaded by name, which the syntax tree does not show."""
    for path in sorted(SOURCES.rglob("*.py")):
        if "_native" in path.read_text() and path.relative_to(SOURCES).parts[0] != "runtime":
            tree = ast.parse(path.read_text())
            strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            assert not any(s == "headrace.runtime._native" for s in strings), path


def test_contributing_shows_the_rows_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = [[name.strip(" ()") for name in row.split("|")] for row in contracts[0]["layers"]]
    shown = (ROOT / "CONTRIBUTING.md").read_text().split("```text\n")[1].split("```")[0]
    lines = [line.replace("(never each other)", "") for line in shown.splitlines()]
    assert [[name.strip() for name in line.split("·")] for line in lines] == rows
