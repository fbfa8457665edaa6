# SPDX-License-Identifier: Apache-2.0
"""``headrace benchmark``: the device's simulated speed beside the host's measured one. Needs neither torch nor onnx."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.options import json_option
from headrace.cli.output import emit, number, table
from headrace.cli.progress import progress
from headrace.cli.run_command import device_options

if TYPE_CHECKING:
    from headrace.reports.timing import TimingReport


@click.command()
@click.argument("hef", type=click.Path(path_type=Path))
@click.option("--time-to-run", "-t", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
              help="Seconds to measure the host for.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1, 65536), default=1, show_default=True, help="Frames per call.")
@click.option("--by-layer", is_flag=True, help="Also show what each layer costs this computer, dearest first.")
@device_options
@json_option
def benchmark(
    hef: Path, time_to_run: float, batch_size: int, by_layer: bool, threads: int, kernels: str | None, as_json: bool
) -> None:
    """Show two speeds of HEF, and which is which.

    Simulated: what the modelled device would do (event simulation in cycles). Measured: how fast this computer runs
    the virtual device, on generated codes.
    """
    from headrace.cli.frames import generate_frames
    from headrace.reports.timing import TimingReport
    from headrace.runtime import VDevice

    with VDevice(threads=threads, kernels=kernels) as device:
        model = device.create_infer_model(str(hef))
        model.set_batch_size(batch_size)
        frames = generate_frames(model.inputs, batch_size)
        with model.configure() as network:
            timing = TimingReport.from_dict(network.timing(), str(hef))
            calls = _measure(network, frames, time_to_run, as_json)
            layers = _profile(network, frames, len(calls)) if by_layer else {}
        host = {"threads": device.threads, "kernels": device.kernels}
    median = statistics.median(calls)
    data: dict[str, Any] = {
        "hef": str(hef),
        "device_simulated": timing.as_dict(),
        "host_measured": {
            "fps": batch_size / median,
            "latency_ms": median * 1e3,
            "batch_size": batch_size,
            "calls": len(calls),
            **host,
        },
    }
    if by_layer:
        data["host_measured"]["layer_ms"] = layers
    emit(data, lambda: _describe(timing, data["host_measured"]), as_json)


def _measure(network: Any, frames: Mapping[str, Any], seconds: float, quiet: bool) -> list[float]:
    """Seconds of each call; the first is a warm-up and is not counted."""
    network.infer(frames)
    calls: list[float] = []
    start = time.perf_counter()
    with progress("benchmark", quiet) as advance:
        while (now := time.perf_counter()) - start < seconds or not calls:
            network.infer(frames)
            calls.append(time.perf_counter() - now)
            advance(int((now - start) * 10), max(1, int(seconds * 10)), f"{len(calls)} calls")
    return calls


def _profile(network: Any, frames: Mapping[str, Any], calls: int) -> dict[str, float]:
    """Milliseconds a frame by layer, from as many calls as were timed without the clock reads (1,000 at most)."""
    network.set_host_profiling(True)
    for _ in range(min(calls, 1000)):
        network.infer(frames)
    profile = network.host_profile()
    network.set_host_profiling(False)
    return profile


def _describe(timing: TimingReport, host: Mapping[str, Any]) -> str:
    rows = [
        ("device speed (simulated)", f"{number(timing.fps)} frames/s"),
        ("device latency (simulated)", f"{number(timing.latency_ms)} ms"),
        ("device bottleneck (simulated)", timing.bottleneck),
    ]
    settings = f"batch {host['batch_size']}, {host['threads']} threads, kernels {host['kernels']}"
    rows.append(("host speed (measured)", f"{number(host['fps'])} frames/s, {settings}"))
    rows.append(("host time per call (measured)", f"{number(host['latency_ms'])} ms, median of {host['calls']}"))
    text = table(rows)
    if layers := host.get("layer_ms"):
        total = sum(layers.values())
        by_cost = sorted(layers.items(), key=lambda item: -item[1])
        text += "\n\nhost time by layer (measured), ms a frame and share of their sum\n"
        text += table([(name, f"{ms:.4f}  {ms / total:6.1%}") for name, ms in by_cost])
    return text
