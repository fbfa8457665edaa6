# SPDX-License-Identifier: Apache-2.0
"""The report as plain aligned text, at most :data:`headrace.text.WIDTH` columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from headrace.text import WIDTH, printable, table

Cell = Callable[[dict[str, Any]], str]


def render_text(report: dict[str, Any]) -> str:
    """Text of a report made by :func:`headrace.profiler.profile`; values that are absent show as ``-``."""
    parts = [_head(report), _accuracy(report), _compiled(report), _estimates(report), _layers(report)]
    return "\n\n".join(p for p in parts if p) + "\n"


def clean(value: Any) -> str:
    """One line of text that cannot steer a terminal."""
    return printable(str(value), kept="\n").replace("\n", " ")


def number(value: Any, digits: int = 0) -> str:
    """``12,345.6`` or ``-``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return f"{value:,.{digits}f}"


#: Parts of an output that are listed.
_MOST_PARTS = 12
_CLUSTER = ("cluster", "control", "compute", "memory")
_SIZES = (
    ("layers", "layers"),
    ("weights", "weight_bytes"),
    ("cut in", "cut_input_bytes"),
    ("cut out", "cut_output_bytes"),
)
_CYCLES = (
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


def _short(report: dict[str, Any]) -> Callable[[Any], str]:
    """Names without the network's, which the head of the report gives once."""
    prefix = f"{report.get('name', '')}/"
    return lambda value: clean(str(value).removeprefix(prefix))


def _line(title: str, text: str) -> str:
    """``text`` behind a title, continued below itself."""
    indent = 20
    return textwrap.fill(
        text, WIDTH, initial_indent=f"  {title}".ljust(indent), subsequent_indent=" " * indent, break_on_hyphens=False
    )


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
        codes = number(_dict(value).get("distinct_codes"))
        lines.append(f"  {clean(name)}: SNR {_decibels(_dict(value).get('snr_db'))}, {codes} distinct codes")
        lines += _parts_of(_dict(value))
    warnings = accuracy.get("warnings")
    lines += [f"  warning: {clean(w)}" for w in (warnings if isinstance(warnings, list) else [])]
    return "\n".join(lines)


def _decibels(value: Any) -> str:
    return "exact" if value is None else f"{number(value, 1)} dB"


def _parts_of(output: dict[str, Any]) -> list[str]:
    """A line for every part of an output that has several, the worst first where there are many."""
    parts = _list(output.get("parts"))
    if len(parts) < 2:
        return []
    if len(parts) > _MOST_PARTS:
        parts = sorted(parts, key=lambda part: part.get("name") != output.get("worst"))
    lines = [
        f"    {clean(part.get('name', '-'))} {clean(part.get('place', ''))}".rstrip()
        + f": SNR {_decibels(part.get('snr_db'))}, {number(part.get('distinct_codes'))} distinct codes"
        + (", constant" if part.get("constant") else ", dead" if part.get("dead") else "")
        for part in parts[:_MOST_PARTS]
    ]
    return lines + [f"    … and {len(parts) - _MOST_PARTS} more parts (--json)"] * (len(parts) > _MOST_PARTS)


def _compiled(report: dict[str, Any]) -> str:
    made, played = _dict(report.get("compiled")), _dict(report.get("simulation"))
    if not made:
        return ""
    short = _short(report)
    lines = [
        f"Compiled for {clean(made.get('target', '-'))}, {_contexts(made)}",
        _line(
            "closed form:",
            f"{number(made.get('fps'), 1)} fps, latency {number(made.get('latency_ms'), 3)} ms, "
            f"bottleneck {short(made.get('bottleneck', '-'))}, "
            f"{number(made.get('gap_percent'), 1)} % above the lower bound",
        ),
    ]
    lines += _rates(made)
    if made.get("bounds_fps"):
        lines.append(_line("bounds, fps:", _bounds(made)))
    if played:
        fps, latency = number(played.get("fps"), 1), number(played.get("latency_ms"), 3)
        last = short(played.get("bottleneck", "-"))
        lines.append(_line("event simulation:", f"{fps} fps, latency {latency} ms, bottleneck {last}"))
    if _list(made.get("parts")):
        lines += ["", _parts(made, short)]
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
        header = (*(["context"] if many else []), *_CLUSTER)
        lines += ["", "Utilisation of clusters, %", table(rows, header, left=1, rule=True)]
    for decision in _list(made.get("decisions")):
        what = f"{clean(decision.get('decision', '-'))} into {number(decision.get('parts'))}"
        text = f"{short(decision.get('layer', '-'))}: {what}; {clean(decision.get('reason', '-'))}"
        lines.append(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))
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
    return f"{shown}; {reached}"


def _contexts(made: dict[str, Any]) -> str:
    if made.get("contexts") == 1:
        return "1 context"
    return f"{number(made.get('contexts'))} contexts, batch {number(made.get('batch'))}"


def _rates(made: dict[str, Any]) -> list[str]:
    frames = _dict(made.get("fps_by_batch"))
    rates = ", ".join(f"{clean(b)}: {number(f, 1)}" for b, f in frames.items())
    return [_line("fps by batch:", rates)] if rates and made.get("contexts") != 1 else []


def _parts(made: dict[str, Any], short: Callable[[Any], str]) -> str:
    parts = _list(made.get("parts"))
    what = [
        [number(p.get("context")), short(p.get("first", "-")), short(p.get("last", "-")),
         *(number(p.get(key)) for _, key in _SIZES)]
        for p in parts
    ]  # fmt: skip
    time = [
        [number(p.get("context")), short(p.get("bottleneck", "-")), *(number(p.get(key)) for _, key in _CYCLES)]
        for p in parts
    ]
    sizes = table(what, ("context", "first", "last", *(title for title, _ in _SIZES)), left=3, rule=True)
    cycles = table(time, ("context", "bottleneck", *(title for title, _ in _CYCLES)), left=2, rule=True)
    return f"Contexts (bytes)\n{sizes}\n\nContexts (closed form, cycles per batch)\n{cycles}"


def _estimates(report: dict[str, Any]) -> str:
    rows: list[list[str]] = []
    short = _short(report)
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
                short(e.get("bottleneck") or "-") if fits else _short_of(e),
            ]
        )
    header = ("target", "fps", "latency ms", "clusters", "devices", "bottleneck, or what is short")
    title = "Estimate in one context on every target (closed form; clusters and devices that it takes)"
    return f"{title}\n{table(rows, header, left=1, rule=True)}" if rows else ""


#: What the columns call the resources of a cluster.
_RESOURCES = {
    "controllers": "LCU",
    "subclusters": "SC",
    "memory_units": "memory",
    "activation_units": "APU",
    "input_aligners": "IA",
}


def _short_of(e: dict[str, Any]) -> str:
    need, have = _dict(e.get("need")), _dict(e.get("have"))
    short = [
        f"{_RESOURCES.get(k, k)} {number(v)} of {number(have.get(k))}"
        for k, v in need.items()
        if isinstance(v, int) and isinstance(have.get(k), int) and v > have[k]
    ]
    return ", ".join(short) or "-"


def _cost(extra: dict[str, Any]) -> str:
    return " ".join(f"{v:+d} {_RESOURCES[k]}" for k, v in extra.items() if k in _RESOURCES and isinstance(v, int) and v)


def _of(group: str, key: str, digits: int = 0) -> Cell:
    return lambda row: number(_dict(row.get(group)).get(key), digits)


_ACCURACY: list[tuple[str, Cell]] = [
    ("SNR dB", _of("accuracy", "snr_db", 1)),
    ("codes", _of("accuracy", "distinct_codes")),
]
_SCHEDULE: list[tuple[str, Cell]] = [
    ("cluster", _of("schedule", "cluster")),
    ("LCU", _of("schedule", "controllers")),
    ("SC", _of("schedule", "subclusters")),
    ("memory", _of("schedule", "memory_units")),
    ("cycles", _of("schedule", "cycles")),
    ("busy %", _of("schedule", "utilization", 1)),
]
_BOUND: list[tuple[str, Cell]] = [("bound by", lambda row: clean(_dict(row.get("schedule")).get("bound", "-")))]


def _layers(report: dict[str, Any]) -> str:
    """Up to three tables: what the layers are, what they take, and what would make each faster."""
    rows = _list(report.get("layers"))
    short = _short(report)
    name: tuple[str, Cell] = ("layer", lambda r: short(r.get("name", "-")))
    columns: list[tuple[str, Cell]] = [
        name,
        ("kind", lambda r: clean(r.get("kind", "-"))),
        ("output", lambda r: _shape(r.get("output_shape"))),
        ("MACs", lambda r: number(r.get("macs"))),
        ("weights", lambda r: number(r.get("weights"))),
        *(_ACCURACY if any("accuracy" in r for r in rows) else []),
    ]
    parts = [f"Layers\n{_columns(rows, columns, 2)}"]
    scheduled = [r for r in rows if "schedule" in r]
    if scheduled:
        many = any("context" in _dict(r["schedule"]) for r in scheduled)
        played = any("simulation" in r for r in scheduled)
        columns = [
            name,
            *([("context", _of("schedule", "context"))] if many else []),
            *_SCHEDULE,
            *([("simulated", _of("simulation", "cycles_per_frame"))] if played else []),
            *_BOUND,
        ]
        title = (
            "Schedule (LCU layer controllers, SC sub-clusters; cycles per frame: closed form;\n"
            "simulated: from a frame's first row to its last, stalls included)"
        )
        parts.append(f"{title}\n{_columns(scheduled, columns, 1)}")
        parts.append(_next_better(scheduled, short))
    return "\n\n".join(part for part in parts if part)


def _columns(rows: Sequence[dict[str, Any]], columns: Sequence[tuple[str, Cell]], left: int) -> str:
    return table([[cell(r) for _, cell in columns] for r in rows], [title for title, _ in columns], left, rule=True)


def _next_better(rows: Sequence[dict[str, Any]], short: Callable[[Any], str]) -> str:
    """Layers that could be faster, and what that would cost."""
    found = [(r, _dict(_dict(r["schedule"]).get("next_better"))) for r in rows]
    cells = [
        [short(r.get("name", "-")), number(_dict(r["schedule"]).get("cycles")), number(better.get("cycles")),
         _cost(_dict(better.get("extra")))]
        for r, better in found
        if better
    ]  # fmt: skip
    title = "Next better option of each layer (cycles per frame; APU activation units, IA input aligners)"
    header = ("layer", "cycles", "would be", "for")
    return f"{title}\n{table(cells, header, rule=True)}" if cells else ""
