# SPDX-License-Identifier: Apache-2.0
"""``headrace compile``: a quantised network into an executable."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.options import (
    batch_option,
    calibration_options,
    force_option,
    hw_arch_option,
    json_option,
    script_option,
)
from headrace.cli.output import emit
from headrace.cli.stages import Calibration, CompileFiles, apply_script, compile_to, open_model


@click.command("compile")
@click.argument("har", metavar="HAR", type=click.Path(path_type=Path))
@hw_arch_option
@script_option
@calibration_options
@click.option("--auto-model-script", type=click.Path(path_type=Path), metavar="FILE", help="Write the resolved script.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for results with default names.")
@click.option("--output-har-path", type=click.Path(path_type=Path), help="Default: <net>_compiled.har.")
@click.option("--hef-path", "-o", type=click.Path(path_type=Path), help="Default: <net>.hef.")
@batch_option
@force_option
@json_option
def compile_(
    har: Path,
    hw_arch: str | None,
    model_script: Path | None,
    calib_set_path: Path | None,
    resize: str | None,
    use_random_calib_set: bool,
    calib_random_max: float,
    min_snr: float,
    auto_model_script: Path | None,
    output_dir: Path | None,
    output_har_path: Path | None,
    hef_path: Path | None,
    batch: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compile HAR for a device; writes a HEF and a compiled HAR.

    A HAR that is not quantised yet (or a model file) is quantised first, which needs calibration data. A network that
    does not fit ends in a report: which resource, how much is needed and there, and what to change.
    """
    inputs = (har, model_script, calib_set_path, hw_arch)
    files = CompileFiles(output_dir, hef_path, output_har_path, auto_model_script, inputs=inputs, force=force)
    files.check()
    runner = open_model(har, hw_arch, as_json, stages=("optimize", "compile"))
    apply_script(runner, model_script)
    calibration = Calibration(calib_set_path, use_random_calib_set, calib_random_max, min_snr, resize)
    result = compile_to(runner, calibration, files, as_json, batch)
    emit(result.data, result.text, as_json)
