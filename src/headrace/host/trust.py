# SPDX-License-Identifier: Apache-2.0
"""What a model of the host may be before onnxruntime is given it: nodes of the standard, all data inside of it.

Read with a schema of our own, which has only the fields that are looked at, so that the onnx package is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from headrace.errors import Diagnostic, InputFileError
from headrace.hn.message_schema import Messages, message_classes
from headrace.hn.whole import CONTRIBUTED, CONTRIBUTED_DOMAIN

#: Domains whose operators onnxruntime has of itself and that the ONNX standard defines.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MAX_NODES = 100_000  # subgraphs and functions included
_EXTERNAL = 1
_MESSAGES: Messages = {
    "Model": (("graph", 7, "Graph"), ("functions", 25, "Function[]")),
    "Function": (("name", 1, "string"), ("nodes", 7, "Node[]"), ("domain", 10, "string")),
    "Graph": (
        ("nodes", 1, "Node[]"),
        ("weights", 5, "Tensor[]"),
        ("inputs", 11, "Value[]"),
        ("outputs", 12, "Value[]"),
        ("sparse", 15, "Sparse[]"),
    ),
    "Value": (("name", 1, "string"),),
    "Node": (("operator", 4, "string"), ("attributes", 5, "Attribute[]"), ("domain", 7, "string")),
    "Attribute": (
        ("tensor", 5, "Tensor"),
        ("graph", 6, "Graph"),
        ("tensors", 10, "Tensor[]"),
        ("graphs", 11, "Graph[]"),
        ("sparse", 22, "Sparse"),
        ("several_sparse", 23, "Sparse[]"),
    ),
    "Sparse": (("values", 1, "Tensor"), ("indices", 2, "Tensor")),
    "Tensor": (("name", 8, "string"), ("external", 13, "Entry[]"), ("location", 14, "int32")),
    "Entry": (("key", 1, "string"),),
}
_Model: Any = message_classes("headrace.host", _MESSAGES)["Model"]


def check_model(model: bytes, inputs: Sequence[str], outputs: Sequence[str], where: str) -> None:
    """Refuse a model that onnxruntime must not be given.

    Args:
        model: bytes of an ONNX model, from a file that nobody vouches for.
        inputs, outputs: what its step says that it reads and makes.
        where: how it is called in errors.

    Raises:
        InputFileError: ``E-HOST-MODEL``: damaged, operators of other domains, data in other files, other ends.
    """
    message = _Model()
    try:
        message.ParseFromString(model)
    except DecodeError as error:
        raise _refuse(where, "it is not an ONNX model, or it is damaged", error, "a protobuf ModelProto") from None
    own = {f.domain for f in message.functions}
    allowed = (*DOMAINS, *sorted(own))
    for count, node in enumerate(_nodes(message), 1):
        if node.domain not in allowed and not (node.domain == CONTRIBUTED_DOMAIN and node.operator in CONTRIBUTED):
            raise _refuse(where, "an operator is of no standard domain", f"{node.domain}::{node.operator}", DOMAINS)
        if count > MAX_NODES:
            raise _refuse(where, "there are too many nodes", f"> {MAX_NODES}", f"≤ {MAX_NODES}")
    if own & set(DOMAINS):
        raise _refuse(
            where, "a function takes the place of an operator of the standard", sorted(own), "a domain of its own"
        )
    for tensor in _tensors(message):
        if tensor.location == _EXTERNAL or tensor.external:
            raise _refuse(where, "data of a tensor lie in another file", tensor.name, "all data inside the model")
    weights = {tensor.name for tensor in message.graph.weights}
    reads = [value.name for value in message.graph.inputs if value.name not in weights]
    makes = [value.name for value in message.graph.outputs]
    for what, has, said in (("inputs", reads, inputs), ("outputs", makes, outputs)):
        if sorted(has) != sorted(said):
            raise _refuse(where, f"its {what} are not those of its step", ", ".join(has), ", ".join(said))


def _refuse(where: str, rule: str, got: object, need: object) -> InputFileError:
    levers = ("parse the model again",)
    return InputFileError(Diagnostic("E-HOST-MODEL", where, rule, str(got)[:200], str(need)[:200], levers))


def _graphs(message: Any) -> Iterator[Any]:
    """The graph, and those inside its nodes and functions, as things that have nodes."""
    waiting: list[Any] = [message.graph, *message.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.nodes:
            for attribute in node.attributes:
                waiting += [*([attribute.graph] if attribute.HasField("graph") else []), *attribute.graphs]


def _nodes(message: Any) -> Iterator[Any]:
    for graph in _graphs(message):
        yield from graph.nodes


def _tensors(message: Any) -> Iterator[Any]:
    for graph in _graphs(message):
        if hasattr(graph, "weights"):
            yield from graph.weights
            for sparse in graph.sparse:
                yield from (sparse.values, sparse.indices)
        for node in graph.nodes:
            for attribute in node.attributes:
                yield from (attribute.tensor, *attribute.tensors)
                for sparse in (attribute.sparse, *attribute.several_sparse):
                    yield from (sparse.values, sparse.indices)
