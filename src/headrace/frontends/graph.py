# SPDX-License-Identifier: Apache-2.0
"""The one source graph: ONNX vocabulary at one opset, in onnx-ir containers, whatever file format it was read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir

from headrace.errors import Diagnostic, UsageError, unknown_name
from headrace.frontends.options import ParseOptions
from headrace.hn import Array
from headrace.typeguards import is_integer, is_number, is_sequence

#: No tensor of a frame may have more elements than this; real ones stay far below, hostile ones do not.
MAX_TENSOR_ELEMENTS = 1 << 28
#: The operator set whose meaning nodes have that no file states one for (those that a TFLite file became).
OPSET = 21
#: Why and what instead, of operators of post-processing.
CHOOSES = "it chooses elements by their values, which is post-processing and not done on the device"
#: Domain of nodes that are not what their operator's definition says: nothing recognizes, folds or translates them.
REFUSED = "refused"
ENDS_BEFORE = "a network that ends before it; the rest runs on the host"


class Unsupported(Exception):
    """A node cannot be translated: ``reason`` is a clause, ``need`` what would do, ``levers`` what to change."""

    def __init__(self, reason: str, need: str = "", levers: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason, self.need, self.levers = reason, need, tuple(levers)


class Damaged(Unsupported):
    """A node whose constants are no numbers: nothing computes with it, so it does not go to the host either."""


class MixesFrames(Unsupported):
    """A node whose result for one frame depends on the other frames of a batch."""


@dataclass(frozen=True)
class Reason:
    """Why a node is not on the device, and what would move it there."""

    reason: str
    rewrite: str = ""


@dataclass(frozen=True)
class HostOperator:
    """An operator of ours that runs on the host in place of nodes of the file.

    Attributes:
        operator: its name, see :mod:`headrace.host.operators`.
        attributes: plain JSON.
        inputs, outputs: tensors of the file.
        nodes: labels of the nodes that it stands for; none of them is translated.
        reason: why they are not on the device, a clause.
    """

    operator: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class EndCodes:
    """What codes of an input or output of a file stand for: ``scale · (code − zero_point)``; ``kind`` is their type."""

    kind: str
    scale: float
    zero_point: int


@dataclass
class SourceGraph:
    """A network as its file states it.

    Attributes:
        graph: nodes in topological order.
        where: file name, for messages.
        facts: plain JSON about the source (format, opset, producer …).
        opset: the operator set whose meaning its nodes have.
        input_shapes: per graph input its frame shape with batch 1, once resolved.
        batch_sizes: per graph input the batch its file fixes, or -1.
        warnings: sentences for the report.
        channels_last: images in it have their channels last, where nothing else tells.
        operators: node label → operator in the source's own words, where these are not ONNX's.
        broken: nodes that reading found unusable, and why.
        expanded: label of a node whose definition stands in its place → its operator.
        infer: types of the file's tensors by name, given shapes of inputs and
            tensors that are known; None where the format has no inference.
        stored: bytes of the file and of those beside it that it names; 0 where nothing may follow from that.
        single: inputs without a dimension for the batch: one picture, C×H×W.
        folder: where data beside the file lie; None: nowhere.
        model: reads the file again, for a format that is ONNX; None: what its reader made of it stands for it.
        host_operators: operators of ours that stand for nodes of the file (:mod:`headrace.frontends.host_parts`).
        to_host: label of a node that is left to the host although it may translate → why.
        batch_dims: inputs whose batch is another dimension than the first.
        codes: inputs and outputs that are codes in the file and values in the graph, by name.
    """

    graph: ir.Graph
    where: str
    facts: dict[str, Any] = field(default_factory=dict)
    opset: int = OPSET
    input_shapes: dict[str, list[int]] = field(default_factory=dict)
    batch_sizes: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    folded: int = 0
    removed: list[str] = field(default_factory=list)
    channels_last: bool = False
    operators: dict[str, str] = field(default_factory=dict)
    broken: dict[ir.Node, Unsupported] = field(default_factory=dict)
    expanded: dict[str, str] = field(default_factory=dict)
    infer: Callable[[dict[str, list[int]], dict[str, Array]], Mapping[str, Any]] | None = None
    stored: int = 0
    single: set[ir.Value] = field(default_factory=set)
    folder: Path | None = None
    model: Callable[[], onnx.ModelProto] | None = None
    host_operators: list[HostOperator] = field(default_factory=list[HostOperator])
    to_host: dict[str, Reason] = field(default_factory=dict[str, Reason])
    codes: dict[str, EndCodes] = field(default_factory=dict[str, EndCodes])
    batch_dims: dict[ir.Value, int] = field(default_factory=dict[ir.Value, int])

    @property
    def format(self) -> str:
        """The file format as it stands in the codes of errors: ONNX, TFLITE."""
        return str(self.facts["format"]).upper()


def name_of(value: ir.Value | None) -> str:
    return (value.name or "") if value is not None else ""


def marks(of: ir.Node | ir.Value) -> dict[str, Any]:
    """What reading and translating note on a node or value: its label, its origins, what kind of thing it is."""
    return cast("dict[str, Any]", of.meta)


def is_internal(value: ir.Value) -> bool:
    """Whether a value stands between the nodes that one operator of the file became, and is no tensor of the file."""
    return "internal" in marks(value)


def kind_of(value: ir.Value) -> str | None:
    """What a value is that is no numeric tensor, in words; None for one that may be a tensor."""
    found = marks(value).get("kind")
    return None if found is None else str(found)


def label(node: ir.Node) -> str:
    """The node's name or, where it has none, its first output's (onnx-ir invents names for nodes without one)."""
    return (
        str(marks(node).get("label", ""))
        or node.name
        or next((name_of(o) for o in node.outputs if name_of(o)), node.op_type)
    )


def origins(node: ir.Node) -> list[str]:
    """Source nodes that this node stands for (a fused pattern stands for several)."""
    return list(marks(node).get("origins", [label(node)]))


def constant(value: ir.Value | None) -> Array | None:
    """The array of a value that is known now, else None."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def set_constant(value: ir.Value, array: Array) -> None:
    value.const_value = ir.Tensor(np.ascontiguousarray(array) if array.ndim else array, name=value.name)


def live_uses(value: ir.Value) -> list[ir.Node]:
    """Nodes in the graph that read ``value``, once per reading."""
    return [use.node for use in value.uses() if use.node.graph is not None]


# --- attributes, without trusting their types -----------------------------------------------------------------------


def attributes_read(node: ir.Node) -> set[str]:
    """Names of attributes that something has asked for; what nobody asks for must mean nothing."""
    read: set[str] = marks(node).setdefault("read", set())
    return read


def _raw(node: ir.Node, name: str) -> Any:
    attributes_read(node).add(name)
    found = node.attributes.get(name)
    return None if found is None else found.value


def integer(node: ir.Node, name: str, default: int) -> int:
    value = _raw(node, name)
    if value is None:
        return default
    if not is_integer(value):
        raise Unsupported(f"attribute {name!r} is not an integer")
    return value


def real(node: ir.Node, name: str, default: float) -> float:
    value = _raw(node, name)
    if value is None:
        return default
    if not is_number(value) or not math.isfinite(value):
        raise Unsupported(f"attribute {name!r} is not a finite number")
    return float(value)


def reals(node: ir.Node, name: str) -> list[float] | None:
    value = _raw(node, name)
    if value is None:
        return None
    if not is_sequence(value):
        raise Unsupported(f"attribute {name!r} is not a list of numbers")
    out: list[Any] = list(value)
    if len(out) > 64 or not all(is_number(v) and math.isfinite(v) for v in out):
        raise Unsupported(f"attribute {name!r} is not a short list of finite numbers")
    return [float(v) for v in out]


def text(node: ir.Node, name: str, default: str) -> str:
    value = _raw(node, name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Unsupported(f"attribute {name!r} is not a string")
    return value


def integers(node: ir.Node, name: str, default: Sequence[int] | None) -> list[int] | None:
    value = _raw(node, name)
    if value is None:
        return None if default is None else list(default)
    if not is_sequence(value):
        raise Unsupported(f"attribute {name!r} is not a list of integers")
    out: list[Any] = list(value)
    if len(out) > 64 or not all(is_integer(v) for v in out):
        raise Unsupported(f"attribute {name!r} is not a list of integers")
    return out


def strings(node: ir.Node, name: str) -> list[str] | None:
    value = _raw(node, name)
    if value is None:
        return None
    out: list[Any] = list(value) if is_sequence(value) else [None]
    if len(out) > 64 or not all(isinstance(v, str) for v in out):
        raise Unsupported(f"attribute {name!r} is not a short list of strings")
    return out


def tensor(node: ir.Node, name: str) -> Array | None:
    value = _raw(node, name)
    if value is None:
        return None
    if not isinstance(value, ir.Tensor):
        raise Unsupported(f"attribute {name!r} is not a numeric tensor")
    return value.numpy()


def integer_list(array: Array, what: str) -> list[int]:
    """A small constant as Python integers."""
    if array.size > 64 or array.dtype.kind not in "iu":
        raise Unsupported(f"{what} is not a short list of integers", "at most 64 integers")
    return [int(v) for v in array.reshape(-1)]


# --- input shapes ----------------------------------------------------------------------------------------------------

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
_INTEGERS = ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")


def declared_shape(value: ir.Value) -> list[int | str] | None:
    """The dims as the file states them; a symbolic or unknown one is its name or ``"?"``."""
    if value.shape is None:
        return None
    out: list[int | str] = []
    for dim in value.shape:
        out.append(dim if isinstance(dim, int) and dim > 0 else (getattr(dim, "value", None) or "?"))
    return out


def _user_shapes(source: SourceGraph, options: ParseOptions) -> dict[str, list[int]]:
    names = [name_of(v) for v in source.graph.inputs]
    given = options.named_shapes
    if options.only_shape is not None:
        if len(names) != 1:
            raise UsageError(
                Diagnostic(
                    "E-PARSE-SHAPES",
                    source.where,
                    "one shape was given but the network has several inputs",
                    str(options.only_shape),
                    f"a shape for each by name: {', '.join(names)}",
                )
            )
        given = {names[0]: options.only_shape}
    problems = [unknown_name("E-PARSE-SHAPES", "input", str(n), names, source.where) for n in given if n not in names]
    if problems:
        raise UsageError(problems)
    return given


def _batch(stated: int | str, given: int | str) -> int:
    """The batch that an input has: as the file fixes it, for its constants contain it, else as given, else open."""
    return next((size for size in (stated, given) if isinstance(size, int) and size > 0), -1)


def _example(fixed: Sequence[int | str], free: int | None) -> str:
    """What to give for an input: the sizes that are known, and 1 for the batch, dimension ``free``."""
    known = [str(d) if isinstance(d, int) and d > 0 else "SIZE" for d in fixed]
    if free is not None:
        known.insert(free, "1")
    return ",".join(known)


def shapes_argument(source: SourceGraph) -> str:
    """How the runner's method that takes files of this format calls shapes of inputs."""
    return "net_input_shapes" if source.format == "ONNX" else "tensor_shapes"


def resolve_input_shapes(source: SourceGraph, options: ParseOptions) -> None:
    """Fix every input's frame shape, from the file and from the user; all that is missing is reported together.

    Raises:
        UsageError: an unknown input name, a shape that does not fit, or sizes nobody gave.
    """
    user = _user_shapes(source, options)
    missing: list[Diagnostic] = []
    for value in source.graph.inputs:
        name, declared = name_of(value), declared_shape(value)
        if input_problem(value) or kind_of(value) is not None:
            continue  # reported with the nodes: no shape would help
        if declared == [] and value not in source.single:  # one number: reported with the nodes
            continue
        shape: list[int | str] = list(user.get(name, declared or []))
        place = f"{source.where}, input {name!r}"
        if name in user and declared is not None and len(declared) != len(shape):
            missing.append(
                Diagnostic(
                    "E-PARSE-SHAPES",
                    place,
                    "the shape has another rank than the file states",
                    str(shape),
                    f"{len(declared)} sizes like {declared}",
                )
            )
            continue
        if name in user and declared is not None:
            changed = [
                f"{d} → {s}" for d, s in zip(declared[1:], shape[1:], strict=True) if isinstance(d, int) and d != s
            ]
            told = f"input {name!r}: sizes that the file fixes were replaced ({', '.join(changed)})"
            source.warnings += [told] if changed else []
        free = None if value in source.single else source.batch_dims.get(value, 0)  # the dimension that may be open
        fixed = [d for i, d in enumerate(shape) if i != free]
        if (not shape and free is not None) or any(not isinstance(d, int) or d < 1 for d in fixed):
            example = _example(fixed, free) if declared or name in user else "1,SIZE,..."
            missing.append(
                Diagnostic(
                    "E-PARSE-SHAPES",
                    place,
                    "the file leaves sizes of this input open",
                    str(declared or "no shape"),
                    "every size but the batch as a positive integer",
                    (f"--tensor-shapes {name}=[{example}]", f"{shapes_argument(source)}={{{name!r}: [{example}]}}"),
                )
            )
            continue
        sizes = [int(d) for d in fixed]
        if math.prod(sizes) > MAX_TENSOR_ELEMENTS or len(sizes) > 8:
            missing.append(
                Diagnostic(
                    "E-PARSE-SHAPES", place, "the input is too large", str(shape), f"≤ {MAX_TENSOR_ELEMENTS} elements"
                )
            )
            continue
        source.batch_sizes[name] = 1 if free is None else _batch((declared or shape)[free], shape[free])
        source.input_shapes[name] = [1, *sizes]
    if missing:
        raise UsageError(missing)


_ONE_BY_ONE = frozenset({"Add", "Sub", "Mul", "Div", "Cast", "Identity", "Clip"})


def find_single_inputs(source: SourceGraph, whole: bool = False) -> None:
    """Inputs without a dimension for the batch: single numbers, lists of a known length, one picture of rank 3 that is
    made a batch of one and nothing else (torchvision's detectors); or all inputs, their first dimensions taken whole.
    """
    for value in source.graph.inputs:
        declared = declared_shape(value)
        if declared is None or not all(isinstance(d, int) for d in declared):
            continue
        if whole or not declared or (len(declared) == 1 and declared[0] != 1):
            source.single.add(value)
    if not any(node.op_type == "Conv" for node in source.graph):
        return
    for value in source.graph.inputs:
        declared = declared_shape(value)
        if declared is None or len(declared) != 3:
            continue
        batched, others, seen, waiting = False, False, {value}, [value]
        while waiting:
            for node in live_uses(waiting.pop()):
                axes = constant(node.inputs[1]) if node.op_type == "Unsqueeze" and len(node.inputs) > 1 else None
                if axes is not None and axes.reshape(-1).tolist() == [0]:
                    batched = True
                elif node.op_type in _ONE_BY_ONE and not node.domain:
                    waiting += [v for v in node.outputs if v not in seen]
                    seen.update(node.outputs)
                elif node.op_type not in ("Shape", "Size"):
                    others = True
        if batched and not others:
            source.single.add(value)


def input_problem(value: ir.Value) -> str | None:
    """Why a graph input cannot be an input layer, or None."""
    dtype = value.dtype
    if dtype is not None and dtype.name not in (*_FLOATS, *_INTEGERS, "BOOL", "UNDEFINED"):
        return f"the input has type {dtype.name.lower()}; only real numbers and truth values enter the device"
    chooser = None
    if dtype is not None and dtype.name in _INTEGERS:
        chooser = _chooses_by(value)
    if dtype is not None and chooser is not None:
        named = f"{label(chooser)!r} ({chooser.op_type})"
        return f"the input has type {dtype.name.lower()} and its values choose elements (node {named})"
    return None


#: Operators whose second operand chooses elements of the first.
_CHOOSING_BY = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Scatter"})
_KEEPING_VALUES = frozenset({
    "Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Concat", "Expand", "Add",
    "Sub", "Mul", "Clip", "Where", "Mod", "Split",
})  # fmt: skip
_MOST_STEPS = 1000


def _chooses_by(value: ir.Value) -> ir.Node | None:
    """The first node that takes what becomes of an input, as whole numbers, for places of elements."""
    seen, waiting = {value}, [value]
    for _ in range(_MOST_STEPS):
        if not waiting:
            break
        found = waiting.pop(0)
        for node in live_uses(found):
            if node.domain:
                continue
            if node.op_type in _CHOOSING_BY and len(node.inputs) > 1 and node.inputs[1] is found:
                return node
            if node.op_type in _KEEPING_VALUES:
                waiting += [v for v in node.outputs if v not in seen]
                seen.update(node.outputs)
    return None
