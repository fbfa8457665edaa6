# SPDX-License-Identifier: Apache-2.0
"""Measures every real network of the zoo and writes docs/results.md (`make results`).

usage: results_page.py [--render-only] [--files-only | --answers-only] [NAME or FILE ...]

Rows are kept in bench/out (results.json, files.json, answers.json), so that a few networks, files of the zoo, or tasks
can be measured again by name; a name of both a network and a task measures both.
HEADRACE_TENSORFLOW may name a Python that has TensorFlow, the runtime of TensorFlow's files.
The tables of bench/quality.py and bench/speed.py are taken over where those have run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from common import OUT, read_json, write_results, zoo_or_exit  # noqa: E402

from accuracy_table import answers_table  # noqa: E402
from emulator_process import EmulatorProcess  # noqa: E402
from zoo_accuracy import TASKS, Judged, judge  # noqa: E402
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
- All tables: 2026-11-27, commit 79f5312, AMD EPYC with AVX-512-VBMI and AVX-VNNI (five kernel sets), beside tests. SNR
  is of raw values here; the optimizer judges about the mean, part by part
  ([decision 19](decisions/0019-noise-about-the-mean-by-part.md)). Files that have no row there (`candy`, YOLOX-Nano,
  YuNet, two of UltraFace) were not reached on that commit.
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


@dataclass
class Measured:
    """All rows there are: of networks, of files, of tasks."""

    networks: dict[str, Row] = field(default_factory=dict)
    files: dict[str, FileRow] = field(default_factory=dict)
    answers: dict[str, Judged] = field(default_factory=dict)


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


def page(measured: Measured) -> str:
    """The whole page as Markdown; a table of which nothing was measured here stays as it stands."""
    rows = measured.networks
    sections = [
        matrix_table(rows), accuracy_table(rows), answers_table(measured.answers), outputs_table(rows),
        files_table(measured.files), taken_over(),
    ]  # fmt: skip
    made = by_title("\n" + "\n".join(line for section in sections for line in section))
    stands = by_title(PAGE.read_text()) if PAGE.exists() else {}
    empty = {title for title, text in made.items() if sum(line.startswith("|") for line in text.splitlines()) <= 2}
    whole = stands | {title: text for title, text in made.items() if title not in empty or title not in stands}
    return INTRODUCTION + "\n" + "\n".join(whole.values())


def measure_networks(names: list[str], measured: Measured, zoo: Path) -> None:
    with EmulatorProcess() as emulator:
        for name in names:
            rows = measured.networks
            rows[name] = measure(ZOO[name], zoo, FULL, emulator)
            print(json.dumps(rows[name].as_dict()), flush=True)
            measured.networks = {n: rows[n] for n in ZOO if n in rows}
            write_results("results", {n: r.as_dict() for n, r in measured.networks.items()}, page(measured))


def measure_files(names: list[str], measured: Measured, zoo: Path) -> None:
    for name in names:
        measured.files[name] = measure_file(zoo, name)
        measured.files = {name: measured.files[name] for name in sorted(measured.files)}
        print(json.dumps(asdict(measured.files[name])), flush=True)
        write_results("files", {n: asdict(row) for n, row in measured.files.items()}, page(measured))


def measure_answers(names: list[str], measured: Measured, zoo: Path) -> None:
    for name in names:
        rows = measured.answers
        rows[name] = judge(name, zoo)
        print(json.dumps(asdict(rows[name])), flush=True)
        measured.answers = {n: rows[n] for n in TASKS if n in rows}
        write_results("answers", {n: asdict(row) for n, row in measured.answers.items()}, page(measured))


def stored() -> Measured:
    """What was measured before."""
    networks, answers = read_json(OUT / "results.json"), read_json(OUT / "answers.json")
    return Measured(
        {name: Row(**networks[name]) for name in ZOO if name in networks},
        {name: FileRow(**row) for name, row in read_json(OUT / "files.json").items()},
        {name: Judged(**answers[name]) for name in TASKS if name in answers},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render-only", action="store_true", help="write the page from what was measured before")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--files-only", action="store_true", help="measure the files of the zoo, nothing else")
    only.add_argument("--answers-only", action="store_true", help="measure the tasks, nothing else")
    names_help = f"networks: {', '.join(ZOO)}; tasks: {', '.join(TASKS)}; or paths of files in the zoo"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names_help)
    options = parser.parse_args()
    measured = stored()
    if not options.render_only:
        zoo = zoo_or_exit()
        known = zoo_files(zoo)
        if unknown := [n for n in options.names if n not in ZOO and n not in TASKS and n not in known]:
            there = ", ".join(dict.fromkeys([*ZOO, *TASKS, *known]))
            sys.exit(f"none is named {', '.join(unknown)}; there are {there}")
        measured.files = {name: row for name, row in measured.files.items() if name in known}

        def chosen(names: Iterable[str], left_out: bool) -> list[str]:
            return [n for n in names if not left_out and (n in options.names or not options.names)]

        measure_networks(chosen(ZOO, options.files_only or options.answers_only), measured, zoo)
        measure_answers(chosen(TASKS, options.files_only), measured, zoo)
        measure_files(chosen(known, options.answers_only), measured, zoo)
    PAGE.write_text(page(measured))
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
