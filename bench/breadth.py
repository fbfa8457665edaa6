# SPDX-License-Identifier: Apache-2.0
"""Exported architectures, parsed and compared with onnxruntime, and the page docs/results-breadth.md.

usage: python bench/breadth.py check FOLDER      what bench/breadth_models.py exported → FOLDER/results.jsonl
       python bench/breadth.py page FOLDER       FOLDER/results.jsonl and FOLDER/export.jsonl → the last section of
                                                 docs/results-breadth.md

``check`` goes on where it was; ``--delete`` removes each file once it was looked at, ``--again`` looks at all again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results-breadth.md"
HEADING = "## Exported architectures with random weights"
LIMIT_SECONDS = 300


def look_at(path: Path) -> dict[str, Any]:
    """One file: how parsing ends, which share of it the device has, and how far the whole model is from onnxruntime."""
    import torch

    from headrace.errors import HeadraceError
    from headrace.reports import of
    from headrace.runner import ClientRunner

    torch.set_num_threads(1)
    row: dict[str, Any] = {}
    start = time.process_time()
    try:
        runner = ClientRunner()
        runner.translate_onnx_model(path, "net")
        row["parse_seconds"] = round(time.process_time() - start, 2)
        report = of(runner.archive).parse
        assert report is not None
        row |= {"nodes": report.source_nodes, "layers": len(report.layers), "parameters": report.parameters}
        places = Counter(entry.place for entry in report.placement)
        row |= {"device": places.get("device", 0), "host": places.get("host", 0)}
        row["host_operators"] = sorted({entry.operator for entry in report.placement if entry.place == "host"})
        row |= _beside_onnxruntime(runner, path)
    except HeadraceError as error:
        row["refused"] = [f"{d.got}: {d.rule}"[:300] for d in error.diagnostics[:3]]
        row["code"] = error.code
    row["seconds"] = round(time.process_time() - start, 2)
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def _beside_onnxruntime(runner: Any, path: Path) -> dict[str, Any]:
    """The whole model in the native emulator and in onnxruntime, from the file's inputs to its outputs."""
    import numpy as np
    import onnxruntime

    from headrace.comparison import TOLERANCE, compared
    from headrace.inference import Inference, InferenceContext

    whole, random = runner.archive.whole, np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for tensor in whole.inputs:
        shape = [max(size, 1) for size in tensor.shape]
        kind = np.dtype(tensor.dtype).kind
        made = random.integers(0, 8, shape) if kind in "iu" else random.uniform(-1, 1, shape)
        feeds[tensor.name] = made.astype(tensor.dtype)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    theirs = session.run(names, feeds)
    ours = Inference(runner.archive).whole(InferenceContext.SDK_NATIVE, feeds)
    pairs = ((n, t, ours[n]) for n, t in zip(names, theirs, strict=True) if n in ours)
    found = [compared(n, "", "", t, o[0] if isinstance(o, list) else o) for n, t, o in pairs]
    worst = max(found, key=lambda entry: entry.difference)
    row: dict[str, Any] = {"agrees": worst.difference <= TOLERANCE and len(found) == len(names)}
    row |= {"difference": worst.difference, "outputs": len(names)}
    if not row["agrees"]:
        row["only_order"] = all(
            _same_in_some_order(t, ours[n]) for n, t in zip(names, theirs, strict=True) if n in ours
        )
        lacks = [n for n in names if n not in ours]
        row["first"] = f"outputs without value: {lacks}" if lacks else f"output {worst.tensor}"
    return row


def _same_in_some_order(theirs: Any, ours: Any) -> bool:
    """Whether an output differs only in the order of its numbers: random weights give scores that are nearly equal."""
    import numpy as np

    first, second = np.sort(theirs, axis=None), np.sort(np.asarray(ours), axis=None)
    return first.size == second.size and bool(np.allclose(first, second, rtol=1e-4, atol=1e-4))


def check(folder: Path, delete: bool, again: bool) -> None:
    """Look at every file."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"not done after {LIMIT_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    results = folder / "results.jsonl"
    if again:
        results.unlink(missing_ok=True)
    done = {json.loads(line)["file"] for line in results.read_text().splitlines()} if results.exists() else set()
    for path in sorted(folder.glob("*.onnx")):
        if path.name in done:
            continue
        row = {"file": path.name, **json.loads(path.with_suffix(".json").read_text())}
        signal.alarm(LIMIT_SECONDS)
        try:
            row |= look_at(path)
        except Exception as error:  # noqa: BLE001 - a crash is a row
            row["crash"] = f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            signal.alarm(0)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        if delete and "crash" not in row:
            os.truncate(path, 0)


def _outcome(row: dict[str, Any]) -> str:
    if "crash" in row:
        return "crash"
    if "refused" in row:
        return "refused"
    if not row["agrees"]:
        return "the same boxes in another order" if row.get("only_order") else "differs"
    return "device and host" if row.get("host") else "device"


def _percent(row: dict[str, Any]) -> str:
    return f"{100 * row['host'] / max(row['host'] + row['device'], 1):.0f} %"


def _older(measured: set[tuple[str, str]]) -> list[str]:
    """Rows of the page as it stands for networks that were not measured this time."""
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].splitlines()
    kept = [line for line in before if line.startswith("| ") and ("| TorchScript" in line or "| dynamo" in line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]
    older = [row for row in cells if len(row) in (8, 9) and (row[0], row[1]) not in measured]
    if not older:
        return []
    lines = ["", "Measured before and not again, the output of the device's part only:"]
    lines += [
        "",
        "| library | network | exporter | nodes | layers | host nodes | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    return [*lines, *("| " + " | ".join([*row[:5], *row[-3:-1]]) + " |" for row in older)]


def page(folder: Path) -> str:
    """The section."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    latest = {row["file"]: row for row in rows}
    rows = sorted(latest.values(), key=lambda row: (row["library"], row["name"]))
    counts = Counter(_outcome(row) for row in rows)
    lines = [
        HEADING,
        "",
        "Networks that public libraries define, exported with both of PyTorch's exporters (TorchScript to operator",
        "set 17, dynamo to its newest) with random weights and small inputs, parsed and run in the native emulator",
        "beside onnxruntime on random numbers (`bench/breadth_models.py`, `bench/breadth.py`; not in CI). *Difference*",
        "is that of the whole model, host steps included: the largest of any output of the file, in parts of that",
        "output's range; up to 1e-4 agrees. *Device* and *host* count the nodes that each runs (what parsing computes",
        "belongs to neither); seconds are of CPU, with all that parsing tries to find the device's part.",
        "Detectors with random weights have scores that are nearly equal, and which boxes the host chooses then hangs",
        "on their last bits: where boxes differ, compare the device's part (`parse --compare`). Given onnxruntime's",
        "own tensors in the device's place, the host's steps of both SSDs give the file's outputs exactly;",
        "RetinaNet's steps in onnxruntime differ in the same way for its own tensors with 2e-6 of noise (rows that",
        "are nearly equal change places).",
        "",
        "Measured on 2026-11-27, commit 79f5312 (vit_tiny_r on the one after it), AMD EPYC with AVX-512-VBMI.",
        "",
        f"{len(rows)} networks: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + ".",
        "",
        "| library | network | exporter | nodes | layers | device | host | difference | parse (s) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "crash" in row or "refused" in row:
            continue
        told = "" if row["agrees"] else " (another order)" if row.get("only_order") else f" **differs**: {row['first']}"
        difference = f"{row['difference']:.1e}{told}"
        host = f"{row['host']} = {_percent(row)} ({', '.join(row['host_operators'][:4])})" if row.get("host") else ""
        cells = [
            row["library"], row["name"], f"{row['exporter']} {row['opset']}", row["nodes"], row["layers"],
            row["device"], host, difference, row["parse_seconds"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += _older({(row["library"], row["name"]) for row in rows})
    refused = [row for row in rows if "crash" in row or "refused" in row]
    if refused:
        lines += ["", "### Refused", "", "| library | network | exporter | why |", "|---|---|---|---|"]
        for row in refused:
            why = "; ".join(row.get("refused", [row.get("crash", "")])).replace("|", "/").replace("\n", " ")
            lines.append(f"| {row['library']} | {row['name']} | {row['exporter']} {row['opset']} | {why} |")
    exports = folder / "export.jsonl"
    failed = (
        [json.loads(line) for line in exports.read_text().splitlines() if line.startswith("{")]
        if exports.exists()
        else []
    )
    exported = {row["name"] for row in failed if "error" not in row}
    never = sorted({row["name"] for row in failed} - exported)
    if never:
        lines += ["", "Not exported by either exporter: " + ", ".join(never) + "."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("check", "page"))
    parser.add_argument("place", type=Path)
    parser.add_argument("--delete", action="store_true")
    parser.add_argument("--again", action="store_true")
    wanted = parser.parse_args()
    if wanted.what == "check":
        check(wanted.place, wanted.delete, wanted.again)
    else:
        before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
        PAGE.write_text(f"{before}\n\n{page(wanted.place)}", encoding="utf-8")


if __name__ == "__main__":
    main()
