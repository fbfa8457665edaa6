# SPDX-License-Identifier: Apache-2.0
"""Measures every real network of the zoo and writes docs/results.md (`make results`).

usage: results_page.py [--render-only] [--files-only] [NAME or FILE ...]

Rows are kept in bench/out/results.json and bench/out/files.json, so that a few networks, or files of the zoo, can be
measured again by name. HEADRACE_TENSORFLOW may name a Python that has TensorFlow, the runtime of TensorFlow's files.
The tables of bench/quality.py and bench/speed.py are taken over where those have run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from common import OUT, read_json, write_results, zoo_or_exit  # noqa: E402

from emulator_process import EmulatorProcess  # noqa: E402
from zoo_files import FileRow, measure_file, zoo_files  # noqa: E402
from zoo_matrix import FULL, Row, measure  # noqa: E402
from zoo_models import ZOO  # noqa: E402

PAGE = ROOT / "docs" / "results.md"

INTRODUCTION = """# Results on real networks

Written by `make results` (`tools/results_page.py`); do not edit. The networks and data are described in
`tests/zoo_models.py` and `tests/zoo_data.py`; `tests/e2e/test_zoo_matrix.py` asserts what stands here.

- **native**: largest difference of the parsed float network from the file's own runtime (onnxruntime, LiteRT), as a
  part of the output's range.
- **bytes differing**: quantized emulator (in a process without our native library) against the virtual device, summed
  over every layer, frame and setting (each kernel set of the machine, 1, 2 and 5 threads, several batches).
- **SNR**: of the device's output against the float output of the file's own runtime, on test frames.
- A row stays as it was last measured until its network is run again; "not yet" may be older than the sources.
- Calibration frames are never test frames. Target `hailo8`, default options, raw uint8 frames in.
- The first two tables: 2026-11-27, commit 8a4e358, a processor with AVX-512-VBMI and AVX-VNNI (five kernel sets). SNR
  is of raw values here; the optimizer judges about the mean, part by part
  ([decision 19](decisions/0019-noise-about-the-mean-by-part.md)).
- The table of files: 2026-11-27, commits 3adc00d to 973eb5f, AMD EPYC with AVX-512-VBMI, beside a test run; `candy` was
  not taken to the device at 720 × 720 (minutes).
"""


FILES = """## Every file

One row per model file of the zoo, whatever its family (`tests/zoo_files.py`; found by looking):

- **parse**: seconds, and MiB of the whole process after it (bound: three times the file and 300).
- **native**: largest difference of the whole model (with what the host runs) from the file's own runtime on random
  inputs, as a part of an output's range. A file that is quantized has the steps of its own codes there.
- **bytes differing**: emulator against the virtual device, summed over every layer of three frames of random codes.
- **whole, SNR**: of the whole model on the device against the file's own runtime, on random inputs, the worst output:
  that it runs from the file's inputs to its outputs, not how accurate it is; for that see the tables of networks.
"""


def number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def matrix_table(rows: dict[str, Row]) -> list[str]:
    lines = [
        "## Every stage",
        "",
        "| network | file | layers | native | bytes differing | layers × frames × settings | SNR, dB | codes | "
        "contexts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        if row.native_error is None:
            lines.append(f"| {row.name} | {row.format} | not yet | | | | | | |")
            continue
        snr = list(row.snr.values())
        shown = " / ".join(f"{v:.1f}" for v in snr) if len(snr) <= 2 else f"{min(snr):.1f} … {max(snr):.1f}"
        size = "–" if row.different is None else f"{row.compared_layers} × {row.frames} × {row.settings}"
        lines.append(
            f"| {row.name} | {row.format} | {row.layers} | {row.native_error:.1e} | {number(row.different, 'd')} | "
            f"{size} | {shown or '–'} | {row.codes or '–'} | {row.contexts or '–'} |"
        )
    stopped = [f"- {row.name}: {row.stopped}" for row in rows.values() if row.stopped]
    return [*lines, "", *(["Not yet:", "", *stopped, ""] if stopped else [])]


def files_table(rows: dict[str, FileRow]) -> list[str]:
    if not rows:
        return []
    lines = [
        *FILES.splitlines(),
        "",
        "| file | format | MiB | parse, s | MiB then | layers | host steps | runtime | native | bytes differing | "
        "layers × frames | whole, SNR, dB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        size = "–" if row.different is None else f"{row.compared} × {row.frames}"
        lines.append(
            f"| {row.file} | {row.format or '–'} | {row.file_size:.1f} | {number(row.seconds, '.2f')} | "
            f"{number(row.peak, '.0f')} | {row.layers or '–'} | {row.host_steps if row.layers else '–'} | "
            f"{row.runtime or '–'} | {number(row.native, '.1e')} | {number(row.different, 'd')} | {size} | "
            f"{number(row.snr, '.1f')} |"
        )
    stopped = [f"- {row.file}: {row.stopped}" for row in rows.values() if row.stopped]
    return [*lines, "", *(["Ended in a report:", "", *stopped, ""] if stopped else [])]


def accuracy_table(rows: dict[str, Row]) -> list[str]:
    lines = ["## Accuracy", "", "| network | judged on | float | device | same class |", "|---|---|---|---|---|"]
    for row in rows.values():
        a = row.accuracy
        if "float AP" in a:
            lines.append(
                f"| {row.name} | data_coco64, COCO AP (AP50), {row.judged_on} | "
                f"{a['float AP']:.1f} ({a['float AP50']:.1f}) | {a['device AP']:.1f} ({a['device AP50']:.1f}) | |"
            )
        elif a:
            lines.append(
                f"| {row.name} | {a['images']:.0f} pictures, top-1, {row.judged_on} | {a['float top-1']:.2f} | "
                f"{a['device top-1']:.2f} | {a['agreement']:.1f} % |"
            )
    return [*lines, ""]


def outputs_table(rows: dict[str, Row]) -> list[str]:
    several = [row for row in rows.values() if len(row.snr) > 2]
    if not several:
        return []
    lines = ["## SNR of each output", ""]
    lines += [f"- {row.name}: " + ", ".join(f"{k} {v:.1f}" for k, v in row.snr.items()) for row in several]
    return [*lines, ""]


def taken_over() -> list[str]:
    """The tables of the other measurements, where they have been made."""
    lines: list[str] = []
    for name, title, words in (
        (
            "quality",
            "Beside other toolchains: output SNR",
            "By `bench/quality.py`: the same calibration and test frames for all; SNR of each output in dB.",
        ),
        (
            "speed",
            "Beside other toolchains: speed",
            "By `bench/speed.py`: how many times faster the device engine is (milliseconds beside each ratio), "
            "two threads; calls back to back in bursts that take turns on one machine, medians; best: the ratio of the "
            "fastest calls (on a busy machine the one to read); in turn: one call of each after the other, while "
            "threads of the one before may still spin. ×8: the peer's file fixes the batch.",
        ),
    ):
        path = OUT / f"{name}.md"
        if path.exists():
            lines += [f"## {title}", "", words, "", path.read_text().rstrip(), ""]
    return lines


def by_title(text: str) -> dict[str, str]:
    """The sections of a page."""
    return {part.splitlines()[0]: f"## {part.rstrip()}\n" for part in text.split("\n## ")[1:]}


def page(rows: dict[str, Row], files: dict[str, FileRow]) -> str:
    """The whole page as Markdown; a table of which nothing was measured here stays as it stands."""
    sections = [matrix_table(rows), accuracy_table(rows), outputs_table(rows), files_table(files), taken_over()]
    made = by_title("\n" + "\n".join(line for section in sections for line in section))
    stands = by_title(PAGE.read_text()) if PAGE.exists() else {}
    empty = {title for title, text in made.items() if sum(line.startswith("|") for line in text.splitlines()) <= 2}
    whole = stands | {title: text for title, text in made.items() if title not in empty or title not in stands}
    return INTRODUCTION + "\n" + "\n".join(whole.values())


def measure_networks(names: list[str], rows: dict[str, Row], files: dict[str, FileRow], zoo: Path) -> dict[str, Row]:
    with EmulatorProcess() as emulator:
        for name in names:
            rows[name] = measure(ZOO[name], zoo, FULL, emulator)
            print(json.dumps(rows[name].as_dict()), flush=True)
            rows = {n: rows[n] for n in ZOO if n in rows}
            write_results("results", {n: r.as_dict() for n, r in rows.items()}, page(rows, files))
    return rows


def measure_files(names: list[str], rows: dict[str, Row], files: dict[str, FileRow], zoo: Path) -> dict[str, FileRow]:
    for name in names:
        files[name] = measure_file(zoo, name)
        print(json.dumps(asdict(files[name])), flush=True)
        write_results("files", {n: asdict(files[n]) for n in sorted(files)}, page(rows, files))
    return {name: files[name] for name in sorted(files)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render-only", action="store_true", help="write the page from what was measured before")
    parser.add_argument("--files-only", action="store_true", help="measure the files of the zoo, not the networks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ZOO)}, or paths of files in the zoo")
    options = parser.parse_args()
    stored: dict[str, Any] = read_json(OUT / "results.json")
    rows = {name: Row(**stored[name]) for name in ZOO if name in stored}
    files = {name: FileRow(**row) for name, row in read_json(OUT / "files.json").items()}
    if not options.render_only:
        zoo = zoo_or_exit()
        known = zoo_files(zoo)
        if unknown := [n for n in options.names if n not in ZOO and n not in known]:
            sys.exit(f"no network or file named {', '.join(unknown)}; there are {', '.join([*ZOO, *known])}")
        files = {name: row for name, row in files.items() if name in known}
        networks = [n for n in ZOO if not options.files_only and (n in options.names or not options.names)]
        rows = measure_networks(networks, rows, files, zoo)
        files = measure_files([n for n in known if n in options.names or not options.names], rows, files, zoo)
    PAGE.write_text(page(rows, files))
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
