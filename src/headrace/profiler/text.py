# SPDX-License-Identifier: Apache-2.0
"""The report as plain aligned text, at most :data:`headrace.text.WIDTH` columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

from headrace.reports.optimize import OutputAccuracy
from headrace.reports.profile import NoEstimate, ProfiledLayer, ProfileReport, TargetEstimate
from headrace.reports.schedule import (
    CompileDecision,
    ContextFigures,
    NetworkFigures,
    NextBetter,
    ScheduledLayer,
    SeveralContexts,
    SplitDecision,
)
from headrace.text import WIDTH, printable, table

Cell = Callable[[ProfiledLayer], str]
ScheduledCell = Callable[[ProfiledLayer, ScheduledLayer], str]
_Short = Callable[[str], str]


def render_text(report: ProfileReport) -> str:
    """Text of a report made by :func:`headrace.profiler.profile`; values that are absent show as ``-``."""
    parts = [_head(report), _accuracy(report), _compiled(report), _estimates(report), _layers(report)]
    return "\n\n".join(p for p in parts if p) + "\n"


def clean(text: str) -> str:
    """One line of text that cannot steer a terminal."""
    return printable(text, kept="\n").replace("\n", " ")


def number(value: float | None, digits: int = 0) -> str:
    """``12,345.6`` or ``-``."""
    return "-" if value is None else f"{value:,.{digits}f}"


#: Parts of an output that are listed.
_MOST_PARTS = 12
_CLUSTER = ("cluster", "control", "compute", "memory")
_SIZES: tuple[tuple[str, Callable[[ContextFigures], int]], ...] = (
    ("layers", lambda c: c.layers),
    ("weights", lambda c: c.weight_bytes),
    ("cut in", lambda c: c.cut_input_bytes),
    ("cut out", lambda c: c.cut_output_bytes),
)
_CYCLES: tuple[tuple[str, Callable[[ContextFigures], int]], ...] = (
    ("reload", lambda c: c.reload_cycles),
    ("ahead", lambda c: c.loaded_ahead_cycles),
    ("waited", lambda c: c.waited_cycles),
    ("overrun", lambda c: c.overrun_cycles),
    ("switch", lambda c: c.switch_cycles),
    ("run", lambda c: c.run_cycles),
    ("per frame", lambda c: c.pipeline.cycles_per_frame),
)


def _short(report: ProfileReport) -> _Short:
    """Names without the network's, which the head of the report gives once."""
    prefix = f"{report.name}/"
    return lambda name: clean(name.removeprefix(prefix))


def _line(title: str, text: str) -> str:
    """``text`` behind a title, continued below itself."""
    indent = 20
    return textwrap.fill(
        text, WIDTH, initial_indent=f"  {title}".ljust(indent), subsequent_indent=" " * indent, break_on_hyphens=False
    )


def _shape(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape[1:])


def _head(report: ProfileReport) -> str:
    net = report.network
    lines = [
        f"{clean(report.name)}: {clean(report.state)}, target {clean(report.hw_arch)}",
        f"  layers {number(net.layers)}, MACs {number(net.macs)}, weights {number(net.weights)}, "
        f"operations {number(net.operations)}",
    ]
    for end, streams in (("input", net.inputs), ("output", net.outputs)):
        lines += [f"  {end:6} {clean(stream.name)}  {_shape(stream.shape)}" for stream in streams]
    return "\n".join(lines)


def _accuracy(report: ProfileReport) -> str:
    accuracy = report.accuracy
    if accuracy is None or not accuracy.outputs:
        return ""
    lines = ["Accuracy against float (on calibration data)"]
    for name, output in accuracy.outputs.items():
        codes = number(output.distinct_codes)
        lines.append(f"  {clean(name)}: SNR {_decibels(output.snr_db)}, {codes} distinct codes")
        lines += _parts_of(output)
    lines += [f"  warning: {clean(warning)}" for warning in accuracy.warnings]
    return "\n".join(lines)


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{number(value, 1)} dB"


def _parts_of(output: OutputAccuracy) -> list[str]:
    """A line for every part of an output that has several, the worst first where there are many."""
    parts = list(output.parts)
    if len(parts) < 2:
        return []
    if len(parts) > _MOST_PARTS:
        parts = sorted(parts, key=lambda part: part.name != output.worst)
    lines = [
        f"    {clean(part.name)} {clean(part.place)}".rstrip()
        + f": SNR {_decibels(part.snr_db)}, {number(part.distinct_codes)} distinct codes"
        + (", constant" if part.constant else ", dead" if part.dead else "")
        for part in parts[:_MOST_PARTS]
    ]
    return lines + [f"    … and {len(parts) - _MOST_PARTS} more parts (--json)"] * (len(parts) > _MOST_PARTS)


def _compiled(report: ProfileReport) -> str:
    if report.compiled is None:
        return ""
    short, figures = _short(report), report.compiled.figures
    whole = figures.whole
    lines = [
        f"Compiled for {clean(figures.target)}, {_contexts(figures)}",
        _line(
            "closed form:",
            f"{number(whole.fps, 1)} fps, latency {number(whole.latency_ms, 3)} ms, "
            f"bottleneck {short(whole.bottleneck)}, {number(whole.gap_percent, 1)} % above the lower bound",
        ),
    ]
    if isinstance(figures, SeveralContexts):
        rates = ", ".join(f"{clean(batch)}: {number(fps, 1)}" for batch, fps in figures.fps_by_batch.items())
        lines.append(_line("fps by batch:", rates))
    lines.append(_line("bounds, fps:", _bounds(figures)))
    if report.simulation is not None:
        played = report.simulation.timing
        fps, latency = number(played.fps, 1), number(played.latency_ms, 3)
        last = short(played.bottleneck)
        lines.append(_line("event simulation:", f"{fps} fps, latency {latency} ms, bottleneck {last}"))
    if isinstance(figures, SeveralContexts):
        lines += ["", _parts(figures.parts, short)]
    many = any(cluster.context is not None for cluster in report.compiled.clusters)
    rows = [
        [
            *([number(cluster.context)] if many else []),
            str(cluster.cluster),
            *(number(share.percent, 1) for share in (cluster.control, cluster.compute, cluster.memory)),
        ]
        for cluster in report.compiled.clusters
    ]
    if rows:
        header = (*(["context"] if many else []), *_CLUSTER)
        lines += ["", "Utilization of clusters, %", table(rows, header, left=1, rule=True)]
    lines += [_decided(decision, short) for decision in report.compiled.decisions]
    return "\n".join(lines)


def _decided(decision: CompileDecision, short: _Short) -> str:
    into = decision.parts if isinstance(decision, SplitDecision) else decision.concatenations
    text = f"{short(decision.layer)}: {decision.decision} into {number(into)}; {clean(decision.reason)}"
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


_BOUNDS = {
    "macs": "MACs",
    "weights": "weights",
    "link": "link",
    "layer": "slowest layer",
    "allocation": "allocation",
    "proven": "proven",
}


def _bounds(figures: NetworkFigures) -> str:
    found = figures.bounds
    shown = ", ".join(
        f"{title} {number(found.bounds_fps[key], 1)}" for key, title in _BOUNDS.items() if key in found.bounds_fps
    )
    title = _BOUNDS.get(found.bound_by, "-")
    reached = f"{number(found.efficiency_percent, 1)} % of the bound by {title}"
    reached += f", {number(found.proven_percent, 1)} % of what is proven possible at most"
    return f"{shown}; {reached}"


def _contexts(figures: NetworkFigures) -> str:
    if isinstance(figures, SeveralContexts):
        return f"{number(figures.contexts)} contexts, batch {number(figures.batch)}"
    return "1 context"


def _parts(parts: Iterable[ContextFigures], short: _Short) -> str:
    what = [
        [number(part.context), short(part.first), short(part.last), *(number(size(part)) for _, size in _SIZES)]
        for part in parts
    ]
    time = [
        [number(part.context), short(part.pipeline.bottleneck), *(number(cycles(part)) for _, cycles in _CYCLES)]
        for part in parts
    ]
    sizes = table(what, ("context", "first", "last", *(title for title, _ in _SIZES)), left=3, rule=True)
    cycles = table(time, ("context", "bottleneck", *(title for title, _ in _CYCLES)), left=2, rule=True)
    return f"Contexts (bytes)\n{sizes}\n\nContexts (closed form, cycles per batch)\n{cycles}"


def _estimates(report: ProfileReport) -> str:
    short = _short(report)
    rows = [_estimate(found, short) for found in report.estimates]
    header = ("target", "fps", "latency ms", "clusters", "devices", "bottleneck, or what is short")
    title = "Estimate in one context on every target (closed form; clusters and devices that it takes)"
    return f"{title}\n{table(rows, header, left=1, rule=True)}" if rows else ""


def _estimate(found: TargetEstimate | NoEstimate, short: _Short) -> list[str]:
    if isinstance(found, NoEstimate):
        return [clean(found.target), "-", "-", "-", "-", clean(found.error.partition("\n")[0])]
    fits = found.fits_one_context
    return [
        clean(found.target),
        number(found.fps, 1) if fits else "does not fit",
        number(found.latency_ms, 3) if fits else "-",
        number(found.clusters_needed),
        number(found.devices_needed),
        (short(found.bottleneck) or "-") if fits else _short_of(found),
    ]


#: What the columns call the resources of a cluster.
_RESOURCES = {
    "controllers": "LCU",
    "subclusters": "SC",
    "memory_units": "memory",
    "activation_units": "APU",
    "input_aligners": "IA",
}


def _short_of(found: TargetEstimate) -> str:
    short = [
        f"{clean(_RESOURCES.get(key, key))} {number(need)} of {number(found.have[key])}"
        for key, need in found.need.items()
        if key in found.have and need > found.have[key]
    ]
    return ", ".join(short) or "-"


def _cost(extra: Mapping[str, int]) -> str:
    return " ".join(f"{more:+d} {_RESOURCES[key]}" for key, more in extra.items() if key in _RESOURCES and more)


_ACCURACY: list[tuple[str, Cell]] = [
    ("SNR dB", lambda row: number(row.accuracy.snr_db if row.accuracy else None, 1)),
    ("codes", lambda row: number(row.accuracy.distinct_codes if row.accuracy else None)),
]
_SCHEDULE: list[tuple[str, ScheduledCell]] = [
    ("cluster", lambda row, layer: number(layer.cluster)),
    ("LCU", lambda row, layer: number(layer.controllers)),
    ("SC", lambda row, layer: number(layer.subclusters)),
    ("memory", lambda row, layer: number(layer.memory_units)),
    ("cycles", lambda row, layer: number(layer.cycles)),
    ("busy %", lambda row, layer: number(layer.utilization, 1)),
]
_CONTEXT: list[tuple[str, ScheduledCell]] = [("context", lambda row, layer: number(layer.context))]
_PLAYED: list[tuple[str, ScheduledCell]] = [
    ("simulated", lambda row, layer: number(row.simulation.cycles_per_frame if row.simulation else None))
]
_BOUND: list[tuple[str, ScheduledCell]] = [("bound by", lambda row, layer: clean(layer.bound))]


def _layers(report: ProfileReport) -> str:
    """Up to three tables: what the layers are, what they take, and what would make each faster."""
    rows, short = report.layers, _short(report)
    columns: list[tuple[str, Cell]] = [
        ("layer", lambda row: short(row.name)),
        ("kind", lambda row: clean(row.kind)),
        ("output", lambda row: _shape(row.output_shape)),
        ("MACs", lambda row: number(row.macs)),
        ("weights", lambda row: number(row.weights)),
        *(_ACCURACY if any(row.accuracy is not None for row in rows) else []),
    ]
    titles = [title for title, _ in columns]
    parts = [f"Layers\n{table([[cell(row) for _, cell in columns] for row in rows], titles, 2, rule=True)}"]
    scheduled = [(row, row.schedule) for row in rows if row.schedule is not None]
    if scheduled:
        parts.append(_schedule(scheduled, short))
        parts.append(_next_better(scheduled, short))
    return "\n\n".join(part for part in parts if part)


def _schedule(rows: Sequence[tuple[ProfiledLayer, ScheduledLayer]], short: _Short) -> str:
    """What each layer takes of the device."""
    many = any(layer.context is not None for _, layer in rows)
    played = any(row.simulation is not None for row, _ in rows)
    columns: list[tuple[str, ScheduledCell]] = [
        ("layer", lambda row, layer: short(row.name)),
        *(_CONTEXT if many else []),
        *_SCHEDULE,
        *(_PLAYED if played else []),
        *_BOUND,
    ]
    title = (
        "Schedule (LCU layer controllers, SC sub-clusters; cycles per frame: closed form;\n"
        "simulated: from a frame's first row to its last, stalls included)"
    )
    cells = [[cell(row, layer) for _, cell in columns] for row, layer in rows]
    return f"{title}\n{table(cells, [name for name, _ in columns], 1, rule=True)}"


def _next_better(rows: Sequence[tuple[ProfiledLayer, ScheduledLayer]], short: _Short) -> str:
    """Layers that could be faster, and what that would cost."""
    found: list[tuple[str, int, NextBetter]] = [
        (row.name, layer.cycles, layer.next_better) for row, layer in rows if layer.next_better is not None
    ]
    cells = [[short(name), number(now), number(best.cycles), _cost(best.extra)] for name, now, best in found]
    title = "Next better option of each layer (cycles per frame; APU activation units, IA input aligners)"
    header = ("layer", "cycles", "would be", "for")
    return f"{title}\n{table(cells, header, rule=True)}" if cells else ""
