# SPDX-License-Identifier: Apache-2.0
"""``headrace build``: model file to HEF in one go."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.options import (
    Calibration,
    ManyCommand,
    batch_option,
    calibration_options,
    force_option,
    hw_arch_option,
    json_option,
    parse_shapes,
    parse_values,
    script_option,
    start_end_options,
)
from headrace.cli.output import emit
from headrace.cli.progress import expect
from headrace.cli.stages import CompileFiles, Translation, apply_script, compile_to, translate


@click.command(cls=ManyCommand)
@click.argument("model", type=click.Path(path_type=Path))
@calibration_options
@click.option("--output", "-o", "hef_path", type=click.Path(path_type=Path), help="HEF to write; default: <net>.hef.")
@start_end_options
@hw_arch_option
@script_option
@click.option("--output-har-path", type=click.Path(path_type=Path), help="Default: <net>_compiled.har beside the HEF.")
@batch_option
@force_option
@json_option
def build(
    model: Path,
    calibration: Calibration,
    hef_path: Path | None,
    net_name: str | None,
    start_node_names: tuple[str, ...],
    end_node_names: tuple[str, ...],
    tensor_shapes: tuple[str, ...],
    input_values: tuple[str, ...],
    signature: str | None,
    device_only: bool,
    hw_arch: str | None,
    model_script: Path | None,
    output_har_path: Path | None,
    batch: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Translate, quantize and compile MODEL in one go."""
    calibration.check()
    shapes, values = parse_shapes(tensor_shapes), parse_values(input_values)
    folder = hef_path.parent if hef_path is not None else None
    inputs = (model, model_script, calibration.path, hw_arch)
    files = CompileFiles(folder, hef_path, output_har_path, hef_option="--output", inputs=inputs, force=force)
    files.check()
    expect("parse", "optimize", "compile")
    how = Translation(net_name, start_node_names, end_node_names, shapes, None, device_only, values, signature)
    runner = translate(model, hw_arch, how, as_json)
    apply_script(runner, model_script)
    result = compile_to(runner, calibration, files, as_json, batch)
    emit(result.data, result.text, as_json)
