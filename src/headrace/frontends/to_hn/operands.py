# SPDX-License-Identifier: Apache-2.0
"""What one node of the source graph reads: tensors, constants and attributes, none of them trusted; and constants as
the numbers of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends import graph
from headrace.frontends.element_types import Elements, elements_of_array
from headrace.frontends.fold import axis_in
from headrace.frontends.graph import Damaged, MixesFrames, Unsupported, kind_of, live_uses, name_of
from headrace.frontends.layout import BATCH, CHANNELS, View, tail_as_channels
from headrace.frontends.to_hn.builder import Builder
from headrace.hn import Array

#: A per-channel constant is spread over this many channels at most.
MAX_CHANNELS = 1 << 20
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


class SourceNode:
    """A node as its handler sees it.

    Every reader raises :class:`Unsupported` where the node has something else than is asked for.

    Attributes:
        builder: the network under construction, which knows what the tensors became.
        node: the node itself.
    """

    def __init__(self, builder: Builder, node: ir.Node) -> None:
        self.builder, self.node = builder, node

    @property
    def op_type(self) -> str:
        return self.node.op_type

    @property
    def inputs(self) -> Sequence[ir.Value | None]:
        return self.node.inputs

    @property
    def outputs(self) -> Sequence[ir.Value]:
        return self.node.outputs

    # --- operands ------------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether operand ``index`` is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def known(self, index: int) -> Array | None:
        """Operand ``index`` where it is a constant, else None."""
        return graph.constant(self.node.inputs[index]) if self.has(index) else None

    def name(self, index: int) -> str:
        """The name of operand ``index``."""
        return name_of(self.node.inputs[index]) if self.has(index) else ""

    def view(self, index: int) -> View:
        """Operand ``index`` as a tensor of the device."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            raise Unsupported(f"input {index} is absent")
        if value in self.builder.views:
            return self.builder.views[value]
        if graph.constant(value) is not None:
            raise Unsupported(
                f"input {index} ({name_of(value)!r}) is a constant where a tensor is expected", "a computed tensor"
            )
        raise Unsupported(f"input {index} ({name_of(value)!r}) is {kind_of(value) or 'not known'}")

    def elements(self, index: int) -> Elements:
        """What the elements of operand ``index`` are in the source."""
        value = self.node.inputs[index] if self.has(index) else None
        known = graph.constant(value)
        if known is not None:
            return elements_of_array(known)
        return Elements.REAL if value is None else self.builder.elements.get(value, Elements.REAL)

    def constant(self, index: int, what: str) -> Array:
        """Operand ``index`` as a constant."""
        found = self.optional(index, what)
        if found is None:
            raise Unsupported(f"{what} (input {index}) is absent")
        return found

    def optional(self, index: int, what: str) -> Array | None:
        """Operand ``index`` as a constant, or None when absent."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            return None
        array = graph.constant(value)
        if array is None:
            kind = "computed" if value in self.builder.views else kind_of(value) or "not known"
            raise Unsupported(f"{what} (input {index}, {name_of(value)!r}) is {kind}, not a constant", "a constant")
        return array

    def weights(self, index: int, what: str) -> Array:
        """Operand ``index`` as finite float64 numbers."""
        array = self.constant(index, what)
        if array.dtype.kind not in "fiub":
            raise Unsupported(f"{what} {name_of(self.node.inputs[index])!r} has type {array.dtype}", "real numbers")
        return finite(array, f"{what} {name_of(self.node.inputs[index])!r}")

    def mask(self, index: int, what: str) -> Array:
        """Operand ``index`` of a sum or choice as finite float64 numbers.

        In front of softmax -infinity is "never", as :data:`NEVER` is. (Of a row that is -infinity throughout softmax
        makes NaN; here all of such a row is alike.)
        """
        array = self.constant(index, what)
        if array.dtype.kind == "f" and np.isneginf(array).any() and _only_softmax_reads(self.node.outputs[0]):
            array = np.where(np.isneginf(array), NEVER, array.astype(np.float64))
            return finite(array, f"{what} {name_of(self.node.inputs[index])!r}")
        return self.weights(index, what)

    def integer_list(self, index: int, what: str) -> list[int]:
        """Operand ``index`` as a short list of integers."""
        return graph.integer_list(self.constant(index, what), what)

    def optional_integer_list(self, index: int, what: str) -> list[int] | None:
        """The same, or None when absent."""
        array = self.optional(index, what)
        return None if array is None else graph.integer_list(array, what)

    # --- attributes ----------------------------------------------------------------------------------------------

    def integer(self, name: str, default: int) -> int:
        return graph.integer(self.node, name, default)

    def real(self, name: str, default: float) -> float:
        return graph.real(self.node, name, default)

    def text(self, name: str, default: str) -> str:
        """A word; an empty one is the default."""
        return graph.text(self.node, name, default) or default

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        return graph.integers(self.node, name, default) or []

    def optional_integers(self, name: str) -> list[int] | None:
        return graph.integers(self.node, name, None)

    def axis(self, view: View, default: int) -> int:
        """The attribute ``axis`` as a dimension of the tensor.

        Raises:
            MixesFrames: it is the batch.
        """
        axis = axis_in(self.integer("axis", default), view.rank)
        if self.builder.mixes_frames(view, [axis]):
            raise MixesFrames(f"axis {axis} is the batch, whose frames are computed one by one", "another axis")
        return axis


# --- constants as numbers of a layer ----------------------------------------------------------------------------------


def finite(array: Array, what: str) -> Array:
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
        raise Damaged(
            f"{what} holds {int(bad.sum())} values that are NaN, infinite or beyond float32 (first at {place})",
            "finite weights",
            ("the training diverged or the file is damaged: export a good checkpoint",),
        )
    return wide


def divided(builder: Builder, view: View, array: Array) -> Array:
    """A constant that meets a tensor, for one frame: the same for each frame of a batch that the file fixes.

    Raises:
        MixesFrames: it differs from frame to frame.
    """
    at = view.batch_dim - view.rank + array.ndim
    if builder.frames == 1 or at < 0 or array.shape[at] != builder.full_shape(view)[view.batch_dim]:
        return array
    rest = view.shape[view.batch_dim]
    first = view.dims[view.batch_dim][0].axis == BATCH
    parts = (builder.frames, rest) if first else (rest, builder.frames)
    apart = array.reshape(*array.shape[:at], *parts, *array.shape[at + 1 :])
    apart = np.moveaxis(apart, at if first else at + 1, 0)
    if not (apart == apart[:1]).all():
        raise MixesFrames(f"a constant of shape {list(array.shape)} differs from frame to frame")
    return apart[:1].reshape(*array.shape[:at], rest, *array.shape[at + 1 :])


def varying_as_channels(builder: Builder, view: View, arrays: Sequence[Array]) -> View:
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
    return View(builder.reshape(view.layer, extent, False), extent, dims)


def channel_vector(view: View, array: Array) -> Array:
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
