# SPDX-License-Identifier: Apache-2.0
"""``headrace devices``: the virtual devices of this computer. Needs neither torch nor onnx."""

from __future__ import annotations

import click

from headrace.cli.options import json_option
from headrace.cli.output import emit, number, table


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the virtual devices, one per target, and the kernel sets this processor can run them with."""
    from headrace.runtime.devices import scan

    found = [device.as_dict() for device in scan()]
    header = ("name", "clusters", "MHz", "int8 TOPS", "device")
    rows = [
        (
            d["arch"],
            f"{d['clusters']}",
            number(d["clock_hz"] / 1e6),
            number(d["tera_operations_per_second"], 3),
            d["title"],
        )
        for d in found
    ]
    sets = ", ".join(found[0]["kernel_sets"]) if found else ""
    host = (
        f"kernel sets of this processor: {sets}" if sets else "the native library is not built: no device can be opened"
    )
    emit({"devices": found}, lambda: f"{table(rows, header)}\n\n{host}", as_json)
