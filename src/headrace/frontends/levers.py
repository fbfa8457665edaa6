# SPDX-License-Identifier: Apache-2.0
"""Parts of a network that do translate, when all of it does not: ends before what fails, starts behind it.

Nothing is offered that was not tried: each cut is read, folded, cut and translated as the command line would.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from headrace.frontends.cut import cut
from headrace.frontends.fold import Budget
from headrace.frontends.folding import fold_constants, fold_shapes
from headrace.frontends.graph import SourceGraph, constant, declared_shape, input_problem, label, live_uses, name_of
from headrace.frontends.options import ParseOptions
from headrace.frontends.translate import Translation, ends_before
from headrace.layers import Convolving, Dense, Matmul

#: The translation under other options, or None where an error ends it.
Attempt = Callable[[ParseOptions], Translation | None]
_MAX_TRIES = 6
#: Shapes of shapes of shapes: rounds of inference and folding.
_MAX_ROUNDS = 16
#: Sizes to try where the file leaves one open: of pictures, of anything else.
_PICTURE, _LENGTH = 64, 16
#: Element types that enter a device: float, float16, double, bfloat16.
FLOATS = frozenset({1, 10, 11, 16})
#: Likewise, exactly: numbers of 8 bits, truth values.
SHORT = frozenset({2, 3, 9})
_BYTES = frozenset({2, 3})  # pictures of uint8 or int8
_MOST_STARTS = 8


@dataclass(frozen=True)
class Start:
    """Tensors at which a part of the network starts that was tried, and shapes of the file's inputs where it asks."""

    names: tuple[str, ...]
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def option(self) -> str:
        """As it is typed."""
        text = f"--start-node-names {' '.join(map(shlex.quote, self.names))}"
        given = [shlex.quote(f"{n}=[{','.join(map(str, s))}]") for n, s in self.shapes.items()]
        return f"{text} --tensor-shapes {' '.join(given)}" if given else text


def known_shapes(types: Mapping[str, Any]) -> dict[str, list[int]]:
    """The shapes that are known whole, of inferred types."""
    found: dict[str, list[int]] = {}
    for name, kind in types.items():
        tensor = kind.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") and d.dim_value > 0 for d in tensor.shape.dim):
            found[name] = [int(d.dim_value) for d in tensor.shape.dim]
    return found


def cut_with_shapes(source: SourceGraph, options: ParseOptions, budget: Budget) -> None:
    """Cut; tensors at which the network now starts get the shape that follows from the file and what was given.

    Args:
        source: folded; cut in place.
        options: names of nodes or tensors to start and end at; shapes of the file's inputs or of the tensors at the
            start.
        budget: of folding.
    """
    originals = {name_of(v) for v in source.graph.inputs}
    inputs = cut(source, options.start_node_names, options.end_node_names)
    given = {n: s for n, s in options.named_shapes.items() if n in originals}
    if not options.start_node_names:
        if options.end_node_names and any(node.op_type in ("Shape", "Size") for node in source.graph):
            inferred(
                source, given, budget
            )  # what is left may read the shape of what was cut off, and nothing else of it
        return
    types = inferred(source, given, budget)
    for value in inputs:
        if declared_shape(value) is None or given:
            _declare(value, types.get(name_of(value)))


def inferred(source: SourceGraph, given: dict[str, list[int]], budget: Budget) -> Mapping[str, Any]:
    """Types of the file's tensors; shapes that are computed from shapes are folded on the way, round by round."""
    if source.infer is None:
        return {}
    values = {
        name_of(v): array for node in source.graph for v in node.inputs if (array := constant(v)) is not None
    }  # what was folded before: sizes are computed from it too
    types = source.infer(given, values)
    for _ in range(_MAX_ROUNDS):
        more = fold_shapes(source, known_shapes(types)) | fold_constants(source, budget)
        if not more:
            break
        values |= more
        types = source.infer(given, values)
    return types


def _declare(value: ir.Value, kind: Any) -> None:
    if kind is None or not kind.HasField("tensor_type"):
        return
    tensor = kind.tensor_type
    if tensor.elem_type and tensor.elem_type in set(ir.DataType):  # what is inferred of a damaged file may be no type
        value.dtype = ir.DataType(tensor.elem_type)
    if tensor.HasField("shape") and 0 < len(tensor.shape.dim) <= 16:
        dims = [d.dim_value if d.dim_value > 0 else (d.dim_param or None) for d in tensor.shape.dim]
        value.shape = ir.Shape(dims)


def shapes_before(attempt: Attempt, source: SourceGraph, options: ParseOptions) -> ParseOptions | None:
    """The options with shapes of the tensors at the start, told by translating what stands before them.

    None where none is new.
    """
    if not options.start_node_names or options.only_shape is not None:
        return None
    fold_constants(source, Budget(source.opset))
    names = [name_of(v) for v in cut(source, options.start_node_names, ()) if declared_shape(v) is None]
    state = attempt(replace(options, start_node_names=(), end_node_names=names)) if names else None
    if state is None:
        return None
    builder, given = state.builder, options.named_shapes
    for value in builder.source.graph.outputs:
        if value in builder.views and id(value) not in state.tainted and name_of(value) not in given:
            given[name_of(value)] = list(builder.full_shape(builder.views[value]))
    return replace(options, input_shapes=given) if len(given) > len(options.named_shapes) else None


# --- ends -------------------------------------------------------------------------------------------------------------


def _computes(state: Translation) -> bool:
    return any(not layer.operation.is_boundary for layer in state.builder.network)


def working_ends(attempt: Attempt, options: ParseOptions, ends: list[str]) -> list[str]:
    """Ends at which the network translates; none where none was found.

    Ends whose tensors cannot leave the network (parts of one frame as frames) are moved towards the input, a little.
    """
    for _ in range(_MAX_TRIES):
        state = attempt(replace(options, end_node_names=ends)) if ends else None
        if state is None:
            return []
        if not state.problems:
            return ends if _computes(state) else []
        ends = ends_before(state)
    return []


# --- starts -----------------------------------------------------------------------------------------------------------


def working_start(attempt: Attempt, source: SourceGraph, options: ParseOptions, state: Translation) -> Start | None:
    """Where the network could start behind what fails; None where no such part was found.

    Everything that leads to a node that fails, and to a tensor that is not float, goes before the start; the float
    tensors that leave there are the start. What fails of the rest moves the start on.
    """
    trial = sample_shapes(source, options)
    budget = Budget(source.opset)
    fold_constants(source, budget)
    types = {name_of(v): int(v.dtype) for n in source.graph for v in n.outputs if v.dtype is not None}
    sizes = {
        name_of(v): [d for d in declared_shape(v) or [] if isinstance(d, int)] for n in source.graph for v in n.outputs
    }
    if source.infer is not None:
        known = inferred(source, trial, budget)
        types |= {n: int(k.tensor_type.elem_type) for n, k in known.items()}
        sizes |= known_shapes(known)
    batches = {shape[0] for shape in trial.values() if shape}
    failing = {p.node for p in state.problems}
    extra = {n: s for n, s in trial.items() if n not in options.named_shapes}
    for _ in range(_MAX_TRIES):
        tensors = _behind(source, failing, types)
        other = any(s and s[0] not in batches for s in (sizes.get(name_of(v)) for v in tensors))  # parts of one frame
        names = _typed(source, tensors)
        if not 1 <= len(names) <= _MOST_STARTS or other:
            return None
        asked = {n: s for n, s in extra.items() if _is_open(source, n)}
        given = options.named_shapes | asked or options.only_shape
        found = attempt(replace(options, start_node_names=names, input_shapes=given))
        if found is None:
            return None
        if not found.problems:
            return Start(tuple(names), asked) if _is_a_network(found) else None
        more = {p.node for p in found.problems} - failing
        if not more:
            return None
        failing |= more
    return None


def _is_a_network(state: Translation) -> bool:
    """Whether it has inputs and what networks are made of, not only the last steps behind what failed."""
    network = state.builder.network
    return bool(network.input_layers) and any(isinstance(x.operation, Convolving | Dense | Matmul) for x in network)


def _is_open(source: SourceGraph, name: str) -> bool:
    value = next(v for v in source.graph.inputs if name_of(v) == name)
    return any(not isinstance(d, int) for d in declared_shape(value) or ["?"])


def sample_shapes(source: SourceGraph, options: ParseOptions) -> dict[str, list[int]]:
    """A shape for each input of the file: as given, as stated, and what is open chosen."""
    found: dict[str, list[int]] = {}
    for value in source.graph.inputs:
        given = options.named_shapes.get(name_of(value), options.only_shape)
        declared = declared_shape(value)
        if given is not None:
            found[name_of(value)] = list(given)
        elif declared is not None:
            size = _PICTURE if len(declared) >= 4 else _LENGTH
            found[name_of(value)] = [d if isinstance(d, int) else (size if i else 1) for i, d in enumerate(declared)]
    return found


def _behind(source: SourceGraph, failing: Iterable[str], types: Mapping[str, int]) -> dict[ir.Value, list[ir.Node]]:
    """Float tensors that leave the smallest part with all that fails and all that leads there, and who reads them."""
    names = set(failing)
    waiting: list[ir.Node] = []
    for value in source.graph.inputs:
        whole = value.dtype is not None and int(value.dtype) not in (*FLOATS, *_BYTES)
        if name_of(value) in names or input_problem(value) or whole:
            waiting += live_uses(value)
    for node in source.graph:
        if label(node) in names:
            waiting.append(node)
    before: set[ir.Node] = set()
    neither = _of_shapes(source)
    position = {node: i for i, node in enumerate(source.graph)}
    while waiting:
        node = waiting.pop()
        if node in before or node in neither or node.graph is None:
            continue
        before.add(node)
        waiting += [p for v in node.inputs if v is not None and (p := v.producer()) is not None]
        for value in node.outputs:  # what is not float cannot enter the device: its readers go before the start too
            if types.get(name_of(value), 1) not in FLOATS:
                waiting += live_uses(value)
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in sorted(before, key=lambda n: position[n]):
        for value in node.outputs:
            readers = [u for u in live_uses(value) if u not in before and u not in neither]
            if readers and name_of(value) and types.get(name_of(value), 1) in FLOATS:
                found[value] = readers
    return found


def _typed(source: SourceGraph, found: Mapping[ir.Value, Sequence[ir.Node]]) -> list[str]:
    """What to type for the tensors: their names or, where a node without a name has that name, a node that reads them.

    Empty where there is no such name for one of them.
    """
    labels = {label(node) for node in source.graph}
    names: dict[str, None] = {}
    for value, readers in found.items():
        if name_of(value) not in labels:
            names[name_of(value)] = None
            continue
        whole = (n for n in readers if all(v in found or v is None or constant(v) is not None for v in n.inputs))
        reader = next(whole, None)
        if reader is None:
            return []
        names[label(reader)] = None
    return list(names)


def _of_shapes(source: SourceGraph) -> set[ir.Node]:
    """Nodes that depend on constants and on sizes of tensors alone: they fold, and are on neither side of a start."""
    found: set[ir.Node] = set()
    for node in source.graph:
        known = all(v is None or constant(v) is not None or v.producer() in found for v in node.inputs)
        if known or (node.op_type in ("Shape", "Size") and not node.domain):
            found.add(node)
    return found
