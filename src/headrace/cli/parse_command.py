# SPDX-License-Identifier: Apache-2.0
"""``headrace parse`` and ``headrace parser onnx|tflite|tf``: a model file into a HAR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace import reports
from headrace.cli.app import SuggestingGroup
from headrace.cli.comparing import compare_with_file, comparison_text
from headrace.cli.explaining import explain_file
from headrace.cli.options import (
    ManyCommand,
    force_option,
    given,
    hw_arch_option,
    json_option,
    parse_shapes,
    parse_values,
    refuse,
    start_end_options,
)
from headrace.cli.output import emit, json_bytes
from headrace.cli.report_text import placement_text, readable
from headrace.cli.stages import Translation, one_har, summary, summary_text, translate

if TYPE_CHECKING:
    from headrace.frontends.options import Framework

#: Subcommands of `parser`, and what a model has to be of. Which format it is in, its content says.
_FRAMEWORKS: dict[str, Framework] = {
    "onnx": "onnx",
    "tflite": "tensorflow",
    "tf": "tensorflow",
    "ckpt": "tensorflow",
}


@click.command(cls=ManyCommand)
@click.argument("model", type=click.Path(path_type=Path))
@start_end_options
@hw_arch_option
@click.option("--har-path", "-o", type=click.Path(path_type=Path), help="HAR to write; default: <net>.har.")
@click.option("--parsing-report-path", type=click.Path(path_type=Path), help="Also write the report as JSON.")
@click.option("--explain", multiple=True, metavar="NAME...", help="Only tell what became of nodes, tensors or layers.")
@click.option("--compare", "compared", is_flag=True, help="Compare with the file's own runtime, tensor by tensor.")
@click.option(
    "--compare-data", type=click.Path(path_type=Path), metavar="PATH", help="Data for --compare; default: random."
)
@click.option("--compare-seed", type=click.IntRange(min=0), metavar="N", help="Seed of random data for --compare.")
@click.option("-y", "yes", is_flag=True, help="Accepted; nothing is ever asked.")
@click.option("--disable-onnx-simplifier", is_flag=True, help="Accepted; there is no simplifier that could be needed.")
@click.option("--disable-rt-metadata-extraction", is_flag=True, help="Accepted; what is cut off is never kept.")
@force_option
@json_option
def parse(
    model: Path,
    net_name: str | None,
    start_node_names: tuple[str, ...],
    end_node_names: tuple[str, ...],
    tensor_shapes: tuple[str, ...],
    input_values: tuple[str, ...],
    signature: str | None,
    device_only: bool,
    hw_arch: str | None,
    har_path: Path | None,
    parsing_report_path: Path | None,
    explain: tuple[str, ...],
    compared: bool,
    compare_data: Path | None,
    compare_seed: int | None,
    force: bool,
    as_json: bool,
    **_accepted: bool,
) -> None:
    """Translate the trained network MODEL (ONNX, TFLite, TensorFlow, Keras) into a HAR.

    Everything that is not supported is reported at once, with name, type and reason.
    """
    from headrace.hn.outputs import JSON_REPORT, Outputs

    if not compared:
        refuse(given("compare_data", "compare_seed"), "parse", "nothing is compared", ("--compare",))
    elif compare_data is not None:
        refuse(given("compare_seed"), "--compare-data", "nothing random is made up")
    shapes, values = parse_shapes(tensor_shapes), parse_values(input_values)
    framework = _FRAMEWORKS.get(click.get_current_context().info_name or "")
    how = Translation(net_name, start_node_names, end_node_names, shapes, framework, device_only, values, signature)
    if explain:
        idle = given("har_path", "parsing_report_path", "force", "compared", "hw_arch")
        refuse(idle, "--explain", "nothing is written or compared")
        explain_file(model, how, explain, as_json)
        return
    outputs = Outputs([model, hw_arch], force)
    if parsing_report_path is not None:
        outputs.add("--parsing-report-path", parsing_report_path, JSON_REPORT)
    path_of = one_har(outputs, "--har-path", har_path)
    outputs.check()
    runner = translate(model, hw_arch, how, as_json)
    comparison = compare_with_file(model, how, compare_data, compare_seed or 0, as_json) if compared else None
    target = path_of(runner, ".har")
    report = runner.parse_report
    written = {target: runner.dump_har()}
    if parsing_report_path is not None:
        written[parsing_report_path] = json_bytes(report)
    outputs.write(written)
    facts = summary(runner)
    data = {**facts, "har": str(target), "report": report}
    lines = [text for text in [placement_text(readable(lambda: reports.of(runner.archive).parse))] if text]
    lines.append(f"wrote {target}")
    if comparison is not None:
        data["comparison"] = comparison.as_dict()
        lines.insert(0, comparison_text(comparison))
    emit(data, lambda: "\n".join([summary_text(facts), *lines]), as_json)


@click.group(cls=SuggestingGroup)
def parser() -> None:
    """Translate a trained network: `headrace parser onnx|tflite|tf MODEL` is `headrace parse MODEL`.

    A model of another framework than the command says is an error.
    """


for _format in _FRAMEWORKS:
    parser.add_command(parse, _format)
