# SPDX-License-Identifier: Apache-2.0
"""Runs the test groups one after another and prints a closing line for all of them.

usage: python tools/run_tests.py [--jobs N] GROUP...      GROUP: fast, e2e, slow
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS: dict[str, tuple[list[str], str]] = {
    "fast": (["tests/unit", "tests/property", "tests/golden", "tests/native"], "not slow"),
    "e2e": (["tests/e2e"], "not slow"),
    "slow": (["tests"], "slow"),
}
NO_TESTS_COLLECTED = 5


def run_group(group: str, jobs: int, report: Path) -> int:
    """Runs one group; its exit status, with "nothing collected" counted as success."""
    folders, marker = GROUPS[group]
    present = [folder for folder in folders if any((ROOT / folder).rglob("test_*.py"))]
    if not present:
        return 0
    command = [sys.executable, "-m", "pytest", "-q", "-m", marker, f"--junitxml={report}", *present]
    if jobs > 1 and group != "slow":
        command += ["-n", str(jobs), "--dist", "loadscope"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    # Tests that build something find cmake and ninja beside the interpreter where the machine has none.
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", "")))
    print(f"== {group} tests", flush=True)
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return 0 if status == NO_TESTS_COLLECTED else status


def count(report: Path) -> dict[str, int]:
    """Tests, failures and skips of one junit report, and how many were skipped for want of real models and data."""
    totals = {"passed": 0, "failed": 0, "skipped": 0, "without data": 0}
    if not report.exists():
        return totals
    for case in ET.parse(report).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None:
            totals["skipped"] += 1
            totals["without data"] += bool(re.search(r"set HEADRACE_(ZOO|REFERENCE)", skipped.get("message", "")))
        elif case.find("failure") is not None or case.find("error") is not None:
            totals["failed"] += 1
        else:
            totals["passed"] += 1
    return totals


def main() -> int:
    """Runs the groups named on the command line; 0 when all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("groups", nargs="+", choices=sorted(GROUPS))
    options = parser.parse_args()
    start = time.monotonic()
    totals: dict[str, int] = {}
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for group in options.groups:
            report = Path(folder) / f"{group}.xml"
            worst = max(worst, run_group(group, options.jobs, report))
            for name, number in count(report).items():
                totals[name] = totals.get(name, 0) + number
    verdict = "PASSED" if worst == 0 else "FAILED"
    line = f"{verdict}: {totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped"
    if totals["without data"]:
        line += f" ({totals['without data']} for want of real models or reference data: set HEADRACE_ZOO)"
    print(f"{line}, {time.monotonic() - start:.0f} s")
    return worst


if __name__ == "__main__":
    sys.exit(main())
