# SPDX-License-Identifier: Apache-2.0
"""What a TFLite file keeps from one frame to the next: an input of the network, and an output that feeds the next one.

A variable that only the graph of CALL_ONCE sets is a constant. One that a frame changes becomes an input, of what it
was, and an output, of what it is afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from headrace.frontends.formats.tflite.read import Model, Operator
from headrace.frontends.graph import Unsupported

#: Behind the name of a state, in the name of the output.
NEXT = "/next"


@dataclass(frozen=True)
class State:
    """One thing that is kept.

    Attributes:
        fed: the input of the network.
        after: what the next frame takes in its place.
    """

    fed: ir.Value
    after: ir.Value


def _handles(graph: Model) -> dict[int, Operator]:
    return {o.outputs[0]: o for o in graph.operators if o.name == "VAR_HANDLE" and o.outputs}


def _name(handle: Operator) -> str:
    return f"{handle.options['container']}/{handle.options['shared_name']}".lstrip("/")


def _changed(model: Model) -> Iterator[str]:
    """Names of variables that are set each frame; ``*`` for one whose name is not seen where it is set."""
    once = [o.options["graph"] for g in model.graphs for o in g.operators if o.name == "CALL_ONCE"]
    for number, graph in enumerate(model.graphs):
        if number in once:
            continue
        handles = _handles(graph)
        for operator in graph.operators:
            if operator.name == "ASSIGN_VARIABLE" and operator.inputs:
                yield _name(handles[operator.inputs[0]]) if operator.inputs[0] in handles else "*"


@dataclass
class States:
    """Variables of a file while it is translated.

    Attributes:
        kept: states so far, by name.
        beginning: the graph of CALL_ONCE is being run.
    """

    model: Model
    kept: dict[str, State] = field(default_factory=dict[str, State])
    beginning: bool = False
    _handle_of: dict[ir.Value, str] = field(default_factory=dict[ir.Value, str])
    _now: dict[str, ir.Value] = field(default_factory=dict[str, ir.Value])
    _before: dict[str, ir.Value] = field(default_factory=dict[str, ir.Value])

    def __post_init__(self) -> None:
        self._changed = frozenset(_changed(self.model))

    def name_handle(self, value: ir.Value, record: Operator) -> None:
        """Note which variable a value stands for."""
        self._handle_of[value] = _name(record)

    def is_handle(self, value: ir.Value) -> bool:
        return value in self._handle_of

    def name_of(self, value: ir.Value) -> str:
        """The variable that a value stands for.

        Raises:
            Unsupported: it stands for none.
        """
        if value not in self._handle_of:
            raise Unsupported("it names no variable", "the result of VAR_HANDLE")
        return self._handle_of[value]

    def is_changed(self, name: str) -> bool:
        """Whether frames set the variable."""
        return name in self._changed or "*" in self._changed

    def now(self, name: str) -> ir.Value | None:
        """What a variable holds at this place; None where nothing has set or read it yet."""
        if not self.beginning and self.is_changed(name) and name not in self._before:
            return None
        return self._now.get(name)

    def begin(self, name: str, fed: ir.Value, value: ir.Value) -> None:
        """What a variable holds when a frame begins: ``fed`` is an input of the network, which stands for ``value``."""
        self._before[name], self._now[name] = fed, value

    def keep(self, name: str, fed: ir.Value, after: ir.Value) -> None:
        """Note what enters as ``fed`` and is ``after`` for the next frame."""
        self.kept[name] = State(fed, after)

    def set(self, name: str, value: ir.Value) -> None:
        """What a variable holds from here on."""
        self._now[name] = value
        if not self.beginning and name in self._before:
            self.kept[name] = State(self._before[name], value)
