# SPDX-License-Identifier: Apache-2.0
"""Measures the real networks, writes tests/golden/metrics.json anew and prints what moved (`make metrics`).

usage: metrics.py [--against COMMIT] [NAME ...]

Without names all of them; with --against nothing is measured: the file as it stands is compared with that commit's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from emulator_process import EmulatorProcess  # noqa: E402
from zoo_matrix import METRICS, measure  # noqa: E402
from zoo_metrics import GOLDEN, Metrics, moved_text, read, write  # noqa: E402
from zoo_models import ZOO  # noqa: E402


def committed(commit: str) -> dict[str, Metrics]:
    """The figures in the file as a commit has it."""
    place = f"{commit}:{GOLDEN.relative_to(ROOT)}"
    data = subprocess.run(["git", "show", place], cwd=ROOT, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GOLDEN.name
        path.write_bytes(data)
        return read(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="only compare the file with that commit's")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ZOO))
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in ZOO]:
        sys.exit(f"no network named {', '.join(unknown)}; there are {', '.join(ZOO)}")
    if options.against:
        print(moved_text(committed(options.against), read()))
        return
    zoo = Path(os.environ.get("HEADRACE_ZOO", ROOT.parent / "shared" / "zoo"))
    if not zoo.is_dir():
        sys.exit("no zoo of real models: set HEADRACE_ZOO")
    before = read()
    after = dict(before)
    with EmulatorProcess() as emulator:
        for name in options.names or ZOO:
            row = measure(ZOO[name], zoo, METRICS, emulator)
            if row.metrics is None:
                print(f"{name}: {row.stopped or 'not compiled'}", flush=True)
                after.pop(name, None)
                continue
            after[name] = row.metrics
            write(after)
            print(f"{name}: {sum(row.seconds.values()):.0f} s", flush=True)
    write(after)
    print(moved_text(before, after))


if __name__ == "__main__":
    main()
