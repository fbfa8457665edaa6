# SPDX-License-Identifier: Apache-2.0
"""Compressed blocks of a checkpoint's index, against blocks that Snappy itself made."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("onnx")

from headrace.frontends.formats.tensorflow.snappy import DamagedSnappyError, snappy_block
from headrace.frontends.formats.tensorflow.table import DamagedTableError, read_table
from small_tensorflow import bundle_rows, table, varint

#: What Snappy (cramjam 2.14's) made of PLAIN.
PLAIN = b"layer/kernel layer/bias layer/kernel/moment " * 3 + b"a" * 70 + bytes(range(64)) + b"a" * 5
PACKED = bytes.fromhex(
    "8f02306c617965722f6b65726e656c20090d0c626961730d0b0918182f6d6f6d656e743214000d0dfe2c00052c0061fe01000501f044"
) + bytes(range(64)) + b"aaaaa"  # fmt: skip


def literals(data):
    """A block of literals alone."""
    pieces = (data[i : i + 60] for i in range(0, len(data), 60))
    return varint(len(data)) + b"".join(bytes([(len(p) - 1) << 2]) + p for p in pieces)


def test_what_snappy_made():
    assert snappy_block(memoryview(PACKED)) == PLAIN
    assert snappy_block(memoryview(b"\0")) == b""


def test_an_index_of_compressed_blocks_is_that_of_plain_ones():
    rows, _ = bundle_rows({"a": np.ones(3, np.float32), "b": np.zeros((2, 2), np.float32)})
    plain, packed = read_table(table(rows)), read_table(table(rows, 1, literals))
    assert {k: bytes(v) for k, v in packed.items()} == {k: bytes(v) for k, v in plain.items()} == rows


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "does not say its size"), (b"\xff" * 6, "does not say its size"),
        (b"\xff\xff\xff\xff\x0f", "cannot stand"),
        (b"\x04\x0cab", "over the end"), (b"\x04\xf0", "over the end"), (b"\x04\x01\x00", "before the beginning"),
        (b"\x05\x00a\x01\x02", "before the beginning"), (b"\x02\x00a", "not of the 2 bytes"),
        (b"\x02\x0cabcd", "not of the 2 bytes"), (b"\x04\x00a\x02", "over the end"),
    ],
)  # fmt: skip
def test_damaged_blocks(data, word):
    with pytest.raises(DamagedSnappyError, match=word):
        snappy_block(memoryview(data))
    with pytest.raises(DamagedTableError, match="Snappy"):
        read_table(table({b"": b""}, 1, lambda _: data))


def test_any_change_is_answered_at_once():
    generator = np.random.default_rng(0)
    start = time.monotonic()
    for _ in range(300):
        data = bytearray(PACKED)
        for _ in range(3):
            data[generator.integers(len(data))] = generator.integers(256)
        try:
            assert len(snappy_block(memoryview(data))) <= 64 * len(data)
        except DamagedSnappyError:
            continue
    assert time.monotonic() - start < 5
