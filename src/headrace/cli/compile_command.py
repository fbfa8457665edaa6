# SPDX-License-Identifier: Apache-2.0
"""``headrace compile``: a quantized network into an executable."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.options import (
    Calibration,
    batch_option,
    calibration_options,
    force_option,
    given,
    hw_arch_option,
    json_option,
    refuse,
    script_option,
)
from headrace.cli.output import emit
from headrace.cli.stages import CompileFiles, apply_script, compile_to, open_model


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
    calibration: Calibration,
    auto_model_script: Path | None,
    output_dir: Path | None,
    output_har_path: Path | None,
    hef_path: Path | None,
    batch: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compile HAR for a device; writes a HEF and a compiled HAR.

    A HAR that is not quantized yet (or a model file) is quantized first, which needs calibration data. A network that
    does not fit ends in a report: which resource, how much is needed and there, and what to change.
    """
    inputs = (har, model_script, calibration.path, hw_arch)
    files = CompileFiles(output_dir, hef_path, output_har_path, auto_model_script, inputs=inputs, force=force)
    files.check()
    if hef_path is not None and output_har_path is not None:
        refuse(given("output_dir"), "--hef-path, --output-har-path", "both results have paths of their own")
    runner = open_model(har, hw_arch, as_json, stages=("optimize", "compile"))
    apply_script(runner, model_script)
    result = compile_to(runner, calibration, files, as_json, batch)
    emit(result.data, result.text, as_json)
