# SPDX-License-Identifier: Apache-2.0
"""``headrace profile``: what is known of a network at its state."""

from __future__ import annotations

import json
from pathlib import Path

import click

from headrace.cli.options import force_option, hw_arch_option, json_option
from headrace.cli.output import emit, plain
from headrace.cli.stages import open_model
from headrace.errors import Diagnostic, NotBuiltYetError


@click.command()
@click.argument("har", metavar="HAR", type=click.Path(path_type=Path))
@hw_arch_option
@click.option("--out-path", "-o", type=click.Path(path_type=Path), help="Also write the report: .json or text.")
@click.option("--no-browser", is_flag=True, help="Accepted; no browser is opened.")
@force_option
@json_option
def profile(
    har: Path, hw_arch: str | None, out_path: Path | None, no_browser: bool, force: bool, as_json: bool
) -> None:
    """Report on a HAR of any state (or a model file).

    A native HAR shows layers and work; a quantized one adds accuracy; a compiled one adds speed, resources and
    bottlenecks. Every figure says whether it is a closed form, a simulation or a measurement.
    """
    from headrace.hn.outputs import TEXT_REPORT, Outputs
    from headrace.profiler import profile, render_text

    del no_browser
    if out_path is not None and out_path.suffix.lower() in (".html", ".htm", ".csv"):
        rule = "the report is not built yet in this format"
        raise NotBuiltYetError(
            Diagnostic("E-REPORT-FORMAT", str(out_path), rule, out_path.suffix, "a name that ends in .json or .txt")
        )
    outputs = Outputs([har, hw_arch], force)
    if out_path is not None:
        outputs.add("--out-path", out_path, TEXT_REPORT)
        outputs.check()
    runner = open_model(har, hw_arch, as_json)
    report = profile(runner.archive, runner.target)
    data = report.as_dict()
    text = "" if as_json and out_path is None else render_text(report)
    if out_path is not None:
        body = json.dumps(plain(data), indent=1, ensure_ascii=False) if out_path.suffix.lower() == ".json" else text
        outputs.write({out_path: (body.rstrip("\n") + "\n").encode()})
    emit(data, text, as_json)
