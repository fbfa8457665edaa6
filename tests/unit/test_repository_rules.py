# SPDX-License-Identifier: Apache-2.0
"""The rules of tools/check_repository.py find what they are for."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from headrace.layers import all_operations

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import check_repository  # noqa: E402
import kind_rule  # noqa: E402

KINDS = kind_rule.kinds_of(ROOT / "src" / "headrace" / "layers")
PLACE = "src/headrace/mapping/example.py"


def test_the_kinds_are_those_of_the_registry() -> None:
    assert sorted(KINDS) == [operation.kind for operation in all_operations()]


@pytest.mark.parametrize(
    "text",
    [
        "layer.kind == 'conv'",
        "layer.kind not in ('input_layer', 'other')",
        "'dense' == layer.kind",
        "MOVES = ('slice', 'reshape')",
        "MOVES = frozenset({'slice', 'reshape', 'x'})",
        "ADDED = {'conv': 'bias', 'dw': 'bias'}",
        "network.of_kind('softmax')",
        "match layer.kind:\n    case 'conv' | 'dw':\n        pass",
    ],
)
def test_names_of_kinds_are_found(text: str) -> None:
    assert kind_rule.branches(ast.parse(text), KINDS) != []
    assert any("ask the operation" in problem for problem in check_repository.python_problems(PLACE, text))
    assert list(check_repository.python_problems("src/headrace/layers/example.py", text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "array.dtype.kind == 'f'",
        "rule.kind == RowKind.WHOLE",
        "FORMATS = ('onnx', 'tflite')",
        "__all__ = ['activation', 'softmax']",
        "freezes('conv', 'dw')",
        "name = 'conv'",
    ],
)
def test_other_things_are_not(text: str) -> None:
    assert kind_rule.branches(ast.parse(text), KINDS) == []


def test_lengths_and_names() -> None:
    function = "def f():\n" + "    x = 1\n" * check_repository.MAX_FUNCTION_LINES
    module = "x = 1\n" * (check_repository.MAX_MODULE_LINES + 1)
    for name, text, needle in (
        (PLACE, function, "f has 61 lines"),
        (PLACE, module, "601 lines"),
        ("src/headrace/mapping/base.py", "", "says nothing"),
    ):
        assert any(needle in problem for problem in check_repository.python_problems(name, text))
    assert list(check_repository.python_problems(PLACE, "def f():\n    x = 1\n")) == []
