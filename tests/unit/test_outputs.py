# SPDX-License-Identifier: Apache-2.0
"""What may stand where a result goes: inputs, links, devices, files of others, runs that were killed."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headrace.errors import HeadraceError, InputFileError, UsageError
from headrace.hn import files, outputs
from headrace.hn.files import write_files
from headrace.hn.outputs import FileKind, Outputs

KIND = FileKind("thing", (".thing",), lambda handle: handle.read(5) == b"THING")


def problem(path: Path, inputs: list[Path] | None = None, kind: FileKind = KIND) -> str:
    """The code of the first problem of one output; "" when there is none."""
    checked = Outputs(inputs or [])
    checked.add("--out", path, kind)
    try:
        checked.check()
    except HeadraceError as error:
        return error.code
    return ""


def test_an_input_is_never_an_output(tmp_path: Path) -> None:
    source = tmp_path / "a.thing"
    source.write_bytes(b"THING")
    (tmp_path / "soft.thing").symlink_to("a.thing")
    os.link(source, tmp_path / "hard.thing")
    (tmp_path / "folder").symlink_to(".")
    for name in ("a.thing", "./a.thing", "soft.thing", "hard.thing", "folder/a.thing", "folder/folder/a.thing"):
        assert problem(tmp_path / name, [source]) == "E-OUTPUT-INPUT", name
    forced = Outputs([source], force=True)
    forced.add("--out", source, KIND)
    with pytest.raises(UsageError, match=r"--out .*a_new\.thing"):
        forced.check()
    assert problem(source) == ""


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "to.thing").symlink_to("new.thing")  # nothing there yet
    for other in ("new.thing", "here/new.thing", "NEW.thing", "to.thing"):
        both = Outputs()
        both.add("--one", tmp_path / "new.thing", KIND)
        both.add("--two", tmp_path / other, KIND)
        with pytest.raises(UsageError) as error:
            both.check()
        assert error.value.code == "E-OUTPUT-TWICE", other


@pytest.mark.parametrize("name", ["x.onnx", "x.npy", "x", "x.thing.gz", ".thingy"])
def test_a_name_says_what_is_in_it(name: str, tmp_path: Path) -> None:
    assert problem(tmp_path / name) == "E-OUTPUT-SUFFIX"
    assert problem(tmp_path / "X.THING") == ""


def test_a_file_of_another_kind_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "mine.thing"
    path.write_bytes(b"my own notes")
    assert problem(path) == "E-OUTPUT-EXISTS"
    forced = Outputs(force=True)
    forced.add("--out", path, KIND)
    forced.write({path: b"THING 2"})
    assert path.read_bytes() == b"THING 2"
    assert problem(path) == "", "an older result"
    path.write_bytes(b"")
    assert problem(path) == "", "nothing is lost"


def test_what_came_between_check_and_write_stays(tmp_path: Path) -> None:
    path = tmp_path / "late.thing"
    checked = Outputs()
    checked.add("--out", path, KIND)
    checked.check()
    path.write_bytes(b"somebody else's")
    with pytest.raises(UsageError):
        checked.write({path: b"THING"})
    assert path.read_bytes() == b"somebody else's"


def test_folders_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.thing").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop.thing").symlink_to("loop.thing")
    (tmp_path / "dangling.thing").symlink_to("nowhere/x.thing")
    read_only = tmp_path / "ro.thing"
    read_only.write_bytes(b"THING")
    read_only.chmod(0o444)
    for name, code in (
        ("folder.thing", "E-OUTPUT-FOLDER"),
        ("nowhere/x.thing", "E-FILE-WRITE"),
        ("file/x.thing", "E-FILE-WRITE"),
        ("loop.thing", "E-FILE-WRITE"),
        ("dangling.thing", "E-FILE-WRITE"),
        ("ro.thing", "E-OUTPUT-READ-ONLY"),
        ("n" * 300 + ".thing", "E-FILE-WRITE"),
        ("nul\0.thing", "E-FILE-WRITE"),
    ):
        assert problem(tmp_path / name) == code, name
    assert problem(Path("/proc/x.thing")) == "E-FILE-WRITE" or os.access("/proc", os.W_OK)


def test_links_stay_and_their_targets_are_written_with_their_permissions(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "real.thing"
    target.write_bytes(b"THING old")
    target.chmod(0o640)
    (tmp_path / "link.thing").symlink_to("deep/real.thing")
    (tmp_path / "new.thing").symlink_to("deep/fresh.thing")
    checked = Outputs()
    for name in ("link.thing", "new.thing"):
        checked.add("--out", tmp_path / name, KIND)
    checked.write({tmp_path / "link.thing": b"THING new", tmp_path / "new.thing": b"THING fresh"})
    assert (tmp_path / "link.thing").is_symlink() and (tmp_path / "new.thing").is_symlink()
    assert target.read_bytes() == b"THING new" and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert (tmp_path / "deep" / "fresh.thing").read_bytes() == b"THING fresh"
    assert sorted(os.listdir(tmp_path)) == ["deep", "link.thing", "new.thing"]


def test_devices_and_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem(Path("/dev/null")) == ""
    write_files([("/dev/null", b"x")])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(InputFileError, match="No space"):
        write_files([(tmp_path / "a.thing", b"THING"), ("/dev/full", b"x")])
    assert os.listdir(tmp_path) == [], "all appear or none"
    assert problem(Path("/dev/random")) == "E-OUTPUT-DEVICE"
    assert problem(Path("/dev/tty")) in ("E-OUTPUT-DEVICE", "E-FILE-WRITE")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert problem(pipe) == ""
    monkeypatch.setattr(files, "PIPE_PATIENCE_S", 0.2)
    with pytest.raises(InputFileError, match="nobody reads"):
        write_files([(pipe, b"x")])
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    monkeypatch.setattr(files, "PIPE_PATIENCE_S", 10.0)
    write_files([(pipe, b"x" * 300_000)])
    reader.join(10)
    assert got == [b"x" * 300_000] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_the_commands_own_streams_are_refused(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, 'tests/unit')\n"
        "from pathlib import Path; from headrace.hn.outputs import *; from headrace.errors import HeadraceError\n"
        "o = Outputs(); o.add('--out', Path('/dev/stdout'), FileKind('thing', ('',), lambda h: True))\n"
        "try: o.check()\n"
        "except HeadraceError as e: print(e.code)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, timeout=60, check=True)
    assert (tmp_path / "out").read_text() == "E-OUTPUT-STREAM\n"
    piped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert piped.stdout == "E-OUTPUT-STREAM\n"


KILLED = """
import os, signal, sys
from headrace.hn import files
files.os.fsync = lambda d: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomic(sys.argv[1], b"THING")
"""


def test_files_of_killed_runs_go_and_those_of_living_runs_and_users_stay(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "x.thing")], timeout=60, check=False)
    left = os.listdir(tmp_path)
    assert len(left) == 1 and left[0].endswith(".part")
    living = tmp_path / ".headrace-00000000000000aa.part"
    living.write_bytes(b"half")
    (tmp_path / ".mine.part").write_bytes(b"mine")
    (tmp_path / ".headrace-notes.part").write_bytes(b"mine")
    (tmp_path / "secret").write_bytes(b"mine")
    (tmp_path / ".headrace-00000000000000bb.part").symlink_to("secret")
    (tmp_path / ".headrace-00000000000000cc.part").mkdir()
    os.mkfifo(tmp_path / ".headrace-00000000000000dd.part")
    kept = {p for p in os.listdir(tmp_path) if p not in left}
    with living.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        write_files([(tmp_path / "x.thing", b"THING")])
        assert set(os.listdir(tmp_path)) == kept | {"x.thing"}
    write_files([(tmp_path / "x.thing", b"THING")])
    assert set(os.listdir(tmp_path)) == kept - {living.name} | {"x.thing"}


def test_a_run_whose_file_was_taken_for_abandoned_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run locks and removes the file between its creation and its lock."""
    flock, calls = fcntl.flock, 0

    def slow(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            monkeypatch.setattr(files.fcntl, "flock", flock)
            files._remove_abandoned(str(tmp_path))
            assert os.listdir(tmp_path) == []
        flock(descriptor, operation)

    monkeypatch.setattr(files.fcntl, "flock", slow)
    write_files([(tmp_path / "x", b"data")])
    assert (tmp_path / "x").read_bytes() == b"data" and os.listdir(tmp_path) == ["x"]


def test_reports_and_resolved_scripts_are_known_again(tmp_path: Path) -> None:
    for kind, name, ours, foreign in (
        (outputs.JSON_REPORT, "r.json", b'{"network": "n", "layers": {}}', b'{"name": "package", "version": 1}'),
        (outputs.PROFILE_REPORT, "r.txt", b"net: hailo_model, target hailo8\n", b"shopping list\n"),
        (
            outputs.PROFILE_REPORT,
            "r.html",
            b"<!doctype html>\n" + outputs.page_mark("report").encode(),
            b"<!doctype html>\n" + outputs.page_mark("compare").encode(),
        ),
        (outputs.PROFILE_REPORT, "r.csv", outputs.TABLE_MARK + b"\n", b"layer,kind\n"),
        (outputs.RESOLVED_SCRIPT, "r.alls", outputs.resolved_script_bytes("a()\n"), b"a()\n"),
        (outputs.JSON_REPORT, "deep.json", b'{"network": 1, "layers": 2}', b"[" * 100_000),
    ):
        (tmp_path / name).write_bytes(ours)
        assert problem(tmp_path / name, kind=kind) == ""
        (tmp_path / name).write_bytes(foreign)
        assert problem(tmp_path / name, kind=kind) == "E-OUTPUT-EXISTS"
