# SPDX-License-Identifier: Apache-2.0
"""The report of a HAR for people: an HTML page, and its layers as CSV."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable
from pathlib import Path

import headrace
from headrace import reports
from headrace.hn.archive import Archive
from headrace.pages import page
from headrace.profiler.weights import weight_facts
from headrace.reports.page import PageCommand, ProfilePage
from headrace.reports.profile import ProfiledLayer, ProfileReport


def profile_page(archive: Archive, profile: ProfileReport, source: Path) -> ProfilePage:
    """What the page of a HAR shows.

    Args:
        archive: of any state.
        profile: its report.
        source: the HAR's file, for the commands that give the same figures.
    """
    known = reports.of(archive)
    optimized = known.optimize
    return ProfilePage(
        kind="profile",
        headrace=headrace.__version__,
        profile=profile,
        parse=known.parse,
        passes=() if optimized is None else optimized.passes,
        algorithms=() if optimized is None else optimized.algorithms,
        from_file=None if optimized is None else optimized.from_file,
        weights=weight_facts(archive),
        compiled=known.compile,
        commands=_commands(source.name),
    )


def render_html(shown: ProfilePage) -> bytes:
    """The page as one HTML file.

    Raises:
        NotBuiltYetError: ``E-PAGES-MISSING``: this installation has no pages.
    """
    return page("report", f"{shown.profile.name}: Headrace's report", shown)


def _commands(name: str) -> tuple[PageCommand, ...]:
    quoted, runner = shlex.quote(name), f"ClientRunner(har={name!r})"
    return (
        PageCommand(what="everything", command=f"headrace profile {quoted} --json", python=f"{runner}.profile()"),
        PageCommand(
            what="layers as a table",
            command=f"headrace profile {quoted} -o layers.csv",
            python=f"{runner}.profile()['layers']",
        ),
        PageCommand(
            what="what became of a node",
            command=f"headrace har explain {quoted} NODE",
            python=f"{runner}.parse_report['placement']",
        ),
    )


# --- CSV -------------------------------------------------------------------------------------------------------------

_Column = tuple[str, Callable[[ProfiledLayer], object]]


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


_COLUMNS: tuple[_Column, ...] = (
    ("layer", lambda x: x.name),
    ("kind", lambda x: x.kind),
    ("inputs", lambda x: " ".join(x.inputs)),
    ("input_shapes", lambda x: " ".join(map(_shape, x.input_shapes))),
    ("output_shape", lambda x: _shape(x.output_shape)),
    ("original_names", lambda x: " ".join(x.original_names)),
    ("macs", lambda x: x.macs),
    ("weights", lambda x: x.weights),
    ("operations", lambda x: x.operations),
    ("snr_db", lambda x: x.accuracy and x.accuracy.snr_db),
    ("bits", lambda x: x.accuracy and x.accuracy.scale.bits),
    ("range_low", lambda x: x.accuracy and x.accuracy.range[0]),
    ("range_high", lambda x: x.accuracy and x.accuracy.range[1]),
    ("distinct_codes", lambda x: x.accuracy and x.accuracy.distinct_codes),
    ("saturated_percent", lambda x: x.accuracy and x.accuracy.saturated_percent),
    ("context", lambda x: x.schedule and (x.schedule.context or 0)),
    ("cluster", lambda x: x.schedule and x.schedule.cluster),
    ("cycles", lambda x: x.schedule and x.schedule.cycles),
    ("utilization_percent", lambda x: x.schedule and x.schedule.utilization),
    ("bound", lambda x: x.schedule and x.schedule.bound),
    ("controllers", lambda x: x.schedule and x.schedule.controllers),
    ("subclusters", lambda x: x.schedule and x.schedule.subclusters),
    ("memory_units", lambda x: x.schedule and x.schedule.memory_units),
    ("simulated_busy_cycles", lambda x: x.simulation and x.simulation.busy_cycles),
    ("simulated_cycles_per_frame", lambda x: x.simulation and x.simulation.cycles_per_frame),
    ("simulated_stall_input_cycles", lambda x: x.simulation and x.simulation.stall_input_cycles),
    ("simulated_stall_output_cycles", lambda x: x.simulation and x.simulation.stall_output_cycles),
)
#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_csv(report: ProfileReport) -> str:
    """A row for each layer; a field is empty where its state has no such figure, or the layer is exact (``snr_db``).

    Names come from model files: one that a spreadsheet would run as a formula has an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(title for title, _ in _COLUMNS)
    for layer in report.layers:
        values = (value(layer) for _, value in _COLUMNS)
        writer.writerow("'" + v if isinstance(v, str) and v.startswith(_FORMULA) else v for v in values)
    return text.getvalue()
