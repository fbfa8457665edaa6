# SPDX-License-Identifier: Apache-2.0
"""From the commands of a script to what the stages do, with everything that is not done said out loud.

Each command has one of the fates of :class:`~headrace.script.vocabulary.Fate`. Where the network is known, every layer
name is looked up at once, in the script's order, so that a line can name what an earlier line makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.errors import Diagnostic, InputFileError, NotBuiltYetError, ScriptError, unknown_name
from headrace.hn import Network
from headrace.hn.files import read_bytes
from headrace.script.compilation import CompilationReader, CompilationRequest
from headrace.script.naming import Finder
from headrace.script.optimization import Named, OptimizationReader, OptimizationRequest, word_of
from headrace.script.parser import MAX_PROBLEMS, Command, Script, Value, parse_script
from headrace.script.resolve import command_text, value_text
from headrace.script.tokens import MAX_SCRIPT_BYTES
from headrace.script.vocabulary import (
    ACTS,
    ANYWAY,
    ASK_BY_KEYS,
    COMMANDS,
    FAMILIES,
    HINT,
    INSTEAD,
    LEFT_OUT,
    METHODS,
    POLICIES,
    REFUSED,
    RULES,
    SEVERITY,
    Fate,
    Rule,
)

MAX_CHANNELS = 65536
_SHOWN = 100
#: Precisions with 16-bit activations: built for outputs, where there are no weights and nothing is computed.
_OUTPUTS_ONLY = frozenset({"a16_w16", "a16_w8", "a16_w8_a16"})


@dataclass(frozen=True)
class Normalization:
    """``name = normalization(mean, std[, input_layer])``: the device computes ``(x − mean) / std`` per channel.

    Attributes:
        names: names given to the new layers; empty for default names.
        mean: one per channel, in the units of the input.
        std: as long as ``mean``, none of them 0.
        input_layer: the input it follows, or None for every input.
        line: line in the script.
        where: place in the script, for errors.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_layer: str | None
    line: int = field(compare=False)
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class ScriptPlan:
    """What a script asks for, sorted by what happens with it. Order is the script's order.

    Attributes:
        normalizations, optimization: what changes the numbers of the network.
        compilation: what steers only the compiler.
        refused, warnings: what is not built, as diagnostics.
        supported: lines that act.
        anyway: lines that ask for what is done without them, and why.
        ignored: lines without effect on this device, and why.
    """

    normalizations: tuple[Normalization, ...] = ()
    optimization: OptimizationRequest = field(default_factory=OptimizationRequest)
    compilation: CompilationRequest = field(default_factory=CompilationRequest)
    refused: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    ignored: tuple[str, ...] = ()
    supported: tuple[str, ...] = ()
    anyway: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises NotBuiltYetError, naming all of them, when a command that changes numerics cannot be carried out."""
        if self.refused:
            raise NotBuiltYetError(self.refused)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON data, for reports."""
        return {
            "supported": list(self.supported),
            "done_anyway": list(self.anyway),
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


def plan(script: Script, network: Network | None = None) -> ScriptPlan:
    """Checks every command against the vocabulary and the network, and sorts it.

    Args:
        script: the commands.
        network: as it was parsed; without it layer names are taken as they are, and stay patterns.

    Raises:
        ScriptError: unknown commands, features, arguments, handles or layers, or unusable values; all of them together
            (the first 20).
    """
    return _Planner(script, network).run()


class _Planner:
    def __init__(self, script: Script, network: Network | None) -> None:
        self._script = script
        self._problems: list[Diagnostic] = []
        self._normalizations: list[Normalization] = []
        self._refused: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []
        self._told: dict[Fate, list[str]] = {ACTS: [], ANYWAY: [], HINT: []}
        self._contexts: set[str] = set()
        self._optimization = OptimizationRequest()
        self._compilation = CompilationRequest()
        self._finder = Finder(network, script, self._problems.append)
        self._optimizing = OptimizationReader(self._problems.append)
        self._compiling = CompilationReader(self._problems.append)

    def run(self) -> ScriptPlan:
        for command in self._script.commands:
            self._take(command)
            if len(self._problems) >= MAX_PROBLEMS:
                break
        if self._problems:
            raise ScriptError(self._problems[:MAX_PROBLEMS])
        known = () if self._finder.names is None else tuple(self._finder.names.all)
        return ScriptPlan(
            tuple(self._normalizations),
            replace(self._optimization, known=known),
            self._compilation,
            tuple(self._refused),
            tuple(self._warnings),
            tuple(self._told[HINT]),
            tuple(self._told[ACTS]),
            tuple(self._told[ANYWAY]),
        )

    def _take(self, command: Command) -> None:
        row, rule = self._row(command)
        if rule is None or not self._arguments_fit(command, row, rule):
            return
        if command.name == "context":
            self._contexts.update(command.targets)
        before = len(self._problems)
        named = self._finder.find(command, rule, row)
        if row == "normalization":
            self._take_normalization(command)
        if len(self._problems) > before:
            return
        by_keys = row in ASK_BY_KEYS and not (row == "performance_param" and command.positional)
        fate, parts = self._fate(command, rule, named, by_keys)
        if fate is not REFUSED:
            self._optimization = self._optimizing.take(row, command, named, self._optimization)
            self._compilation = self._compiling.take(row, command, self._compilation)
        self._tell(command, row, rule, fate, parts)

    def _row(self, command: Command) -> tuple[str, Rule | None]:
        """The command's row in the vocabulary; none, with a problem noted, when it has none."""
        name = command.name
        if command.method_of:
            if command.method_of not in self._contexts:
                what = "context (made by 'name = context([...])' on an earlier line)"
                where = f"{command.where().rpartition(':')[0]}:1"
                self._problems.append(unknown_name("E-SCRIPT-HANDLE", what, command.method_of, self._contexts, where))
            elif name not in METHODS:
                self._unknown("E-SCRIPT-COMMAND", "command of a context", name, METHODS, command)
            else:
                return name, METHODS[name]
            return name, None
        if name not in COMMANDS:
            self._unknown("E-SCRIPT-COMMAND", "command", name, COMMANDS, command)
            return name, None
        if name not in FAMILIES:
            return name, RULES[name]
        first = command.positional[0] if command.positional else None
        feature = str(first).lower() if isinstance(first, str) else ""
        if feature not in FAMILIES[name]:
            what = f"feature of {name} (its first value)"
            self._unknown("E-SCRIPT-FEATURE", what, feature, FAMILIES[name], command)
            return name, None
        row = f"{name}({feature})"
        return row, RULES[row]

    def _arguments_fit(self, command: Command, row: str, rule: Rule) -> bool:
        before = len(self._problems)
        low, high = rule.positional
        if not low <= len(command.positional) <= high:
            need = f"{low}" if low == high else f"{low} to {high}"
            text = f"{row} has another number of values without a key"
            self._problems.append(command.diagnostic(text, f"{need} of them", code="E-SCRIPT-ARGUMENT"))
        for key in command.keyword if rule.keys is not None else ():
            if key not in rule.keys:  # type: ignore[operator]
                what, where = f"argument of {row}", command.where(key)
                self._problems.append(unknown_name("E-SCRIPT-ARGUMENT", what, key, rule.keys or (), where))
        word = word_of(command.keyword.get("policy", True))
        if rule.off is not None and "policy" in rule.off_keys and word not in POLICIES:
            what, where = "value of policy", command.where("policy")
            self._problems.append(unknown_name("E-SCRIPT-VALUE", what, word, POLICIES, where))
        return len(self._problems) == before

    # --- what becomes of it --------------------------------------------------------------------------------------

    def _fate(self, command: Command, rule: Rule, named: Named, asks_by_keys: bool) -> tuple[Fate, dict[str, Fate]]:
        """The command's fate, and that of each of its keys (``""`` is the command itself)."""
        words = {key: word_of(value) for key, value in command.keyword.items()}
        if not words and asks_by_keys:
            return ANYWAY, {}
        off = [key for key in rule.off_keys if words.get(key) == "disabled" and rule.off is not None]
        if off:
            return rule.off or rule.fate, {off[0]: rule.off or rule.fate}
        fates = {key: rule.fate_of(key, word) for key, word in words.items()}
        if words.get("precision_mode") in _OUTPUTS_ONLY and not self._outputs_alone(named.get(0, ())):
            fates["precision_mode"] = REFUSED
        if not asks_by_keys:
            fates[""] = rule.fate
        return min(fates.values(), key=SEVERITY.index), fates

    def _outputs_alone(self, names: tuple[str, ...]) -> bool:
        if self._finder.names is None:
            return all(name.rsplit("/", 1)[-1].startswith("output_layer") for name in names) and bool(names)
        layers = self._finder.names.network.layers
        return bool(names) and all(name in layers and layers[name].kind == "output_layer" for name in names)

    def _tell(self, command: Command, row: str, rule: Rule, fate: Fate, parts: dict[str, Fate]) -> None:
        if fate in self._told:
            self._told[fate].append(self._shown(command) + self._why(command, rule, fate, parts))
            return
        shown = [self._part(command, key) for key, one in parts.items() if one is fate and key]
        what = row if parts.get("") is fate or not shown else f"{row}: {', '.join(shown)}"
        at = next((command.argument_columns.get(key) for key, one in parts.items() if one is fate and key), None)
        at = None if parts.get("") is fate else at
        if fate is LEFT_OUT:
            instead = INSTEAD.get(row, "the result is valid without it")
            rule_text = f"{what} is not built yet and is left out; {instead}"
            self._warnings.append(command.diagnostic(rule_text, code="W-SCRIPT-NOT-BUILT", at=at))
            return
        need, levers = "", ("remove the line if the network is right without it",)
        if row == "quantization_param" and "precision_mode" in parts:
            need = (
                "a8_w8, or a8_w8_a16 where a layer's readers can take 16 bits, or any a16 mode for output layers alone"
            )
        rule_text = f"{what} is not built yet, and leaving it out would change what the network computes"
        self._refused.append(command.diagnostic(rule_text, need, levers, "E-SCRIPT-NOT-BUILT", at))

    def _why(self, command: Command, rule: Rule, fate: Fate, parts: dict[str, Fate]) -> str:
        """Why a line, or a part of it, does not act."""
        if not parts:
            return ": it asks for nothing" if fate is ANYWAY else f": {rule.note}"
        if fate is not ACTS:
            return f": {rule.note}" if rule.note else ""
        idle = [self._part(command, key) for key, one in parts.items() if one is not ACTS and key]
        return f" (without {', '.join(idle)}: no effect here)" if idle else ""

    @staticmethod
    def _part(command: Command, key: str) -> str:
        text = value_text(command.keyword[key])
        return f"{key}={text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"

    # --- normalization -------------------------------------------------------------------------------------------

    def _take_normalization(self, command: Command) -> None:
        before = len(self._problems)
        mean = self._numbers(command, "mean", command.positional[0])
        std = self._numbers(command, "std", command.positional[1])
        third = command.positional[2] if len(command.positional) == 3 else None
        if third is not None and not isinstance(third, str):
            self._problem(command, "the third value of normalization is the name of an input layer", "a layer name")
        if len(self._problems) == before and len(mean) != len(std):
            rule = f"normalization has {len(mean)} means and {len(std)} standard deviations"
            self._problem(command, rule, "one of each per channel")
        if any(value == 0 for value in std):
            self._problem(command, "a standard deviation is 0, and it divides", "numbers other than 0")
        if len(self._problems) > before:
            return
        name = str(third) if third is not None else None
        self._finder.normalize(command, name, len(mean))
        self._normalizations.append(Normalization(command.targets, mean, std, name, command.line, command.where()))

    def _numbers(self, command: Command, what: str, value: Value) -> tuple[float, ...]:
        items = value if isinstance(value, tuple) else ()
        numbers = [float(v) for v in items if isinstance(v, int | float) and not isinstance(v, bool)]
        fits = 0 < len(items) <= MAX_CHANNELS and len(numbers) == len(items) and all(map(math.isfinite, numbers))
        if not fits:
            need = f"a list of 1 to {MAX_CHANNELS} numbers, one per channel: [123.675, 116.28, 103.53]"
            self._problem(command, f"the {what} of normalization is not a list of numbers", need)
        return tuple(numbers)

    # --- text ----------------------------------------------------------------------------------------------------

    def _shown(self, command: Command) -> str:
        text = command_text(command)
        return f"line {command.line}: {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"

    def _problem(self, command: Command, rule: str, need: str = "") -> None:
        self._problems.append(command.diagnostic(rule, need))

    def _unknown(self, code: str, what: str, name: str, known: Any, command: Command) -> None:
        self._problems.append(unknown_name(code, what, name, known, command.where()))
