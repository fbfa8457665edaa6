# SPDX-License-Identifier: Apache-2.0
"""Following coverage with atheris: the same targets and changes, chosen by which lines they reach."""

from __future__ import annotations

import random
import sys
import zipfile
from pathlib import Path

from fuzz import __main__ as long_run
from fuzz.targets import TARGETS, Finding, check


def guided(name: str, seconds: float, seed: int, out: Path) -> int:
    """Run libFuzzer over a target; ends with the first finding. Returns an exit code."""
    import atheris

    with atheris.instrument_imports(include=["headrace"]):
        import headrace.data.calibration
        import headrace.frontends.formats
        import headrace.frontends.parsing
        import headrace.hn.archive
        import headrace.script.plan  # noqa: F401
    target = TARGETS[name]
    corpus = out / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for index, case in enumerate(target.seeds()):
        (corpus / f"seed{index}").write_bytes(long_run.pack(case))

    def case_in(data: bytes):
        try:
            return long_run.unpack(data)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError):
            return None

    def change(data: bytes, largest: int, number: int) -> bytes:
        rng = random.Random(number)
        case = case_in(data) or rng.choice(target.seeds())
        made = long_run.pack(target.change(rng, case) or case)
        return made if len(made) <= largest else data

    def run(data: bytes) -> None:
        case = case_in(data)
        if not case or set(case) - {n for known in target.seeds() for n in known}:
            return
        try:
            check(name, case)
        except Finding as finding:
            long_run.keep(out, name, finding.kind, str(finding), case)
            raise

    options = [f"-max_total_time={int(seconds)}", f"-seed={seed + 1}", "-max_len=1000000", "-rss_limit_mb=6000"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run, custom_mutator=change)
    atheris.Fuzz()
    return 0
