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
    """One file: how parsing ends, and how far its network is from onnxruntime."""
    import torch

    from headrace.comparison import compare
    from headrace.errors import HeadraceError
    from headrace.frontends import trace

    torch.set_num_threads(1)
    row: dict[str, Any] = {}
    start = time.process_time()
    try:
        traced = trace(path)
        row["parse_seconds"] = round(time.process_time() - start, 2)
        report = traced.result.report
        row |= {"nodes": report.source_nodes, "layers": len(report.layers), "parameters": report.parameters}
        places = Counter(entry.place for entry in report.placement)
        row["host"] = places.get("host", 0)
        row["host_operators"] = sorted({entry.operator for entry in report.placement if entry.place == "host"})
        found = compare(path, traced=traced)
        worst = max(found.outputs, key=lambda entry: entry.difference)
        row |= {"agrees": found.agrees, "difference": worst.difference, "outputs": len(found.outputs)}
        if found.first is not None:
            row["first"] = f"{found.first.operator} {found.first.node}"
    except HeadraceError as error:
        row["refused"] = [f"{d.got}: {d.rule}"[:300] for d in error.diagnostics[:3]]
        row["code"] = error.code
    row["seconds"] = round(time.process_time() - start, 2)
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


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
        return "differs"
    return "device and host" if row.get("host") else "device"


def page(folder: Path) -> str:
    """The section."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    latest = {row["file"]: row for row in rows}
    rows = sorted(latest.values(), key=lambda row: (row["library"], row["name"]))
    counts = Counter(_outcome(row) for row in rows)
    lines = [
        HEADING,
        "",
        "Networks that public libraries define, exported with both of PyTorch's exporters (TorchScript to operator set",
        "17, dynamo to 20) with random weights and small inputs, then parsed and run in the native emulator beside",
        "onnxruntime on random numbers (`bench/breadth_models.py`, `bench/breadth.py`; not in CI). *Difference* is the",
        "largest of any output of the device's network, in parts of that output's range; up to 1e-4 agrees. *Host*",
        "counts nodes that the host runs; seconds are of CPU, with all that parsing tries to find the device's part.",
        "",
        f"{len(rows)} networks: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + ".",
        "",
        "| library | network | exporter | nodes | layers | host nodes | difference | parse (s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "crash" in row or "refused" in row:
            continue
        difference = f"{row['difference']:.1e}" + ("" if row["agrees"] else f" **differs**: {row.get('first', '')}")
        host = f"{row['host']} ({', '.join(row['host_operators'][:4])})" if row.get("host") else ""
        cells = [
            row["library"], row["name"], f"{row['exporter']} {row['opset']}", row["nodes"], row["layers"], host,
            difference, row["parse_seconds"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
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
