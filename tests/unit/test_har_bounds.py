# SPDX-License-Identifier: Apache-2.0
"""Archives made to harm: what a small file may cost, what a tar may say, what JSON may hold, files of other kinds."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import textwrap
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import HeadraceError, InputFileError
from headrace.hn import Network, archive, arrays, strict_json, unpack
from headrace.hn.arrays import dump_arrays
from headrace.hn.parameters import check_archive
from layer_maker import make_layer, set_attributes


def network() -> Network:
    net = Network("net")
    net.add(make_layer("net/input_layer1", "input_layer", [], {"shape": [-1, 4, 4, 3]}, (-1, 4, 4, 3), ["x"]))
    params = {"kernel": np.ones((1, 1, 3, 2), np.float32), "bias": np.zeros(2, np.float32)}
    net.add(
        make_layer("net/conv1", "conv", ["net/input_layer1"], {"kernel_shape": [1, 1, 3, 2]}, (-1, 4, 4, 2)), params
    )
    net.add(make_layer("net/output_layer1", "output_layer", ["net/conv1"], {}, (-1, 4, 4, 2)))
    return net


def parts() -> dict[str, bytes]:
    return archive.members(archive.Archive("net", native=network(), reports={"parse": {"x": 1}}))


def refused(data: bytes, match: str) -> None:
    with pytest.raises(InputFileError, match=match):
        check_archive(archive.loads(data, "x.har"))


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[100:136] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size
    block[136:156] = b"00000000000\0" + b" " * 8
    block[156:157], block[257:265] = kind, b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def zeros(gibibytes: float) -> bytes:
    """Gzip members that unpack to so many zero bytes, a thousandth of it in size."""
    engine = zlib.compressobj(9, wbits=31)
    one = engine.compress(bytes(64 << 20)) + engine.flush()
    return one * round(gibibytes * 16)


MEASURED = """
import resource, sys, time
from headrace.errors import HeadraceError
start = time.monotonic()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    {call}
    print("taken")
except HeadraceError as error:
    print(error.code)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def cost(call: str, path: Path) -> tuple[str, int]:
    """What a call ends in, and the mebibytes it took, in a process of its own with two gibibytes at most."""
    program = textwrap.dedent(MEASURED).format(call=call)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    code, mebibytes = done.stdout.split()
    return code, int(mebibytes)


LOAD = "from headrace.hn import archive; archive.load(sys.argv[1])"


def test_a_bomb_costs_what_its_size_may(tmp_path: Path) -> None:
    """Three megabytes that unpack to three gibibytes, as one member and as bytes behind the last one."""
    bomb = gzip.compress(header("metadata.json", 3 << 30), mtime=0) + zeros(3)
    assert len(bomb) < 4 << 20
    (tmp_path / "member.har").write_bytes(bomb)
    (tmp_path / "behind.har").write_bytes(archive.pack(parts()) + zeros(3))
    (tmp_path / "header.har").write_bytes(gzip.compress(header("long", 3 << 30, b"x"), mtime=0) + zeros(3))
    for name in ("member.har", "behind.har", "header.har"):
        code, mebibytes = cost(LOAD, tmp_path / name)
        assert code in ("E-HAR-CORRUPT", "E-HAR-EXPANSION"), name
        assert mebibytes < 400, (name, mebibytes)


def test_json_costs_memory_by_its_values(tmp_path: Path) -> None:
    made = parts() | {"net.parse.json": b"[" + b"[]," * (20 << 20) + b"0]"}
    (tmp_path / "x.har").write_bytes(archive.pack(made))
    code, mebibytes = cost(LOAD, tmp_path / "x.har")
    assert code == "E-HAR-CORRUPT" and mebibytes < 300, mebibytes


def test_a_directory_of_a_million_arrays_costs_nothing(tmp_path: Path) -> None:
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 1_000_000
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 9, 9, len(entry) * count, 0, 0)
    made = parts() | {"net.native.npz": entry * count + end}
    (tmp_path / "x.har").write_bytes(archive.pack(made))
    code, mebibytes = cost(LOAD, tmp_path / "x.har")
    assert code == "E-NPZ-CORRUPT" and mebibytes < 300, mebibytes


def test_arrays_unpack_to_what_the_file_may(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, **{"net/conv1/kernel": np.zeros(100 << 20, np.uint8)})
    refused(archive.pack(parts() | {"net.native.npz": out.getvalue()}), "unpack to more")
    with pytest.raises(InputFileError, match=r"numpy\.savez"):
        arrays.load_arrays(out.getvalue(), "x.npz")


def test_what_is_written_can_be_read_again_however_well_it_compresses() -> None:
    net = network()
    set_attributes(net, "net/input_layer1", shape=[-1, 1, 1, 6000])
    net["net/input_layer1"].output_shape = (-1, 1, 1, 6000)
    set_attributes(net, "net/conv1", kernel_shape=[1, 1, 6000, 4000])
    net["net/conv1"].output_shape = net["net/output_layer1"].output_shape = (-1, 1, 1, 4000)
    net.params = {"net/conv1/kernel": np.zeros((1, 1, 6000, 4000), np.float32)}
    data = archive.dump(archive.Archive("net", native=net))
    again = archive.loads(data, "x.har")
    check_archive(again)
    assert again.native is not None and again.native.params["net/conv1/kernel"].shape == (1, 1, 6000, 4000)


def test_a_writers_extended_headers_are_read_where_they_change_nothing(tmp_path: Path) -> None:
    for name, data in parts().items():
        (tmp_path / name).write_bytes(data)
    made = tmp_path / "again.har"
    with tarfile.open(made, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name in parts():
            tar.add(tmp_path / name, name)  # times in fractions of seconds need an extended header
    assert archive.load(made).native is not None
    done = subprocess.run(
        ["tar", "-C", str(tmp_path), "-czf", str(tmp_path / "gnu.har"), *parts()], capture_output=True, check=False
    )
    assert done.returncode == 0 and archive.load(tmp_path / "gnu.har").native is not None


def pax(record: bytes) -> bytes:
    length = next(n for n in range(10, 999) if n == len(record) + len(str(n)) + 2)
    body = b"%d %s\n" % (length, record)
    return header("x", len(body), b"x") + body + bytes(-len(body) % 512)


def test_a_tar_cannot_say_more_than_it_holds() -> None:
    member = header("metadata.json", 2) + b"{}" + bytes(510)
    for data, match in (
        (header("metadata.json", 2, b"S") + b"{}" + bytes(510), "not a plain file"),  # sparse
        (header("metadata.json", 2, b"L") + b"{}" + bytes(510), "not a plain file"),  # GNU long name
        (pax(b"path=../evil") + member, "extended tar header"),
        (pax(b"size=99999999999") + member, "extended tar header"),
        (pax(b"GNU.sparse.realsize=99999999999") + member, "extended tar header"),
        (header("x", 20, b"x") + b"999999 mtime=1.5\n" + bytes(495), "damaged"),
        (header("metadata.json", 77777) + b"{}" + bytes(510), "cut short"),
        (header("metadata.json", 60 << 30), "too large"),
        (member[:148] + b"000000\0 " + member[156:], "checksum"),
        (member[:124] + b"\x80" + bytes(3) + b"\xff" * 8 + member[136:], "HAR"),
        (member * 2, "one twice"),
        (b"".join(header(f"m{i}", 0) for i in range(unpack.MAX_MEMBERS + 1)), "too many"),
        (bytes(10240), "empty"),
    ):
        refused(gzip.compress(data, 1), match)
    whole = archive.pack(parts())
    refused(whole[:-8] + b"\0" * 8, "incorrect|HAR")
    refused(whole[: len(whole) // 2], "HAR")
    assert archive.loads(whole + bytes(1000), "x.har").name == "net"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("version", 0.0),
        ("version", True),
        ("version", -1),
        ("version", "1"),
        ("version", 2),
        ("format", "tar"),
        ("name", ["net"]),
        ("name", "../net"),
        ("state", "compiled"),
        ("state", None),
        ("state", {}),
        ("hw_arch", 8),
        ("hw_arch", ""),
        ("hw_arch", "a\nb"),
        ("reports", ["absent"]),
        ("reports", {"parse": 1}),
        ("reports", [["parse"]]),
        ("history", ["list"]),
        ("history", [{"no": "stage"}]),
        ("history", [{"stage": 3}]),
        ("history", {}),
    ],
)
def test_metadata_has_types(field: str, value: Any) -> None:
    made = parts()
    meta = json.loads(made["metadata.json"])
    made["metadata.json"] = json.dumps(meta | {field: value}).encode()
    refused(archive.pack(made), "newer format" if value == 2 else f"field '{field}'")
    del meta[field]
    made["metadata.json"] = json.dumps(meta).encode()
    refused(archive.pack(made), f"field '{field}'")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 50 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b"[" * 100 + b"]" * 100,
        b"[" * 100_000,
        b'{"a": "\xff"}',
        b"{",
        b"",
    ],
)
def test_json_that_could_not_be_written_again_is_not_read(text: bytes) -> None:
    with pytest.raises(ValueError):
        strict_json.parse(text)
    refused(archive.pack(parts() | {"net.parse.json": text}), "not JSON")


def test_every_parameter_is_checked_when_the_archive_is_opened() -> None:
    for key, value in (
        ("net/conv1/kernel", np.ones((1, 1, 3, 3), np.float32)),
        ("net/conv1/kernel", np.ones((3, 2), np.float32)),
        ("net/conv1/kernel", np.ones((1, 1, 3, 2), np.int64)),
        ("net/conv1/kernel", np.full((1, 1, 3, 2), np.nan, np.float16)),
        ("net/conv1/kernel", np.full((1, 1, 3, 2), 1e300)),
        ("net/conv1/bias", np.zeros((1, 2), np.float32)),
        ("net/conv1/gain", np.zeros(3, np.float32)),
        ("net/conv9/kernel", np.ones(1, np.float32)),
        ("net/conv1/../x", np.ones(1, np.float32)),
    ):
        net = network()
        changed = dump_arrays({**net.params, key: value})
        members = archive.members(archive.Archive("net", native=net)) | {"net.native.npz": changed}
        refused(archive.pack(members), "kernel|bias|gain|belongs to no layer")
    net = network()
    del net.params["net/conv1/kernel"]
    refused(archive.dump(archive.Archive("net", native=net)), "absent")


def hef_bytes() -> bytes:
    from headrace.hef.container import HefDescription, StreamDescription, write_hef

    streams = tuple(StreamDescription(f"net/{d}", d, 1, 1, 1) for d in ("input", "output"))  # pyright: ignore[reportArgumentType]
    return write_hef(HefDescription("net", streams), b"program")


def npz_bytes() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("a.npy", b"")
    return out.getvalue()


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    model = helper.make_model(helper.make_graph([], "g", [], []))
    onnx.save(model, tmp_path / "m.onnx")
    from headrace.hef.container import read_hef_file

    for name, data, match in (
        ("a.har", hef_bytes(), r"a HEF(.|\n)*headrace run \S*a\.har"),
        ("b.har", (tmp_path / "m.onnx").read_bytes(), r"an ONNX model(.|\n)*headrace parse"),
        ("c.har", b"\x1c\0\0\0TFL3" + bytes(40), r"a TFLite model(.|\n)*headrace parse"),
        ("d.har", npz_bytes(), "a zip file"),
        ("e.har", b"", "an empty file"),
        ("f.har", b"\x7fELF" + bytes(60), "bytes 7f 45"),
        ("g.hef", archive.pack(parts()), r"a gzip file, as a HAR is(.|\n)*headrace har info"),
        ("h.hef", (tmp_path / "m.onnx").read_bytes(), r"an ONNX model(.|\n)*headrace parse"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(HeadraceError, match=match):
            archive.load(path) if name.endswith(".har") else read_hef_file(path)


def test_a_sparse_file_of_gibibytes_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    for name, call in (("x.har", LOAD), ("x.hef", "from headrace.hef.container import *; read_hef_file(sys.argv[1])")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(3 << 30)
        code, mebibytes = cost(call, tmp_path / name)
        assert code in ("E-HAR-KIND", "E-HEF-MAGIC") and mebibytes < 100, (code, mebibytes)


def test_calibration_archives_cost_what_their_size_may(tmp_path: Path) -> None:
    load = "from headrace.data.files import load_npz; from pathlib import Path; load_npz(Path(sys.argv[1]))"
    np.savez_compressed(tmp_path / "small.npz", x=np.zeros((4, 3), np.float32))
    assert cost(load, tmp_path / "small.npz")[0] == "taken"
    # 300 MB of zeros in 300 kB.
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        out = io.BytesIO()
        np.save(out, np.zeros(300 << 20, np.uint8))
        packed.writestr("x.npy", out.getvalue())
    code, mebibytes = cost(load, tmp_path / "bomb.npz")
    assert code == "E-DATA-TOO-LARGE" and mebibytes < 100
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 9, 9, len(entry) * 1_000_000, 0, 0)
    (tmp_path / "many.npz").write_bytes(entry * 1_000_000 + end)
    code, mebibytes = cost(load, tmp_path / "many.npz")
    assert code == "E-DATA-TOO-LARGE" and mebibytes < 100
