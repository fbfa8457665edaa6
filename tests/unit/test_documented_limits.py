# SPDX-License-Identifier: Apache-2.0
"""Limits that a document states are the limits that the code enforces: each sentence is made of the constant itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from headrace.cli.run_command import device_options
from headrace.compiler import pipeline
from headrace.compiler.capacity import MOST_TRIED
from headrace.data import iterables, pictures
from headrace.emulator import exact
from headrace.frontends import fold, graph, layout, opset
from headrace.frontends.formats.onnx import functions
from headrace.frontends.formats.onnx import read as onnx_read
from headrace.frontends.formats.tflite import read as tflite_read
from headrace.frontends.to_hn import builder
from headrace.frontends.to_hn.compositions import cubic, parts
from headrace.frontends.to_hn.handlers import arithmetic, transposed_convolution
from headrace.hef import container, description, microcode
from headrace.hn import files, strict_json, unpack
from headrace.layers import matmul
from headrace.mapping.option_table import ROUNDS
from headrace.mapping.options import MAX_SLICES, MAX_SUBCLUSTERS
from headrace.mapping.partition import ALL_CUTS
from headrace.numerics import forms, quantization, requantize, tables
from headrace.runtime import infer_model, vdevice
from headrace.script import parser
from headrace.script.commands import compilation
from headrace.targets import description as targets

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native" / "src"
GENERATED = "microcode_generated.hpp"


def power(number: int) -> str:
    """``2^k`` or ``10^k`` as the documents write it."""
    exact_two = number.bit_length() - 1
    if number == 1 << exact_two:
        return f"2^{exact_two}"
    digits = len(str(number)) - 1
    assert number == 10**digits, number
    return f"10^{digits}"


def size(number: int) -> str:
    """``N MiB`` or ``N GiB``."""
    return f"{number >> 30} GiB" if number % (1 << 30) == 0 else f"{number >> 20} MiB"


def native(file: str, name: str) -> int:
    """The value of a ``constexpr`` of the native library, where it is a number or a shift."""
    found = re.search(rf"{name} = (?:u?int\d+_t\{{)?(\d+)u?\}}?(?: << (\d+))?[;,]", (NATIVE / file).read_text())
    assert found, f"{file} has no plain {name}"
    return int(found[1]) << int(found[2] or 0)


PARSING, TFLITE, COMPILATION = "guide/parsing.md", "guide/parsing-tflite.md", "guide/compilation.md"
HAR, HEF, MICROCODE, NUMERICS = "formats/har.md", "formats/hef.md", "formats/microcode.md", "numerics.md"
CALIBRATION, SCRIPTS, C_API = "guide/calibration.md", "guide/model-scripts.md", "runtime-c-api.md"

WORDS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight")
STATED: list[tuple[str, str]] = [
    (PARSING, f"{size(onnx_read.MAX_MODEL_BYTES + 1)} per file"),
    (PARSING, f"{onnx_read.MAX_NODES:,} nodes, {power(builder.MAX_PARAMETERS)} parameters"),
    (PARSING, f"{size(fold.MAX_BYTES)} for one constant"),
    (PARSING, f"{size(fold.MAX_TOTAL_BYTES)} and {power(fold.MAX_WORK)} elementary steps for all of them"),
    (PARSING, f"{power(graph.MAX_TENSOR_ELEMENTS)} elements per tensor of a frame, rank {layout.MAX_RANK}"),
    (PARSING, f"{size(onnx_read.MAX_EXTERNAL_BYTES)} of external data"),
    (PARSING, f"(at most {onnx_read.MAX_NODES:,} nodes and {size(functions.MAX_BYTES)} in all)"),
    (PARSING, f"at most {parts.MAX_PIECES} pieces of one axis"),
    (PARSING, f"at most {transposed_convolution.MAX_PHASES} output phases"),
    (PARSING, f"at most {power(matmul.MAX_PRODUCTS)} products of elements a layer"),
    (PARSING, f"`LRN` of at most {arithmetic.MAX_LRN_CHANNELS:,} channels"),
    (PARSING, f"cubic by whole factors up to {cubic.MAX_FACTOR}"),
    (PARSING, f"Operator sets {opset.OLDEST} up to"),
    (TFLITE, f"{size(tflite_read.MAX_MODEL_BYTES + 1)} per file, {tflite_read.MAX_OPERATORS:,} operators"),
    (TFLITE, f"{tflite_read.MAX_TENSORS:,} tensors, {power(graph.MAX_TENSOR_ELEMENTS)} elements per tensor"),
    (TFLITE, f"rank {tflite_read.MAX_RANK}"),
    (SCRIPTS, f"(the first {parser.MAX_PROBLEMS})"),
    (CALIBRATION, f"more than {pictures.MAX_PIXELS // 10**6} million pixels"),
    (CALIBRATION, f"bars of grey {pictures.PADDING}"),
    (CALIBRATION, f"At most {iterables.MAX_FRAMES:,} frames are taken"),
    (HAR, f"at most {unpack.MAX_MEMBERS} of them"),
    (HAR, f"at most {size(unpack.FREE_BYTES)} and {unpack.EXPANSION} times the size of the file"),
    (HAR, f"({size(unpack.MAX_TOTAL_BYTES)} in all)"),
    (HAR, f"more than {strict_json.MAX_DEPTH} levels"),
    ("guide/files.md", "within ten seconds" if files.PIPE_PATIENCE_S == 10 else "?"),
    (HEF, f"at most {size(container.MAX_FILE_BYTES)} and can be read"),
    (HEF, f"a protobuf message of at most {size(container.MAX_PROTO_BYTES)}"),
    (HEF, f"1 … {description.MAX_CONTEXTS} contexts"),
    (HEF, f"at most {description.MAX_STREAMS} streams, unique names of 1 … {description.MAX_NAME_BYTES} bytes"),
    (HEF, f"below {power(description.MAX_FRAME_BYTES + 1)} bytes per frame"),
    (HEF, f"header version {container.CONTAINER_VERSION}"),
    (HEF, f"`hw_arch` {container.HW_ARCH}"),
    (HEF, f"`cfg_channels_count` {container.CFG_CHANNELS_COUNT}"),
    (HEF, f"wider than {container.MAX_BUFFER_FIELD} bytes"),
    (MICROCODE, f"on a multiple of {microcode.SECTION_ALIGNMENT} bytes"),
    (MICROCODE, f"1 to {native(GENERATED, 'kNameLimit')} bytes, no control characters"),
    (MICROCODE, f"each dimension 1 to {power(native('verifier.cpp', 'kDimensionLimit'))}"),
    (MICROCODE, f"stride and dilation 1 to {power(native('primitives/check.hpp', 'kWindowLimit'))}"),
    (MICROCODE, f"memory limit ({size(native('verifier.hpp', 'kDefaultMemoryLimit'))} unless set)"),
    (MICROCODE, f"`batch` is 1 to {native(GENERATED, 'kBatchLimit')}"),
    (MICROCODE, f"1 ≤ s ≤ {requantize.MAX_SHIFT}; |M| ≤ {power(requantize.MAX_MULTIPLIER + 1)} − 1"),
    (MICROCODE, f"< {power(requantize.INT64_LIMIT)} per channel"),
    (MICROCODE, f"`table_count` ≤ {requantize.MAX_TABLES}"),
    (MICROCODE, f"0 to {power(1 << forms.BILINEAR_BITS)}"),
    (MICROCODE, f"More than {native('timing.cpp', 'kContextLimit'):,} contexts are not simulated"),
    (NUMERICS, f"|zero_point| ≤ 2^24 − 2^16`{'' if quantization.MAX_ZERO_POINT == 2**24 - 2**16 else '?'}"),
    (NUMERICS, f"`|M_i| ≤ {power(requantize.MAX_MULTIPLIER + 1)} − 1`; `1 ≤ s ≤ {requantize.MAX_SHIFT}`"),
    (NUMERICS, f"proven below {power(requantize.FLOAT64_LIMIT)}"),
    (NUMERICS, f"fewer than {requantize.MIN_MULTIPLIER_BITS} bits, below {power(requantize.INT64_LIMIT)}"),
    (NUMERICS, f"up to {requantize.MAX_TABLES} tables of 8-bit codes"),
    (NUMERICS, f"decimal arithmetic of {tables.DIGITS} digits"),
    (NUMERICS, f"brought to ±{int(tables.EXP_LIMIT)} first"),
    (NUMERICS, f"k = {tables.RECIPROCAL_BITS};"),
    (NUMERICS, f"max|x − zx| · Σ|w|) < {power(exact.FLOAT32_EXACT)}"),
    ("guide/optimization.md", f"and {exact.CHECKED_POSITIONS} positions of the first batch"),
    (COMPILATION, f"at most {MAX_SLICES}\nslices), 1 to {MAX_SUBCLUSTERS} sub-clusters per slice"),
    (COMPILATION, f"({ROUNDS} rounds)"),
    (COMPILATION, f"up to {ALL_CUTS} layers"),
    (COMPILATION, f"(1 … {pipeline.MAX_BATCH:,}; the command line"),
    (COMPILATION, f"A HEF holds {description.MAX_STREAMS} inputs and outputs together"),
    (
        COMPILATION,
        f"(for the first {WORDS[MOST_TRIED]} layers)",
    ),
]


@pytest.mark.parametrize(("document", "sentence"), STATED, ids=lambda text: text[:60])
def test_the_document_states_what_the_code_enforces(document: str, sentence: str) -> None:
    assert sentence in (ROOT / "docs" / document).read_text()


def test_target_files() -> None:
    """Every range of a target's keys stands in the table of the format."""
    rows: dict[str, str] = {}
    for line in (ROOT / "docs" / "formats" / "target.md").read_text().splitlines():
        cells = line.split("|")
        if line.startswith("| `") and len(cells) == 6:
            rows |= dict.fromkeys(re.findall(r"`(\w+)`", cells[1]), cells[3].strip())
    for key, (low, high) in targets.RANGES.items():
        shown = [str(n) if n < 10**5 else power(n) for n in (low, high)]
        if key.endswith("_bytes_per_second"):
            shown[0] = power(low)
        assert rows[key] == " … ".join(shown), key


def test_one_limit_in_several_places() -> None:
    """What two packages that may not import each other both check."""
    batch = native(GENERATED, "kBatchLimit")
    assert pipeline.MAX_BATCH == compilation.MAX_BATCH == infer_model.MAX_BATCH == batch
    assert native("device.cpp", "kThreadLimit") == vdevice.MAX_THREADS
    assert native("capi.cpp", "kFileLimit") == container.MAX_FILE_BYTES
    assert native(GENERATED, "kNameLimit") == description.MAX_NAME_BYTES
    assert tflite_read.MAX_RANK == layout.MAX_RANK
    (threads,) = (p for p in device_options(lambda: None).__click_params__ if p.name == "threads")
    assert threads.type.max == vdevice.MAX_THREADS


def test_python_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = project["requires-python"].replace(">=", "≥ ")
    for document in ("README.md", "docs/guide/getting-started.md"):
        assert f"Python {stated}" in (ROOT / document).read_text()
