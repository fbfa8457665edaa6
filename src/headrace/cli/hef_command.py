# SPDX-License-Identifier: Apache-2.0
"""``headrace hef info|disassemble``, and ``parse-hef``: what an executable holds. Needs neither torch nor onnx."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.app import SuggestingGroup
from headrace.cli.options import json_option
from headrace.cli.output import emit


@click.group(cls=SuggestingGroup)
def hef() -> None:
    """Look into a HEF, the executable."""


def _info(path: Path, as_json: bool) -> None:
    from headrace.hef.container import read_hef_file
    from headrace.hef.shown import describe, hef_info

    content = read_hef_file(path)
    emit(hef_info(content) if as_json else {}, lambda: describe(content), as_json)


@hef.command()
@click.argument("path", metavar="HEF", type=click.Path(path_type=Path))
@json_option
def info(path: Path, as_json: bool) -> None:
    """Show streams, shapes, scales, target and figures."""
    _info(path, as_json)


@hef.command()
@click.argument("path", metavar="HEF", type=click.Path(path_type=Path))
@json_option
def disassemble(path: Path, as_json: bool) -> None:
    """List the program: target, tensors, kernels, stages, buffers."""
    from headrace.hef.container import read_hef_file
    from headrace.hef.disassembler import as_dict
    from headrace.hef.disassembler import disassemble as listing

    program = read_hef_file(path).program()
    emit(as_dict(program) if as_json else {}, lambda: listing(program), as_json)


@click.command("parse-hef")
@click.argument("path", metavar="HEF", type=click.Path(path_type=Path))
@click.option("--parse-streams", is_flag=True, help="Accepted; streams are always shown.")
@click.option("--parse-vstreams", is_flag=True, help="Accepted; streams are always shown.")
@json_option
def parse_hef(path: Path, parse_streams: bool, parse_vstreams: bool, as_json: bool) -> None:
    """Show streams, shapes, scales, target and figures: the same as `hef info`."""
    del parse_streams, parse_vstreams
    _info(path, as_json)
