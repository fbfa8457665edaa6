# SPDX-License-Identifier: Apache-2.0
"""Joining, cutting, choosing by index, padding, blocks."""

from __future__ import annotations

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.formats.tensorflow.operators.spectrum import has_complex, in_parts
from headrace.frontends.graph import Unsupported

converts("Slice")(common.cut)
converts("ReverseV2")(common.reverse)
converts("SplitV")(common.split_sizes)
converts("Pad", "PadV2")(common.pad)
converts("GatherNd", "ResourceGatherNd")(common.gather_nd)


@converts("ConcatV2")
def concatenation(operation: Operation) -> None:
    last = len(operation.inputs) - 1
    operation.done(common.concatenated(operation, operation.values(0, last), operation.axis(last)))


@converts("Concat")
def concatenation_axis_first(operation: Operation) -> None:
    operation.done(common.concatenated(operation, operation.values(1), operation.axis(0)))


@converts("Split")
def split(operation: Operation) -> None:
    common.split(operation, operation.attributes.integer("num_split", 0))


@converts("StridedSlice")
def strided_slice(operation: Operation) -> None:
    if has_complex(operation):
        in_parts(operation, strided_slice)
        return
    words = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    common.strided_cut(operation, {word: operation.attributes.integer(f"{word}_mask", 0) for word in words})


@converts("Gather", "GatherV2", "ResourceGather")
def gather(operation: Operation) -> None:
    axis = operation.axis(2) if operation.name == "GatherV2" else 0
    common.gather(operation, axis, operation.attributes.integer("batch_dims", 0))


@converts("MirrorPad")
def mirror_pad(operation: Operation) -> None:
    common.mirror_pad(operation, operation.attributes.text("mode", "REFLECT") != "REFLECT")


@converts("DepthToSpace")
def depth_to_space(operation: Operation) -> None:
    common.depth_to_space(operation, operation.attributes.integer("block_size", 0))


@converts("SpaceToDepth")
def space_to_depth(operation: Operation) -> None:
    common.space_to_depth(operation, operation.attributes.integer("block_size", 0))


@converts("Roll")
def roll(operation: Operation) -> None:
    """Each axis cut in two, and the parts exchanged."""
    shifts, axes, shape = operation.integers(1, "the shifts"), operation.integers(2, "the axes"), operation.shape(0)
    if len(shifts) != len(axes) or any(not -len(shape) <= a < len(shape) or not shape[a] for a in axes):
        raise Unsupported(f"shifts {shifts} of axes {axes} of a tensor of shape {shape}")
    value = operation.value(0)
    for shift, axis in zip(shifts, axes, strict=True):
        by = shift % shape[axis]
        if not by:
            continue
        sizes = operation.list([shape[axis] - by, by])
        first, second = operation.emit_all("Split", [value, sizes], {"axis": axis}, 2)
        value = operation.emit("Concat", [second, first], {"axis": axis})
    operation.done(value if value is not operation.value(0) else operation.emit("Identity", [value]))
