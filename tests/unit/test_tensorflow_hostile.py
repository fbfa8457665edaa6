# SPDX-License-Identifier: Apache-2.0
"""TensorFlow files that are damaged, absurd or malicious end in coded errors, quickly and in little memory."""

from __future__ import annotations

import resource
import struct
import time

import numpy as np
import pytest

pytest.importorskip("onnx")

from headrace.errors import HeadraceError, InputFileError, UnsupportedModelError
from headrace.frontends import ParseOptions, parse
from headrace.frontends.formats.tensorflow import evaluate
from headrace.frontends.formats.tensorflow.bundle import Bundle
from headrace.frontends.formats.tensorflow.checksum import crc32c, masked
from headrace.frontends.formats.tensorflow.schema import BundleEntryMessage, BundleHeaderMessage
from headrace.frontends.formats.tensorflow.table import MAGIC, DamagedTableError, read_table
from small_tensorflow import (
    Function,
    Kind,
    SmallGraph,
    block,
    bundle_rows,
    set_shape,
    table,
    varint,
    write_checkpoint,
)

F32, I32 = Kind("float32"), Kind("int32")


@pytest.fixture(autouse=True)
def _bounded():
    """Each file takes some seconds at most, and no more than a gigabyte beside what was taken before."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert time.monotonic() - begun < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


def error_of(model, cls=HeadraceError, **options):
    with pytest.raises(cls) as caught:
        parse(model, ParseOptions(framework="tensorflow", **options))
    assert all(d.code and d.rule for d in caught.value.diagnostics)
    return str(caught.value)


def text_of(graph):
    return error_of(graph.bytes())


# --- graphs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 64, b"hello", b"version https://git-lfs.github.com/spec/v1\n", b"\x0a\x08", b"\xff" * 200]
)
def test_not_a_model(tmp_path, data):
    (tmp_path / "net.pb").write_bytes(data)
    assert "E-" in error_of(tmp_path / "net.pb", InputFileError)


def test_inconsistencies_are_listed_together():
    g = SmallGraph()
    x = g.input(1, 3)
    g.op("Relu", ["nowhere"], name="a")
    g.op("Relu", [x], name="twice")
    g.op("Neg", [x], name="twice")
    g.op("Relu", ["x:1:2:3"], name="b")
    text = text_of(g)
    for word in ("nowhere", "twice", "x:1:2:3"):
        assert word in text
    assert text.count("E-TENSORFLOW-CORRUPT") == 3


def test_nodes_in_a_cycle():
    g = SmallGraph()
    g.op("Add", [g.input(1, 3), "b"], name="a")
    g.op("Relu", ["a"], name="b")
    g.op("Relu", ["b"], name="y")
    assert "cycle" in text_of(g)


def test_an_output_that_is_not_there():
    g = SmallGraph()
    g.op("Relu", [f"{g.op('Relu', [g.input(1, 3)])}:7"], name="y")
    assert "an output of Relu that is not made" in text_of(g)


def test_functions_without_end():
    g = SmallGraph()
    for name, other in (("f", "h"), ("h", "f")):
        body = g.function(name, ["t"], {"y": "call:output:0"})
        body.op("PartitionedCall", ["t"], name="call", T=None, f=Function(other))
    g.op("PartitionedCall", [g.input(1, 3)], name="y", T=None, f=Function("f"))
    assert "without end" in text_of(g)


def test_functions_that_double_each_time(monkeypatch):
    monkeypatch.setattr(evaluate, "MAX_EVALUATIONS", 10_000)
    g = SmallGraph()
    for depth in range(40):
        body = g.function(f"f{depth}", ["t"], {"y": "sum:z:0"})
        for side in "ab":
            if depth < 39:
                body.op("PartitionedCall", ["t"], name=side, T=None, f=Function(f"f{depth + 1}"))
            else:
                body.op("Relu", ["t"], name=side)
        body.op("AddV2", ["a:output:0", "b:output:0"] if depth < 39 else ["a", "b"], name="sum")
    g.op("PartitionedCall", [g.input(1, 3)], name="y", T=None, f=Function("f0"))
    assert "too many nodes" in text_of(g)


def test_a_function_that_is_not_there_or_has_other_arguments():
    g = SmallGraph()
    g.op("PartitionedCall", [g.input(1, 3)], name="y", T=None, f=Function("gone"))
    assert "not in the file" in text_of(g)
    g = SmallGraph()
    g.function("f", ["a", "b"], {"y": "a"})
    g.op("PartitionedCall", [g.input(1, 3)], name="y", T=None, f=Function("f"))
    assert "another number of arguments" in text_of(g)


def test_a_loop_that_never_ends():
    g = SmallGraph()
    g.function("test", ["t"], {"c": "true:output:0"}).op(
        "Const", name="true", T=None, dtype=Kind("bool"), value=np.array(True)
    )
    g.function("body", ["t"], {"t2": "t"})
    g.op("While", [g.input(1, 3)], name="loop", T=None, cond=Function("test"), body=Function("body"))
    g.op("Relu", ["loop"], name="y")
    assert "more than 4096" in text_of(g)


def test_a_constant_of_five_gigabytes_in_a_kilobyte():
    g = SmallGraph()
    x = g.input(1, 3)
    node = g.message.nodes.add(name="big", op="Const")
    tensor = node.attributes.add(key="value").value.tensor
    tensor.dtype = 1
    set_shape(tensor.shape, (5, 1 << 28))
    tensor.floats.append(1.0)
    g.op("Add", [x, "big"], name="y")
    text = text_of(g)
    assert "'big'" in text or "y" in text
    set_shape(tensor.shape, (1,))
    del tensor.shape.dims[:]
    for size in (1 << 14, 1 << 13):  # 512 MiB: within what a tensor may have, beyond what this file may ask for
        tensor.shape.dims.add(size=size)
    text_of(g)


@pytest.mark.parametrize("op", ["Fill", "Tile", "BroadcastTo", "Range", "ZerosLike"])
def test_small_files_that_ask_for_much(op):
    g = SmallGraph()
    x = g.input(1, 3)
    many = g.ints(1 << 20, 1 << 13)
    one = g.const(np.float32(1))
    made = {
        "Fill": lambda: g.op("Fill", [many, one], index_type=I32),
        "Tile": lambda: g.op("Tile", [g.const(np.ones((1, 1), np.float32)), many], Tmultiples=I32),
        "BroadcastTo": lambda: g.op("BroadcastTo", [one, many], Tidx=I32),
        "Range": lambda: g.op("Range", [g.int(0), g.int(2147483647), g.int(1)], T=None, Tidx=I32),
        "ZerosLike": lambda: g.op("ZerosLike", [g.op("Fill", [g.ints(1 << 13, 1 << 13), one], index_type=I32)]),
    }[op]()
    g.op("Add", [x, made], name="y")
    text_of(g)


def test_a_constant_whose_bytes_do_not_fit():
    g = SmallGraph()
    x = g.input(1, 3)
    g.const(np.zeros(3, np.float32), name="short")
    entry = next(e for n in g.message.nodes if n.name == "short" for e in n.attributes if e.key == "value")
    entry.value.tensor.content = b"\0" * 5
    g.op("Add", [x, "short"], name="y")
    assert "5 bytes" in text_of(g)


@pytest.mark.parametrize("attribute", ["strides", "padding", "data_format", "dilations", "explicit_paddings"])
def test_attributes_of_another_kind(attribute):
    g = SmallGraph()
    kernel = g.const(np.ones((1, 1, 3, 2), np.float32))
    good = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    for bad in ([0, 0, 0, 0], [1, -1, 1, 1], "NONSENSE", 7, 1.5, [1] * 70):
        g = SmallGraph()
        kernel = g.const(np.ones((1, 1, 3, 2), np.float32))
        more = {"padding": "EXPLICIT"} if attribute == "explicit_paddings" else {}
        g.op("Conv2D", [g.input(1, 4, 4, 3), kernel], name="y", **(good | more | {attribute: bad}))
        text_of(g)


@pytest.mark.parametrize("attribute", ["dtype", "shape"])
def test_attributes_of_another_kind_outside_of_operators(attribute):
    g = SmallGraph()
    good = {"dtype": F32, "shape": None, "T": None}
    g.op("Relu", [g.op("Placeholder", name="x", **(good | {attribute: 7}))], name="y")
    assert "'x'" in text_of(g) or "not of the kind" in text_of(g)


def test_a_long_chain_is_no_deep_recursion():
    g = SmallGraph()
    x = g.input(1, 3)
    for i in range(4000):
        x = g.op("Identity", [x], name=f"i{i}")
    g.op("Relu", [x], name="y")
    assert parse(g.bytes()).network.output_layers


def test_too_many_nodes():
    g = SmallGraph()
    g.message.nodes.extend([g.message.nodes.add(name="a", op="NoOp")] * 200_001)
    assert "too many nodes" in error_of(g.bytes(), InputFileError)


# --- bundles ----------------------------------------------------------------------------------------------------------

VALUES = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(5, np.int32)}


def damaged(folder, change=None, data=None, index=None):
    """A bundle whose entry of ``a`` is changed, whose data is, or whose index."""
    rows, content = bundle_rows(VALUES)
    if change:
        entry = BundleEntryMessage.FromString(rows[b"a"])
        for key, value in change.items():
            setattr(entry, key, value)
        rows[b"a"] = entry.SerializeToString()
    (folder / "m.index").write_bytes(table(rows) if index is None else index)
    (folder / "m.data-00000-of-00001").write_bytes(content if data is None else data)
    return folder / "m"


def test_a_bundle_is_read(tmp_path):
    bundle = Bundle(damaged(tmp_path))
    assert sorted(bundle.keys) == ["a", "b"]
    assert all(np.array_equal(bundle.array(k), v) for k, v in VALUES.items())


@pytest.mark.parametrize(
    "change",
    [{"offset": 1 << 40}, {"offset": -8}, {"size": 5 << 30}, {"size": -1}, {"shard": 3}, {"shard": -1}, {"crc": 1}],
    ids=str,
)
def test_entries_that_point_elsewhere(tmp_path, change):
    with pytest.raises(InputFileError) as caught:
        Bundle(damaged(tmp_path, change)).array("a")
    assert caught.value.code == "E-TENSORFLOW-CORRUPT"


def test_types_that_are_not_read(tmp_path):
    from headrace.frontends.graph import Unsupported

    with pytest.raises(Unsupported):
        Bundle(damaged(tmp_path, {"dtype": 7})).array("a")


def test_data_that_is_short_or_changed(tmp_path):
    _, content = bundle_rows(VALUES)
    for data in (content[:20], b"", bytes([content[0] ^ 1]) + content[1:]):
        with pytest.raises(InputFileError):
            Bundle(damaged(tmp_path, data=data)).array("a")
    (tmp_path / "m.data-00000-of-00001").unlink()
    with pytest.raises(InputFileError) as caught:
        Bundle(tmp_path / "m").array("a")
    assert caught.value.code == "E-FILE-MISSING"


def test_five_gigabytes_declared_in_a_kilobyte(tmp_path):
    rows, content = bundle_rows(VALUES)
    entry = BundleEntryMessage(dtype=1, size=5 << 30)
    set_shape(entry.shape, (5, 1 << 28))
    rows[b"a"] = entry.SerializeToString()
    with pytest.raises(InputFileError):
        Bundle(damaged(tmp_path, index=table(rows))).array("a")
    whole = BundleEntryMessage(dtype=1)
    set_shape(whole.shape, (1 << 14, 1 << 14))
    whole.slices.add()
    rows[b"a"] = whole.SerializeToString()
    with pytest.raises(InputFileError):
        Bundle(damaged(tmp_path, index=table(rows), data=content)).array("a")


def test_parts_that_do_not_make_up_a_variable(tmp_path):
    one = np.ones((2, 3), np.float32)
    for extents in ([(0, 2), (0, 3)], [(2, 2), (1, 3)], [(0, 2), (0, 2)]):
        rows, data = bundle_rows({}, {"v": [([(0, 2), (0, 3)], one), (extents, one)]})
        whole = BundleEntryMessage.FromString(rows[b"v"])
        del whole.shape.dims[:]
        set_shape(whole.shape, (4, 3))
        rows[b"v"] = whole.SerializeToString()
        (tmp_path / "p.index").write_bytes(table(rows))
        (tmp_path / "p.data-00000-of-00001").write_bytes(data)
        with pytest.raises(InputFileError):
            Bundle(tmp_path / "p").array("v")


def test_a_block_that_is_no_snappy_and_an_unknown_codec():
    rows, _ = bundle_rows(VALUES)
    for kind, word in ((1, "Snappy"), (9, "codec 9")):
        with pytest.raises(DamagedTableError, match=word):
            read_table(table(rows, kind))


def test_a_header_of_another_byte_order(tmp_path):
    for header in (BundleHeaderMessage(shards=1, endianness=1), BundleHeaderMessage(shards=0), None):
        rows, _ = bundle_rows(VALUES)
        if header is None:
            del rows[b""]
        else:
            rows[b""] = header.SerializeToString()
        with pytest.raises(InputFileError):
            Bundle(damaged(tmp_path, index=table(rows)))


def test_tables_that_grow():
    """Keys that share a long beginning, blocks that overlap, numbers without end."""
    long = b"k" * 4000
    body = varint(0) + varint(4000) + varint(0) + long
    for i in range(20_000):
        body += varint(4000) + varint(4) + varint(0) + struct.pack(">I", i)
    body += struct.pack("<II", 0, 1) + b"\0"
    data = body + struct.pack("<I", masked(crc32c(body)))
    index = block([(b"\xff", varint(0) + varint(len(data) - 5))])
    handle = varint(len(data)) + varint(len(index) - 5)
    with pytest.raises(DamagedTableError, match="grow too large"):
        read_table(data + index + (handle * 2).ljust(40, b"\0") + MAGIC)
    same = block([(struct.pack(">I", i), varint(0) + varint(len(data) - 5)) for i in range(5000)])
    handle = varint(len(data)) + varint(len(same) - 5)
    with pytest.raises(DamagedTableError):
        read_table(data + same + (handle * 2).ljust(40, b"\0") + MAGIC)
    with pytest.raises(DamagedTableError):
        read_table(b"\xff" * 40 + MAGIC)


def test_checksums():
    assert crc32c(b"123456789") == 0xE3069283
    rng = np.random.default_rng(0)
    for size in (0, 1, 255, 4095, 4096, 4097, 70_001):
        data = rng.bytes(size)
        state = 0xFFFFFFFF
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
        assert crc32c(data) == state ^ 0xFFFFFFFF


def test_the_state_of_a_folder_that_points_elsewhere(tmp_path):
    for text in ('model_checkpoint_path: "../../etc/passwd"', 'model_checkpoint_path: ".."', "nothing", ""):
        (tmp_path / "checkpoint").write_text(text)
        error_of(tmp_path, InputFileError)


def test_variables_of_another_checkpoint(tmp_path):
    g = SmallGraph()
    x = g.input(1, 4)
    g.op("VarHandleOp", name="kernel", T=None, dtype=F32)
    g.op("MatMul", [x, g.op("ReadVariableOp", ["kernel"], T=None, dtype=F32)], name="y")
    write_checkpoint(tmp_path, g, VALUES)
    assert "no value for 'kernel'" in error_of(tmp_path, UnsupportedModelError)
