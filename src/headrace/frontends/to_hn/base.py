# SPDX-License-Identifier: Apache-2.0
"""The builder that handlers write to, and the registry of handlers by operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from headrace.errors import InputFileError
from headrace.frontends.fold import Budget
from headrace.frontends.graph import (
    MAX_TENSOR_ELEMENTS,
    MixesFrames,
    SourceGraph,
    Unsupported,
    constant,
    live_uses,
    name_of,
    origins,
)
from headrace.frontends.layout import (
    BATCH,
    CHANNELS,
    Arrangement,
    Groups,
    LayoutError,
    View,
    arranged_view,
    arrangement_axes,
    arrangement_of,
    canonical,
    group_dimensions,
    grouped_view,
    plan,
    tail_as_channels,
)
from headrace.hn import Array, Layer, Network
from headrace.layers import infer_shape

#: A per-channel constant is spread over this many channels at most.
MAX_CHANNELS = 1 << 20
#: Parameters of a network; a small file may name one large constant many times.
MAX_PARAMETERS = 1 << 28
#: What a source value is: known now, or a tensor of the device.
Result = View | Array
Handler = Callable[["Builder", ir.Node], Sequence[Result]]
HANDLERS: dict[str, Handler] = {}
IMAGE: Arrangement = (None, 2, 0, 1)


#: Stands for -infinity in front of softmax: far below what logits can be, and sums of it stay within float32.
NEVER = -1e30
#: Operators that lie between a masked tensor and its softmax.
_BEFORE_SOFTMAX = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Where", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Flatten",
        "Identity", "Cast", "CastLike", "Dropout",
    }
)  # fmt: skip


def _only_softmax_reads(value: ir.Value) -> bool:
    """Whether all that becomes of a value, through sums, factors and moves, goes into softmax."""
    seen, waiting = {value}, [value]
    while waiting:
        found = waiting.pop()
        users = live_uses(found)
        if not users or found.is_graph_output():
            return False
        for user in users:
            if user.domain or user.op_type not in ("Softmax", *_BEFORE_SOFTMAX):
                return False
            if user.op_type != "Softmax":
                waiting += [v for v in user.outputs[:1] if v not in seen]
                seen.update(user.outputs)
    return True


def handles(*operators: str) -> Callable[[Handler], Handler]:
    """Register a function as the translation of operators of the default domain."""

    def enter(function: Handler) -> Handler:
        for operator in operators:
            HANDLERS[operator] = function
        return function

    return enter


class Builder:
    """The network under construction.

    Attributes:
        network: layers so far, under provisional names.
        source: the graph being translated.
        budget: what constant folding may still create.
        views: source value → the HN tensor it is.
    """

    def __init__(self, source: SourceGraph, name: str, budget: Budget) -> None:
        self.network = Network(name)
        self.source = source
        self.budget = budget
        self.views: dict[ir.Value, View] = {}
        self.origins: list[str] = []
        self._moves: dict[tuple[Any, ...], str] = {}
        self._count = 0
        self._parameters = 0

    @property
    def batch(self) -> int:
        """The batch size that the file fixes, or -1 where it leaves it open (frames are translated one by one)."""
        sizes = sorted(set(self.source.batch_sizes.values()))
        return sizes[0] if len(sizes) == 1 else -1

    @property
    def frames(self) -> int:
        """How many frames the file computes at once, as its constants know it: 1 where it leaves that open."""
        return max(self.batch, 1)

    def full_shape(self, view: View) -> tuple[int, ...]:
        """The source shape as the file has it."""
        return view.shape_of(self.frames)

    def divided(self, view: View, array: Array) -> Array:
        """A constant that meets a tensor, for one frame: the same for each frame of a batch that the file fixes.

        Raises:
            MixesFrames: it differs from frame to frame.
        """
        at = view.batch_dim - view.rank + array.ndim
        if self.frames == 1 or at < 0 or array.shape[at] != self.full_shape(view)[view.batch_dim]:
            return array
        rest = view.shape[view.batch_dim]
        first = view.dims[view.batch_dim][0].axis == BATCH
        parts = (self.frames, rest) if first else (rest, self.frames)
        apart = array.reshape(*array.shape[:at], *parts, *array.shape[at + 1 :])
        apart = np.moveaxis(apart, at if first else at + 1, 0)
        if not (apart == apart[:1]).all():
            raise MixesFrames(f"a constant of shape {list(array.shape)} differs from frame to frame")
        return apart[:1].reshape(*array.shape[:at], rest, *array.shape[at + 1 :])

    # --- reading operands ----------------------------------------------------------------------------------------

    def begin(self, node: ir.Node) -> None:
        """Layers emitted from now on come from this node."""
        self.origins = origins(node)

    def view(self, node: ir.Node, index: int) -> View:
        """Operand ``index`` as a tensor of the device."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            raise Unsupported(f"input {index} is absent")
        if value in self.views:
            return self.views[value]
        if constant(value) is not None:
            raise Unsupported(
                f"input {index} ({name_of(value)!r}) is a constant where a tensor is expected", "a computed tensor"
            )
        raise Unsupported(f"input {index} ({name_of(value)!r}) is {value.meta.get('kind', 'not known')}")

    def constant(self, node: ir.Node, index: int, what: str) -> Array:
        """Operand ``index`` as a constant."""
        found = self.optional(node, index, what)
        if found is None:
            raise Unsupported(f"{what} (input {index}) is absent")
        return found

    def optional(self, node: ir.Node, index: int, what: str) -> Array | None:
        """Operand ``index`` as a constant, or None when absent."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            return None
        array = constant(value)
        if array is None:
            kind = "computed" if value in self.views else value.meta.get("kind", "not known")
            raise Unsupported(f"{what} (input {index}, {name_of(value)!r}) is {kind}, not a constant", "a constant")
        return array

    def weights(self, node: ir.Node, index: int, what: str) -> Array:
        """Operand ``index`` as finite float64 numbers."""
        array = self.constant(node, index, what)
        if array.dtype.kind != "f":
            raise Unsupported(f"{what} {name_of(node.inputs[index])!r} has type {array.dtype}", "a float tensor")
        return self.finite(array, f"{what} {name_of(node.inputs[index])!r}")

    def mask(self, node: ir.Node, index: int, what: str) -> Array:
        """Operand ``index`` of a sum or choice as finite float64 numbers.

        In front of softmax -infinity is "never", as :data:`NEVER` is. (Of a row that is -infinity throughout softmax
        makes NaN; here all of such a row is alike.)
        """
        array = self.constant(node, index, what)
        if array.dtype.kind == "f" and np.isneginf(array).any() and _only_softmax_reads(node.outputs[0]):
            array = np.where(np.isneginf(array), NEVER, array.astype(np.float64))
            return self.finite(array, f"{what} {name_of(node.inputs[index])!r}")
        return self.weights(node, index, what)

    def finite(self, array: Array, what: str) -> Array:
        """``array`` as float64; every value must be a finite float32."""
        wide = array.astype(np.float64)
        bad = ~(np.abs(wide) <= float(np.finfo(np.float32).max))
        if bad.any():
            place = [int(i) for i in np.argwhere(bad)[0]]
            if np.isneginf(wide[bad]).all():
                raise Unsupported(
                    f"{what} holds -infinity (first at {place}), and not only softmax reads what it is added to",
                    "finite numbers",
                    ("use a finite number for what never counts, e.g. -10000, and export again",),
                )
            raise Unsupported(
                f"{what} holds {int(bad.sum())} values that are NaN, infinite or beyond float32 (first at {place})",
                "finite weights",
                ("the training diverged or the file is damaged: export a good checkpoint",),
            )
        return wide

    # --- writing layers ------------------------------------------------------------------------------------------

    def emit(
        self, kind: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None,
        params: Mapping[str, Array] | None = None, names: Sequence[str] | None = None,
    ) -> Layer:  # fmt: skip
        """Add a layer; its shape follows from its kind's own rule.

        Raises:
            Unsupported: the layer's rules do not allow it.
        """
        self._count += 1
        layer = Layer(
            f"{self.network.name}/new{self._count}", kind, list(inputs), dict(attributes or {}),
            original_names=list(self.origins if names is None else names),
        )  # fmt: skip
        try:
            layer.output_shape = infer_shape(self.network, layer)
        except InputFileError as error:
            first = error.diagnostics[0]
            raise Unsupported(f"{first.rule} (got {first.got})", first.need) from None
        if math.prod(layer.output_shape[1:]) > MAX_TENSOR_ELEMENTS:
            raise Unsupported(
                f"its output {list(layer.output_shape)} is too large", f"≤ {MAX_TENSOR_ELEMENTS} elements per frame"
            )
        self._parameters += sum(int(a.size) for a in (params or {}).values())
        if self._parameters > MAX_PARAMETERS:
            raise Unsupported(
                f"with it the network has {self._parameters} parameters, weights that layers share counted for each",
                f"≤ {MAX_PARAMETERS}",
            )
        return self.network.add(layer, params)

    def is_vector(self, layer: str) -> bool:
        return len(self.network[layer].output_shape) == 2

    def extent(self, layer: str) -> tuple[int, int, int]:
        return self.network[layer].frame_shape

    def output(self, layer: Layer, arrangement: Arrangement) -> View:
        """The view of a new layer whose source dimensions are whole axes."""
        return arranged_view(layer.name, layer.frame_shape, arrangement)

    def same_layout(self, layer: Layer, view: View) -> View:
        """The view of a new layer that lies exactly as ``view`` does."""
        return View(layer.name, view.extent, view.dims)

    # --- layouts -------------------------------------------------------------------------------------------------

    def place(self, view: View, axes: Sequence[Sequence[int]], vector: bool | None = None) -> str:
        """A layer holding ``view`` with height, width and channels made of the given source dimensions.

        Adds transpose and reshape layers only where the data does not lie so already.

        Args:
            view: the tensor.
            axes: source dimensions of height, width and channels.
            vector: whether the layer must be [-1, C] (True), [-1, H, W, C] (False), or either (None).
        """
        move = plan(view, axes)
        current = view.layer
        for step in move.steps:
            current = self._reshape(current, step.shape, False)
            key = ("transpose", current, step.permutation)
            current = self._moved(key, "transpose", {"permutation": list(step.permutation)})
        if vector is None:
            vector = self.is_vector(current) and move.result[:2] == (1, 1)
        return self._reshape(current, move.result, vector)

    def _reshape(self, layer: str, extent: Sequence[int], vector: bool) -> str:
        shape = [extent[2]] if vector else list(extent)
        if self.network[layer].output_shape[1:] == tuple(shape):
            return layer
        return self._moved(("reshape", layer, tuple(shape)), "reshape", {"shape": shape})

    def _moved(self, key: tuple[Any, ...], kind: str, attributes: dict[str, Any]) -> str:
        if key not in self._moves:
            self._moves[key] = self.emit(kind, [key[1]], attributes, names=()).name
        return self._moves[key]

    def arrange(self, view: View, arrangement: Arrangement, vector: bool | None = None) -> str:
        """A layer holding ``view`` with its source dimensions on the axes that ``arrangement`` names."""
        return self.place(view, arrangement_axes(arrangement), vector)

    def arrangement_of(self, view: View) -> Arrangement | None:
        """Which HN axis each source dimension is, or None where an axis is cut apart."""
        return arrangement_of(view, self.source.channels_last)

    def canonical(self, rank: int) -> Arrangement:
        """The arrangement that tensors of this source have where nothing else decides."""
        return canonical(rank, self.source.channels_last)

    def arranged(self, view: View) -> tuple[str, Arrangement]:
        """A layer in which every source dimension is one axis, moving data only if it must."""
        found = self.arrangement_of(view)
        if found is not None:
            return view.layer, found
        arrangement = self.canonical(view.rank)
        return self.arrange(view, arrangement), arrangement

    def apart(self, view: View, axes: Sequence[int], together: bool = False) -> tuple[str, Groups]:
        """A layer in which the given source dimensions share no axis with others, and the dimensions of each axis.

        Moves data only where the dimensions lie interleaved. ``together``: they may share an axis with each other.
        """
        found = self.arrangement_of(view)
        if found is not None and all(found[a] is not None for a in axes):
            return view.layer, arrangement_axes(found)
        marks = [(0 if together else d) if d in axes else -1 for d in range(view.rank)]
        groups = group_dimensions(view, marks, axes)
        return self.place(view, groups), groups

    def innermost(self, view: View, axis: int) -> tuple[str, Groups]:
        """A layer whose channels are one source dimension, and the dimensions of each axis."""
        found = self.arrangement_of(view)
        if found is not None and found[axis] == CHANNELS:
            return view.layer, arrangement_axes(found)
        groups = group_dimensions(view, [d == axis for d in range(view.rank)], [axis])
        others = [group for group in groups if group and group != [axis]]
        groups = (others[0] if others else [], others[1] if len(others) > 1 else [], [axis])
        return self.place(view, groups), groups

    def grouped(self, layer: str, groups: Groups, sizes: Sequence[int]) -> View:
        """The view of a layer whose axes are groups of source dimensions of these sizes."""
        return grouped_view(layer, self.extent(layer), groups, sizes)

    def common_groups(self, views: Sequence[View], groups: Groups) -> Groups:
        """``groups``, or the canonical arrangement of rank up to 4 where that moves no more data."""
        rank = views[0].rank
        if rank > 4:
            return groups
        usual = arrangement_axes(self.canonical(rank))
        moves = [sum(len(plan(v, g).steps) for v in views) for g in (usual, groups)]
        return usual if moves[0] <= moves[1] else groups

    def image(self, view: View) -> str:
        """A layer of shape [-1, H, W, C] holding a source tensor N,C,H,W."""
        if view.rank != 4:
            raise LayoutError(f"the input has rank {view.rank}, not 4 (N,C,H,W)")
        return self.arrange(view, IMAGE, vector=False)

    def as_image(self, layer: str) -> str:
        """The layer, brought to [-1, 1, 1, C] where it is a vector."""
        return self._reshape(layer, self.extent(layer), False)

    def same_rank(self, layers: Sequence[str]) -> list[str]:
        """The layers, vectors brought to [-1, 1, 1, C] where the others are not vectors."""
        if len({self.is_vector(name) for name in layers}) == 1:
            return list(layers)
        return [self.as_image(name) for name in layers]

    def varying_as_channels(self, view: View, arrays: Sequence[Array]) -> View:
        """The tensor seen so that constants broadcast to it vary over channels only: at most a reshape."""
        varying = [
            view.rank - array.ndim + i
            for array in arrays
            for i, size in enumerate(array.shape)
            if size > 1 and view.rank >= array.ndim
        ]
        if all(atom.axis in (BATCH, CHANNELS) for d in varying for atom in view.dims[d]):
            return view
        extent, dims = tail_as_channels(view, varying)
        return View(self._reshape(view.layer, extent, False), extent, dims)

    def channel_vector(self, view: View, array: Array) -> Array:
        """A constant operand of an element-wise operation as one number per HN channel, float64 ``[C]``.

        Raises:
            Unsupported: it varies over something else than channels.
        """
        if array.ndim > view.rank:
            raise Unsupported(f"a constant of shape {list(array.shape)} enlarges a tensor of shape {list(view.shape)}")
        sizes = (1,) * (view.rank - array.ndim) + array.shape
        extra = [i for i, (s, d) in enumerate(zip(sizes, view.shape, strict=True)) if s not in (1, d)]
        if extra:
            raise Unsupported(f"a constant of shape {list(array.shape)} does not broadcast to {list(view.shape)}")
        channels = view.extent[CHANNELS]
        if channels > MAX_CHANNELS:
            raise Unsupported(f"{channels} channels", f"≤ {MAX_CHANNELS}")
        shape: list[int] = []
        atoms: list[tuple[int, int]] = []  # (stride, size) of each channel atom, in the order of the constant's axes
        for dim, size in zip(view.dims, sizes, strict=True):
            for atom in dim:
                if atom.axis == BATCH:
                    continue
                if atom.axis != CHANNELS:
                    if size > 1:
                        raise Unsupported(
                            f"a constant of shape {list(array.shape)} varies over height or width",
                            "one number, or one per channel",
                        )
                    continue
                shape.append(atom.size if size > 1 else 1)
                atoms.append((atom.stride, atom.size))
        spread = np.broadcast_to(array.reshape(shape), [size for _, size in atoms])
        order = sorted(range(len(atoms)), key=lambda i: -atoms[i][0])
        flat = np.ascontiguousarray(spread.transpose(order)).reshape(-1)
        return np.broadcast_to(flat, (channels,)).astype(np.float64)
