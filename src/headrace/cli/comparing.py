# SPDX-License-Identifier: Apache-2.0
"""``headrace parse --compare``: a network beside the runtime of its file."""

from __future__ import annotations

from pathlib import Path

from headrace.cli.progress import progress
from headrace.cli.stages import Translation
from headrace.errors import AccuracyError, Diagnostic
from headrace.reports.comparison import ComparisonReport, TensorFigures


def compare_with_file(model: Path, how: Translation, data: Path | None, seed: int, quiet: bool) -> ComparisonReport:
    """The report of a comparison in which all outputs agree.

    Raises:
        AccuracyError: one differs; with the first tensor that does.
        MissingExtraError: the file's runtime is not installed.
    """
    from headrace.comparison import compare

    with progress("compare", quiet):
        report = compare(model, how.options, data, seed=seed)
    if not report.agrees:
        found = report.first or max(report.outputs, key=lambda entry: entry.difference)
        need = f"{report.tolerance:g} of the range at most"
        rule = "the network differs from the file's own runtime"
        raise AccuracyError(Diagnostic("E-COMPARE-DIFFERS", found.tensor, rule, comparison_text(report), need))
    return report


def comparison_text(report: ComparisonReport) -> str:
    """The report for people: one line where all outputs agree, else what differs, and how."""
    count = f"{report.frames} frame{'s' if report.frames > 1 else ''}"
    head = f"{report.network} and {report.runtime} on {count} ({report.inputs}): "
    worst = max(report.outputs, key=lambda found: found.difference)
    if report.agrees:
        return f"{head}{len(report.outputs)} outputs agree, {worst.difference:.2g} of the range at most"
    text = f"{head}output {worst.tensor!r} differs by {worst.difference:.2g} of its range; "
    found = report.first or worst
    if report.first is not None:
        made = f", made by {found.operator} {found.node!r}" if found.node else ""
        text += f"the first tensor that differs is {found.tensor!r}{made}"
    elif report.changed_by:
        text += f"every tensor of the file agrees until pass {report.changed_by} changes layers"
    where = f" at {list(found.position)}" if found.position else ""
    text += f": shape {list(found.shape)}, largest difference {found.difference:.2g} of the range{where}"
    return f"{text}; runtime {_figures_text(found.runtime)}; native {_figures_text(found.native)}"


def _figures_text(found: TensorFigures) -> str:
    text = f"{found.least:.6g} … {found.greatest:.6g}, mean {found.mean:.6g}, deviation {found.deviation:.6g}"
    return f"{text}, {found.not_finite} not finite" if found.not_finite else text
