# SPDX-License-Identifier: Apache-2.0
"""The commands that steer ``compile``: what they ask for, as data. None of them changes a number of the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import unknown_name
from headrace.script.optimization import Problem, word_of
from headrace.script.parser import Command

MAX_BATCH = 1 << 16
CONTEXT_MODES = ("allowed", "automatic", "disabled", "enabled", "manual")
_RESOURCES = ("max_control_utilization", "max_compute_utilization", "max_memory_utilization")


@dataclass(frozen=True)
class CompilationRequest:
    """What a script asks of ``compile``; ``None`` where it says nothing.

    Attributes:
        batch: ``performance_param(optimize_for_batch=…)``: frames between two switches of context.
        contexts: ``"one"``, ``"several"``, or None: as few as it takes.
        ceilings: key of ``CompileOptions`` → share of the device.
        where: place of the line that decided about contexts.
    """

    batch: int | None = None
    contexts: str | None = None
    ceilings: tuple[tuple[str, float], ...] = ()
    where: str = field(default="", compare=False)

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``CompileOptions``; only what the script decides."""
        chosen: dict[str, Any] = {"batch": self.batch, "contexts": self.contexts}
        if self.contexts is not None:
            chosen["contexts_where"] = self.where
        return {key: value for key, value in chosen.items() if value is not None} | dict(self.ceilings)


class CompilationReader:
    """Reads the commands of one script.

    Args:
        report: takes a problem.
    """

    def __init__(self, report: Problem) -> None:
        self._report = report
        self._readers: dict[str, Callable[[Command, CompilationRequest], CompilationRequest]] = {
            "performance_param": self._performance,
            "resources_param": self._ceilings,
            "context_switch_param": self._contexts,
        }

    def reads(self, row: str) -> bool:
        return row in self._readers

    def take(self, row: str, command: Command, request: CompilationRequest) -> CompilationRequest:
        """The request with one more command; problems go to ``report``. Other commands change nothing."""
        return self._readers[row](command, request) if row in self._readers else request

    def _performance(self, command: Command, request: CompilationRequest) -> CompilationRequest:
        batch = command.keyword.get("optimize_for_batch")
        if batch is None:
            return request
        if type(batch) is not int or not 1 <= batch <= MAX_BATCH:
            rule, need = "optimize_for_batch is out of range", f"a whole number, 1 … {MAX_BATCH}"
            self._report(command.diagnostic(rule, need, at=command.argument_columns.get("optimize_for_batch")))
            return request
        return replace(request, batch=batch)

    def _contexts(self, command: Command, request: CompilationRequest) -> CompilationRequest:
        if "mode" in command.keyword:
            mode = word_of(command.keyword["mode"])
            if mode not in CONTEXT_MODES:
                shown = str(command.keyword["mode"])[:40]
                where = command.where("mode")
                self._report(unknown_name("E-SCRIPT-VALUE", "value of mode", shown, CONTEXT_MODES, where))
            contexts = {"disabled": "one", "enabled": "several"}.get(mode)
            request = replace(request, contexts=contexts, where=command.where("mode"))
        return self._ceilings(command, request)

    def _ceilings(self, command: Command, request: CompilationRequest) -> CompilationRequest:
        ceilings = dict(request.ceilings)
        for key in ("max_utilization", *_RESOURCES):
            if key not in command.keyword:
                continue
            value = command.keyword[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                rule, need = f"{key} is not a share of the device", "above 0, at most 1"
                self._report(command.diagnostic(rule, need, at=command.argument_columns.get(key)))
            elif key == "max_utilization":
                ceilings.update(dict.fromkeys(_RESOURCES, float(value)) if value else {})
            elif value:
                ceilings[key] = float(value)
            else:
                rule = f"{key}=0 leaves no room for anything"
                self._report(command.diagnostic(rule, "above 0, at most 1", at=command.argument_columns.get(key)))
        return replace(request, ceilings=tuple(sorted(ceilings.items())))
