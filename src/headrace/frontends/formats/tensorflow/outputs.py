# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a graph are the outputs of its network, where no signature says so.

Of a graph that was saved for inference they are what nothing reads. A training graph has its loss, its optimizer, its
metrics and its savers beside the network. These are told by what they are made of: an input that no layer ever reads is
a label, and what depends on a label is no part of the network; nor are gradients and what they move.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from headrace.frontends.formats.tensorflow.records import Body, Node, Ref

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


def _before(body: Body, name: str) -> list[str]:
    """All nodes that a node depends on."""
    seen: dict[str, None] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen and current in body.nodes:
            seen[current] = None
            waiting += [r.node for r in body.nodes[current].inputs]
    return list(seen)


def _network(body: Body) -> tuple[list[str], bool]:
    """Names of the nodes of the network in the file's order, and whether the graph trains it."""
    feeds = _feeds(body)
    if not _trains(body):
        reached = _reached(body, feeds)
        return [name for name in body.nodes if name in reached], False
    labels: list[Ref] = []
    inputs: list[Ref] = []
    for feed in feeds:
        touched = _reached(body, [feed])
        (inputs if any(body.nodes[n].op in _LAYERS for n in touched) else labels).append(feed)
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
    moves = _moves(body, network) if trains else set[str]()
    network = [name for name in network if name not in moves]
    known = set(network)
    ends: list[str] = []
    for name in network:
        users = [u for u in body.users.get(name, []) if not _is_aside(u) and u.name not in moves]
        if not (users if trains else [u for u in users if u.name in known]):
            ends.append(name)
    if not ends:  # a loss or a metric reads each of them
        ends = [n for n in network if not any(u.name in known for u in body.users.get(n, []))]
        ends = list(dict.fromkeys(_stripped(body, n) for n in ends))
    hidden = set(unset)
    whole = [n for n in ends if not hidden.intersection(_before(body, n))] if hidden else ends
    kept = whole or ends
    return kept, [n for n in ends if n not in kept]


def _stripped(body: Body, name: str) -> str:
    """What stands before the choice of a class."""
    for _ in range(8):
        node = body.nodes[name]
        if node.op not in _BEHIND or not node.inputs or node.inputs[0].node not in body.nodes:
            break
        name = node.inputs[0].node
    return name


__all__ = ["found_outputs", "is_gradient"]
