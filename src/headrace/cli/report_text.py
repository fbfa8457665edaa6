# SPDX-License-Identifier: Apache-2.0
"""What the commands say of reports in a line or two. Everything is in the data (``--json``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from headrace.cli.output import number, table, warn
from headrace.errors import InputFileError
from headrace.reports.optimize import OptimizeReport, OutputAccuracy, PartAccuracy
from headrace.reports.parse import ParseReport, PlacedNode
from headrace.reports.timing import TimingReport

_T = TypeVar("_T")


def readable(read: Callable[[], _T | None]) -> _T | None:
    """A report where only a line of text depends on it: one that breaks a rule is named in a warning and left out."""
    try:
        return read()
    except InputFileError as error:
        first = error.diagnostics[0]
        warn(f"{first.where}: {first.rule}; it is left out here")
        return None


def accuracy_text(report: OptimizeReport | None) -> str:
    """SNR of each output and of its worst part, a line each; empty without a report."""
    if report is None or not report.outputs:
        return ""
    several = any(len(output.parts) > 1 for output in report.outputs.values())
    rows = [
        (name, _decibels(output.snr_db), *([_worst_part(output)] if several else []))
        for name, output in report.outputs.items()
    ]
    header = ("output", "SNR (quantized against float)", *(["worst part"] if several else []))
    return table(rows, header) + "\n"


def _worst_part(output: OutputAccuracy) -> str:
    """``conv4 [:, :, 4:10] 26.9 dB`` where an output has several parts."""
    worst: PartAccuracy | None = next((part for part in output.parts if part.name == output.worst), None)
    if worst is None or len(output.parts) < 2:
        return ""
    return " ".join(text for text in (worst.name, worst.place, _decibels(worst.snr_db)) if text)


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"


def speed_text(timing: TimingReport | None) -> str:
    """The device's simulated speed in one line; empty without a report."""
    if timing is None:
        return ""
    return f"device speed (simulated): {number(timing.fps)} frames/s, latency {number(timing.latency_ms)} ms\n"


def boxes_text(found: Mapping[str, Any]) -> str:
    """What makes boxes of a detector's outputs, in a line: ``found`` is an NMS configuration as data."""
    limits = f"score threshold {found['nms_scores_th']:g}, IoU threshold {found['nms_iou_th']:g}"
    most = f"at most {found['max_proposals_per_class']} boxes per class"
    return f"{found['classes']} classes, {limits}, {most}; made on the host"


_SHOWN_REASONS = 12
_SHOWN_NODES = 4  # of one reason


def placement_text(report: ParseReport | None) -> str:
    """Nodes on the host or nowhere for reasons of their own, a line for each reason; empty where there are none."""
    placed = () if report is None else report.placement
    text = [_placed_text("on the host", [n for n in placed if n.place == "host"], placed)]
    text.append(_placed_text("not computed", [n for n in placed if n.place == "nowhere"], placed))
    return "\n".join(part for part in text if part)


def _placed_text(title: str, here: Sequence[PlacedNode], placed: Sequence[PlacedNode]) -> str:
    if not here:
        return ""
    alike: dict[tuple[str, str], list[PlacedNode]] = {}
    for node in here:
        if node.reason and not node.reason.endswith(("which is on the host", "which nothing runs")):
            alike.setdefault((node.reason, node.rewrite), []).append(node)
    lines = [f"{title}, {len(here)} of {sum(n.place in ('device', 'host', 'nowhere') for n in placed)} nodes:"]
    for (reason, rewrite), nodes in list(alike.items())[:_SHOWN_REASONS]:
        named = ", ".join(f"{node.node} ({node.operator})" for node in nodes[:_SHOWN_NODES])
        more = f" and {len(nodes) - _SHOWN_NODES} more" if len(nodes) > _SHOWN_NODES else ""
        lines.append(f"  {named}{more}: {reason}" + (f" (on the device with: {rewrite})" if rewrite else ""))
    left = len(here) - sum(map(len, list(alike.values())[:_SHOWN_REASONS]))
    if left:
        lines.append(f"  and {left} more that they need or that depend on them; --json names all")
    return "\n".join(lines)
