# SPDX-License-Identifier: Apache-2.0
"""The report of a model script: what becomes of each of its lines."""

from __future__ import annotations

from typing import Annotated

from headrace.errors import Diagnostic
from headrace.reports.record import Report, record


@record
class ScriptReport(Report):
    """What becomes of the lines of a model script (member `<net>.script.json`)."""

    supported: Annotated[tuple[str, ...], "lines that act"]
    done_anyway: Annotated[tuple[str, ...], "lines that ask for what is done without them"]
    not_built_yet: Annotated[tuple[Diagnostic, ...], "lines that are left out because they are not built yet"]
    refused: Annotated[tuple[Diagnostic, ...], "lines that cannot be left out, and are not built yet"]
    ignored_on_this_device: Annotated[tuple[str, ...], "lines without effect on this device"]
