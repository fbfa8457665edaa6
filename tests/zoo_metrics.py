# SPDX-License-Identifier: Apache-2.0
"""The figures of every real network as a golden file: what a change moved stands in its diff.

``tests/golden/metrics.json`` is made at :data:`zoo_matrix.QUICK` effort (32 calibration frames). All of it is exact by
construction (integers, and the formulas and the simulation made of them) but the SNR, which is against the float output
of the file's own runtime: that rounds as the machine does, so it may differ by :data:`SNR_TOLERANCE`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from headrace import reports
from headrace.hn.archive import Archive
from headrace.reports.record import Json, Record, record
from headrace.text import table

GOLDEN = Path(__file__).resolve().parent / "golden" / "metrics.json"
SNR_TOLERANCE = 0.05


@record
class Metrics(Record):
    """The figures of one network."""

    layers: Annotated[int, "layers of the quantized network"]
    kernels: Annotated[int, "kernels of the program"]
    contexts: Annotated[int, "contexts of the program"]
    parameters: Annotated[int, "numbers in the parameters of the parsed network"]
    constant_bytes: Annotated[int, "constants of the program"]
    hef_bytes: Annotated[int, "the HEF"]
    fps: Annotated[float, "frames per second (closed form)"]
    simulated_fps: Annotated[float, "frames per second (event simulation)"]
    latency_ms: Annotated[float, "latency (closed form)"]
    simulated_latency_ms: Annotated[float, "latency (event simulation)"]
    snr_db: Annotated[Mapping[str, float], "of each output against the file's own runtime, on test frames"]


def metrics_of(archive: Archive, snr_db: Mapping[str, float]) -> Metrics:
    """The figures of a compiled network."""
    known = reports.of(archive)
    parsed, compiled, timing = known.parse, known.compile, known.timing
    assert archive.quantized is not None
    assert parsed is not None and compiled is not None and timing is not None
    return Metrics(
        layers=len(archive.quantized.layers),
        kernels=compiled.kernels,
        contexts=compiled.figures.contexts,
        parameters=parsed.parameters,
        constant_bytes=compiled.constant_bytes,
        hef_bytes=compiled.hef_bytes,
        fps=compiled.figures.whole.fps,
        simulated_fps=round(timing.fps, 3),
        latency_ms=compiled.figures.whole.latency_ms,
        simulated_latency_ms=round(timing.latency_ms, 6),
        snr_db=snr_db,
    )


def read(path: Path = GOLDEN) -> dict[str, Metrics]:
    """The figures in a file by network; empty where there is no file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: Metrics.from_dict(data, f"{path.name}, {name}") for name, data in found.items()}


def write(metrics: Mapping[str, Metrics], path: Path = GOLDEN) -> None:
    """Write the figures, networks in order of name."""
    data = {name: metrics[name].as_dict() for name in sorted(metrics)}
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def moved(before: Metrics | None, after: Metrics | None) -> list[tuple[str, Json, Json]]:
    """What differs: (figure, before, after), ``None`` where there is no such figure."""
    old, new = (_flat(metrics) for metrics in (before, after))
    return [
        (key, old.get(key), new.get(key))
        for key in dict.fromkeys((*old, *new))
        if not _same(key, old.get(key), new.get(key))
    ]


def _flat(metrics: Metrics | None) -> dict[str, Json]:
    if metrics is None:
        return {}
    data = metrics.as_dict()
    del data["snr_db"]
    return data | {f"SNR {name}": value for name, value in metrics.snr_db.items()}


def _same(key: str, old: Json, new: Json) -> bool:
    if key.startswith("SNR ") and isinstance(old, float | int) and isinstance(new, float | int):
        return abs(old - new) <= SNR_TOLERANCE
    return old == new


def moved_text(before: Mapping[str, Metrics], after: Mapping[str, Metrics]) -> str:
    """A table of what moved; one line where nothing did."""
    rows = [
        (name, figure, _shown(old), _shown(new), _change(old, new))
        for name in dict.fromkeys((*before, *after))
        for figure, old, new in moved(before.get(name), after.get(name))
    ]
    if not rows:
        return f"nothing moved in {len(after)} networks"
    return table(rows, ("network", "figure", "before", "after", "change"), left=2, rule=True)


def _shown(value: Json) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def _change(old: Json, new: Json) -> str:
    if not isinstance(old, int | float) or not isinstance(new, int | float) or not old:
        return "-"
    return f"{100 * (new - old) / abs(old):+.2f} %"
