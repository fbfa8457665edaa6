# SPDX-License-Identifier: Apache-2.0
"""What a training graph has beside the network: dropout, statistics of a batch, and the flags that say which it is."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.frontends.formats.tensorflow.evaluate import Demand, Evaluator, Scope, structures
from headrace.frontends.formats.tensorflow.records import Body, Node, Ref
from headrace.frontends.formats.tensorflow.states import DEAD, Dead
from headrace.frontends.graph import Unsupported

_UNIFORM = frozenset({
    "RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomUniformFullInt",
})  # fmt: skip
#: Between random numbers and the mask that they become.
_SHIFTING = frozenset({"Add", "AddV2", "Sub", "Mul", "Identity", "Cast"})
_CUTTING = frozenset({"Floor", "GreaterEqual", "Greater", "Less", "LessEqual"})
_NUMBERS = frozenset({"Const", "Placeholder", "PlaceholderWithDefault", "PlaceholderV2"})
_MOST_HOPS = 8
_MOST_FOLLOWED = 64
_MOVED = frozenset({
    "AssignSub", "AssignSubVariableOp", "Assign", "AssignVariableOp", "AssignAdd", "AssignAddVariableOp",
})  # fmt: skip


def _is_number(body: Body, ref: Ref, hops: int = _MOST_HOPS) -> bool:
    """Whether a tensor is made of constants and flags alone."""
    node = body.nodes.get(ref.node)
    if node is None or hops == 0:
        return node is None and hops > 0  # an argument of a function
    if node.op in _NUMBERS:
        return True
    key = ("number", node.name, hops)
    if key not in body.told:
        passes = node.op in ("Sub", "RealDiv", "Identity", "Cast", "Reciprocal", "Switch", "Mul")
        found = passes and len(node.inputs) <= 3 and all(_is_number(body, r, hops - 1) for r in node.inputs)
        body.told[key] = "yes" if found else ""
    return bool(body.told[key])


def _mask(body: Body, ref: Ref, hops: int = _MOST_HOPS) -> str:
    """What random numbers are: "random", or a "mask" where they were cut to zeros and ones; else ""."""
    node = body.nodes.get(ref.node)
    if node is None or hops == 0:
        return ""
    if node.op in _UNIFORM:
        return "random"
    if (node.op not in _SHIFTING and node.op not in _CUTTING) or len(node.inputs) > 3:
        return ""
    key = ("mask", node.name, hops)
    if key not in body.told:
        found = [_mask(body, r, hops - 1) for r in node.inputs]
        kinds = [k for k in found if k]
        others = [r for r, k in zip(node.inputs, found, strict=True) if not k]
        whole = len(kinds) == 1 and all(_is_number(body, r) for r in others)
        body.told[key] = ("mask" if node.op in _CUTTING else kinds[0]) if whole else ""
    return body.told[key]


def _unscaled(body: Body, ref: Ref) -> Ref:
    """What dropout scaled, so that its mean stays what it is."""
    node = body.nodes.get(ref.node)
    if node is None or node.op not in ("RealDiv", "Mul", "Div") or len(node.inputs) != 2:
        return ref
    left, right = node.inputs
    if _is_number(body, right):
        return left
    return right if node.op == "Mul" and _is_number(body, left) else ref


def dropped(body: Body, node: Node) -> Ref | None:
    """What dropout drops from, where a node is its last step: a product with a random mask, or a choice by one."""
    if node.op == "Mul" and len(node.inputs) == 2:
        for mask, other in (node.inputs, node.inputs[::-1]):
            if _mask(body, mask) == "mask":
                return _unscaled(body, other)
    if node.op in ("SelectV2", "Select") and len(node.inputs) == 3 and _mask(body, node.inputs[0]) == "mask":
        return _unscaled(body, node.inputs[1])
    return None


@structures("Mul", "SelectV2", "Select")
def product(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """Dropout passes on what it would drop from; anything else is converted as it is."""
    kept = dropped(scope.body, node)
    if kept is None:
        results = yield from evaluator.plain(scope, node)
        return results
    values = yield from evaluator.operands(scope, [kept])
    if isinstance(values[0], Dead):
        return [DEAD]
    evaluator.builder.note("dropout", node.name)
    return evaluator.aliases(scope, node, values)


# --- batch normalization ----------------------------------------------------------------------------------------------


def _variable_behind(body: Body, ref: Ref, hops: int = 4) -> Ref | None:
    """The variable that a tensor is read from."""
    node = body.nodes.get(ref.node)
    if node is None:
        return ref if ref.node in body.arguments else None
    if node.op in ("VariableV2", "Variable", "VarHandleOp"):
        return ref
    reads = ("Identity", "ReadVariableOp", "Enter", "Switch")
    if node.op in reads and node.inputs and hops:
        return _variable_behind(body, node.inputs[0], hops - 1)
    return None


def _moved_by(body: Body, node: Node, index: int) -> Ref | None:
    """The variable that follows output ``index`` of a node: moving averages are moved by what was measured."""
    waiting = [(node.name, index, 10)]
    seen: set[tuple[str, int]] = set()
    while waiting:
        name, output, hops = waiting.pop(0)
        if (name, output) in seen or hops == 0 or len(seen) > _MOST_FOLLOWED:
            continue
        seen.add((name, output))
        for user in body.users.get(name, []):
            if not any(r.node == name and r.index == output for r in user.inputs):
                continue
            if user.op in _MOVED and user.inputs[0].node != name:
                return _variable_behind(body, user.inputs[0])
            if user.op in ("Sub", "Mul", "Identity", "Squeeze", "Merge", "Switch", "Cast", "Add", "AddV2", "Reshape"):
                waiting += [(user.name, 0, hops - 1)] + ([(user.name, 1, hops - 1)] if user.op == "Switch" else [])
    return None


def _beside(body: Body, scale: Ref, word: str) -> Ref | None:
    """A variable of that name in the scope of the scale's."""
    variable = _variable_behind(body, scale)
    folder = variable.node.rpartition("/")[0] if variable is not None else ""
    name = f"{folder}/{word}" if folder else word
    found = body.nodes.get(name)
    return Ref(name, 0) if found is not None and found.op in ("VariableV2", "Variable", "VarHandleOp") else None


@structures("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def normalize(evaluator: Evaluator, scope: Scope, node: Node) -> Demand:
    """In training mode the statistics are those of the batch; a network has those that training recorded."""
    if not node.attributes.flag("is_training", True) or len(node.inputs) < 3:
        results = yield from evaluator.plain(scope, node)
        return results
    inputs = yield from evaluator.operands(scope, node.inputs[:3])
    if any(isinstance(v, Dead) for v in inputs):
        return [DEAD] * scope.body.outputs.get(node.name, 1)
    recorded: list[Ref] = []
    for index, word in ((1, "moving_mean"), (2, "moving_variance")):
        found = _moved_by(scope.body, node, index) or _beside(scope.body, node.inputs[1], word)
        if found is None:
            raise Unsupported(
                "it normalizes by the statistics of each batch (is_training is true), and the file records none",
                "moving mean and variance, as a graph saved for inference has",
                ("save the graph with training=False",),
            )
        recorded.append(found)
    statistics = yield from evaluator.operands(scope, recorded)
    evaluator.builder.note("batch", node.name)
    return evaluator.convert(scope, node, [*inputs, *statistics])


def warnings_of(notes: dict[str, list[str]]) -> list[str]:
    """Sentences about what was taken out of a training graph."""
    texts = {
        "dropout": "dropout was left out: {}",
        "batch": "in training mode in the file; the recorded moving statistics are used: {}",
        "flag": "assumed false, as at inference: {}",
        "default": "set to the default that the file gives: {}",
    }
    return [texts[kind].format(_listed(names)) for kind, names in notes.items()]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


__all__ = ["dropped", "warnings_of"]
