# SPDX-License-Identifier: Apache-2.0
"""HN and HAR: round trips, determinism, and reading what nobody should trust."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import InputFileError, UsageError
from headrace.hn import Network, archive, arrays, check_network, json_format
from headrace.hn.files import read_bytes, write_atomic
from layer_maker import make_layer


def small() -> Network:
    net = Network("net")
    net.add(make_layer("net/input_layer1", "input_layer", [], {"shape": [-1, 4, 4, 3]}, (-1, 4, 4, 3), ["x"]))
    net.add(
        make_layer(
            "net/conv1",
            "conv",
            ["net/input_layer1"],
            {"kernel_shape": [1, 1, 3, 2]},
            (-1, 4, 4, 2),
            ["Conv_0", "Relu_0"],
        ),
        {"kernel": np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2), "bias": np.zeros(2, np.float32)},
    )
    net.add(make_layer("net/output_layer1", "output_layer", ["net/conv1"], {}, (-1, 4, 4, 2)))
    return net


def packed() -> bytes:
    return archive.dump(archive.Archive("net", native=small(), model_script="a = b()\n", reports={"parse": {"x": 1}}))


def tar_of(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, data in entries:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def test_round_trip_keeps_every_byte() -> None:
    data = packed()
    again = archive.loads(data, "x.har")
    assert archive.dump(again) == data
    assert again.native is not None and again.native.find("Relu_0").name == "net/conv1"
    assert again.native.find("conv1").name == "net/conv1"
    np.testing.assert_array_equal(again.native.params["net/conv1/kernel"], small().params["net/conv1/kernel"])
    facts = archive.info(archive.read_members(data, "x.har"), again)
    assert facts["digest"] == archive.digest(archive.members(again)) and facts["state"] == "hailo_model"


def test_nothing_of_this_machine_is_inside(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed())) as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
    assert packed()[4:8] == b"\0\0\0\0", "gzip time"
    for parts in archive.read_members(packed(), "x").values():
        assert os.uname().nodename.encode() not in parts or len(os.uname().nodename) < 4


def test_unknown_kinds_are_kept() -> None:
    net = small()
    text = json_format.dumps(net).replace(b'"conv"', b'"kind_of_2031"').replace(b'"kernel_shape"', b'"sides"')
    again = json_format.loads(text, "x")
    assert again["net/conv1"].kind == "kind_of_2031"
    assert json_format.dumps(again) == text
    with pytest.raises(InputFileError, match="kind_of_2031"):
        check_network(again)


def test_unknown_name_says_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'net/conv1'"):
        small().find("net/conv_1")


def test_truncations_and_bit_flips_end_in_coded_errors() -> None:
    data = packed()
    for cut in range(0, len(data), max(1, len(data) // 150)):
        with pytest.raises(InputFileError):
            archive.loads(data[:cut], "x.har")
    rng = random.Random(1)
    plain = gzip.decompress(data)
    for _ in range(400):
        broken = bytearray(plain)
        for _ in range(rng.randint(1, 3)):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        try:
            archive.loads(gzip.compress(bytes(broken), 1), "x.har")
        except InputFileError as error:
            assert error.diagnostics[0].code.startswith("E-")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", "-x", "a" * 300, "x\ny"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    info = tarfile.TarInfo(name)
    with pytest.raises(InputFileError, match="not allowed|extended tar header"):
        archive.loads(tar_of([(info, b"x")]), "x.har")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_folders_and_devices_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("metadata.json")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(InputFileError):
        archive.loads(tar_of([(info, b"")]), "x.har")


def npz_with(name: str, header: bytes, body: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body)
    return out.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n",
        b"__import__('os').system('true')\n",
        b"\xff\xfe\n",
    ],
)
def test_hostile_arrays(header: bytes) -> None:
    with pytest.raises(InputFileError):
        arrays.load_arrays(npz_with("a.npy", header, b"1234"), "x.npz")


def test_arrays_round_trip_every_dtype() -> None:
    r = np.random.default_rng(0)
    source = {
        f"a/{d}": (r.random((2, 0, 3)) if d == "float64" else r.integers(0, 2, (3, 2)).astype(d))
        for d in sorted(arrays.DTYPES)
    }
    source["scalar"] = np.array(3.5, np.float32)
    data = arrays.dump_arrays(source)
    again = arrays.load_arrays(data, "x")
    assert arrays.dump_arrays(dict(reversed(again.items()))) == data
    for key, value in source.items():
        assert again[key].dtype == value.dtype and again[key].shape == value.shape
        np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["layers"]["net/conv1"].update(input=["net/nothing"]),
        lambda d: d["layers"]["net/input_layer1"].update(input=["net/conv1"]),
        lambda d: d["layers"]["net/conv1"].update(output_shapes=[[-1, 0, 1]]),
        lambda d: d["layers"]["net/conv1"].update(output_shapes=[]),
        lambda d: d["layers"]["net/conv1"].update(type=3),
        lambda d: d["layers"].update(x=[]),
        lambda d: d.update(layers=[]),
        lambda d: d["net_params"].update(version=99),
        lambda d: d.pop("name"),
    ],
)
def test_hostile_hn(change) -> None:
    raw = json.loads(json_format.dumps(small()))
    change(raw)
    with pytest.raises(InputFileError):
        json_format.from_dict(raw, "x.hn")
    with pytest.raises(InputFileError):
        json_format.loads(b"[" * 100_000, "x.hn")


def test_write_is_atomic_when_the_disk_is_full(tmp_path: Path) -> None:
    import subprocess

    target = tmp_path / "x.har"
    target.write_bytes(b"old")
    code = f"""
import resource, signal
from headrace.errors import InputFileError
from headrace.hn.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic({str(target)!r}, b"x" * 100000)
except InputFileError as error:
    print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "E-FILE-WRITE"
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.har"]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "net.har").write_bytes(b"")
    with pytest.raises(InputFileError, match=r"did you mean .*net\.har"):
        archive.load(tmp_path / "nett.har")
    with pytest.raises(InputFileError):
        archive.load(tmp_path)
    with pytest.raises(InputFileError):
        read_bytes("/dev/zero", "HAR")
    with pytest.raises(InputFileError):
        read_bytes("a\0b", "HAR")
    with pytest.raises(InputFileError, match="cannot be written"):
        write_atomic(tmp_path / "no" / "x", b"")


def test_extract_writes_members_and_knows_names(tmp_path: Path) -> None:
    parts = archive.read_members(packed(), "x.har")
    paths = archive.extract(parts, "x.har", tmp_path / "out")
    assert sorted(os.path.basename(p) for p in paths) == [
        "metadata.json",
        "net.alls",
        "net.native.hn",
        "net.native.npz",
        "net.parse.json",
    ]
    with pytest.raises(UsageError, match="did you mean"):
        archive.extract(parts, "x.har", tmp_path / "out", ["net.alss"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a handle that nobody closed
def test_an_interrupt_anywhere_leaves_the_old_file_or_the_new_and_nothing_else(tmp_path: Path) -> None:
    """Ctrl-C before each instruction of the functions that write, one after the other."""
    target = tmp_path / "file"
    moment, interrupted = 0, 0
    while True:
        left = moment

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal left
            del argument
            if frame.f_code.co_filename != write_atomic.__code__.co_filename:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
            return trace

        target.write_bytes(b"old")
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            write_atomic(target, b"new")
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        assert os.listdir(tmp_path) == ["file"], moment
        assert target.read_bytes() in (b"old", b"new")
        if left > 0:
            break
        moment += 1
    assert interrupted > 200 and target.read_bytes() == b"new"
