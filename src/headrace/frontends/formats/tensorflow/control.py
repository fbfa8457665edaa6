# SPDX-License-Identifier: Apache-2.0
"""Calls, branches and loops: a call is inlined, a condition that is known takes one branch, and a loop whose condition
is known each round is unrolled.

Loops come in two forms. ``While`` calls functions. In graphs of TensorFlow 1 a loop is a *frame*: Enter brings a value
in, Merge takes it or what NextIteration brings back, Switch lets it into the body or to Exit as LoopCond says.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.errors import InputFileError
from headrace.frontends.formats.tensorflow.build import Result
from headrace.frontends.formats.tensorflow.evaluate import (
    MAX_DEPTH,
    Demand,
    Evaluator,
    Results,
    Scope,
    known_flag,
    structures,
)
from headrace.frontends.formats.tensorflow.records import Body, Node, Ref
from headrace.frontends.formats.tensorflow.states import DEAD, Dead
from headrace.frontends.graph import Unsupported
from headrace.frontends.reader import corrupt

MAX_ROUNDS = 4096
_BY_DATA = "a condition that is known when the network is parsed"
_RUNS = "how often this loop runs depends on data"
Asking = Generator["tuple[Scope, str]", Results, "list[Result]"]


def _called(evaluator: Evaluator, scope: Scope, node: Node, attribute: str) -> Body:
    """The function that an attribute names, or that the operator is."""
    name = node.op if node.op in evaluator.program.functions else node.attributes.function(attribute)
    body = evaluator.program.functions.get(name)
    where = evaluator.program.where
    if body is None:
        rule = "it calls a function that is not in the file"
        raise InputFileError(corrupt("tensorflow", f"{where}, node {node.name!r}", rule, name[:100]))
    if scope.depth >= MAX_DEPTH:
        rule = "its functions call each other without end"
        raise InputFileError(corrupt("tensorflow", where, rule, name[:100], f"calls at most {MAX_DEPTH} deep"))
    return body


def _call(evaluator: Evaluator, scope: Scope, node: Node, body: Body, values: Sequence[Result], at: str = "") -> Asking:
    """What a function returns for these arguments."""
    if len(values) != len(body.arguments):
        rule = "it calls a function with another number of arguments"
        place = f"{evaluator.program.where}, node {node.name!r}"
        raise InputFileError(corrupt("tensorflow", place, rule, len(values), str(len(body.arguments))))
    inner = Scope(
        body,
        {name: [value] for name, value in zip(body.arguments, values, strict=True)},
        path=f"{scope.path}/{node.name}" if scope.path else node.name,
        round=scope.round + at,
        depth=scope.depth + 1,
    )
    results = yield from evaluator.operands(inner, body.results)
    return results


@structures("PartitionedCall", "StatefulPartitionedCall", "TPUPartitionedCall", "RemoteCall")
def call(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    body = _called(evaluator, scope, node, "f")
    values = yield from evaluator.operands(scope, node.inputs)
    results = yield from _call(evaluator, scope, node, body, values)
    return results


@structures("If", "StatelessIf")
def branch(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    condition = yield from evaluator.operands(scope, node.inputs[:1])
    flag = known_flag(condition[0]) if condition else None
    if flag is None:
        raise Unsupported("which branch runs depends on data", _BY_DATA)
    body = _called(evaluator, scope, node, "then_branch" if flag else "else_branch")
    values = yield from evaluator.operands(scope, node.inputs[1:])
    results = yield from _call(evaluator, scope, node, body, values)
    return results


@structures("While", "StatelessWhile")
def loop(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    test, body = _called(evaluator, scope, node, "cond"), _called(evaluator, scope, node, "body")
    values: list[Result] = yield from evaluator.operands(scope, node.inputs)
    for count in range(MAX_ROUNDS + 1):
        asked = yield from _call(evaluator, scope, node, test, values, f"#{count}")
        flag = known_flag(asked[0]) if asked else None
        if flag is None:
            raise Unsupported(_RUNS, "a number of rounds that is known")
        if not flag:
            return evaluator.aliases(scope, node, values)
        values = yield from _call(evaluator, scope, node, body, values, f"#{count}")
    raise Unsupported(f"it runs more than {MAX_ROUNDS} times", f"at most {MAX_ROUNDS} rounds")


# --- TensorFlow 1 -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Carried:
    """One value that a loop carries: where it comes from, where it is chosen, and what brings it back."""

    switch: str
    merge: str
    enter: Ref
    back: Ref


def _frame(body: Body, condition: str) -> tuple[str, list[_Carried]]:
    """The name of a loop's frame and what it carries, told by its condition.

    Raises:
        Unsupported: it is built in another way.
    """
    carried: list[_Carried] = []
    frame = ""
    for switch in body.users.get(condition, []):
        merge = body.nodes.get(switch.inputs[0].node) if switch.op in ("Switch", "RefSwitch") else None
        if merge is None or merge.op not in ("Merge", "RefMerge") or len(merge.inputs) != 2:
            continue
        sources = {n.op.removeprefix("Ref"): n for ref in merge.inputs if (n := body.nodes.get(ref.node)) is not None}
        if set(sources) != {"Enter", "NextIteration"} or not all(n.inputs for n in sources.values()):
            raise Unsupported("its loop is not built as loops are", "Enter, Merge, Switch, NextIteration, Exit")
        enter = sources["Enter"]
        frame = enter.attributes.text("frame_name", "")
        back = sources["NextIteration"].inputs[0]
        carried.append(_Carried(switch.name, merge.name, Ref(enter.name, 0), back))
    return frame, carried


@structures("Exit", "RefExit")
def leave(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """The last value of what a loop carries; all of the loop is unrolled when the first of them is asked for."""
    switch = scope.body.nodes.get(node.inputs[0].node) if node.inputs else None
    if switch is None or switch.op not in ("Switch", "RefSwitch") or len(switch.inputs) != 2:
        raise Unsupported("its loop is not built as loops are", "Enter, Merge, Switch, NextIteration, Exit")
    condition = switch.inputs[1].node
    if condition not in scope.loops:
        scope.loops[condition] = yield from _unrolled(evaluator, scope, condition)
    result = scope.loops[condition].get(switch.name)
    if result is None:
        raise Unsupported("it leaves a loop that does not carry it", "one that is carried")
    return evaluator.aliases(scope, node, [result])


def _unrolled(
    evaluator: Evaluator, scope: Scope, condition: str
) -> Generator[tuple[Scope, str], Results, dict[str, Result]]:
    """What a loop carries after its last round, by the Switch where it leaves."""
    frame, carried = _frame(scope.body, condition)
    values: list[Result] = yield from evaluator.operands(scope, [c.enter for c in carried])
    for count in range(MAX_ROUNDS + 1):
        inner = Scope(
            scope.body, outer=scope, frame=frame, path=scope.path, round=f"{scope.round}#{count}", depth=scope.depth
        )
        for item, value in zip(carried, values, strict=True):
            inner.results[item.merge] = [value, None]
        asked = yield from evaluator.operands(inner, [Ref(condition, 0)])
        flag = known_flag(asked[0])
        if flag is None:
            raise Unsupported(_RUNS, "a number of rounds that is known")
        if not flag:
            return {item.switch: value for item, value in zip(carried, values, strict=True)}
        for item, value in zip(carried, values, strict=True):
            inner.results[item.switch] = [DEAD, value]
        values = yield from evaluator.operands(inner, [c.back for c in carried])
    raise Unsupported(f"its loop runs more than {MAX_ROUNDS} times", f"at most {MAX_ROUNDS} rounds")


@structures("Enter", "RefEnter")
def enter(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """Into a loop: in a round of that loop, what stands outside of it."""
    if scope.outer is not None and scope.frame == node.attributes.text("frame_name", ""):
        results = yield (scope.outer, node.name)
        return results
    results = yield from evaluator.operands(scope, node.inputs[:1])
    return results


@structures("NextIteration", "RefNextIteration", "LoopCond")
def through(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    results = yield from evaluator.operands(scope, node.inputs[:1])
    return results


@structures("Switch", "RefSwitch")
def switch(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """The branch that does not run is dead, and so is all that reads it, up to where the branches meet."""
    condition = yield from evaluator.operands(scope, node.inputs[1:2])
    if condition and isinstance(condition[0], Dead):
        return [DEAD, DEAD]
    flag = known_flag(condition[0]) if condition else None
    if flag is None:
        raise Unsupported("which branch runs depends on data", _BY_DATA)
    values = yield from evaluator.operands(scope, node.inputs[:1])
    return [DEAD, values[0]] if flag else [values[0], DEAD]


def _is_pivot(body: Body, name: str) -> bool:
    """Whether a node stands for a branch: it is the Identity of a Switch that is no loop's."""
    node = body.nodes.get(name)
    if node is not None and node.op == "Identity" and node.inputs:
        node = body.nodes.get(node.inputs[0].node)
    if node is None or node.op not in ("Switch", "RefSwitch") or len(node.inputs) < 2:
        return False
    condition = body.nodes.get(node.inputs[1].node)
    return condition is None or condition.op != "LoopCond"


@structures("Merge", "RefMerge")
def merge(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """The branch that ran; a constant of a branch is told by the branch that it waits for."""
    alive: list[tuple[int, Result]] = []
    for index, ref in enumerate(node.inputs):
        source = scope.body.nodes.get(ref.node)
        waits = [] if source is None or source.inputs else [c for c in source.controls if _is_pivot(scope.body, c)]
        dead = False
        for control in waits:
            found = yield (scope, control)
            dead = dead or isinstance(found[0], Dead)
        if dead:
            continue
        values = yield from evaluator.operands(scope, [ref])
        if not isinstance(values[0], Dead):
            alive.append((index, values[0]))
    if not alive:
        return [DEAD, DEAD]
    if len(alive) > 1:
        raise Unsupported("which of its branches runs depends on data", _BY_DATA)
    index, value = alive[0]
    return [*evaluator.aliases(scope, node, [value]), evaluator.builder.made(np.array(index, np.int32), node.name)]


@structures("IdentityN")
def each(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """Several tensors at once; those of a branch that does not run stay dead by themselves."""
    values = yield from evaluator.operands(scope, node.inputs)
    return evaluator.aliases(scope, node, values)


__all__ = ["branch", "call", "leave", "loop", "merge", "switch"]
