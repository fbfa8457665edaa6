# SPDX-License-Identifier: Apache-2.0
"""From the statements of a script to what the stages do, with everything that is not done said out loud.

Each statement has one of the fates of :class:`~headrace.script.fates.Fate`; one that acts is read as a command. Where
the network is known, every layer name is looked up at once, in the script's order, so that a line can name what an
earlier line makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError, ScriptError, unknown_name
from headrace.hn import Network
from headrace.hn.files import read_bytes
from headrace.reports.script import ScriptReport
from headrace.script.arguments import Argument, Misfit, declared
from headrace.script.effects import Boxes, CompileEffect, OptimizeEffect, settled
from headrace.script.fates import ACTS, ANYWAY, HINT, LEFT_OUT, POLICIES, REFUSED, SEVERITY, Fate, word_of
from headrace.script.forms import ActingCommand, CompileCommand, Form, ModificationCommand, Named, OptimizeCommand
from headrace.script.naming import Finder
from headrace.script.parser import MAX_PROBLEMS, Script, Statement, Value, parse_script
from headrace.script.resolve import statement_text, value_text
from headrace.script.tokens import MAX_SCRIPT_BYTES
from headrace.script.vocabulary import COMMANDS, FAMILIES, FORMS, METHODS

if TYPE_CHECKING:
    from headrace.compiler import CompileOptions
    from headrace.hn.nms_request import NmsRequest
    from headrace.optimize.options import OptimizeOptions
    from headrace.passes import Pass

_SHOWN = 100


@dataclass(frozen=True)
class ScriptPlan:
    """What a script asks for, sorted by what happens with it. Order is the script's order.

    Attributes:
        commands: the lines that act, read.
        layers: every layer of the network, in its order; empty where no network is known.
        refused, warnings: what is not built, as diagnostics.
        supported: lines that act.
        anyway: lines that ask for what is done without them, and why.
        ignored: lines without effect on this device, and why.
    """

    commands: tuple[ActingCommand, ...] = ()
    layers: tuple[str, ...] = ()
    refused: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    ignored: tuple[str, ...] = ()
    supported: tuple[str, ...] = ()
    anyway: tuple[str, ...] = ()

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """What changes the float network, in order."""
        changes = (one for one in self.commands if isinstance(one, ModificationCommand))
        return tuple(step for one in changes for step in one.passes())

    @cached_property
    def optimize_effects(self) -> tuple[OptimizeEffect, ...]:
        """What counts of what the script decides about ``optimize``."""
        return settled(e for one in self.commands if isinstance(one, OptimizeCommand) for e in one.effects())

    @cached_property
    def compile_effects(self) -> tuple[CompileEffect, ...]:
        """What counts of what the script decides about ``compile``."""
        return settled(e for one in self.commands if isinstance(one, CompileCommand) for e in one.effects())

    def optimize_options(self, options: OptimizeOptions) -> OptimizeOptions:
        """The options with what the script decides."""
        for effect in self.optimize_effects:
            options = effect.apply(options, self.layers)
        return options

    def compile_options(self, options: CompileOptions) -> CompileOptions:
        """The options with what the script decides."""
        for effect in self.compile_effects:
            options = effect.apply(options)
        return options

    @property
    def boxes(self) -> NmsRequest | None:
        """What the script says of boxes; None: nothing."""
        found = [effect.request for effect in self.compile_effects if isinstance(effect, Boxes)]
        return found[-1] if found else None

    def check(self) -> None:
        """Raises NotBuiltYetError, naming all of them, when a command that changes numerics cannot be carried out."""
        if self.refused:
            raise NotBuiltYetError(self.refused)

    def report(self) -> ScriptReport:
        """What becomes of each line."""
        return ScriptReport(
            supported=self.supported,
            done_anyway=self.anyway,
            not_built_yet=self.warnings,
            refused=self.refused,
            ignored_on_this_device=self.ignored,
        )


def load_script(path_or_text: str | Path) -> Script:
    """Reads and parses a script from a file, or parses text given directly.

    A ``str`` is text when it holds a line break or a parenthesis, or is blank, and a path otherwise.

    Raises:
        InputFileError: the file cannot be read, is too large or is not UTF-8.
        ScriptError: the script does not parse.
    """
    if isinstance(path_or_text, str) and (not path_or_text.strip() or any(c in path_or_text for c in "\n(")):
        return parse_script(path_or_text)
    path = Path(path_or_text)
    data = read_bytes(path, "model script", MAX_SCRIPT_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {error.start} is {data[error.start]:#04x}"
        problem = Diagnostic("E-SCRIPT-FILE", str(path), "the model script is not text", got, "UTF-8 text")
        raise InputFileError(problem) from None
    return parse_script(text, path.name)


def plan(script: Script, network: Network | None = None, before: Script | None = None) -> ScriptPlan:
    """Checks every statement against the vocabulary and the network, and sorts it.

    Args:
        script: the statements.
        network: as it was parsed; without it layer names are taken as they are, and stay patterns.
        before: the script that this one replaces, whose names are no longer there; for messages.

    Raises:
        ScriptError: unknown commands, features, arguments, handles or layers, or unusable values; all of them together
            (the first 20).
    """
    return _Planner(script, network, before).run()


@dataclass(frozen=True)
class _Reading:
    """One statement being read (:class:`headrace.script.forms.Resolving`)."""

    statement: Statement
    finder: Finder
    problems: list[Diagnostic]

    def bad(self, rule: str, need: str = "", key: str = "") -> None:
        """A problem of the statement, or of one of its keys."""
        self.problems.append(self.statement.diagnostic(rule, need, at=self.statement.argument_columns.get(key)))

    def command(self, reads: type[ActingCommand], named: Named) -> ActingCommand | None:
        """The statement as a command; None, with problems noted, where a value is not what its argument takes."""
        before = len(self.problems)
        values: dict[str, Any] = {}
        for one in fields(reads):
            known = declared(one.metadata, one.name)
            given = None if known is None else self._given(known)
            if known is not None and given is not None:
                values[one.name] = self._read(known, *given, named)
        return None if len(self.problems) > before else reads(statement=self.statement, **values).resolved(self)

    def _given(self, known: Argument) -> tuple[str | int, Value] | None:
        """Key or number of an argument that is given, and its value."""
        if known.position is None:
            return (known.key, self.statement.keyword[known.key]) if known.key in self.statement.keyword else None
        values = self.statement.positional
        return (known.position, values[known.position]) if known.position < len(values) else None

    def _read(self, known: Argument, at: str | int, value: Value, named: Named) -> Any:
        if known.type.names_layers:
            return named.get(at, ())
        try:
            return known.type.read(value, known.key)
        except Misfit as misfit:
            if misfit.known:
                what, where = f"value of {known.key}", self.statement.where(known.key)
                self.problems.append(unknown_name("E-SCRIPT-VALUE", what, misfit.word, misfit.known, where))
            else:
                self.bad(misfit.rule, misfit.need, known.key)
            return None


class _Planner:
    def __init__(self, script: Script, network: Network | None, before: Script | None) -> None:
        self._script = script
        self._problems: list[Diagnostic] = []
        self._commands: list[ActingCommand] = []
        self._refused: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []
        self._told: dict[Fate, list[str]] = {ACTS: [], ANYWAY: [], HINT: []}
        self._contexts: set[str] = set()
        self._finder = Finder(network, script, self._problems, before)

    def run(self) -> ScriptPlan:
        for statement in self._script.statements:
            self._take(statement)
            if len(self._problems) >= MAX_PROBLEMS:
                break
        if self._problems:
            raise ScriptError(self._problems[:MAX_PROBLEMS])
        return ScriptPlan(
            tuple(self._commands),
            () if self._finder.names is None else tuple(self._finder.names.all),
            tuple(self._refused),
            tuple(self._warnings),
            tuple(self._told[HINT]),
            tuple(self._told[ACTS]),
            tuple(self._told[ANYWAY]),
        )

    def _take(self, statement: Statement) -> None:
        form = self._form(statement)
        if form is None or not self._arguments_fit(statement, form):
            return
        if form.name == "context":
            self._contexts.update(statement.targets)
        before = len(self._problems)
        named = self._finder.find(statement, form)
        if len(self._problems) > before:
            return
        fate, parts = self._fate(statement, form, named)
        if fate is not REFUSED and form.reads is not None:
            command = _Reading(statement, self._finder, self._problems).command(form.reads, named)
            if command is None:
                return
            self._commands.append(command)
        self._tell(statement, form, fate, parts)

    def _form(self, statement: Statement) -> Form | None:
        """What the statement's command is; None, with a problem noted, where there is none of its name."""
        name = statement.name
        if statement.method_of:
            if statement.method_of not in self._contexts:
                what = "context (made by 'name = context([...])' on an earlier line)"
                where = f"{statement.where().rpartition(':')[0]}:1"
                self._problems.append(unknown_name("E-SCRIPT-HANDLE", what, statement.method_of, self._contexts, where))
                return None
            return METHODS.get(name) or self._unknown("E-SCRIPT-COMMAND", "command of a context", METHODS, statement)
        if name not in COMMANDS:
            return self._unknown("E-SCRIPT-COMMAND", "command", COMMANDS, statement)
        if name not in FAMILIES:
            return FORMS[name]
        first = statement.positional[0] if statement.positional else None
        feature = str(first).lower() if isinstance(first, str) else ""
        if feature not in FAMILIES[name]:
            what = f"feature of {name} (its first value)"
            return self._unknown("E-SCRIPT-FEATURE", what, FAMILIES[name], statement, feature)
        return FORMS[f"{name}({feature})"]

    def _unknown(
        self, code: str, what: str, known: Iterable[str], statement: Statement, name: str | None = None
    ) -> Form | None:
        """Notes that there is no such name; always None."""
        shown = statement.name if name is None else name
        self._problems.append(unknown_name(code, what, shown, known, statement.where()))
        return None

    def _arguments_fit(self, statement: Statement, form: Form) -> bool:
        before = len(self._problems)
        low, high = form.positional
        if not low <= len(statement.positional) <= high:
            need = f"{low}" if low == high else f"{low} to {high}"
            text = f"{form.row} has another number of values without a key"
            self._problems.append(statement.diagnostic(text, f"{need} of them", code="E-SCRIPT-ARGUMENT"))
        known = form.keys
        for key in statement.keyword if known is not None else ():
            if known is not None and key not in known:
                what, where = f"argument of {form.row}", statement.where(key)
                self._problems.append(unknown_name("E-SCRIPT-ARGUMENT", what, key, known, where))
        word = word_of(statement.keyword.get("policy", True))
        if form.off is not None and "policy" in form.off_keys and word not in POLICIES:
            what, where = "value of policy", statement.where("policy")
            self._problems.append(unknown_name("E-SCRIPT-VALUE", what, word, POLICIES, where))
        return len(self._problems) == before

    # --- what becomes of it --------------------------------------------------------------------------------------

    def _fate(self, statement: Statement, form: Form, named: Named) -> tuple[Fate, dict[str, Fate]]:
        """The statement's fate, and that of each of its keys (``""`` is the command itself)."""
        # A value without a key that need not be there asks for something by itself.
        by_keys = form.by_keys and len(statement.positional) <= form.positional[0]
        words = {key: word_of(value) for key, value in statement.keyword.items()}
        if not words and by_keys:
            return ANYWAY, {}
        off = [key for key in form.off_keys if words.get(key) == "disabled" and form.off is not None]
        if off:
            return form.off or form.fate, {off[0]: form.off or form.fate}
        fates = {key: form.fate_of(key, word) for key, word in words.items()}
        if form.reads is not None:
            fates |= form.reads.special_fates(statement, named, self._finder)
        if not by_keys:
            fates[""] = form.fate
        return min(fates.values(), key=SEVERITY.index), fates

    def _tell(self, statement: Statement, form: Form, fate: Fate, parts: dict[str, Fate]) -> None:
        if fate in self._told:
            self._told[fate].append(_shown(statement) + _why(statement, form, fate, parts))
            return
        whole = parts.get("") is fate
        decisive = [key for key, one in parts.items() if one is fate and key]
        shown = [_part(statement, key) for key in decisive]
        what = form.row if whole or not shown else f"{form.row}: {', '.join(shown)}"
        at = None if whole or not decisive else statement.argument_columns.get(decisive[0])
        if fate is LEFT_OUT:
            rule = f"{what} is not built yet and is left out; {form.instead}"
            self._warnings.append(statement.diagnostic(rule, code="W-SCRIPT-NOT-BUILT", at=at))
            return
        known = form.keys or {}
        need = next((known[key].need for key in decisive if key in known and known[key].need), "")
        levers = ("remove the line if the network is right without it",)
        rule = f"{what} is not built yet, and leaving it out would change what the network computes"
        self._refused.append(statement.diagnostic(rule, need, levers, "E-SCRIPT-NOT-BUILT", at))


def _why(statement: Statement, form: Form, fate: Fate, parts: dict[str, Fate]) -> str:
    """Why a line, or a part of it, does not act."""
    if not parts:
        return ": it asks for nothing" if fate is ANYWAY else f": {form.note}"
    if fate is not ACTS:
        return f": {form.note}" if form.note else ""
    inert = [_part(statement, key) for key, one in parts.items() if one is not ACTS and key]
    return f" (without {', '.join(inert)}: no effect here)" if inert else ""


def _part(statement: Statement, key: str) -> str:
    return f"{key}={_cut(value_text(statement.keyword[key]))}"


def _shown(statement: Statement) -> str:
    return f"line {statement.line}: {_cut(statement_text(statement))}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
