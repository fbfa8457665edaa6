# SPDX-License-Identifier: Apache-2.0
"""The report as plain aligned text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Cell = Callable[[dict[str, Any]], str]


def render_text(report: dict[str, Any]) -> str:
    """Text of a report made by :func:`headrace.profiler.profile`; values that are absent show as ``-``."""
    parts = [_head(report), _accuracy(report), _compiled(report), _estimates(report), _layers(report)]
    return "\n\n".join(p for p in parts if p) + "\n"


def clean(value: Any) -> str:
    """Text that cannot steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


def number(value: Any, digits: int = 0) -> str:
    """``12,345.6`` or ``-``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return f"{value:,.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns padded to their widest cell; the first ``left`` are left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]
    lines: list[str] = []
    for row in (header, ["-" * w for w in widths], *rows):
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


_CLUSTER = ("cluster", "control", "compute", "memory")
_PART = (
    ("layers", "layers"),
    ("weights", "weight_bytes"),
    ("cut in", "cut_input_bytes"),
    ("cut out", "cut_output_bytes"),
    ("reload", "reload_cycles"),
    ("ahead", "loaded_ahead_cycles"),
    ("waited", "waited_cycles"),
    ("overrun", "overrun_cycles"),
    ("switch", "switch_cycles"),
    ("run", "run_cycles"),
    ("per frame", "cycles_per_frame"),
)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _shape(value: Any) -> str:
    return "×".join(str(v) for v in value[1:]) if isinstance(value, list) else "-"


def _head(report: dict[str, Any]) -> str:
    net = _dict(report.get("network"))
    name, state, arch = (clean(report.get(key, "-")) for key in ("name", "state", "hw_arch"))
    lines = [
        f"{name}: {state}, target {arch}",
        f"  layers {number(net.get('layers'))}, MACs {number(net.get('macs'))}, weights {number(net.get('weights'))}, "
        f"operations {number(net.get('operations'))}",
    ]
    for kind in ("inputs", "outputs"):
        for s in _list(net.get(kind)):
            lines.append(f"  {kind[:-1]:6} {clean(s.get('name', '-'))}  {_shape(s.get('shape'))}")
    return "\n".join(lines)


def _accuracy(report: dict[str, Any]) -> str:
    accuracy = _dict(report.get("accuracy"))
    outputs = _dict(accuracy.get("outputs"))
    if not outputs:
        return ""
    lines = ["Accuracy against float (on calibration data)"]
    for name, value in outputs.items():
        snr = _dict(value).get("snr_db")
        shown = "exact" if snr is None else f"{number(snr, 1)} dB"
        lines.append(f"  {clean(name)}: SNR {shown}, {number(_dict(value).get('distinct_codes'))} distinct codes")
    warnings = accuracy.get("warnings")
    lines += [f"  warning: {clean(w)}" for w in (warnings if isinstance(warnings, list) else [])]
    return "\n".join(lines)


def _compiled(report: dict[str, Any]) -> str:
    made, played = _dict(report.get("compiled")), _dict(report.get("simulation"))
    if not made:
        return ""
    lines = [
        f"Compiled for {clean(made.get('target', '-'))}, {_contexts(made)}",
        f"  closed form:      {number(made.get('fps'), 1)} fps, latency {number(made.get('latency_ms'), 3)} ms, "
        f"bottleneck {clean(made.get('bottleneck', '-'))}, "
        f"{number(made.get('gap_percent'), 1)} % above the lower bound",
    ]
    if made.get("bounds_fps"):
        lines.append(_bounds(made))
    if played:
        fps, latency = number(played.get("fps"), 1), number(played.get("latency_ms"), 3)
        last = clean(played.get("bottleneck", "-"))
        lines.append(f"  event simulation: {fps} fps, latency {latency} ms, bottleneck {last}")
    if _list(made.get("parts")):
        lines += ["", "Contexts (closed form, cycles per batch)", _parts(made)]
    many = any("context" in c for c in _list(made.get("clusters")))
    rows = [
        [
            *([str(c.get("context", "-"))] if many else []),
            str(c.get("cluster", "-")),
            *(number(_dict(c.get(k)).get("percent"), 1) for k in ("control", "compute", "memory")),
        ]
        for c in _list(made.get("clusters"))
    ]
    if rows:
        lines += ["", "Utilisation of clusters, %", table((*(["context"] if many else []), *_CLUSTER), rows)]
    for decision in _list(made.get("decisions")):
        what = f"{clean(decision.get('decision', '-'))} into {number(decision.get('parts'))}"
        lines.append(f"  {clean(decision.get('layer', '-'))}: {what}; {clean(decision.get('reason', '-'))}")
    return "\n".join(lines)


_BOUNDS = {
    "macs": "MACs",
    "weights": "weights",
    "link": "link",
    "layer": "slowest layer",
    "allocation": "allocation",
    "proven": "proven",
}


def _bounds(made: dict[str, Any]) -> str:
    bounds = _dict(made.get("bounds_fps"))
    shown = ", ".join(f"{title} {number(bounds.get(key), 1)}" for key, title in _BOUNDS.items() if key in bounds)
    title = _BOUNDS.get(str(made.get("bound_by")), "-")
    reached = f"{number(made.get('efficiency_percent'), 1)} % of the bound by {title}"
    if "proven_percent" in made:
        reached += f", {number(made.get('proven_percent'), 1)} % of what is proven possible at most"
    return f"  bounds, fps:      {shown}; {reached}"


def _contexts(made: dict[str, Any]) -> str:
    if made.get("contexts") == 1:
        return "1 context"
    frames = _dict(made.get("fps_by_batch"))
    rates = ", ".join(f"{clean(b)}: {number(f, 1)}" for b, f in frames.items())
    return f"{number(made.get('contexts'))} contexts, batch {number(made.get('batch'))} (fps by batch {rates})"


def _parts(made: dict[str, Any]) -> str:
    rows = [
        [
            number(p.get("context")),
            clean(p.get("first", "-")),
            clean(p.get("last", "-")),
            *(number(p.get(key)) for _, key in _PART),
            clean(p.get("bottleneck", "-")),
        ]
        for p in _list(made.get("parts"))
    ]
    return table(("context", "first", "last", *(title for title, _ in _PART), "bottleneck"), rows, left=3)


def _estimates(report: dict[str, Any]) -> str:
    rows: list[list[str]] = []
    for e in _list(report.get("estimates")):
        if "error" in e:
            rows.append([clean(e.get("target", "-")), "-", "-", "-", "-", clean(str(e["error"]).splitlines()[0])])
            continue
        fits = e.get("fits_one_context") is True
        rows.append(
            [
                clean(e.get("target", "-")),
                number(e.get("fps"), 1) if fits else "does not fit",
                number(e.get("latency_ms"), 3) if fits else "-",
                number(e.get("clusters_needed")),
                number(e.get("devices_needed")),
                clean(e.get("bottleneck") or "-") if fits else _short_of(e),
            ]
        )
    header = ("target", "fps", "latency ms", "clusters", "devices", "bottleneck, or what is short")
    title = "Estimate in one context on every target (closed form; clusters and devices needed to stay in one context)"
    return f"{title}\n{table(header, rows)}" if rows else ""


def _short_of(e: dict[str, Any]) -> str:
    need, have = _dict(e.get("need")), _dict(e.get("have"))
    short = [
        f"{k} {number(v)} of {number(have.get(k))}"
        for k, v in need.items()
        if isinstance(v, int) and isinstance(have.get(k), int) and v > have[k]
    ]
    return ", ".join(short) or "-"


def _better(row: dict[str, Any]) -> str:
    found = _dict(_dict(row.get("schedule")).get("next_better"))
    extra = _dict(found.get("extra"))
    if not found:
        return "-"
    names = {"controllers": "LCU", "subclusters": "SC", "memory_units": "mem", "activation_units": "APU"}
    names["input_aligners"] = "IA"
    cost = [f"{v:+d} {names[k]}" for k, v in extra.items() if k in names and isinstance(v, int) and v]
    return f"{number(found.get('cycles'))} for {' '.join(cost)}"


def _of(group: str, key: str, digits: int = 0) -> Cell:
    return lambda row: number(_dict(row.get(group)).get(key), digits)


_COLUMNS: dict[str, list[tuple[str, Cell]]] = {
    "accuracy": [("SNR dB", _of("accuracy", "snr_db", 1)), ("codes", _of("accuracy", "distinct_codes"))],
    "schedule": [
        ("cluster", _of("schedule", "cluster")),
        ("LCU", _of("schedule", "controllers")),
        ("SC", _of("schedule", "subclusters")),
        ("memory", _of("schedule", "memory_units")),
        ("cycles", _of("schedule", "cycles")),
        ("busy %", _of("schedule", "utilization", 1)),
        ("bound by", lambda row: clean(_dict(row.get("schedule")).get("bound", "-"))),
        ("next better", _better),
    ],
    "simulation": [("simulated", _of("simulation", "cycles_per_frame"))],
}


def _layers(report: dict[str, Any]) -> str:
    rows = _list(report.get("layers"))
    columns: list[tuple[str, Cell]] = [
        ("layer", lambda r: clean(r.get("name", "-"))),
        ("kind", lambda r: clean(r.get("kind", "-"))),
        ("output", lambda r: _shape(r.get("output_shape"))),
        ("MACs", lambda r: number(r.get("macs"))),
        ("weights", lambda r: number(r.get("weights"))),
    ]
    if any("context" in _dict(r.get("schedule")) for r in rows):
        columns.append(("context", _of("schedule", "context")))
    for group, more in _COLUMNS.items():
        if any(group in r for r in rows):
            columns += more
    title = "Layers (cycles per frame: closed form; simulated: from a frame's first row to its last, stalls included)"
    body = table([name for name, _ in columns], [[cell(r) for _, cell in columns] for r in rows], left=2)
    return f"{title if any('schedule' in r for r in rows) else 'Layers'}\n{body}"
