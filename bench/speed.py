# SPDX-License-Identifier: Apache-2.0
"""Speed of the device engine against int8 peers on this machine: batch 1 and 8, two threads, ratios of one run.

usage: speed.py [--seconds S] [--calibration N] [NAME ...]

Machines are noisy and shared: read the ratios, not the milliseconds. A ratio above 1: the device engine is faster.
Calls go back to back in bursts that take turns, each after a rest (common.bursts). "Best": the fastest call of the
fastest peer over the device's fastest call, for a busy machine. "In turn": one call of each after the other, so that
each starts while threads of the one before may still spin on its processors; medians again.
The device takes raw uint8 frames and normalizes them itself; the peers are given frames that are normalized already,
and that time is not counted. A peer that cannot take a batch of 8 runs eight times; "×8" says so.
Results: bench/out/speed.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import numpy as np  # noqa: E402
import peers  # noqa: E402
from common import OUT, THREADS, bursts, read_json, samples, write_results, zoo_or_exit  # noqa: E402

from headrace import runtime  # noqa: E402
from headrace.errors import HeadraceError  # noqa: E402
from zoo_models import ZOO, Array, ZooModel, build  # noqa: E402

NAMES = ("resnet56", "resnet8", "mobilenet_v1", "yolox_nano", "text_detector")
PEERS = ("onnxruntime", "openvino", "litert")


def device(model: ZooModel, zoo: Path, calibration: int) -> tuple[Callable[[Array], Any], str]:
    """The network on the virtual device, and the kernel set it runs on."""
    runner = build(model, zoo, calibration)
    engine = runtime.native.native_module().Device(None, threads=THREADS)
    loaded = engine.load(runner.compile())
    entry = runner.archive.quantized.input_layers[0].name
    return lambda frames: loaded.infer({entry: frames}), engine.kernels


def with_batch(make: Callable[[int], peers.Run], source: Array) -> tuple[Callable[[], Any], str]:
    """The peer on the whole batch, or frame by frame where its file fixes the batch."""
    batch = len(source)
    if batch > 1:
        try:
            run = make(batch)
            if len(run(source)[0]) == batch:
                return (lambda: run(source)), ""
        except Exception as error:  # noqa: BLE001  (any refusal of the batch)
            print(f"  batch {batch} refused: {str(error).splitlines()[0][:120]}", flush=True)
        single = make(1)
        return (lambda: [single(source[i : i + 1]) for i in range(batch)]), f"×{batch}"
    single = make(1)
    return (lambda: single(source)), ""


def onnx_maker(model: ZooModel, zoo: Path, frames: Array) -> Callable[[int], peers.Run]:
    """onnxruntime's int8 file, kept below bench/out/cache."""
    folder = OUT / "cache" / f"{model.name}-{len(frames)}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "int8.onnx"
    if not path.exists():
        peers.onnx_int8_file(model, zoo, frames, folder)

    def make(batch: int) -> peers.Run:
        session = peers.onnx_session(peers.with_onnx_batch(path, batch))
        entry = session.get_inputs()[0].name
        return lambda source: session.run(None, {entry: source})

    return make


def openvino_maker(model: ZooModel, zoo: Path, frames: Array) -> Callable[[int], peers.Run]:
    """NNCF's int8 model, kept below bench/out/cache."""
    import openvino

    path = OUT / "cache" / f"{model.name}-{len(frames)}" / "nncf.xml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(peers.nncf_model(model, zoo, frames), path, compress_to_fp16=False)
    return lambda batch: peers.openvino_run(openvino.Core().read_model(path), batch)


def runs(model: ZooModel, zoo: Path, options: argparse.Namespace, batch: int) -> tuple[dict[str, Any], dict[str, str]]:
    """One callable per contestant, and a note for each that needs one."""
    frames = np.ascontiguousarray(model.test(zoo)[0][:batch])
    source, calibration = model.source_input(frames), model.calibration(zoo)[: options.calibration]
    callables: dict[str, Callable[[], Any]] = {}
    notes: dict[str, str] = {}
    makers: dict[str, Callable[[], tuple[Callable[[int], peers.Run], Array]]] = {
        "onnxruntime": lambda: (onnx_maker(model, zoo, calibration), source),
        "openvino": lambda: (openvino_maker(model, zoo, calibration), source),
        "litert": lambda: (
            lambda n: peers.litert_int8(model, zoo, n),
            peers.litert_codes(model, zoo, frames),
        ),
    }
    for name, make in makers.items():
        try:
            maker, data = make()
            callables[name], notes[name] = with_batch(maker, data)
        except peers.PeerError as error:
            notes[name] = str(error)
    return callables, notes


def one(model: ZooModel, zoo: Path, options: argparse.Namespace) -> dict[str, Any]:
    try:
        infer, kernels = device(model, zoo, options.calibration)
    except HeadraceError as error:
        return {"error": f"{type(error).__name__}: {error.diagnostics[0].rule}"}
    row: dict[str, Any] = {"kernels": kernels, "batches": {}}
    for batch in (1, 8):
        callables, notes = runs(model, zoo, options, batch)
        frames = np.ascontiguousarray(model.test(zoo)[0][:batch])
        contestants = {"device": lambda f=frames: infer(f), **callables}
        taken = bursts(contestants, options.seconds)
        in_turn = {n: statistics.median(v) for n, v in samples(contestants, 100, 1, options.seconds / 4).items()}
        times = {n: statistics.median(v) for n, v in taken.items()}
        best = {n: min(v) for n, v in taken.items()}
        fastest = min((n for n in callables), key=lambda n: times[n])
        row["batches"][str(batch)] = {
            "ms": {n: round(1e3 * t, 4) for n, t in times.items()},
            "ratio": {n: round(times[n] / times["device"], 3) for n in callables},
            "fastest": fastest,
            "best_ms": {n: round(1e3 * t, 4) for n, t in best.items()},
            "in_turn_ms": {n: round(1e3 * t, 4) for n, t in in_turn.items()},
            "in_turn_ratio": round(min(in_turn[n] for n in callables) / in_turn["device"], 3),
            "best_ratio": round(min(best[n] for n in callables) / best["device"], 3),
            "notes": notes,
        }
    return row


def render(results: dict[str, Any]) -> str:
    """The table as Markdown: how many times faster the device engine is than each peer, milliseconds beside it."""
    lines = [
        "| network | batch | device, ms | "
        + " | ".join(f"against {p} int8 (ms)" for p in PEERS)
        + " | against the fastest | best | in turn |",
        "|---|---|---|" + "---|" * (len(PEERS) + 3),
    ]
    for name, row in results.items():
        if "error" in row:
            lines.append(f"| {name} | | {row['error']} |" + " |" * (len(PEERS) + 3))
            continue
        for batch, entry in row["batches"].items():
            cells = [
                f"{entry['ratio'][p]:.2f} ({entry['ms'][p]:.2f}{entry['notes'].get(p, '')})"
                if p in entry["ratio"]
                else "–"
                for p in PEERS
            ]
            cells += [
                f"**{entry['ratio'][entry['fastest']]:.2f}**",
                f"{entry['best_ratio']:.2f}",
                f"{entry['in_turn_ratio']:.2f}",
            ]
            lines.append(f"| {name} | {batch} | {entry['ms']['device']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="measuring time per network and batch")
    parser.add_argument("--calibration", type=int, default=32, help="frames; speed hardly depends on them")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ZOO))
    options = parser.parse_args()
    zoo = zoo_or_exit()
    results = read_json(OUT / "speed.json")
    for name in options.names or NAMES:
        results[name] = one(ZOO[name], zoo, options)
        print(name, json.dumps(results[name]), flush=True)
        results = {n: results[n] for n in ZOO if n in results}
        write_results("speed", results, render(results))
    print(render(results))


if __name__ == "__main__":
    main()
