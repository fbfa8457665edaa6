# SPDX-License-Identifier: Apache-2.0
"""Every layer name of a command, looked up when the command is read; and the names that commands give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from headrace.errors import Diagnostic, unknown_name
from headrace.hn import Layer, Network
from headrace.script.names import LayerNames, is_pattern, listed
from headrace.script.parser import Command, Name, Patterns, Script, Value
from headrace.script.vocabulary import HINT, LAYER_KEYS, Rule


class Finder:
    """Looks names up for one script, command by command in its order.

    Args:
        network: the network as it was parsed; without one, names are taken as they are.
        script: whose names are looked up.
        report: takes a problem.
    """

    def __init__(self, network: Network | None, script: Script, report: Callable[[Diagnostic], None]) -> None:
        self.names = None if network is None else LayerNames(network)
        self._report = report
        self._normalized: dict[str, str] = {}
        self._lines: dict[str, int] = {}
        for command in script.commands:
            for target in command.targets:
                self._lines.setdefault(target, command.line)

    def find(self, command: Command, rule: Rule, row: str) -> dict[str | int, tuple[str, ...]]:
        """HN names by key, or by number of the value; problems are reported. Names it makes are known from here on."""
        found: dict[str | int, tuple[str, ...]] = {}
        for key, value in self._values(command, rule):
            names: dict[str, None] = {}
            for text in self._texts(command, key, value):
                names.update(dict.fromkeys(self._one(command, rule, key, text)))
            found[key] = tuple(names)
        if self.names is None:
            return found
        if "output_16bit" in command.keyword:
            found["output_16bit"] = tuple(layer.name for layer in self.names.network.output_layers)
        if row == "network_group":
            self._scopes(command, self.names.network.name)
        if row != "normalization":
            for target in command.targets:
                self.names.note_made(target, command.line)
        return found

    @staticmethod
    def _values(command: Command, rule: Rule) -> Iterator[tuple[str | int, Value]]:
        """The values that are layer names."""
        values = list(enumerate(command.positional))
        if rule.layers.startswith("*"):
            words = [(i, v) for i, v in values if isinstance(v, Name | Patterns | tuple)]
            yield from (item for item in (words[:-1] if rule.layers == "*-" else words))
        else:
            chosen = {int(number) for number in rule.layers.split()}
            yield from ((i, v) for i, v in values if i in chosen)
        yield from ((key, value) for key, value in command.keyword.items() if key in LAYER_KEYS)

    def _texts(self, command: Command, key: str | int, value: Value) -> Iterator[str]:
        """The names in a value."""
        if isinstance(value, Patterns):
            if not value.items:
                self._bad(command, key, "", "the set of layers is empty", "{conv*}, say")
            yield from value.items
        elif isinstance(value, str):
            yield value
        elif isinstance(value, tuple) and value:
            for item in value:
                yield from self._texts(command, key, item)
        elif key != "native_layers":  # true or false there
            self._bad(command, key, "", "this is not a list of layer names", "[conv1, conv2] or {conv*}")

    def _one(self, command: Command, rule: Rule, key: str | int, text: str) -> list[str]:
        """The HN names of one name or pattern."""
        if self.names is None:
            return [text]
        need = f"a layer of {self.names.network.name!r}: {self.names.shown()}"
        if is_pattern(text):
            names = self.names.matching(text)
            if not names:
                self._bad(command, key, text, "no layer has a name that this pattern fits", need, repr(text))
            return names
        name = self.names.find(text)
        if name is not None:
            return [name]
        if rule.fate is HINT and self.names.foreign(text):
            return []
        made = self.names.made_at(text)
        if made is not None:
            rule_text = f"the layer is named by line {made}, which has no effect on this device"
            self._bad(command, key, text, rule_text, need, repr(text))
            return []
        close = self.names.suggestions(text)
        levers = (f"did you mean {' or '.join(map(repr, close))}?",) if close else ()
        if self._lines.get(text, 0) > command.line:
            levers = (f"line {self._lines[text]} makes it: put that line first",)
        self._bad(command, key, text, "there is no layer of this name", need, repr(text), levers)
        return []

    def _scopes(self, command: Command, scope: str) -> None:
        for text in self._texts(command, 0, command.positional[0]):
            if text != scope:
                self._report(unknown_name("E-SCRIPT-LAYER", "network", text, [scope], command.where()))

    def _bad(
        self,
        command: Command,
        key: str | int,
        text: str,
        rule: str,
        need: str,
        got: str = "",
        levers: tuple[str, ...] = (),
    ) -> None:
        at = command.place_of(text, key) if text else None
        shown = f"{rule}: {got[:80]}" if got else rule
        self._report(command.diagnostic(shown, need, levers, "E-SCRIPT-LAYER", at))

    # --- what a command makes ------------------------------------------------------------------------------------

    def normalize(self, command: Command, input_layer: str | None, channels: int) -> None:
        """Check a normalization against the network, and make its names known."""
        if self.names is None:
            return
        inputs = self._inputs(command, self.names, input_layer)
        targets = command.targets
        if targets and len(targets) != len(inputs):
            rule = f"normalization makes {len(inputs)} layers here and has {len(targets)} names"
            self._report(command.diagnostic(rule, "a name per input: " + listed(x.short_name for x in inputs)))
            return
        for i, layer in enumerate(inputs):
            earlier = self._normalized.setdefault(layer.name, command.where())
            if earlier != command.where():
                rule = f"the input {layer.short_name!r} has a normalization already, made at {earlier}"
                self._report(command.diagnostic(rule, "one normalization per input"))
            if channels not in (1, layer.output_shape[-1]):
                rule = f"normalization has {channels} channels, the input {layer.short_name!r} {layer.output_shape[-1]}"
                self._report(command.diagnostic(rule, f"{layer.output_shape[-1]} values, or 1"))
            self._make(command, self.names, targets[i] if targets else _default_name(self.names))

    def _inputs(self, command: Command, names: LayerNames, input_layer: str | None) -> list[Layer]:
        inputs = names.network.input_layers
        if input_layer is None:
            return inputs
        found = names.find(input_layer)
        chosen = [x for x in inputs if found == x.name or input_layer == x.boundary.source_name]
        if not chosen:
            known = [x.short_name for x in inputs]
            at = ":".join(map(str, command.place_of(input_layer, 2)))
            where = f"{command.where().rsplit(':', 2)[0]}:{at}"
            self._report(unknown_name("E-SCRIPT-LAYER", "input layer", input_layer, known, where))
        return chosen

    def _make(self, command: Command, names: LayerNames, name: str) -> None:
        scope, _, short = name.rpartition("/")
        if scope and scope != names.network.name:
            rule = f"the name {name[:80]!r} belongs to another network"
            self._report(command.diagnostic(rule, f"{short} or {names.network.name}/{short}"))
        elif names.full(name) in names.all or not name or is_pattern(name):
            rule = f"the name {name[:80]!r} is taken: a layer is called so already"
            self._report(command.diagnostic(rule, "a name that no layer has", (f"{short}_1 = …",)))
        else:
            names.add(name)


def _default_name(names: LayerNames) -> str:
    index = 1
    while names.full(f"normalization{index}") in names.all:
        index += 1
    return f"normalization{index}"
