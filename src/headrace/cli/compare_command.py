# SPDX-License-Identifier: Apache-2.0
"""``headrace compare``: what differs between two networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.options import force_option, hw_arch_option, json_option
from headrace.cli.output import emit, json_bytes, number, table
from headrace.cli.stages import open_model
from headrace.text import layer_name

if TYPE_CHECKING:
    from headrace.reports.difference import DifferenceReport
    from headrace.reports.profile import ProfileReport
    from headrace.reports.record import Json

_SHOWN = 200


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@hw_arch_option
@click.option("--out-path", "-o", type=click.Path(path_type=Path), help="Also write the result: .html, .json or .txt.")
@force_option
@json_option
def compare(first: Path, second: Path, hw_arch: str | None, out_path: Path | None, force: bool, as_json: bool) -> None:
    """Tell what differs between A and B: HARs of any state, or model files.

    Layers are matched by their names, by the nodes of the file that they stand for, and by their place in the graph.
    Only what differs is shown.
    """
    from headrace.hn.outputs import COMPARISON, Outputs
    from headrace.profiler import profile
    from headrace.profiler.difference import difference

    outputs = Outputs([first, second, hw_arch], force)
    if out_path is not None:
        outputs.add("--out-path", out_path, COMPARISON)
        outputs.check()
    reports: list[ProfileReport] = []
    for path in (first, second):
        runner = open_model(path, hw_arch, as_json)
        reports.append(profile(runner.archive, runner.target))
    found = difference(reports[0], reports[1], (first.name, second.name))
    data = found.as_dict()
    if out_path is not None:
        outputs.write({out_path: _rendered(out_path.suffix.lower(), found, data)})
    emit(data, lambda: text(data), as_json)


def _rendered(suffix: str, found: DifferenceReport, data: dict[str, Json]) -> bytes:
    """The result, ``data`` its JSON object, in the form that a name's end asks for."""
    if suffix == ".html":
        from headrace.pages import page

        return page("compare", f"{found.first.source} and {found.second.source}", found)
    return json_bytes(data) if suffix == ".json" else (text(data) + "\n").encode()


def text(data: dict[str, Any]) -> str:
    """The report for people."""
    head = [
        (
            f"{which}: {side['source']}",
            f"{side['name']}, {side['state']}, target {side['hw_arch']}, {side['layers']} layers",
        )
        for which, side in (("A", data["first"]), ("B", data["second"]))
    ]
    parts = [table(head)]
    if data["totals"]:
        parts.append(table([_row(change) for change in data["totals"]], ("network", "A", "B")))
    rows = [(_name(pair), *_row(change)) for pair in data["changed"] for change in pair["changes"]]
    if rows:
        parts.append(table(rows[:_SHOWN], ("layer", "what", "A", "B")))
    if len(rows) > _SHOWN:
        parts.append(f"and {len(rows) - _SHOWN} more; --json has all")
    for which, key in (("A", "only_first"), ("B", "only_second")):
        if data[key]:
            parts.append(f"only in {which}: {_some(data[key])}")
    parts.append(f"{data['same']} layers are the same in both" if rows or data["totals"] else "nothing differs")
    return "\n\n".join(parts)


def _name(pair: dict[str, Any]) -> str:
    first, second = (layer_name(name) for name in (pair["first"], pair["second"]))
    return first if first == second else f"{first} → {second}"


def _row(change: dict[str, Any]) -> tuple[str, str, str]:
    return change["what"], _value(change["before"]), _value(change["after"])


def _value(value: Json) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value[:8]) + (" …" if len(value) > 8 else "") or "nothing"
    return str(value)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(layer_name(name) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
