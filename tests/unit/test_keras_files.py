# SPDX-License-Identifier: Apache-2.0
"""The files themselves: HDF5 and zip, whole, cut, flipped and made to harm."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

pytest.importorskip("onnx_ir")

from headrace.errors import HeadraceError, InputFileError
from headrace.frontends import parse
from headrace.frontends.formats.keras.hdf5 import DamagedError, Dataset, File, Group, UnreadableError
from keras_samples import sample, sample_files
from small_hdf5 import hdf5


def walk(group: Group):
    """All arrays of a file, by path."""
    found = {}
    for name in group.names():
        child = group.get(name)
        if isinstance(child, Dataset):
            found[name] = child.read()
        else:
            found |= {f"{name}/{k}": v for k, v in walk(child).items()}
    return found


def test_what_is_written_is_read():
    arrays = {
        "a": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.array(2.5, ">f8"), "c": np.arange(4, dtype="<i2"),
        "deep/down/d": np.arange(5, dtype="<u8"), "half": np.array([1.5, -2], "<f2"),
    }  # fmt: skip
    for packed in (False, True):
        file = File(hdf5(arrays, {"": {"text": "hello", "many": ["x", "yy"], "long": "z" * 100_000}}, packed=packed))
        got = walk(file)
        assert {k: v.tolist() for k, v in got.items()} == {k: v.tolist() for k, v in arrays.items()}
        assert file.attribute("text") == "hello" and file.attribute("many") == ["x", "yy"]
        assert file.attribute("long") == "z" * 100_000 and file.attribute("none") is None


def test_brain_floats():
    """bfloat16, as ml_dtypes stores it: a float of two bytes with eight bits of exponent."""
    bits = np.array([0x3F80, 0xC000, 0x7F7F], "<u2")
    assert walk(File(hdf5({"w": bits}, brain={"w"})))["w"].tolist() == [1.0, -2.0, float(np.float32(3.3895314e38))]


@pytest.mark.parametrize("file", [f for f in sample_files() if f.startswith(("conv2d", "nested", "lstm"))])
def test_every_cut_file_is_refused(file):
    data = sample(file)
    for size in [*range(0, 200, 7), *range(200, len(data), len(data) // 40)]:
        with pytest.raises(HeadraceError) as caught:
            parse(data[:size])
        assert caught.value.code.startswith("E-") and caught.value.code != "E-INTERNAL"


@pytest.mark.parametrize("file", ["conv2d.keras", "conv2d.h5", "nested.h5"])
def test_flipped_bits_are_refused_or_harmless(file):
    data, rng = sample(file), random.Random(5)
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 2, 8])):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        begin = time.perf_counter()
        try:
            parse(bytes(changed))
        except HeadraceError as error:
            assert error.code != "E-INTERNAL", error
        assert time.perf_counter() - begin < 5


def bits_of(data, pattern, replacement):
    assert data.count(pattern) >= 1
    return data.replace(pattern, replacement, 1)


def refused(data):
    with pytest.raises((DamagedError, UnreadableError)) as caught:
        walk(File(data))
    return str(caught.value)


def test_five_gigabytes_in_a_kilobyte():
    data = hdf5({"w": np.zeros((1234, 3), "<f4")})
    shape = struct.pack("<QQ", 1234, 3)
    tracemalloc.start()
    try:
        refused(bits_of(data, shape, struct.pack("<QQ", 1234, 1 << 40)))
        refused(bits_of(data, shape, struct.pack("<QQ", 1234, 1_000_000)))  # 5 GB
        packed = hdf5({"w": np.zeros((4096, 4096), "<f4")}, packed=True)
        assert len(packed) < 200_000
        assert "times its size" in refused(packed)  # a bomb: 64 MiB twice
        assert tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()


def test_trees_and_headers_that_contain_themselves():
    data = hdf5({"deep/down/d": np.zeros(3, "<f4")})
    tree = data.index(b"TREE")
    loop = bytearray(data)
    loop[tree + 5] = 1  # an inner node whose child is itself
    loop[tree + 32 : tree + 40] = struct.pack("<Q", tree)
    refused(bytes(loop))
    many = bytearray(data)
    many[tree + 6 : tree + 8] = b"\xff\xff"
    refused(bytes(many))


def test_a_group_that_contains_itself_ends():
    """The root's header in place of a child's: nothing walks down by itself, and paths have an end."""
    data = hdf5({"deep/d": np.zeros(3, "<f4")})
    root = struct.unpack_from("<Q", data, 64)[0]
    node = data.index(b"SNOD")
    loop = bytearray(data)
    loop[node + 16 : node + 24] = struct.pack("<Q", root)
    file = File(bytes(loop))
    assert file.get("deep/d/" * 50) is not None


def test_links_out_of_the_file_lead_nowhere():
    data = bytearray(hdf5({"w": np.zeros(3, "<f4")}))
    entry = data.index(b"SNOD") + 8
    data[entry + 16 : entry + 20] = struct.pack("<I", 2)  # a link by name
    assert File(bytes(data)).names() == []


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_members_of_a_zip_that_unpack_without_end(member):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, b"\0" * (200 << 20) if name == member else b"{}")
    assert len(out.getvalue()) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(InputFileError) as caught:
            parse(out.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "E-KERAS-CORRUPT" and "unpacks" in str(caught.value)


def test_weights_without_a_model_say_so():
    with pytest.raises(InputFileError) as caught:
        parse(hdf5({"conv/kernel": np.zeros(3, "<f4")}))
    assert "weights only" in str(caught.value) and "model.save" in str(caught.value)


def test_a_pytorch_zip_is_not_taken_for_keras():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", b"x")
    with pytest.raises(HeadraceError) as caught:
        parse(out.getvalue())
    assert caught.value.code == "E-PARSE-FORMAT"
