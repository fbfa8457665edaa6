# SPDX-License-Identifier: Apache-2.0
"""From the commands of a script to what the stages do, with everything that is not done said out loud.

Four fates: *supported* commands are acted on; commands that are *not built yet* are refused when they change the
numerics of the network, and listed as warnings otherwise; *placement hints* for another device are listed as ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError, ScriptError, unknown_name
from headrace.hn.files import read_bytes
from headrace.script.optimization import OptimizationReader, OptimizationRequest
from headrace.script.parser import Command, Name, Script, Value, parse_script
from headrace.script.resolve import command_text, value_text
from headrace.script.tokens import MAX_SCRIPT_BYTES
from headrace.script.vocabulary import COMMANDS, FAMILIES, METHODS, RULES, Effect, Rule

MAX_CHANNELS = 65536
MAX_BATCH = 1 << 16
_SHOWN = 100
#: Values that ask for what is done anyway, so that a script may state them.
_DEFAULTS: dict[str, frozenset[str]] = {
    "precision_mode": frozenset({"a8_w8", "a8_w8_a8"}),
    "activation_fit": frozenset({"disabled", "false"}),
    "activation_clipping_mode": frozenset({"disabled"}),
    "multiproc_policy": frozenset({"disabled", "allowed", "enabled", "true", "false"}),
    "gpu_policy": frozenset({"disabled", "allowed", "enabled", "true", "false"}),
    "output_encoding_vector": frozenset({"disabled", "false"}),
    "output_16bit": frozenset({"disabled", "false"}),
    "use_16bit_bias": frozenset({"false", "disabled"}),
}


@dataclass(frozen=True)
class Normalization:
    """``name = normalization(mean, std[, input_layer])``: the device computes ``(x − mean) / std`` per channel.

    Attributes:
        names: names given to the new layers; empty for default names.
        mean: one per channel, in the units of the input.
        std: as long as ``mean``, none of them 0.
        input_layer: the input it follows, or None for every input.
        line: line in the script.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_layer: str | None
    line: int = field(compare=False)


@dataclass(frozen=True)
class ScriptPlan:
    """What a script asks for, sorted by what happens with it. Order is the script's order.

    ``batch`` is ``performance_param(optimize_for_batch=…)``: frames between two switches of context.
    """

    normalizations: tuple[Normalization, ...] = ()
    optimization: OptimizationRequest = field(default_factory=OptimizationRequest)
    batch: int | None = None
    refused: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    ignored: tuple[str, ...] = ()
    supported: tuple[str, ...] = field(default=())

    def check(self) -> None:
        """Raises NotBuiltYetError, naming all of them, when a command that changes numerics cannot be carried out."""
        if self.refused:
            raise NotBuiltYetError(self.refused)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON data, for reports."""
        return {
            "supported": list(self.supported),
            "not_built_yet": [diagnostic.as_dict() for diagnostic in self.warnings],
            "refused": [diagnostic.as_dict() for diagnostic in self.refused],
            "ignored_on_this_device": list(self.ignored),
        }


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


def plan(script: Script) -> ScriptPlan:
    """Checks every command against the vocabulary and sorts it.

    Raises:
        ScriptError: unknown commands, features, arguments or handles, or unusable values; all of them together.
    """
    return _Planner(script).run()


class _Planner:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._problems: list[Diagnostic] = []
        self._normalizations: list[Normalization] = []
        self._refused: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []
        self._ignored: list[str] = []
        self._supported: list[str] = []
        self._contexts: set[str] = set()
        self._batch: int | None = None
        self._optimization = OptimizationRequest()
        self._reader = OptimizationReader(
            self._problems.append, self._diagnostic, lambda command: self._where(command.line, command.column)
        )

    def run(self) -> ScriptPlan:
        for command in self._script.commands:
            self._take(command)
        if self._problems:
            raise ScriptError(self._problems)
        return ScriptPlan(
            tuple(self._normalizations),
            self._optimization,
            self._batch,
            tuple(self._refused),
            tuple(self._warnings),
            tuple(self._ignored),
            tuple(self._supported),
        )

    def _take(self, command: Command) -> None:
        if command.method_of:
            self._take_method(command)
            return
        row = self._row(command)
        if row is None:
            return
        rule = RULES[row]
        if not self._arguments_fit(command, row, rule):
            return
        if command.name == "context":
            self._contexts.update(command.targets)
        if row == "normalization":
            self._take_normalization(command)
        if row == "performance_param":
            self._take_performance(command, rule.effect)
            return
        if self._reader.reads(row):
            self._take_optimization(command, row)
            return
        self._sort(command, row, rule.effect)

    def _take_method(self, command: Command) -> None:
        if command.method_of not in self._contexts:
            where = self._where(command.line, 1)
            what = "context (made by 'name = context([...])' on an earlier line)"
            self._problems.append(unknown_name("E-SCRIPT-HANDLE", what, command.method_of, self._contexts, where))
        elif command.name not in METHODS:
            self._unknown("E-SCRIPT-COMMAND", "command of a context", command.name, METHODS, command)
        else:
            self._ignored.append(self._shown(command))

    def _row(self, command: Command) -> str | None:
        """The command's row in the vocabulary; None, with a problem noted, when it has none."""
        if command.name not in COMMANDS:
            self._unknown("E-SCRIPT-COMMAND", "command", command.name, COMMANDS, command)
            return None
        if command.name not in FAMILIES:
            return command.name
        first = command.positional[0] if command.positional else None
        feature = str(first).lower() if isinstance(first, str) else ""
        if feature not in FAMILIES[command.name]:
            self._unknown(
                "E-SCRIPT-FEATURE",
                f"feature of {command.name} (its first value)",
                feature,
                FAMILIES[command.name],
                command,
            )
            return None
        return f"{command.name}({feature})"

    def _arguments_fit(self, command: Command, row: str, rule: Rule) -> bool:
        before = len(self._problems)
        low, high = rule.positional
        if not low <= len(command.positional) <= high:
            need = f"{low}" if low == high else f"{low} to {high}"
            self._problem(
                command,
                f"{row} has another number of values without a key",
                f"{need} of them",
                code="E-SCRIPT-ARGUMENT",
            )
        for key in command.keyword if rule.keywords is not None else ():
            if key not in rule.keywords:  # type: ignore[operator]
                line, column = command.argument_columns.get(key, (command.line, command.column))
                self._problems.append(
                    unknown_name(
                        "E-SCRIPT-ARGUMENT", f"argument of {row}", key, rule.keywords or (), self._where(line, column)
                    )
                )
        return len(self._problems) == before

    def _sort(self, command: Command, row: str, effect: Effect) -> None:
        if effect in (Effect.CHANGES_NUMERICS, Effect.IMPROVES) and _asks_for_default(command):
            effect = Effect.SUPPORTED
        if effect is Effect.SUPPORTED:
            self._supported.append(self._shown(command))
        elif effect is Effect.HINT:
            self._ignored.append(self._shown(command))
        elif effect is Effect.IMPROVES:
            rule = f"{row} is not built yet and is left out; the result is valid without it"
            self._warnings.append(self._diagnostic(command, rule, code="W-SCRIPT-NOT-BUILT"))
        else:
            rule = f"{row} is not built yet, and leaving it out would change what the network computes"
            levers = ("remove the line if the network is right without it",)
            self._refused.append(self._diagnostic(command, rule, levers=levers, code="E-SCRIPT-NOT-BUILT"))

    def _take_optimization(self, command: Command, row: str) -> None:
        taken = self._reader.take(row, command, self._optimization)
        self._optimization = taken.request
        if taken.left_out:
            rule = "; ".join(taken.left_out)
            self._warnings.append(self._diagnostic(command, rule, code="W-SCRIPT-NOT-BUILT"))
        else:
            self._supported.append(self._shown(command))

    def _take_performance(self, command: Command, effect: Effect) -> None:
        """``optimize_for_batch`` is acted on; whatever else the command asks for is not built."""
        batch = command.keyword.get("optimize_for_batch")
        if batch is None:
            self._sort(command, "performance_param", effect)
            return
        if type(batch) is not int or not 1 <= batch <= MAX_BATCH:
            self._problem(command, "optimize_for_batch is out of range", f"a whole number, 1 … {MAX_BATCH}")
            return
        self._batch = batch
        others = [key for key in command.keyword if key != "optimize_for_batch"]
        if others or command.positional:
            what = ", ".join([*map(value_text, command.positional), *others])
            rule = f"performance_param: {what} is not built yet and is left out; optimize_for_batch is acted on"
            self._warnings.append(self._diagnostic(command, rule, code="W-SCRIPT-NOT-BUILT"))
        else:
            self._supported.append(self._shown(command))

    def _take_normalization(self, command: Command) -> None:
        before = len(self._problems)
        mean = self._numbers(command, "mean", command.positional[0])
        std = self._numbers(command, "std", command.positional[1])
        third = command.positional[2] if len(command.positional) == 3 else None
        if third is not None and not isinstance(third, str):
            self._problem(command, "the third value of normalization is the name of an input layer", "a layer name")
        if len(self._problems) == before and len(mean) != len(std):
            self._problem(
                command,
                f"normalization has {len(mean)} means and {len(std)} standard deviations",
                "one of each per channel",
            )
        if any(value == 0 for value in std):
            self._problem(command, "a standard deviation is 0, and it divides", "numbers other than 0")
        if len(self._problems) == before:
            name = str(third) if third is not None else None
            self._normalizations.append(Normalization(command.targets, mean, std, name, command.line))

    def _numbers(self, command: Command, what: str, value: Value) -> tuple[float, ...]:
        items = value if isinstance(value, tuple) else ()
        numbers = [float(v) for v in items if isinstance(v, int | float) and not isinstance(v, bool)]
        fits = 0 < len(items) <= MAX_CHANNELS and len(numbers) == len(items) and all(map(math.isfinite, numbers))
        if not fits:
            need = f"a list of 1 to {MAX_CHANNELS} numbers, one per channel: [123.675, 116.28, 103.53]"
            self._problem(command, f"the {what} of normalization is not a list of numbers", need)
        return tuple(numbers)

    def _where(self, line: int, column: int) -> str:
        return f"{self._script.source.name}:{line}:{column}"

    def _shown(self, command: Command) -> str:
        text = command_text(command)
        return f"line {command.line}: {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"

    def _diagnostic(
        self, command: Command, rule: str, need: str = "", levers: tuple[str, ...] = (), code: str = "E-SCRIPT-VALUE"
    ) -> Diagnostic:
        return self._script.source.diagnostic(command.line, command.column, rule, need, levers, code)

    def _problem(
        self, command: Command, rule: str, need: str = "", levers: tuple[str, ...] = (), code: str = "E-SCRIPT-VALUE"
    ) -> None:
        self._problems.append(self._diagnostic(command, rule, need, levers, code))

    def _unknown(self, code: str, what: str, name: str, known: Any, command: Command) -> None:
        self._problems.append(unknown_name(code, what, name, known, self._where(command.line, command.column)))


def _asks_for_default(command: Command) -> bool:
    """Whether the command asks only for what is done anyway: ``policy=disabled``, ``precision_mode=a8_w8``."""
    keys = command.keyword
    if any(_word(keys.get(key)) in ("disabled", "false") for key in ("policy", "mode")):
        return True
    return bool(keys) and all(_word(value) in _DEFAULTS.get(key, frozenset()) for key, value in keys.items())


def _word(value: Value) -> str:
    """An enumeration value in lower case; "" for anything else."""
    return str(value).lower() if isinstance(value, bool | Name) else ""
