# SPDX-License-Identifier: Apache-2.0
"""What a new model script means for results that are there already: the one rule, for every way to load a script.

Only what changes numbers drops them. A script that says nothing about numbers, or the same, leaves a quantised network
as it is: its other lines are added to the script that the network was quantised with.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import ScriptError
from headrace.hn import Network
from headrace.script.optimization import OptimizationRequest
from headrace.script.parser import Command, Script
from headrace.script.plan import ScriptPlan, plan
from headrace.script.resolve import command_text
from headrace.script.tokens import SourceText
from headrace.script.vocabulary import NUMBERS


@dataclass(frozen=True)
class Change:
    """What loading a script does.

    Attributes:
        script: what counts from now on.
        plan: of that.
        news: what becomes of the lines of the new script alone.
        redo: the earliest stage whose result is dropped: ``"fp_optimized"``, ``"quantized"``, ``"compiled"``, or None.
    """

    script: Script
    plan: ScriptPlan
    news: ScriptPlan
    redo: str | None


def merge(old: Script, new: Script, network: Network, *, append: bool, frozen: bool) -> Change:
    """The script that counts after ``new`` was loaded.

    Args:
        old: the script before.
        new: what is loaded.
        network: as it was parsed.
        append: add the lines to those before, whatever they are.
        frozen: the network is quantised.

    Raises:
        ScriptError: a line of ``new`` cannot be understood.
    """
    before = _known_plan(old, network)
    if append:
        script = old.followed_by(new)
        planned = plan(script, network)
        return Change(script, planned, planned, _redo(before, planned))
    normalizes = any(command.name == "normalization" for command in new.commands)
    # Layers that the script before made are still there while the numbers are kept.
    made = tuple(c for c in old.commands if c.name == "normalization") if frozen and not normalizes else ()
    news = plan(Script(new.source, (*made, *new.commands)), network)
    if frozen and _says_nothing_else(news, before):
        if made or _numbers(news) != _numbers(before) or not any(_numbers(news)):
            fresh = [c for c in new.commands if c.name not in NUMBERS and c not in old.commands]
            script = _added(old, fresh) if fresh else old
        else:
            script = new
        planned = plan(script, network)
        return Change(script, planned, news, _redo(before, planned))
    news = plan(new, network) if made else news
    return Change(new, news, news, _redo(before, news))


def _numbers(planned: ScriptPlan) -> tuple[object, object]:
    """What of a plan decides numbers; both empty when nothing does."""
    return planned.normalizations, None if planned.optimization.empty else planned.optimization


def _says_nothing_else(news: ScriptPlan, before: ScriptPlan) -> bool:
    """Whether a script says nothing about numbers, or the same."""
    return news.normalizations in ((), before.normalizations) and (
        news.optimization in (OptimizationRequest(), before.optimization)
    )


def _known_plan(script: Script, network: Network) -> ScriptPlan:
    """The plan of a script that is loaded already; one that another version accepted may be refused by this one."""
    for known in (network, None):
        try:
            return plan(script, known)
        except ScriptError:
            continue
    return ScriptPlan()


def _added(old: Script, commands: list[Command]) -> Script:
    """A script with more commands, in canonical text."""
    lines = "".join(f"{command_text(command)}\n" for command in commands)
    text = f"{old.source.text.rstrip()}\n{lines}" if old.source.text.strip() else lines
    name = commands[0].source.name if commands and commands[0].source else old.source.name
    return Script(SourceText(text, name), (*old.commands, *commands))


def _redo(before: ScriptPlan, after: ScriptPlan) -> str | None:
    if before.normalizations != after.normalizations:
        return "fp_optimized"
    if before.optimization != after.optimization:
        return "quantized"
    return "compiled" if before.compilation != after.compilation else None
