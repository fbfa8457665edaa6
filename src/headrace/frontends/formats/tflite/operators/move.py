# SPDX-License-Identifier: Apache-2.0
"""Joining, cutting, choosing by index, padding, blocks."""

from __future__ import annotations

from headrace.frontends.formats import common_operators as common
from headrace.frontends.formats.tflite.build import Operation, converts
from headrace.frontends.graph import Unsupported

converts("SLICE")(common.cut)
converts("REVERSE_V2")(common.reverse)
converts("PAD", "PADV2")(common.pad)
converts("GATHER_ND")(common.gather_nd)


@converts("CONCATENATION")
def concatenation(operation: Operation) -> None:
    made = common.concatenated(operation, operation.values(), operation.integer("axis"))
    operation.done(operation.activated(made))


def _check_parts(operation: Operation) -> int:
    count = len(operation.record.outputs)
    if count != operation.integer("num_splits"):
        raise Unsupported(f"{count} outputs and num_splits {operation.integer('num_splits')}", "the same number")
    return count


@converts("SPLIT")
def split(operation: Operation) -> None:
    common.split(operation, _check_parts(operation))


@converts("SPLIT_V")
def split_sizes(operation: Operation) -> None:
    _check_parts(operation)
    common.split_sizes(operation)


@converts("STRIDED_SLICE")
def strided_slice(operation: Operation) -> None:
    words = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    masks = {word: operation.integer(f"{word}_mask") for word in words}
    common.strided_cut(operation, masks, operation.flag("offset"))


@converts("MIRROR_PAD")
def mirror_pad(operation: Operation) -> None:
    common.mirror_pad(operation, operation.integer("mode") == 1)


@converts("DEPTH_TO_SPACE")
def depth_to_space(operation: Operation) -> None:
    common.depth_to_space(operation, operation.integer("block_size"))


@converts("SPACE_TO_DEPTH")
def space_to_depth(operation: Operation) -> None:
    common.space_to_depth(operation, operation.integer("block_size"))


@converts("GATHER")
def gather(operation: Operation) -> None:
    common.gather(operation, operation.integer("axis"), operation.integer("batch_dims"))
