# SPDX-License-Identifier: Apache-2.0
"""The model script that counts for an archive, and what it asks of the network: read and planned once a script."""

from __future__ import annotations

import os

from headrace.hn.archive import Archive, network_after
from headrace.hn.stages import PARSE
from headrace.script.boxes import take_boxes
from headrace.script.changes import Change, merge
from headrace.script.parser import Script, parse_script
from headrace.script.plan import ScriptPlan, plan
from headrace.script.resolve import resolve


class CurrentScript:
    """The script of an archive; another archive needs another of this."""

    def __init__(self) -> None:
        self._script: Script | None = None
        self._plan: ScriptPlan | None = None

    def of(self, archive: Archive) -> Script:
        """The script that counts, with the places of the files that its lines came from where these are known."""
        if self._script is None or self._script.source.text != archive.model_script:
            self._script = parse_script(archive.model_script, f"model script of {archive.name}")
            self._plan = None
        return self._script

    def planned(self, archive: Archive) -> ScriptPlan:
        """What the script asks of the network, everything checked; made once for a script.

        Raises:
            ScriptError: it does not parse, or names a layer that is not there.
            NotBuiltYetError: it asks for something that is not built yet.
        """
        script = self.of(archive)
        if self._plan is None:
            self._plan = plan(script, network_after(archive, PARSE))
            self._plan.check()
        return self._plan

    def take(self, archive: Archive, source: Script, script: str | os.PathLike[str], append: bool) -> Change:
        """A new script in the place of the one before, or behind its lines; an error changes nothing.

        Args:
            archive: whose text, boxes and report of the script change; no stage is dropped.
            source: the new script.
            script: its path, or its text: files that it names stand beside it.
            append: keep the lines before.

        Raises:
            ScriptError, NotBuiltYetError: as :meth:`planned`.
            InputFileError: a file that it names cannot be read.
        """
        network, frozen = network_after(archive, PARSE), archive.quantized is not None
        change = merge(self.of(archive), source, network, append=append, frozen=frozen)
        change.news.check()
        change.plan.check()
        take_boxes(archive, network, lambda: self.planned(archive), change.plan.boxes, script)
        archive.model_script, self._script, self._plan = change.script.source.text, change.script, change.plan
        archive.reports["script"] = change.plan.report().as_dict()
        return change

    def note(self, archive: Archive) -> None:
        """Note in the archive the script that a stage was run with, where one was looked at."""
        if self._script is not None:
            archive.resolved_script = resolve(self._script)


__all__ = ["CurrentScript"]
