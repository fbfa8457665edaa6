# SPDX-License-Identifier: Apache-2.0
"""Runs a target for long: each batch of cases in a process of its own with bounded memory, findings into files.

``python -m fuzz TARGET [--seconds N] [--seed N] [--out FOLDER] [--guided]`` in ``tests/``; ``--replay FILE`` runs one
finding again. ``--guided`` follows coverage and needs atheris (``pip install atheris``).
"""

from __future__ import annotations

import argparse
import io
import mmap
import os
import re
import resource
import signal
import struct
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

from fuzz.mutators import Case
from fuzz.targets import SECONDS, TARGETS, Finding, case_of, check

BATCH = 400
ADDRESS_SPACE = 6 << 30
#: Seconds after which a process that answers no signal is ended.
STUCK = 120.0


def pack(case: Case) -> bytes:
    """A case as one file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, data in case.items():
            made.writestr(f"case/{name}", data)
    return out.getvalue()


def unpack(data: bytes) -> Case:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name.removeprefix("case/"): opened.read(name) for name in opened.namelist()}


def keep(out: Path, name: str, kind: str, text: str, case: Case) -> bool:
    """Write a finding; False: one of its kind is there."""
    place = out / name / (re.sub(r"[^A-Za-z0-9_.-]+", "_", kind)[:120] + ".zip")
    if place.exists():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(pack(case))
    place.with_suffix(".txt").write_text(f"{kind}\n\n{text}\n", errors="replace")
    print(f"finding: {kind}\n  {place}", flush=True)
    return True


def _batch(name: str, seed: int, first: int, out: Path, now: mmap.mmap, end: float) -> None:
    """Cases one after the other, in a child."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    outcomes: Counter[str] = Counter()
    for index in range(first, first + BATCH):
        now[:16] = struct.pack("<qd", index, time.monotonic())
        if time.monotonic() > end:
            break
        try:
            outcomes[check(name, case_of(name, seed, index))] += 1
        except Finding as finding:
            outcomes["FINDING"] += 1
            keep(out, name, finding.kind, f"seed {seed}, index {index}\n{finding}", case_of(name, seed, index))
    now[16:24] = struct.pack("<q", sum(outcomes.values()))
    with (out / f"{name}.log").open("a") as log:
        log.write(f"{first} {dict(outcomes)}\n")


def _run_batch(name: str, seed: int, first: int, out: Path, now: mmap.mmap, end: float) -> int:
    """Run a batch in a child; returns where the next one begins."""
    now[:24] = bytes(24)
    child = os.fork()
    if not child:
        try:
            _batch(name, seed, first, out, now, end)
        finally:
            os._exit(0)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        index, since = struct.unpack("<qd", now[:16])
        if done:
            if os.WIFSIGNALED(status) or not struct.unpack("<q", now[16:24])[0]:
                signal_name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "left"
                keep(
                    out,
                    name,
                    f"process {signal_name} {index}",
                    f"seed {seed}, index {index}",
                    case_of(name, seed, index),
                )
                return index + 1
            return first + BATCH
        if since and time.monotonic() - since > STUCK:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            keep(out, name, f"stuck {index}", f"seed {seed}, index {index}", case_of(name, seed, index))
            return index + 1
        time.sleep(0.05)


def campaign(name: str, seconds: float, seed: int, out: Path) -> int:
    """Run a target for some seconds; returns how many cases were run."""
    out.mkdir(parents=True, exist_ok=True)
    end, first = time.monotonic() + seconds, 0
    try:
        for case in TARGETS[name].seeds():  # imports, and seeds that are no findings themselves
            check(name, case, 60)
    except Finding as finding:
        keep(out, name, f"seed {finding.kind}", str(finding), case)
    with mmap.mmap(-1, 24) as now:
        while time.monotonic() < end:
            first = _run_batch(name, seed, first, out, now, end)
    return first


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=["all", *TARGETS], help="which reader")
    parser.add_argument("--seconds", type=float, default=60, help="how long, for each target")
    parser.add_argument("--seed", type=int, default=0, help="number of the run")
    parser.add_argument("--out", type=Path, default=Path("../build/fuzz"), help="where findings go")
    parser.add_argument("--replay", type=Path, help="run the case of a finding again")
    parser.add_argument("--guided", action="store_true", help="follow coverage, with atheris")
    given = parser.parse_args()
    if given.replay:
        print(check(given.target, unpack(given.replay.read_bytes()), SECONDS))
        return 0
    if given.guided:
        from fuzz.guided import guided

        return guided(given.target, given.seconds, given.seed, given.out)
    for name in TARGETS if given.target == "all" else [given.target]:
        count = campaign(name, given.seconds, given.seed, given.out)
        print(f"{name}: {count} cases", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
