# SPDX-License-Identifier: Apache-2.0
"""Seconds and peak memory of each stage, and the exact emulator against float torch.

usage: run_bench.py [NAME ...]      results: bench/out/bench.{json,md}

Machines are noisy and shared: read the ratios, not the seconds. Against other toolchains: quality.py and speed.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import numpy as np  # noqa: E402
from common import THREADS, interleaved, write_results, zoo_or_exit  # noqa: E402

from headrace.emulator import Executor  # noqa: E402
from headrace.hn import archive  # noqa: E402
from zoo_models import MODELS, ZOO  # noqa: E402


def stages(folder: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for stage in ("parse", "optimize", "compile"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "bench" / "stage.py"), stage, name, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{name}: {stage} failed\n{done.stderr}")
        result[stage] = json.loads(done.stdout.splitlines()[-1])
    return result


def emulator_against_float(har: archive.Archive, frames: np.ndarray[Any, Any]) -> dict[str, float]:
    """Exact integer emulator against the float emulator (torch) of the same network, batch 16."""
    import torch

    torch.set_num_threads(THREADS)
    assert har.fp_optimized is not None and har.quantized is not None
    exact, real = Executor(har.quantized, "quantized"), Executor(har.fp_optimized, "fp_optimized")
    name = har.quantized.input_layers[0].name
    floats = frames.astype(np.float32)
    times = interleaved(
        {
            "exact": lambda: exact.run({name: frames}, batch_size=16),
            "float": lambda: real.run({name: floats}, batch_size=16),
        },
        7,
    )
    return {**times, "ratio": times["float"] / times["exact"]}


def help_seconds() -> dict[str, float]:
    def run(*command: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, *command], capture_output=True, check=True)

    return interleaved({"headrace --help": run("-m", "headrace", "--help"), "python -c pass": run("-c", "pass")}, 7)


def render(results: dict[str, Any]) -> str:
    lines = ["| network | stage | seconds | peak MiB |", "|---|---|---|---|"]
    for name, entry in results["models"].items():
        for stage, value in entry["stages"].items():
            note = f" ({value['frames']} frames)" if value["frames"] else ""
            lines.append(f"| {name} | {stage}{note} | {value['seconds']:.2f} | {value['peak_mib']:.0f} |")
    lines += ["", "| network | exact emulator / float torch speed | exact, s | float, s |", "|---|---|---|---|"]
    for name, entry in results["models"].items():
        e = entry["emulator"]
        lines.append(f"| {name} | {e['ratio']:.2f} | {e['exact']:.3f} | {e['float']:.3f} |")
    lines += ["", *(f"`{name}`: {value:.3f} s" for name, value in results["help"].items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    zoo = zoo_or_exit()
    names = sys.argv[1:] or [*MODELS, "resnet56"]
    if unknown := [n for n in names if n not in ZOO]:
        sys.exit(f"no network named {', '.join(unknown)}; there are {', '.join(ZOO)}")
    results: dict[str, Any] = {"models": {}}
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            entry: dict[str, Any] = {"stages": stages(folder, name)}
            har = archive.load(folder / "compiled.har")
            entry["emulator"] = emulator_against_float(har, ZOO[name].test(zoo)[0][:128])
            results["models"][name] = entry
            print(name, json.dumps(entry), flush=True)
    results["help"] = help_seconds()
    text = render(results)
    write_results("bench", results, text)
    print(text)


if __name__ == "__main__":
    main()
