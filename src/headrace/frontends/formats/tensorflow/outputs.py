# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a graph are the outputs of its network, where no signature says so.

Of a graph that was saved for inference they are what nothing reads. A training graph has its loss, its optimizer, its
metrics and its savers beside the network. These are told by what they are made of: an input that no layer ever reads is
a label, and what depends on a label is no part of the network; nor are gradients and what they move.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from headrace.frontends.formats.tensorflow.records import Body, Node, Ref
from headrace.frontends.formats.tensorflow.training import dropped

#: Where data comes in.
_FEEDS = frozenset({
    "Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "IteratorGetNext", "OneShotIteratorGetNext",
    "QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2",
})  # fmt: skip
#: What layers are made of: where an input meets weights.
_LAYERS = frozenset({
    "Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMul", "BatchMatMulV2",
    "Gather", "GatherV2", "ResourceGather", "While", "StatelessWhile", "Enter", "LSTMBlockCell", "BlockLSTM",
    "PartitionedCall", "StatefulPartitionedCall", "SpaceToBatchND", "Einsum", "_FusedConv2D", "_FusedMatMul",
})  # fmt: skip
#: A training graph with more inputs is not looked through for labels.
_MOST_FEEDS = 64
_ASIDE = frozenset({
    "NoOp", "Assert", "Print", "PrintV2", "Shape", "ShapeN", "Size", "Rank", "Const", "VariableV2", "Variable",
    "VarHandleOp", "ReadVariableOp", "IsVariableInitialized", "VarIsInitializedOp", "SaveV2", "RestoreV2",
    "MergeV2Checkpoints",
    "MakeIterator", "IteratorV2", "IteratorToStringHandle", "QueueEnqueueV2", "QueueEnqueueManyV2", "QueueCloseV2",
    "QueueSizeV2", "Save", "SaveSlices", "ShardedFilename", "HashTableV2", "InitializeTableV2",
    "InitializeTableFromTextFileV2",
})  # fmt: skip
_CHANGES = ("Assign", "Apply", "ResourceApply", "SparseApply", "ResourceSparseApply", "Scatter", "ResourceScatter")
#: Behind what people call an output: the choice of a class, and names.
_BEHIND = frozenset({"Identity", "ArgMax", "Cast", "Round", "TopKV2"})


def is_gradient(node: Node) -> bool:
    """Whether a node is part of what differentiates."""
    first = node.name.partition("/")[0]
    return first == "gradients" or first.startswith("gradients_") or node.op.endswith("Grad")


def _changes(node: Node) -> bool:
    """Whether a node changes a variable."""
    return node.op.startswith(_CHANGES) and node.op != "ScatterNd"


def _is_aside(node: Node) -> bool:
    """Whether a node is beside the network whatever it reads: bookkeeping, summaries, optimizers, savers."""
    return node.op in _ASIDE or _changes(node) or "Summary" in node.op or is_gradient(node)


def _reached(body: Body, starts: Iterable[Ref]) -> set[str]:
    """Names of the nodes that depend on some tensors, but for what is beside the network."""
    found: set[str] = set()
    waiting = [node for ref in starts for node in body.users.get(ref.node, []) if ref in node.inputs]
    while waiting:
        node = waiting.pop()
        if node.name not in found and not _is_aside(node):
            found.add(node.name)
            waiting += body.users.get(node.name, [])
    return found


def _feeds(body: Body) -> list[Ref]:
    """The tensors that a graph is fed with, flags and numbers aside."""
    found: list[Ref] = []
    for node in body.nodes.values():
        if node.op not in _FEEDS:
            continue
        kinds = node.attributes.types("output_types") or node.attributes.types("component_types")
        if not kinds and node.attributes.type("dtype") == "bool":
            continue
        found += [Ref(node.name, i) for i in range(max(len(kinds), 1))]
    return found


def _trains(body: Body) -> bool:
    return any(n.op.startswith(_CHANGES[1:5]) or is_gradient(n) for n in body.nodes.values())


def _behind(body: Body, names: Iterable[str]) -> set[str]:
    """Some nodes, and all that depend on them."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [user.name for user in body.users.get(name, [])]
    return seen


def _network(body: Body) -> tuple[list[str], bool]:
    """Names of the nodes of the network in the file's order, and whether the graph trains it."""
    feeds = _feeds(body)
    if not _trains(body) or len(feeds) > _MOST_FEEDS:
        reached = _reached(body, feeds)
        return [name for name in body.nodes if name in reached], _trains(body)
    labels: list[Ref] = []
    inputs: list[Ref] = []
    for feed in feeds:
        touched = _reached(body, [feed])
        fed = any(body.nodes[n].op in _LAYERS or dropped(body, body.nodes[n]) is not None for n in touched)
        (inputs if fed else labels).append(feed)
    if not inputs:
        inputs, labels = labels, []
    without = _reached(body, labels)
    reached = _reached(body, inputs)
    return [name for name in body.nodes if name in reached and name not in without], True


def _moves(body: Body, network: Iterable[str]) -> set[str]:
    """Nodes that lead to changes of variables and nowhere else: moving averages."""
    found: set[str] = set()
    for name in reversed(list(network)):
        users = body.users.get(name, [])
        if users and all(_changes(u) or u.name in found for u in users):
            found.add(name)
    return found


def found_outputs(body: Body, unset: Collection[str]) -> tuple[list[str], list[str]]:
    """Names of the nodes that the network ends with, and of those that were left out.

    Args:
        body: the graph.
        unset: names of variables that have no value. What depends on one is left out where something else is not.
    """
    network, trains = _network(body)
    moves = _moves(body, network)
    network = [name for name in network if name not in moves]
    known = set(network)

    def read(name: str, by_any: bool) -> bool:
        users = [u for u in body.users.get(name, []) if not _is_aside(u) and u.name not in moves]
        return any(by_any or u.name in known for u in users)

    hidden = _behind(body, unset)
    strict = [n for n in network if not read(n, by_any=trains)]
    # Where a loss or a metric reads each of them, what is before these.
    loose = list(dict.fromkeys(_stripped(body, n) for n in network if not read(n, by_any=False)))
    for ends in (strict, loose):
        whole = [n for n in ends if n not in hidden]
        if whole:
            return whole, [n for n in strict if n not in whole]
    return strict or loose, []


def _stripped(body: Body, name: str) -> str:
    """What stands before the choice of a class."""
    for _ in range(8):
        node = body.nodes[name]
        if node.op not in _BEHIND or not node.inputs or node.inputs[0].node not in body.nodes:
            break
        name = node.inputs[0].node
    return name


__all__ = ["found_outputs", "is_gradient"]
