# SPDX-License-Identifier: Apache-2.0
"""What pages show: reports of the package, put together for one page, as the user interface (`ui/`) reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from headrace.reports.optimize import Decision, FileFacts, PassRecord
from headrace.reports.parse import ParseReport
from headrace.reports.profile import ProfileReport
from headrace.reports.record import Record, Report, record
from headrace.reports.schedule import CompileReport


@record
class PageCommand(Record):
    """The way to figures of the page without the page."""

    what: Annotated[str, "figures that it gives"]
    command: Annotated[str, "a line of the shell"]
    python: Annotated[str, "the same in Python"]


@record
class ProfilePage(Report):
    """The profiler's report as a page: what a HAR knows of its network, from the file to the device."""

    kind: Annotated[Literal["profile"], "the kind of page"]
    headrace: Annotated[str, "version of Headrace"]
    profile: Annotated[ProfileReport, "layer by layer"]
    parse: Annotated[ParseReport | None, "the file, and what became of it; null: the HAR does not say"]
    passes: Annotated[tuple[PassRecord, ...], "changes that made layers with an integer form"]
    algorithms: Annotated[tuple[Decision, ...], "what optimization proposed, and what became of it"]
    from_file: Annotated[FileFacts | None, "of a file that was quantized already; null: everything is measured"]
    compiled: Annotated[CompileReport | None, "the result of compiling in figures; null: it was not compiled"]
    commands: Annotated[tuple[PageCommand, ...], "how to get the figures without the page"]
