# SPDX-License-Identifier: Apache-2.0
"""Graphs that a graph calls, branches, loops, and variables.

What an operator with graphs of its own means is written out: the operators of the graph that it calls, of the branch
that is known to be taken or of both and a choice, of each round of a loop whose end is known.
"""

from __future__ import annotations

from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported, constant, marks

_MAX_ROUNDS = 1 << 10


@converts("CALL", "STABLEHLO_COMPOSITE")
def called(operation: Operation) -> None:
    """A composite operator names the graph that says what it means in plain ones."""
    operation.done(*operation.builder.call(operation.integer("graph"), operation.values(), operation.label))


@converts("CALL_ONCE")
def called_once(operation: Operation) -> None:
    """What variables hold at first."""
    states = operation.builder.states
    states.beginning = True
    try:
        operation.builder.call(operation.integer("graph"), [], operation.label)
    finally:
        states.beginning = False
    operation.done()


@converts("IF")
def branch(operation: Operation) -> None:
    """The branch that is taken where that is known, else both, and a choice between what they make."""
    condition, arguments = constant(operation.value(0)), operation.values(1)
    sides = [operation.integer("then_graph"), operation.integer("else_graph")]
    if condition is not None:
        if condition.size != 1:
            raise Unsupported(f"a condition of shape {list(condition.shape)}", "one truth value")
        side = sides[0] if condition.reshape(-1)[0] else sides[1]
        operation.done(*operation.builder.call(side, arguments, operation.label))
        return
    graphs = operation.builder.model.graphs
    shapes = [[graphs[s].tensors[i].shape for i in graphs[s].outputs] if 0 <= s < len(graphs) else [] for s in sides]
    if shapes[0] != shapes[1]:
        raise Unsupported(
            f"its branches make tensors of shapes {shapes[0]} and {shapes[1]}, and which is taken depends on the data",
            "branches that make tensors of one shape, or a condition that is constant",
        )
    made = [
        operation.builder.call(side, arguments, f"{operation.label}/{word}")
        for side, word in zip(sides, ("then", "else"), strict=True)
    ]
    operation.done(*(operation.emit("Where", [operation.value(0), *both]) for both in zip(*made, strict=True)))


@converts("WHILE", "STABLEHLO_WHILE")
def loop(operation: Operation) -> None:
    """Each round written out, as long as the condition is a constant."""
    held = operation.values()
    for turn in range(_MAX_ROUNDS):
        label = f"{operation.label}/{turn}"
        going = operation.builder.call(operation.integer("condition"), held, f"{label}/condition")
        known = constant(going[0]) if len(going) == 1 else None
        if known is None or known.size != 1:
            raise Unsupported(
                "how many rounds it takes depends on the data", "a loop whose condition is known when the file is read"
            )
        if not known.reshape(-1)[0]:
            operation.done(*held)
            return
        held = operation.builder.call(operation.integer("body"), held, label)
    raise Unsupported(f"a loop of more than {_MAX_ROUNDS} rounds", "fewer rounds")


# --- variables --------------------------------------------------------------------------------------------------------


@converts("VAR_HANDLE")
def handle(operation: Operation) -> None:
    value = operation.builder.value(operation.made(0).index)
    marks(value)["kind"] = "a variable, not its value"
    operation.builder.states.name_handle(value, operation.record)


@converts("READ_VARIABLE")
def read(operation: Operation) -> None:
    builder, states = operation.builder, operation.builder.states
    name = states.name_of(operation.value(0))
    found = states.now(name)
    if found is None and not states.is_changed(name):
        raise Unsupported(f"nothing sets the variable {name!r}", "a variable that CALL_ONCE sets")
    if found is None:
        fed, found = builder.state_input(name, operation.made(0))
        states.begin(name, fed, found)
    operation.done(operation.emit("Identity", [found], glue=True) if constant(found) is None else found)


@converts("ASSIGN_VARIABLE")
def assign(operation: Operation) -> None:
    builder, states = operation.builder, operation.builder.states
    name, value = states.name_of(operation.value(0)), operation.value(1)
    if not states.beginning and states.now(name) is None:
        states.begin(name, *builder.state_input(name, operation.tensor(1)))
    states.set(name, value)
    operation.done()
