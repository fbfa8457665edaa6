# SPDX-License-Identifier: Apache-2.0
"""Output SNR, and accuracy where there is one, of Headrace and its peers: same calibration frames, same test frames.

usage: quality.py [--frames N] [--calibration N] [--refresh] [NAME ...]

Peers: onnxruntime static int8 (QDQ, per channel) and NNCF (its defaults) run by OpenVINO. Their figures are kept in
bench/out/quality_peers.json, so that a second run measures Headrace alone. Results: bench/out/quality.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import peers  # noqa: E402
from common import OUT, read_json, write_results, zoo_or_exit  # noqa: E402

from detection.coco import average_precision, boxes_of  # noqa: E402
from headrace.errors import HeadraceError  # noqa: E402
from headrace.runner import InferenceContext  # noqa: E402
from zoo_matrix import outputs_of, snr_db, top1  # noqa: E402
from zoo_models import ZOO, Array, ZooModel, calibrated_frames, source_output, translate  # noqa: E402


def figures(model: ZooModel, zoo: Path, want: list[Array], got: list[Array], labels: Array, frames: int) -> Any:
    """SNR of each output on the first frames, and the model's own figure on all."""
    got = [g.reshape(w.shape) for w, g in zip(want, got, strict=True)]
    result: dict[str, Any] = {"snr": [round(snr_db(w[:frames], g[:frames]), 2) for w, g in zip(want, got, strict=True)]}
    if model.accuracy in ("yolox", "picodet"):
        result["AP"] = round(average_precision(boxes_of(model.accuracy, got, zoo), zoo)["AP"], 2)
        result["float AP"] = round(average_precision(boxes_of(model.accuracy, want, zoo), zoo)["AP"], 2)
    elif model.accuracy:
        result |= {
            {"device top-1": "top-1"}.get(k, k): v for k, v in top1(want[0], got[0], labels + model.first_class).items()
        }
    return result


def headrace_outputs(model: ZooModel, zoo: Path, calibration: Array, test: Array) -> tuple[list[Array], float]:
    runner = translate(model, zoo)
    if model.script:
        runner.load_model_script(model.script)
    start = time.perf_counter()
    runner.optimize(calibration, min_snr=0)
    seconds = time.perf_counter() - start
    return outputs_of(runner, model, InferenceContext.SDK_QUANTIZED, test), seconds


def one(model: ZooModel, zoo: Path, options: argparse.Namespace, kept: dict[str, Any]) -> dict[str, Any]:
    calibration = calibrated_frames(model, zoo, options.calibration)
    test, labels = model.test(zoo)
    if not model.accuracy:
        test = test[: options.frames]
    want = source_output(model, zoo, test)
    row: dict[str, Any] = {"calibration": len(calibration), "frames": min(options.frames, len(test))}

    def judged(got: list[Array]) -> Any:
        return figures(model, zoo, want, got, labels, options.frames)

    try:
        got, seconds = headrace_outputs(model, zoo, calibration, test)
        row["headrace"] = {**judged(got), "seconds": round(seconds, 2)}
    except HeadraceError as error:
        row["headrace"] = {"error": f"{type(error).__name__}: {error.diagnostics[0].rule}"}
    for name, make in (("onnxruntime", peers.onnxruntime_int8), ("nncf", peers.nncf_openvino_int8)):
        package = {"onnxruntime": "onnxruntime", "nncf": "nncf"}[name]
        key = f"{model.name}|{name} {version(package)}|{len(calibration)}|{options.frames}"
        if key not in kept or options.refresh:
            start = time.perf_counter()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    run = make(model, zoo, calibration, Path(folder))
                    seconds = time.perf_counter() - start
                    got = peers.in_steps(run, model.source_input(test), 16)
                kept[key] = {**judged(got), "seconds": round(seconds, 2)}
            except Exception as error:  # noqa: BLE001  (a peer may fail in any way; the table says so)
                kept[key] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        row[name] = kept[key]
    return row


def cell(entry: dict[str, Any]) -> str:
    """SNR of the worst output, of all where there are few, and the model's own figure."""
    if "error" in entry:
        return "not taken"
    snr = entry["snr"]
    shown = " / ".join(f"{v:.1f}" for v in snr) if len(snr) <= 2 else f"{min(snr):.1f} … {max(snr):.1f}"
    if "AP" in entry:
        shown += f" (AP {entry['AP']:.1f})"
    elif "top-1" in entry:
        shown += f" (top-1 {entry['top-1']:.1f}, same {entry['agreement']:.1f} %)"
    return shown


def render(results: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [
        "| network | Headrace, dB | onnxruntime static int8, dB | NNCF (OpenVINO), dB | float |",
        "|---|---|---|---|---|",
    ]
    for name, row in results.items():
        entries = [row[k] for k in ("headrace", "onnxruntime", "nncf")]
        first = next((e for e in entries if "error" not in e), {})
        real = f"AP {first['float AP']:.1f}" if "AP" in first else ""
        real = f"top-1 {first['float top-1']:.1f}" if "float top-1" in first else real
        lines.append(f"| {name} | {' | '.join(cell(e) for e in entries)} | {real} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--calibration", type=int, default=None)
    parser.add_argument("--refresh", action="store_true", help="measure the peers again")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ZOO))
    options = parser.parse_args()
    zoo = zoo_or_exit()
    if unknown := [n for n in options.names if n not in ZOO]:
        sys.exit(f"no network named {', '.join(unknown)}; there are {', '.join(ZOO)}")
    stored = OUT / "quality_peers.json"
    kept, results = read_json(stored), read_json(OUT / "quality.json")
    for name in options.names or [n for n, m in ZOO.items() if m.format != "pb" and not m.stated]:
        results[name] = one(ZOO[name], zoo, options, kept)
        print(name, json.dumps(results[name]), flush=True)
        results = {n: results[n] for n in ZOO if n in results}
        write_results("quality", results, render(results))
        stored.write_text(json.dumps(kept, indent=1) + "\n")
    print(render(results))


if __name__ == "__main__":
    main()
