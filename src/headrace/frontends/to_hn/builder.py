# SPDX-License-Identifier: Apache-2.0
"""The network under construction: emits layers, and brings tensors into the order that a layer needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from headrace.errors import InputFileError
from headrace.frontends.element_types import Elements
from headrace.frontends.fold import Budget
from headrace.frontends.graph import MAX_TENSOR_ELEMENTS, SourceGraph, Unsupported, origins
from headrace.frontends.layout import (
    CHANNELS,
    Arrangement,
    BatchCutError,
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
    regroup,
)
from headrace.frontends.quantization import grid_of, kernel_steps
from headrace.hn import Array, Layer, Network, infer_shape
from headrace.layers import Operation, Reshape, Transpose
from headrace.layers.attributes import MAX_INTEGER
from headrace.layers.mac import KERNEL_SCALE
from headrace.typeguards import is_integer, is_list

#: Parameters of a network, or as many as the file has bytes: a small file may name one large constant many times.
MAX_PARAMETERS = 1 << 28
#: N,C,H,W.
IMAGE: Arrangement = (None, 2, 0, 1)


def _check_sizes(operation: Operation) -> None:
    """Refuse attributes that a file of a network cannot hold."""
    for name, value in operation.json_attributes.items():
        for size in value if is_list(value) else [value]:
            if is_integer(size) and abs(size) > MAX_INTEGER:
                raise Unsupported(f"attribute {name!r} is too large (got {size})", "below 2^31")


class Builder:
    """The network under construction.

    Attributes:
        network: layers so far, under provisional names.
        source: the graph being translated.
        budget: what constant folding may still create.
        views: source value → the HN tensor it is.
        coded: source values that are codes, and stand for what these mean.
        elements: source value → what its elements are, where it is computed.
    """

    def __init__(self, source: SourceGraph, name: str, budget: Budget) -> None:
        self.network = Network(name)
        self.source = source
        self.budget = budget
        self.views: dict[ir.Value, View] = {}
        self.coded: set[ir.Value] = set()
        self.elements: dict[ir.Value, Elements] = {}
        self.origins: list[str] = []
        self._grids: list[Array] = []
        self._moves: dict[tuple[str, Operation], str] = {}
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

    @property
    def one_frame(self) -> bool:
        """The file computes one frame, so that its batch of one may be treated like any other dimension."""
        return self.batch == 1

    def mixes_frames(self, view: View, dims: Sequence[int]) -> bool:
        """Whether a result over the given source dimensions depends on more than one frame."""
        return not self.one_frame and view.batch_dim in dims

    def regroup(self, view: View, shape: Sequence[int], holder: int | None = None) -> View:
        """Reshape, to a shape as the file has it; ``holder``: the dimension whose size the file leaves open.

        Where it cuts dimensions that lie in parts of other sizes (windows of 8 × 7 pixels made a picture, and that a
        grid of 7 × 8), the tensor is moved into the order that the file has first.
        """
        if not shape and not self.one_frame:
            raise LayoutError("a single number has no place for the batch")
        try:
            return regroup(view, shape, self.frames, self.one_frame, holder)
        except BatchCutError:
            raise
        except LayoutError:
            if not view.batch_first or math.prod(shape) != math.prod(self.full_shape(view)):
                raise
            return self._anew(view, shape)

    def _anew(self, view: View, shape: Sequence[int]) -> View:
        """Reshape of a tensor moved into a layer each axis of which is dimensions of the file one after another."""
        dims = list(range(1, view.rank))
        flat: Groups = ([], [], dims)
        usual = arrangement_axes(self.canonical(view.rank)) if view.rank <= 4 else (dims[:-2], dims[-2:-1], dims[-1:])
        for groups in (usual, flat):
            height, width, channels = (math.prod(view.shape[d] for d in axis) for axis in groups)
            try:  # only a tensor that can be cut so is moved
                regroup(
                    grouped_view("", (height, width, channels), groups, view.shape), shape, self.frames, self.one_frame
                )
            except LayoutError:
                continue
            stored = self.grouped(self.place(view, groups, vector=False), groups, view.shape)
            return regroup(stored, shape, self.frames, self.one_frame)
        raise LayoutError(f"{list(view.shape)} cannot become {list(shape)}")

    def begin(self, node: ir.Node) -> None:
        """Layers emitted from now on come from this node."""
        self.origins = origins(node)
        self._grids = [grid for grid in map(grid_of, node.inputs) if grid is not None]

    # --- writing layers ------------------------------------------------------------------------------------------

    def emit(
        self, operation: Operation, inputs: Sequence[str], params: Mapping[str, Array] | None = None,
        names: Sequence[str] | None = None,
    ) -> Layer:  # fmt: skip
        """Add a layer; its shape follows from its operation's own rule.

        Args:
            operation: what it computes.
            inputs: names of the layers that it reads.
            params: its own arrays, float64 until parsing ends.
            names: of the source nodes that it stands for; None: of the node that is being translated.

        Raises:
            Unsupported: the operation's rules do not allow it.
        """
        self._count += 1
        origins = list(self.origins if names is None else names)
        layer = Layer(f"{self.network.name}/new{self._count}", operation, list(inputs), original_names=origins)
        _check_sizes(operation)
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
        limit = max(MAX_PARAMETERS, self.source.stored)
        if self._parameters > limit:
            raise Unsupported(
                f"with it the network has {self._parameters} parameters, weights that layers share counted for each",
                f"≤ {limit}",
            )
        made = self.network.add(layer, params)
        kernel = (params or {}).get("kernel") if self._grids else None
        steps = None if kernel is None else kernel_steps(kernel, self._grids)
        if steps is not None:
            made.params[KERNEL_SCALE] = steps
        return made

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
            current = self.reshape(current, step.shape, False)
            current = self._moved(current, Transpose(permutation=step.permutation))
        if vector is None:
            vector = self.is_vector(current) and move.result[:2] == (1, 1)
        return self.reshape(current, move.result, vector)

    def reshape(self, layer: str, extent: Sequence[int], vector: bool) -> str:
        """A layer [-1, C] or [-1, H, W, C] with the same elements in order; the layer itself where it is one."""
        shape = (extent[2],) if vector else tuple(extent)
        if self.network[layer].output_shape[1:] == shape:
            return layer
        return self._moved(layer, Reshape(shape=shape))

    def _moved(self, layer: str, operation: Reshape | Transpose) -> str:
        """The layer moved so; the same move is made once."""
        if (layer, operation) not in self._moves:
            self._moves[layer, operation] = self.emit(operation, [layer], names=()).name
        return self._moves[layer, operation]

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
        return self.reshape(layer, self.extent(layer), False)

    def same_rank(self, layers: Sequence[str]) -> list[str]:
        """The layers, vectors brought to [-1, 1, 1, C] where the others are not vectors."""
        if len({self.is_vector(name) for name in layers}) == 1:
            return list(layers)
        return [self.as_image(name) for name in layers]
