# SPDX-License-Identifier: Apache-2.0
"""Queries: DETR. Its boxes are parts of the picture, each query has one, and none is suppressed."""

from __future__ import annotations

from headrace.frontends.graph import live_uses
from headrace.frontends.heads.head import Tensors, WhyNot, family, layers_of
from headrace.frontends.heads.tail import Learned, Tail
from headrace.hn.nms import BoxDecoder, NmsConfiguration


@family("detr")
def detr(tail: Tail) -> NmsConfiguration | WhyNot:
    """Boxes by sigmoid and classes by softmax, the last of which is no object."""
    lists = [one for one in tail.learned if len(one.shape) == 2]
    # Files that give what their layers hold in between, too, have these two among their outputs.
    outputs = [one for one in lists if one.value.is_graph_output() and not live_uses(one.value)]
    apart = len(lists) != len(tail.learned) or len(lists) != 2
    lists = outputs if apart else lists
    if len(lists) != 2 or lists[0].shape[0] != lists[1].shape[0]:
        if {"GridSample", "TopK"} <= {node.op_type for node in tail.source.graph}:
            return WhyNot("queries that are chosen by their scores move with the features they sample", near=True)
        return WhyNot("it does not end in two lists, of boxes and of classes")
    boxes = [one for one in lists if one.channels == 4 and _has(one, "Sigmoid")]
    classes = [one for one in lists if one.channels != 4 and not _has(one, "Sigmoid")]
    if len(boxes) != 1 or len(classes) != 1:
        return WhyNot("its boxes do not end in a sigmoid, or its classes do")
    behind = () if apart else tail.nodes
    if any(node.op_type not in ("Sigmoid", "Softmax", "Identity", "Slice", "Squeeze") for node in behind):
        return WhyNot("more stands behind boxes and classes than their activations")
    tensors, queries = Tensors(), boxes[0].shape[0]
    names = layers_of(reg=boxes[0], cls=classes[0])
    decoder = BoxDecoder(
        "bbox_decoder", (1, queries), (1.0, 1.0), tensors.operand(boxes[0]), tensors.operand(classes[0]), layers=names
    )
    return NmsConfiguration(
        family="detr",
        image=tail.image,
        classes=classes[0].channels,
        coding="normalized_centres",
        score_activation="softmax",
        tensors=tuple(tensors.made),
        decoders=(decoder,),
        background=classes[0].channels - 1,
        suppression="queries",
    )


def _has(one: Learned, operator: str) -> bool:
    """Whether a learned result is of this activation, or goes into it."""
    node = one.value.producer()
    return (node is not None and node.op_type == operator) or any(n.op_type == operator for n in live_uses(one.value))
