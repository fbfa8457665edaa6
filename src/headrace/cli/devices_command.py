# SPDX-License-Identifier: Apache-2.0
"""``headrace devices``: the virtual devices of this computer. Needs neither torch nor onnx."""

from __future__ import annotations

import click

from headrace.cli.options import json_option
from headrace.cli.output import emit, table


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the virtual devices, one per target, and the kernel sets this processor can run them with."""
    from headrace.runtime.devices import scan

    found = scan()
    emit({"devices": found}, lambda: table([], ()), as_json)
