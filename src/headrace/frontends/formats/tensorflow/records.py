# SPDX-License-Identifier: Apache-2.0
"""The messages of a graph, untrusted, into checked records; nothing here knows what an operator means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import Diagnostic, InputFileError
from headrace.frontends.formats.tensorflow.schema import type_name
from headrace.frontends.graph import Unsupported
from headrace.frontends.reader import corrupt

#: Nodes of a file, those of its functions included.
MAX_NODES = 200_000
MAX_OPERANDS = 4096
_MAX_PROBLEMS = 100
_MAX_RANK = 16
#: Names of the outputs of operators that have several; functions refer to them by these.
_OUTPUTS: dict[str, tuple[str, ...]] = {
    "Switch": ("output_false", "output_true"),
    "RefSwitch": ("output_false", "output_true"),
    "Merge": ("output", "value_index"),
    "RefMerge": ("output", "value_index"),
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3"),
    "TopK": ("values", "indices"),
    "TopKV2": ("values", "indices"),
    "MaxPoolWithArgmax": ("output", "argmax"),
    "Unique": ("y", "idx"),
    "UniqueV2": ("y", "idx"),
    "TensorArrayV3": ("handle", "flow"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "DecodeWav": ("audio", "sample_rate"),
    "NonMaxSuppressionV4": ("selected_indices", "valid_outputs"),
    "NonMaxSuppressionV5": ("selected_indices", "selected_scores", "valid_outputs"),
    "CombinedNonMaxSuppression": ("nmsed_boxes", "nmsed_scores", "nmsed_classes", "valid_detections"),
    "BlockLSTM": ("i", "cs", "f", "o", "ci", "co", "h"),
    "BlockLSTMV2": ("i", "cs", "f", "o", "ci", "co", "h"),
    "LSTMBlockCell": ("i", "cs", "f", "o", "ci", "co", "h"),
    "GRUBlockCell": ("r", "u", "c", "h"),
    "StatelessRandomGetKeyCounter": ("key", "counter"),
    "BroadcastGradientArgs": ("r0", "r1"),
    "Svd": ("s", "u", "v"),
    "Qr": ("q", "r"),
    "TensorArrayConcatV3": ("value", "lengths"),
}


@dataclass(frozen=True, slots=True)
class Ref:
    """Output ``index`` of a node, or of an argument of a function."""

    node: str
    index: int

    @property
    def tensor(self) -> str:
        """TensorFlow's name of the tensor, without the ``:0`` that nobody writes."""
        return f"{self.node}:{self.index}" if self.index else self.node


class Attributes:
    """The attributes of a node, without trusting their types."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._values: dict[str, Any] = {entry.key: entry.value for entry in entries}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def _get(self, name: str, kind: str) -> Any:
        value = self._values.get(name)
        if value is None:
            return None
        if not value.HasField(kind):
            raise Unsupported(f"attribute {name!r} is not of the kind that its operator has")
        return getattr(value, kind)

    def integer(self, name: str, default: int) -> int:
        found = self._get(name, "i")
        return default if found is None else int(found)

    def real(self, name: str, default: float) -> float:
        found = self._get(name, "f")
        if found is not None and not math.isfinite(found):
            raise Unsupported(f"attribute {name!r} is not a finite number")
        return default if found is None else float(found)

    def flag(self, name: str, default: bool = False) -> bool:
        found = self._get(name, "b")
        return default if found is None else bool(found)

    def text(self, name: str, default: str) -> str:
        found = self._get(name, "s")
        return default if found is None else found.decode("utf-8", "replace")

    def type(self, name: str, default: str = "float32") -> str:
        """The name of an element type."""
        found = self._get(name, "type")
        return default if found is None else type_name(int(found))

    def types(self, name: str) -> list[str]:
        found = self._get(name, "list")
        return [] if found is None else [type_name(int(t)) for t in found.type[:MAX_OPERANDS]]

    def integers(self, name: str) -> list[int]:
        found = self._get(name, "list")
        if found is not None and len(found.i) > 64:
            raise Unsupported(f"attribute {name!r} is not a short list of integers")
        return [] if found is None else [int(i) for i in found.i]

    def reals(self, name: str) -> list[float]:
        found = self._get(name, "list")
        if found is not None and len(found.f) > MAX_OPERANDS:
            raise Unsupported(f"attribute {name!r} is not a short list of numbers")
        return [] if found is None else [float(f) for f in found.f]

    def words(self, name: str) -> list[str]:
        found = self._get(name, "list")
        return [] if found is None else [s.decode("utf-8", "replace") for s in found.s[:MAX_OPERANDS]]

    def shape(self, name: str) -> list[int] | None:
        """Sizes, -1 for an open one; None where not even the rank is known."""
        found = self._get(name, "shape")
        return None if found is None else sizes_of(found)

    def shapes(self, name: str) -> list[list[int] | None]:
        found = self._get(name, "list")
        return [] if found is None else [sizes_of(shape) for shape in found.shapes[:MAX_OPERANDS]]

    def tensor(self, name: str) -> Any:
        """The message of a tensor, or None."""
        return self._get(name, "tensor")

    def function(self, name: str) -> str:
        """The name of a function, or ''."""
        found = self._get(name, "function")
        return "" if found is None else str(found.name)


def sizes_of(shape: Any) -> list[int] | None:
    """Sizes of a message of a shape, -1 for an open one; None where the rank is not known."""
    if shape.unknown or len(shape.dims) > _MAX_RANK:
        return None
    return [int(d.size) if d.size >= 0 else -1 for d in shape.dims]


@dataclass(slots=True)
class Node:
    """One operator: what it reads, and the nodes that merely run before it."""

    name: str
    op: str
    inputs: list[Ref]
    controls: list[str]
    attributes: Attributes


@dataclass
class Body:
    """The nodes of a graph or of a function.

    Attributes:
        name: of the function; '' for a graph.
        nodes: by name, in the file's order.
        arguments: names of a function's arguments.
        results: what a function returns.
        result_names: of its outputs.
        outputs: node → how many of its outputs something reads, at least 1.
        told: what was found out about nodes already: question, node, steps that were left → answer.
    """

    name: str
    nodes: dict[str, Node] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    results: list[Ref] = field(default_factory=list)
    result_names: list[str] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    told: dict[tuple[str, str, int], str] = field(default_factory=dict)
    _users: dict[str, list[Node]] | None = None

    @property
    def users(self) -> Mapping[str, list[Node]]:
        """Node → the nodes that read one of its outputs, in the file's order."""
        if self._users is None:
            self._users = {}
            for node in self.nodes.values():
                for name in dict.fromkeys(ref.node for ref in node.inputs):
                    self._users.setdefault(name, []).append(node)
        return self._users


class Problems:
    """What is wrong with a file, so far."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[Diagnostic] = []

    def add(self, place: str, rule: str, got: object = "", need: str = "") -> None:
        if len(self.found) < _MAX_PROBLEMS:
            self.found.append(corrupt("tensorflow", f"{self.where}, {place}", rule, got, need))

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InputFileError: if anything was.
        """
        if self.found:
            raise InputFileError(self.found)


@dataclass
class Program:
    """A graph and the functions that it may call.

    Attributes:
        where: file name, for messages.
        graph: what runs.
        functions: by name.
        size: bytes of the file or files.
        producer: version of the graph's format.
    """

    where: str
    graph: Body
    functions: dict[str, Body]
    size: int
    producer: int = 0


def _reference(text: str, offset: Callable[[str, str], int]) -> Ref | None:
    """``node``, ``node:1``, or inside of functions ``node:output:1``; None for what is neither."""
    parts = text.split(":")
    if len(parts) == 1:
        return Ref(text, 0)
    number = parts[-1]
    if not number.isdecimal() or len(number) > 6 or len(parts) > 3:
        return None
    if len(parts) == 2:
        return Ref(parts[0], int(number))
    return Ref(parts[0], offset(parts[0], parts[1]) + int(number))


def _body(
    name: str, messages: Sequence[Any], arguments: list[str], library: Mapping[str, Any], problems: Problems
) -> Body:
    place = f"function {name!r}, " if name else ""
    operators = {m.name: m.op for m in messages}

    def offset(node: str, output: str) -> int:
        op = operators.get(node, "")
        names = _OUTPUTS.get(op) or ([a.name for a in library[op].signature.outputs] if op in library else ())
        return list(names).index(output) if output in names else 0

    body = Body(name, arguments=arguments)
    known = dict.fromkeys(arguments)
    for message in messages:
        if not message.name or not message.op:
            problems.add(f"{place}node {message.name!r}", "a node has no name or no operator", message.op)
            continue
        if message.name in body.nodes or message.name in known:
            problems.add(f"{place}node {message.name!r}", "two nodes have one name", message.name)
            continue
        if len(message.inputs) > MAX_OPERANDS and message.op != "NoOp":
            problems.add(f"{place}node {message.name!r}", "it reads too many tensors", len(message.inputs))
            continue
        inputs: list[Ref] = []
        controls: list[str] = []
        for text in message.inputs:
            if text.startswith("^"):
                controls.append(text[1:])
                continue
            found = _reference(text, offset)
            if found is None or found.index > MAX_OPERANDS:
                problems.add(f"{place}node {message.name!r}", "it names a tensor that cannot be", text)
            else:
                inputs.append(found)
                body.outputs[found.node] = max(body.outputs.get(found.node, 1), found.index + 1)
        body.nodes[message.name] = Node(message.name, message.op, inputs, controls, Attributes(message.attributes))
    for node in body.nodes.values():
        for missing in [r.node for r in node.inputs if r.node not in body.nodes and r.node not in known]:
            problems.add(f"{place}node {node.name!r}", "it reads a tensor that nothing makes", missing)
    return body


def _function(message: Any, library: Mapping[str, Any], problems: Problems) -> Body:
    name = message.signature.name
    arguments = [a.name for a in message.signature.inputs]
    body = _body(name, message.nodes, arguments, library, problems)
    returned = {entry.key: entry.value for entry in message.results}
    operators = {m.name: m.op for m in message.nodes}
    for output in message.signature.outputs:

        def offset(node: str, word: str) -> int:
            op = operators.get(node, "")
            names = _OUTPUTS.get(op) or ([a.name for a in library[op].signature.outputs] if op in library else ())
            return list(names).index(word) if word in names else 0

        found = _reference(returned.get(output.name, ":"), offset)
        if found is None or (found.node not in body.nodes and found.node not in arguments):
            problems.add(f"function {name!r}", "it returns a tensor that nothing makes", returned.get(output.name, ""))
            continue
        body.results.append(found)
        body.result_names.append(output.name)
        body.outputs[found.node] = max(body.outputs.get(found.node, 1), found.index + 1)
    return body


def program_of(message: Any, where: str, size: int) -> Program:
    """The graph of a message, and its functions.

    Raises:
        InputFileError: it is inconsistent; all that is wrong with it is listed.
    """
    problems = Problems(where)
    functions = list(message.library.functions)
    count = len(message.nodes) + sum(len(f.nodes) for f in functions)
    if count > MAX_NODES:
        raise InputFileError(corrupt("tensorflow", where, "there are too many nodes", count, f"≤ {MAX_NODES}"))
    library = {f.signature.name: f for f in functions}
    graph = _body("", message.nodes, [], library, problems)
    made = {name: _function(f, library, problems) for name, f in library.items()}
    problems.check()
    return Program(where, graph, made, size, int(message.versions.producer))


__all__ = ["MAX_NODES", "Attributes", "Body", "Node", "Problems", "Program", "Ref", "program_of", "sizes_of"]
