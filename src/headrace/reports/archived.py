# SPDX-License-Identifier: Apache-2.0
"""The reports in an archive, as types. The archive itself keeps their JSON, whatever it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Protocol, TypeVar

from headrace.errors import InputFileError
from headrace.reports.optimize import OptimizeReport
from headrace.reports.parse import ParseReport
from headrace.reports.record import Report
from headrace.reports.schedule import CompileReport, ScheduleReport
from headrace.reports.script import ScriptReport
from headrace.reports.timing import TimingReport

_T = TypeVar("_T", bound=Report)
_LEVER = "make the HAR anew: run the command that made it on the network before it"


class HasReports(Protocol):
    """An archive: :class:`headrace.hn.archive.Archive`."""

    @property
    def name(self) -> str: ...

    @property
    def reports(self) -> Mapping[str, object]: ...


class ArchivedReports:
    """The reports of an archive, each read when it is first asked for; ``None`` where the archive has none.

    Raises:
        InputFileError: on reading: it breaks a rule of its form (``docs/formats/reports.md``).
    """

    def __init__(self, archive: HasReports) -> None:
        self._archive = archive

    @cached_property
    def parse(self) -> ParseReport | None:
        return self._read("parse", ParseReport)

    @cached_property
    def script(self) -> ScriptReport | None:
        return self._read("script", ScriptReport)

    @cached_property
    def optimize(self) -> OptimizeReport | None:
        return self._read("optimize", OptimizeReport)

    @cached_property
    def compile(self) -> CompileReport | None:
        return self._read("compile", CompileReport)

    @cached_property
    def schedule(self) -> ScheduleReport | None:
        return self._read("schedule", ScheduleReport)

    @cached_property
    def timing(self) -> TimingReport | None:
        return self._read("timing", TimingReport)

    def _read(self, name: str, form: type[_T]) -> _T | None:
        if name not in self._archive.reports:
            return None
        try:
            return form.from_dict(self._archive.reports[name], f"{self._archive.name}, report {name!r}")
        except InputFileError as error:
            found = [replace(d, levers=(*d.levers, _LEVER)) for d in error.diagnostics]
            raise InputFileError(found) from None
