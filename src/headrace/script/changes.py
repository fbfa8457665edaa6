# SPDX-License-Identifier: Apache-2.0
"""What a new model script means for results that are there already: the one rule, for every way to load a script.

Only what changes numbers drops them. A script that says nothing about numbers, or the same, leaves a quantized network
as it is: its other lines are added to the script that the network was quantized with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import ScriptError
from headrace.hn import Network
from headrace.hn.stages import COMPILE, OPTIMIZE, OPTIMIZE_FULL_PRECISION, Stage
from headrace.script.effects import OptimizeEffect
from headrace.script.parser import Script, Statement
from headrace.script.plan import ScriptPlan, plan
from headrace.script.resolve import statement_text
from headrace.script.tokens import SourceText
from headrace.script.vocabulary import MAKERS, NUMBERS

if TYPE_CHECKING:
    from headrace.passes import Pass


@dataclass(frozen=True)
class Change:
    """What loading a script does.

    Attributes:
        script: what counts from now on.
        plan: of that.
        news: what becomes of the lines of the new script alone.
        redo: the earliest stage whose result is dropped, or None.
    """

    script: Script
    plan: ScriptPlan
    news: ScriptPlan
    redo: Stage | None


def merge(old: Script, new: Script, network: Network, *, append: bool, frozen: bool) -> Change:
    """The script that counts after ``new`` was loaded.

    Args:
        old: the script before.
        new: what is loaded.
        network: as it was parsed.
        append: add the lines to those before, whatever they are.
        frozen: the network is quantized.

    Raises:
        ScriptError: a line of ``new`` cannot be understood.
    """
    before = _known_plan(old, network)
    if append:
        script = old.followed_by(new)
        planned = plan(script, network)
        return Change(script, planned, planned, _redo(before, planned))
    makes = any(statement.name in MAKERS for statement in new.statements)
    # Layers that the script before made are still there while the numbers are kept.
    made = tuple(one for one in old.statements if one.name in MAKERS) if frozen and not makes else ()
    news = plan(Script(new.source, (*made, *new.statements)), network, old)
    if frozen and _says_nothing_else(news, before):
        if made or _numbers(news) != _numbers(before) or not any(_numbers(news)):
            fresh = [one for one in new.statements if one.name not in NUMBERS and one not in old.statements]
            script = _added(old, fresh) if fresh else old
        else:
            script = new
        planned = plan(script, network)
        return Change(script, planned, news, _redo(before, planned))
    news = plan(new, network, old) if made else news
    return Change(new, news, news, _redo(before, news))


def _numbers(planned: ScriptPlan) -> tuple[tuple[Pass, ...], tuple[OptimizeEffect, ...]]:
    """What of a plan decides numbers; both empty when nothing does."""
    return planned.passes, planned.optimize_effects


def _says_nothing_else(news: ScriptPlan, before: ScriptPlan) -> bool:
    """Whether a script says nothing about numbers, or the same."""
    return news.passes in ((), before.passes) and news.optimize_effects in ((), before.optimize_effects)


def _known_plan(script: Script, network: Network) -> ScriptPlan:
    """The plan of a script that is loaded already; one that another version accepted may be refused by this one."""
    for known in (network, None):
        try:
            return plan(script, known)
        except ScriptError:
            continue
    return ScriptPlan()


def _added(old: Script, statements: Sequence[Statement]) -> Script:
    """A script with more statements, in canonical text."""
    lines = "".join(f"{statement_text(one)}\n" for one in statements)
    text = f"{old.source.text.rstrip()}\n{lines}" if old.source.text.strip() else lines
    name = statements[0].source.name if statements and statements[0].source else old.source.name
    return Script(SourceText(text, name), (*old.statements, *statements))


def _redo(before: ScriptPlan, after: ScriptPlan) -> Stage | None:
    if before.passes != after.passes:
        return OPTIMIZE_FULL_PRECISION
    if before.optimize_effects != after.optimize_effects:
        return OPTIMIZE
    return COMPILE if before.compile_effects != after.compile_effects else None
