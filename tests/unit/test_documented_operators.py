# SPDX-License-Identifier: Apache-2.0
"""The tables of the guides and of the README name what the registries hold, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

from headrace.frontends.fold import EVALUATORS
from headrace.frontends.formats import READERS, UNREAD
from headrace.frontends.formats.keras import layers as keras_layers
from headrace.frontends.formats.keras import operations as keras_operations
from headrace.frontends.formats.keras.build import LAYERS, OPERATIONS
from headrace.frontends.formats.tensorflow import graph
from headrace.frontends.formats.tensorflow.build import CONVERTERS as TENSORFLOW
from headrace.frontends.formats.tensorflow.evaluate import STRUCTURES
from headrace.frontends.formats.tflite import operators as converters
from headrace.frontends.formats.tflite.build import CONVERTERS
from headrace.frontends.to_hn import HANDLERS
from headrace.script.fates import Fate
from headrace.script.vocabulary import fate_table
from headrace.targets import list_targets

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
    supported = part(GUIDE / "parsing.md", "## What is supported", "Many of these are composed")
    translated = names(first_cells(supported))
    assert sorted(translated) == sorted(HANDLERS)
    folded = names(supported.split("Operators that are computed", 1)[1])
    assert sorted(folded) == sorted(EVALUATORS.keys() - HANDLERS.keys())


def test_tflite_operators() -> None:
    assert converters  # importing the package registers them
    table = part(GUIDE / "parsing-tflite.md", "## Operators", "## What is refused")
    assert sorted(names(first_cells(table))) == sorted(CONVERTERS)


def test_keras_layers_and_operations() -> None:
    assert keras_layers and keras_operations  # importing the packages registers them
    document = (GUIDE / "parsing-keras.md").read_text()
    layers, operations = (
        first_cells(document.split(begin, 1)[1].split(end, 1)[0])
        for begin, end in (("## Layers", "Functions of `keras.ops`"), ("Functions of `keras.ops`", "An entry of these"))
    )
    assert sorted(names(layers)) == sorted(LAYERS)
    assert sorted(names(operations)) == sorted(OPERATIONS.keys() - {"Ravel"})  # which only says why not


def test_tensorflow_operators() -> None:
    assert graph  # importing the module registers them
    table = part(GUIDE / "parsing-tensorflow.md", "## Operators", "## What is refused")
    listed = re.findall(r"`(_?[A-Z][A-Za-z0-9]+)`", first_cells(table))
    assert sorted(listed) == sorted({*TENSORFLOW, *STRUCTURES})


def row(stage: str) -> tuple[str, str]:
    """(what works, what does not yet) of the README's table."""
    for line in (ROOT / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 5 and cells[1] == stage:
            return cells[2], cells[3]
    raise AssertionError(stage)


def quoted(text: str) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", text)


def test_readme_formats() -> None:
    works, missing = row("parse")
    assert all(reader.title.split()[1] in works for reader in READERS)
    assert all(unread.title.split()[1] in missing for unread in UNREAD)


def test_readme_script_commands() -> None:
    acting = {row.split("(")[0] for row, _, fate in fate_table() if fate is Fate.ACTS}
    assert sorted(quoted(row("model script")[0])) == sorted(acting)


def test_readme_targets_and_kernel_sets() -> None:
    assert sorted(quoted(row("compile")[0])) == sorted(list_targets())
    sets = {path.stem for path in (ROOT / "native" / "src" / "kernels" / "sets").glob("*.cpp")}
    assert set(quoted(row("run")[0])) == sets
