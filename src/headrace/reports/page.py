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
class Bars(Record):
    """How often values lie in each of equal parts of a range."""

    low: Annotated[float, "where the first part begins"]
    high: Annotated[float, "where the last part ends, itself counted"]
    counts: Annotated[tuple[int, ...], "values in each part"]


@record
class WeightFacts(Record):
    """The weights of a layer: of the float network, and the codes that the device has."""

    layer: Annotated[str, "the layer"]
    float_: Annotated[Bars | None, "the float network's; null: it has no layer of this name with weights"]
    codes: Annotated[Bars | None, "codes, of all channels together; null: the network is not quantized"]
    scaled_apart: Annotated[int, "channels with a scale of their own; 0: the network is not quantized"]
    half_used: Annotated[int, "of these, channels whose codes stay within half of their range"]


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
    weights: Annotated[tuple[WeightFacts, ...], "every layer with weights"]
    compiled: Annotated[CompileReport | None, "the result of compiling in figures; null: it was not compiled"]
    commands: Annotated[tuple[PageCommand, ...], "how to get the figures without the page"]
