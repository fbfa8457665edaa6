# SPDX-License-Identifier: Apache-2.0
"""Every layer name of a command, looked up when the command is read; and the names that commands give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.errors import Diagnostic, unknown_name
from headrace.hn import Layer, Network
from headrace.script.arguments import LAYER_KEYS
from headrace.script.fates import HINT
from headrace.script.forms import Form
from headrace.script.names import LayerNames, is_pattern, listed
from headrace.script.parser import Name, Patterns, Script, Statement, Value


class Finder:
    """Looks names up for one script, command by command in its order.

    Args:
        network: the network as it was parsed; without one, names are taken as they are.
        script: whose names are looked up.
        problems: takes what is wrong.
        before: the script that this one replaces, for messages.
    """

    def __init__(
        self,
        network: Network | None,
        script: Script,
        problems: list[Diagnostic],
        before: Script | None = None,
    ) -> None:
        self.names = None if network is None else LayerNames(network)
        self._problems = problems
        self._normalized: dict[str, str] = {}
        self._lines: dict[str, int] = {}
        self._replaced = {t for one in (before.statements if before is not None else ()) for t in one.targets}
        for statement in script.statements:
            for target in statement.targets:
                self._lines.setdefault(target, statement.line)

    def find(self, statement: Statement, form: Form) -> dict[str | int, tuple[str, ...]]:
        """HN names by key, or by number of the value; problems are reported. Names it makes are known from here on."""
        found: dict[str | int, tuple[str, ...]] = {}
        for key, value in self._values(statement, form):
            names: dict[str, None] = {}
            for text in self._texts(statement, key, value):
                names.update(dict.fromkeys(self._one(statement, form, key, text)))
            found[key] = tuple(names)
        if self.names is None:
            return found
        if form.scopes:
            self._scopes(statement, self.names.network.name)
        if not form.makes_layers:
            for target in statement.targets:
                self.names.note_made(target, statement.line)
        return found

    @staticmethod
    def _values(statement: Statement, form: Form) -> Iterator[tuple[str | int, Value]]:
        """The values that are layer names."""
        values = list(enumerate(statement.positional))
        if form.layers_at.startswith("*"):
            words = [(i, v) for i, v in values if isinstance(v, Name | Patterns | tuple)]
            yield from (item for item in (words[:-1] if form.layers_at == "*-" else words))
        else:
            chosen = {int(number) for number in form.layers_at.split()}
            yield from ((i, v) for i, v in values if i in chosen)
        yield from ((key, value) for key, value in statement.keyword.items() if key in LAYER_KEYS)

    def _texts(self, statement: Statement, key: str | int, value: Value) -> Iterator[str]:
        """The names in a value."""
        if isinstance(value, Patterns):
            if not value.items:
                self._bad(statement, key, "", "the set of layers is empty", "{conv*}, say")
            yield from value.items
        elif isinstance(value, str):
            yield value
        elif isinstance(value, tuple) and value:
            for item in value:
                yield from self._texts(statement, key, item)
        elif key != "native_layers":  # true or false there
            self._bad(statement, key, "", "this is not a list of layer names", "[conv1, conv2] or {conv*}")

    def _one(self, statement: Statement, form: Form, key: str | int, text: str) -> list[str]:
        """The HN names of one name or pattern."""
        if self.names is None:
            return [text]
        need = f"a layer of {self.names.network.name!r}: {self.names.shown()}"
        if is_pattern(text):
            names = self.names.matching(text)
            if not names:
                self._bad(statement, key, text, "no layer has a name that this pattern fits", need, repr(text))
            return names
        name = self.names.find(text)
        if name is not None:
            return [name]
        if form.fate is HINT and self.names.foreign(text):
            return []
        made = self.names.made_at(text)
        if made is not None:
            rule_text = f"the layer is named by line {made}, which has no effect on this device"
            self._bad(statement, key, text, rule_text, need, repr(text))
            return []
        close = self.names.suggestions(text)
        levers = (f"did you mean {' or '.join(map(repr, close))}?",) if close else ()
        if self._lines.get(text, 0) > statement.line:
            levers = (f"line {self._lines[text]} makes it: put that line first",)
        elif text in self._replaced:
            levers = ("the script that this one replaces makes it: load this one with append=True",)
        self._bad(statement, key, text, "there is no layer of this name", need, repr(text), levers)
        return []

    def _scopes(self, statement: Statement, scope: str) -> None:
        for text in self._texts(statement, 0, statement.positional[0]):
            if text != scope:
                self._problems.append(unknown_name("E-SCRIPT-LAYER", "network", text, [scope], statement.where()))

    def _bad(
        self,
        statement: Statement,
        key: str | int,
        text: str,
        rule: str,
        need: str,
        got: str = "",
        levers: tuple[str, ...] = (),
    ) -> None:
        at = statement.place_of(text, key) if text else None
        shown = f"{rule}: {got[:80]}" if got else rule
        self._problems.append(statement.diagnostic(shown, need, levers, "E-SCRIPT-LAYER", at))

    # --- what a command makes ------------------------------------------------------------------------------------

    def outputs(self) -> tuple[str, ...] | None:
        """HN names of the output layers; None: no network is known."""
        return None if self.names is None else tuple(layer.name for layer in self.names.network.output_layers)

    def outputs_alone(self, names: Sequence[str]) -> bool:
        """Whether some names are of output layers, all of them."""
        outputs = self.outputs()
        if outputs is None:
            return bool(names) and all(name.rsplit("/", 1)[-1].startswith("output_layer") for name in names)
        return bool(names) and set(names) <= set(outputs)

    def normalize(
        self, statement: Statement, input_layer: str | None, channels: int
    ) -> tuple[tuple[str | None, str | None], ...] | None:
        """The inputs that a normalization follows and the names that the script gives its layers; None: a problem.

        From here on later lines find these layers. Where no network is known, the names are as the script has them.
        """
        targets = statement.targets
        if self.names is None:
            return tuple((input_layer, name) for name in targets or (None,))
        problems = len(self._problems)
        inputs = self._inputs(statement, self.names, input_layer)
        if targets and len(targets) != len(inputs):
            rule = f"normalization makes {len(inputs)} layers here and has {len(targets)} names"
            self._problems.append(
                statement.diagnostic(rule, "a name per input: " + listed(x.short_name for x in inputs))
            )
            return None
        for i, layer in enumerate(inputs):
            earlier = self._normalized.setdefault(layer.name, statement.where())
            if earlier != statement.where():
                rule = f"the input {layer.short_name!r} has a normalization already, made at {earlier}"
                self._problems.append(statement.diagnostic(rule, "one normalization per input"))
            if channels not in (1, layer.output_shape[-1]):
                rule = f"normalization has {channels} channels, the input {layer.short_name!r} {layer.output_shape[-1]}"
                self._problems.append(statement.diagnostic(rule, f"{layer.output_shape[-1]} values, or 1"))
            self._make(statement, self.names, targets[i] if targets else _default_name(self.names))
        return (
            None
            if len(self._problems) > problems
            else tuple((layer.name, name) for layer, name in zip(inputs, targets or [None] * len(inputs), strict=True))
        )

    def _inputs(self, statement: Statement, names: LayerNames, input_layer: str | None) -> list[Layer]:
        inputs = names.network.input_layers
        if input_layer is None:
            return inputs
        chosen = names.network.find_input(input_layer)
        if chosen is None:
            known = [x.short_name for x in inputs]
            at = ":".join(map(str, statement.place_of(input_layer, 2)))
            where = f"{statement.where().rsplit(':', 2)[0]}:{at}"
            self._problems.append(unknown_name("E-SCRIPT-LAYER", "input layer", input_layer, known, where))
            return []
        return [chosen]

    def _make(self, statement: Statement, names: LayerNames, name: str) -> None:
        scope, _, short = name.rpartition("/")
        if scope and scope != names.network.name:
            rule = f"the name {name[:80]!r} belongs to another network"
            self._problems.append(statement.diagnostic(rule, f"{short} or {names.network.name}/{short}"))
        elif names.full(name) in names.all or not name or is_pattern(name):
            rule = f"the name {name[:80]!r} is taken: a layer is called so already"
            self._problems.append(statement.diagnostic(rule, "a name that no layer has", (f"{short}_1 = …",)))
        else:
            names.add(name)


def _default_name(names: LayerNames) -> str:
    index = 1
    while names.full(f"normalization{index}") in names.all:
        index += 1
    return f"normalization{index}"
