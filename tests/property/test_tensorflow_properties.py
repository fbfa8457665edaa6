# SPDX-License-Identifier: Apache-2.0
"""Damaged TensorFlow files end in coded errors, quickly; what still parses is a valid network."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from headrace.errors import HeadraceError
from headrace.frontends import ParseOptions, parse
from headrace.frontends.formats.tensorflow.table import DamagedTableError, read_table
from headrace.hn import check_network
from small_tensorflow import Kind, SmallGraph, bundle_rows, table, write_checkpoint
from tensorflow_cases import build

REAL = ("derived_tf/resnet8/ic_resnet8_frozen.pb", "tf_superres/ESPCN_x2.pb", "tf_ml_kws_pb/DS_CNN_S.pb")
_QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def survives(model):
    """Parse; a network, or an error of ours."""
    begun = time.monotonic()
    try:
        check_network(parse(model, ParseOptions(framework="tensorflow")).network)
    except HeadraceError as error:
        assert all(d.code and d.rule for d in error.diagnostics)
    assert time.monotonic() - begun < 10


SMALL = build("a loop of TensorFlow 1")[0]
DILATED = build("SpaceToBatchND cropped")[0]
BYTES = st.sampled_from([0, 1, 2, 8, 0x0A, 0x12, 0x7F, 0x80, 0xFF])


@settings(max_examples=150, **_QUIET)
@given(
    st.sampled_from([SMALL, DILATED]),
    st.lists(st.tuples(st.integers(0, 10_000), BYTES), min_size=1, max_size=4),
)
def test_bytes_of_small_graphs_replaced(data, changes):
    content = bytearray(data)
    for place, value in changes:
        content[place % len(content)] = value
    survives(bytes(content))


@settings(max_examples=60, **_QUIET)
@given(st.sampled_from([SMALL, DILATED]), st.integers(0, 10_000))
def test_small_graphs_cut_short(data, end):
    survives(data[: end % len(data)])


@settings(max_examples=40, **_QUIET)
@given(st.data())
def test_bits_of_real_files_flipped(zoo, data):
    content = bytearray((zoo / data.draw(st.sampled_from(REAL))).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    survives(bytes(content))


INDEX = table(bundle_rows({f"layer/{i}": np.ones(3, np.float32) for i in range(8)})[0])


@settings(max_examples=300, **_QUIET)
@given(st.lists(st.tuples(st.integers(0, len(INDEX) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_bytes_of_an_index_replaced(changes):
    content = bytearray(INDEX)
    for place, value in changes:
        content[place] = value
    try:
        read_table(bytes(content))
    except DamagedTableError as error:
        assert str(error)


@pytest.fixture(scope="module")
def checkpoint():
    """A folder with a checkpoint, to be damaged."""
    folder = Path(tempfile.mkdtemp())
    g = SmallGraph()
    x = g.input(1, 4)
    g.op("VarHandleOp", name="v", T=None, dtype=Kind("float32"))
    g.op("MatMul", [x, g.op("ReadVariableOp", ["v"], T=None, dtype=Kind("float32"))], name="y")
    write_checkpoint(folder, g, {"v": np.ones((4, 3), np.float32)})
    yield folder
    shutil.rmtree(folder)


@settings(max_examples=80, **_QUIET)
@given(
    st.sampled_from(["model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001", "checkpoint"]),
    st.integers(0, 10_000), st.integers(0, 255), st.booleans(),
)  # fmt: skip
def test_files_of_a_checkpoint_damaged(checkpoint, name, place, value, cut):
    path = checkpoint / name
    kept = path.read_bytes()
    content = bytearray(kept)
    content[place % len(kept)] = value
    path.write_bytes(bytes(content[: place % len(kept)] if cut else content))
    try:
        survives(checkpoint)
    finally:
        path.write_bytes(kept)
