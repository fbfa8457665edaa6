# SPDX-License-Identifier: Apache-2.0
"""``headrace har info|extract|explain``: what an archive holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from headrace.cli.app import SuggestingGroup
from headrace.cli.options import force_option, given, json_option, refuse
from headrace.cli.output import emit, table
from headrace.cli.report_text import boxes_text
from headrace.typeguards import is_object


@click.group(cls=SuggestingGroup)
def har() -> None:
    """Look into a HAR, the archive that carries a network through the stages."""


@har.command()
@click.argument("path", metavar="HAR", type=click.Path(path_type=Path))
@json_option
def info(path: Path, as_json: bool) -> None:
    """Show name, state, target, digest, members and history."""
    from headrace.hn import archive
    from headrace.hn.parameters import check_archive

    parts = archive.open_members(path)
    opened = archive.from_members(parts, str(path))
    check_archive(opened)
    facts = archive.info(parts, opened)
    emit(facts, lambda: _describe(facts), as_json)


@har.command()
@click.argument("path", metavar="HAR", type=click.Path(path_type=Path))
@click.argument("members", nargs=-1, metavar="[MEMBER]...")
@click.option(
    "--output-dir", type=click.Path(path_type=Path), default=Path(), help="Folder to write to; default: here."
)
@click.option(
    "--auto-model-script-path", type=click.Path(path_type=Path), metavar="FILE", help="Write only the resolved script."
)
@force_option
@json_option
def extract(
    path: Path,
    members: tuple[str, ...],
    output_dir: Path,
    auto_model_script_path: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the members (all, or those named) as files."""
    from headrace.errors import Diagnostic, UsageError
    from headrace.hn import archive
    from headrace.hn.outputs import RESOLVED_SCRIPT, Outputs, resolved_script_bytes

    parts = archive.open_members(path)
    if auto_model_script_path is not None:
        idle = (*given("output_dir"), *members)
        refuse(idle, "--auto-model-script-path", "only the resolved script is written")
        outputs = Outputs([path], force)
        outputs.add("--auto-model-script-path", auto_model_script_path, RESOLVED_SCRIPT)
        outputs.check()
        script = archive.from_members(parts, str(path)).resolved_script
        if not script:
            rule, need = "the HAR holds no resolved script", "a HAR of a later state than native"
            raise UsageError(Diagnostic("E-HAR-NO-MEMBER", str(path), rule, need=need))
        outputs.write({auto_model_script_path: resolved_script_bytes(script)})
        written = [str(auto_model_script_path)]
    else:
        written = archive.extract(parts, str(path), output_dir, list(members) or None, force)
    emit({"files": written}, "\n".join(written), as_json)


@har.command()
@click.argument("path", metavar="HAR", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
def explain(path: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Tell what became of nodes, tensors and layers: which layer, in which pattern, on the host and why."""
    from headrace import reports
    from headrace.cli.explaining import explain_names
    from headrace.errors import Diagnostic, UsageError
    from headrace.hn import archive

    opened = archive.from_members(archive.open_members(path), str(path))
    report = reports.of(opened).parse
    if report is None:
        rule, need = "the HAR holds no report of parsing", "a HAR that `headrace parse` wrote"
        raise UsageError(Diagnostic("E-HAR-NO-MEMBER", str(path), rule, need=need))
    explain_names(report, names, as_json)


def _describe(facts: dict[str, Any]) -> str:
    head = [
        ("name", facts["name"]),
        ("state", facts["state"]),
        ("target", facts["hw_arch"]),
        ("digest", facts["digest"]),
    ]
    if "nms" in facts:
        found = facts["nms"]
        head += [("NMS meta-arch", found["meta_arch"]), ("NMS", boxes_text(found))]
    members = [(member["name"], f"{member['bytes']:,}") for member in facts["members"]]
    parts = [table(head), "", table(members, ("member", "bytes"))]
    if facts["history"]:
        steps = [(str(step.get("stage", "?")), _options(step)) for step in facts["history"] if is_object(step)]
        parts += ["", table(steps, ("stage", "what it did"))]
    return "\n".join(parts)


def _options(step: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in step.items() if key != "stage")[:400]
