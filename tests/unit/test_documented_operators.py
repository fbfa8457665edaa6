# SPDX-License-Identifier: Apache-2.0
"""The tables of the guides and of the README name what the registries hold, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

from headrace.frontends.fold import EVALUATORS
from headrace.frontends.tflite import operators as converters
from headrace.frontends.tflite.build import CONVERTERS
from headrace.frontends.to_hn import HANDLERS

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide"


def first_cells(text: str) -> str:
    """The first column of every table."""
    return "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))


def names(text: str) -> list[str]:
    return re.findall(r"`([A-Z][A-Za-z0-9_]+(?::\w+)?)`", text)


def part(document: Path, start: str, end: str) -> str:
    """The text between two places of a document, each of which occurs once behind the other."""
    return document.read_text().split(start, 1)[1].split(end, 1)[0]


def test_onnx_operators() -> None:
    supported = part(GUIDE / "parsing.md", "## What is supported", "Many of these are put together")
    translated = names(first_cells(supported))
    assert sorted(translated) == sorted(HANDLERS)
    folded = names(supported.split("Operators that are computed", 1)[1])
    assert sorted(folded) == sorted(EVALUATORS.keys() - HANDLERS.keys())


def test_tflite_operators() -> None:
    assert converters  # importing the package registers them
    table = part(GUIDE / "parsing-tflite.md", "## Operators", "## What is refused")
    assert sorted(names(first_cells(table))) == sorted(CONVERTERS)
