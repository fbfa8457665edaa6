# SPDX-License-Identifier: Apache-2.0
"""``headrace optimize``: a float network into integers."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.options import (
    Calibration,
    calibration_options,
    force_option,
    hw_arch_option,
    json_option,
    script_option,
)
from headrace.cli.output import emit
from headrace.cli.stages import (
    apply_script,
    one_har,
    open_model,
    save_optimized,
    summary,
    summary_text,
)


@click.command()
@click.argument("har", metavar="HAR", type=click.Path(path_type=Path))
@calibration_options
@script_option
@hw_arch_option
@click.option("--output-har-path", "-o", type=click.Path(path_type=Path), help="Default: <net>_optimized.har.")
@click.option("--full-precision-only", is_flag=True, help="Apply the model script in float and stop there.")
@click.option(
    "--work-dir", type=click.Path(path_type=Path), metavar="FOLDER", help="Accepted; no scratch files are written."
)
@force_option
@json_option
def optimize(
    har: Path,
    calibration: Calibration,
    model_script: Path | None,
    hw_arch: str | None,
    output_har_path: Path | None,
    full_precision_only: bool,
    force: bool,
    as_json: bool,
    work_dir: Path | None,
) -> None:
    """Quantize HAR (or a model file) with calibration data.

    The arithmetic is frozen here: emulator and virtual device give the same bytes from now on. An output whose
    signal-to-noise ratio against float is below --min-snr is an error.
    """
    from headrace.cli.report_text import accuracy_text
    from headrace.hn.outputs import Outputs

    del work_dir
    if full_precision_only:
        calibration.refuse("--full-precision-only", "nothing is calibrated")
    else:
        calibration.check()
    outputs = Outputs([har, calibration.path, model_script, hw_arch], force)
    path_of = one_har(outputs, "--output-har-path", output_har_path)
    runner = open_model(har, hw_arch, as_json, stages=("optimize",))
    apply_script(runner, model_script)
    target = path_of(runner, "_optimized.har")
    if full_precision_only:
        runner.optimize_full_precision()
        outputs.write({target: runner.dump_har()})
        report = None
    else:
        report = save_optimized(runner, outputs, target, calibration, as_json)
    facts = summary(runner)
    data = {**facts, "har": str(target), "report": report.as_dict() if report else {}}
    emit(data, lambda: f"{summary_text(facts)}\n{accuracy_text(report)}wrote {target}", as_json)
