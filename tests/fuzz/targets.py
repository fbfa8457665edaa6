# SPDX-License-Identifier: Apache-2.0
"""The table of fuzz targets, and what counts as a finding."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import mutators, seeds
from fuzz.mutators import Case

#: Seconds of computing that a file of some kilobytes may take; a busy machine does not count.
SECONDS = 10.0
#: Bytes by which one file may make the process grow: what constants of one file may take in all, and as much again.
BYTES = 2 << 30
#: Characters of one message: a refusal of many nodes lists them.
MESSAGE = 400_000


class Finding(Exception):
    """Something other than a result or an error with a code; ``kind`` is the same for the same fault."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}\n{text}")
        self.kind = kind


class TooLong(BaseException):
    """The time is over; no ``except Exception`` holds it up."""


@dataclass(frozen=True)
class Target:
    """A reader with files for it.

    Attributes:
        seeds: well-formed files.
        change: one change at random.
        run: reads a case as the product does, as far as untrusted bytes go; raises nothing but coded errors.
    """

    seeds: Callable[[], list[Case]]
    change: Callable[[random.Random, Case], Case]
    run: Callable[[Case], object]


def _parse(model: Any, framework: Any = None) -> object:
    from headrace.frontends import ParseOptions, parse
    from headrace.hn import check_network

    result = parse(model, ParseOptions(framework=framework))
    check_network(result.network)
    return result


def _as_bytes(framework: str) -> Callable[[Case], object]:
    return lambda case: _parse(case[""], framework)


@contextmanager
def _folder(case: Case) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headrace-fuzz-"))
    try:
        seeds.write(case, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def _external(case: Case) -> object:
    with _folder(case) as folder:
        return _parse(folder / "model.onnx", "onnx")


def _in_folder(case: Case) -> object:
    with _folder(case) as folder:
        return _parse(folder, "tensorflow")


def _archive(case: Case) -> object:
    from headrace.hn import archive
    from headrace.hn.parameters import check_archive

    opened = archive.loads(archive.pack(case), "x.har")
    check_archive(opened)
    return archive.info(archive.members(opened), opened)


def _archive_bytes(case: Case) -> object:
    from headrace.hn import archive

    return archive.loads(case[""], "x.har")


def _packed() -> list[Case]:
    from headrace.hn import archive

    return [{"": archive.pack(case)} for case in seeds.archives()]


def _script(case: Case) -> object:
    from headrace.script import parse_script
    from headrace.script.plan import plan

    return plan(parse_script(case[""].decode("utf-8", "surrogateescape")), seeds.parsed().network)


def _network(case: Case) -> object:
    from headrace.hn import check_network, json_format

    check_network(network := json_format.loads(case[""], "x.hn"))
    return network


def _boxes(case: Case) -> object:
    """Python's reader and the native library's: what the first takes the second takes, and none crashes."""
    from headrace.errors import HeadraceError
    from headrace.hn import nms
    from headrace.runtime import _native

    try:
        found: object = nms.loads(case[""], "x.nms.json")
    except HeadraceError as error:
        found = error
    try:
        _native.Postprocess(case[""])
    except _native.NativeError as error:
        if not all(p.rule for p in error.problems):
            raise
        if not isinstance(found, HeadraceError):
            raise AssertionError(f"the native library refuses what Python takes: {error}") from error
    if isinstance(found, HeadraceError):
        raise found
    return found


def _public_boxes(case: Case) -> object:
    from headrace.hn import archive
    from headrace.runner import ClientRunner

    with _folder({"x.json": case[""]}) as folder:
        runner = ClientRunner()
        runner._archive = archive.Archive("detector", native=seeds.parsed().network, nms=seeds.parsed().nms)
        runner.load_model_script(f'nms_postprocess("{folder}/x.json", meta_arch=yolov8, engine=cpu)\n')
        return runner.archive.nms


def _data(case: Case) -> object:
    from headrace.data.calibration import load_calibration
    from headrace.hn import json_format

    network = json_format.loads(seeds.networks()[0][""], "x.hn")
    with _folder(case) as folder:
        return load_calibration(folder / next(iter(case)), network)


_protobuf = mutators.one_of({}, mutators.protobuf)
_words = mutators.one_of({}, mutators.words)
_BUNDLE = mutators.one_of(
    {".index": mutators.plain, ".meta": mutators.protobuf, ".pb": mutators.protobuf}, mutators.plain
)
_MEMBERS = mutators.one_of(
    {".json": mutators.json_value, ".hn": mutators.json_value, ".npz": mutators.archive, ".onnx": mutators.protobuf},
    mutators.plain,
)

TARGETS: dict[str, Target] = {
    "onnx": Target(seeds.onnx_models, _protobuf, _as_bytes("onnx")),
    "onnx-external": Target(
        seeds.onnx_external, mutators.one_of({".onnx": mutators.protobuf}, mutators.plain), _external
    ),
    "tflite": Target(seeds.tflite_models, _words, _as_bytes("tensorflow")),
    "frozen": Target(seeds.frozen_graphs, _protobuf, _as_bytes("tensorflow")),
    "checkpoint": Target(seeds.checkpoints, _BUNDLE, _in_folder),
    "saved-model": Target(seeds.saved_models, _BUNDLE, _in_folder),
    "keras": Target(seeds.keras_models, mutators.one_of({}, mutators.archive), _as_bytes("tensorflow")),
    "keras-h5": Target(seeds.keras_hdf5, _words, _as_bytes("tensorflow")),
    "har": Target(seeds.archives, _MEMBERS, _archive),
    "har-bytes": Target(_packed, mutators.one_of({}, mutators.plain), _archive_bytes),
    "script": Target(seeds.scripts, mutators.one_of({}, mutators.text), _script),
    "hn": Target(seeds.networks, mutators.one_of({}, mutators.json_value), _network),
    "nms": Target(seeds.boxes, mutators.one_of({}, mutators.json_value), _boxes),
    "nms-public": Target(seeds.public_boxes, mutators.one_of({}, mutators.json_value), _public_boxes),
    "data": Target(seeds.data_files, mutators.one_of({".npz": mutators.archive}, mutators.array), _data),
}


def case_of(name: str, seed: int, index: int) -> Case:
    """The case with these numbers: a seed with one to four changes."""
    target = TARGETS[name]
    rng = random.Random(f"{name}/{seed}/{index}")
    case = rng.choice(target.seeds())
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        case = target.change(rng, case) or case
    return case


def _place(error: BaseException) -> str:
    """The innermost line of ours, which names a fault."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/headrace/" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}:{frames[-1].lineno}" if frames else "?"


def _check_error(error: Any) -> None:
    told = str(error)
    if any(d.code in ("E-INTERNAL", "E-MEMORY") for d in error.diagnostics):
        cause = error.__cause__ or error.__context__
        place = _place(cause) if cause else _place(error)
        text = told + ("".join(traceback.format_exception(cause)) if cause else "")
        raise Finding(f"{error.diagnostics[0].code} {place} {told.partition('got:')[2][:60].strip()}", text)
    if not all(d.code and d.rule for d in error.diagnostics):
        raise Finding(f"no code or rule {_place(error)}", told)
    if len(told) > MESSAGE:
        raise Finding(f"long message {error.code} {_place(error)}", told[:2000])


def _over(*_: object) -> None:
    raise TooLong


def check(name: str, case: Case, seconds: float = SECONDS) -> str:
    """Read one case; returns the code of its error, or ``"read"``.

    Raises:
        Finding: it ended otherwise, took too long, or took too much memory.
    """
    from headrace.errors import HeadraceError

    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    kept = signal.signal(signal.SIGPROF, _over)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    outcome = "read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            TARGETS[name].run(case)
    except HeadraceError as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _check_error(error)
        outcome = error.code
    except TooLong as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        raise Finding(f"too long {_place(error)}", "".join(traceback.format_exception(error))) from None
    except Exception as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        text = "".join(traceback.format_exception(error))
        raise Finding(f"{type(error).__name__} {_place(error)}", text) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, kept)
    if time.process_time() - begun > seconds + 2:
        raise Finding("too long in one call", f"{time.process_time() - begun:.1f} s, {outcome}")
    scale = 1 if sys.platform == "darwin" else 1024
    if (grown := (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale) > BYTES:
        raise Finding(f"too much memory {outcome}", f"{grown >> 20} MiB")
    return outcome
