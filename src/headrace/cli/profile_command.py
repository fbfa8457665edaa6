# SPDX-License-Identifier: Apache-2.0
"""``headrace profile``: what is known of a network at its state."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.options import force_option, hw_arch_option, json_option
from headrace.cli.output import emit, json_bytes
from headrace.cli.stages import open_model

if TYPE_CHECKING:
    from headrace.reports.profile import ProfileReport
    from headrace.runner import ClientRunner


@click.command()
@click.argument("har", metavar="HAR", type=click.Path(path_type=Path))
@hw_arch_option
@click.option(
    "--out-path",
    "-o",
    type=click.Path(path_type=Path),
    help="Also write the report: .html (a page), .json, .csv (layers) or .txt.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the page that was written.")
@force_option
@json_option
def profile(
    har: Path, hw_arch: str | None, out_path: Path | None, no_browser: bool, force: bool, as_json: bool
) -> None:
    """Report on a HAR of any state (or a model file).

    A native HAR shows layers and work; a quantized one adds accuracy; a compiled one adds speed, resources and
    bottlenecks. Every figure says whether it is a closed form, a simulation or a measurement.
    """
    from headrace.hn.outputs import PROFILE_REPORT, Outputs
    from headrace.profiler import profile, render_text

    outputs = Outputs([har, hw_arch], force)
    if out_path is not None:
        outputs.add("--out-path", out_path, PROFILE_REPORT)
        outputs.check()
    runner = open_model(har, hw_arch, as_json)
    report = profile(runner.archive, runner.target)
    if out_path is not None:
        outputs.write({out_path: _rendered(out_path.suffix.lower(), har, runner, report)})
    emit(report.as_dict(), lambda: render_text(report), as_json)
    if out_path is not None and out_path.suffix.lower() == ".html" and not no_browser:
        _show(out_path)


def _rendered(suffix: str, source: Path, runner: ClientRunner, report: ProfileReport) -> bytes:
    """The report in the form that a name's end asks for."""
    from headrace.profiler import page, render_text

    if suffix == ".html":
        return page.render_html(page.profile_page(runner.archive, report, source))
    if suffix == ".csv":
        return page.render_csv(report).encode()
    if suffix == ".json":
        return json_bytes(report.as_dict())
    return (render_text(report).rstrip("\n") + "\n").encode()


def _show(path: Path) -> None:
    """Open a page in the browser of a person's desk; where there is no screen, nobody would see it."""
    with_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if os.name == "posix" and sys.platform != "darwin" and not with_screen:
        return
    webbrowser.open(path.resolve().as_uri())
