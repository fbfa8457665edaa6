# SPDX-License-Identifier: Apache-2.0
"""A network with the layer names that a model script uses, for trying scripts whose networks are not at hand."""

from __future__ import annotations

import collections
import fnmatch
import re
from pathlib import Path

from headrace.hn import Network
from headrace.script import Script, Statement
from headrace.script.forms import Form
from headrace.script.naming import Finder
from headrace.script.vocabulary import FORMS, METHODS
from layer_maker import make_layer

CHANNELS = 3


def form_of(statement: Statement) -> Form:
    """What the command of a statement is; it must have one."""
    if statement.method_of:
        return METHODS[statement.name]
    first = statement.positional[0] if statement.positional else None
    return FORMS.get(statement.name) or FORMS[f"{statement.name}({first})"]


def network_for(script: Script, name: str = "made") -> Network:
    """A network (its layers' names, kinds of inputs and outputs, and input channels; no more) for a script."""
    made: set[str] = set()
    words: dict[str, None] = {"input_layer1": None, "output_layer1": None}
    inputs: dict[str, None] = {}
    finder = Finder(None, script, [])
    for command in script.statements:
        found = finder.find(command, form_of(command))
        named = [n for names in found.values() for n in names]
        words.update(dict.fromkeys(n for n in named if not any(_fits(m, n) for m in made)))
        if command.name == "normalization" and len(command.positional) == 3:
            inputs[str(command.positional[2])] = None
        elif command.name == "normalization":
            words.update(dict.fromkeys(f"input_layer{i + 1}" for i in range(len(command.targets))))
        made.update(command.targets)
    if any(c.name == "network_group" for c in script.statements):
        name = next(str(c.positional[0][0]) for c in script.statements if c.name == "network_group")  # type: ignore[index]
    scopes = collections.Counter(word.rpartition("/")[0] for word in [*words, *made] if "/" in word)
    name = scopes.most_common(1)[0][0] if scopes else name
    network = Network(name)
    for word in [*inputs, *words]:
        # A pattern is fitted by one layer: the first character of each choice, 1 for the rest.
        plain = re.sub(r"\[!?(.)[^]]*\]", r"\1", word).replace("*", "1").replace("?", "1")
        full = plain if "/" in plain else f"{name}/{plain}"
        short = full.rpartition("/")[2]
        kind = next((k for k in ("input_layer", "output_layer") if short.startswith(k)), "conv")
        kind = "input_layer" if word in inputs else kind
        if full not in network.layers:
            network.add(make_layer(full, kind, [], {}, (-1, 8, 8, CHANNELS), []))
    return network


def _fits(made: str, word: str) -> bool:
    """Whether a name or pattern means a layer that an earlier line makes."""
    return fnmatch.fnmatchcase(made, word) or fnmatch.fnmatchcase(made.rpartition("/")[2], word.rpartition("/")[2])


def real_scripts(reference: Path) -> list[Path]:
    """The public scripts that are at hand."""
    return sorted((reference / "model_scripts").glob("*.alls"))
