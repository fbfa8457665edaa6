# SPDX-License-Identifier: Apache-2.0
"""Heads whose decoding is not in the file: its outputs are the learned numbers, arranged and joined.

Nothing is left to compare with, so a head is only taken for one where its numbers of channels and its activations allow
one family: YOLOX, NanoDet and PicoDet, YOLOv8 before its decoding, CenterNet.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from headrace.frontends.graph import name_of
from headrace.frontends.heads import decode
from headrace.frontends.heads.bind import affine
from headrace.frontends.heads.head import WhyNot, decoder_name, family, layers_of, strides
from headrace.frontends.heads.tail import Learned, Tail
from headrace.hn import Array
from headrace.hn.nms import BoxDecoder, NmsConfiguration, NmsTensor


@dataclass(frozen=True)
class _Part:
    """Channels of a learned result that lie in one output and have one activation.

    Attributes:
        learned: the result.
        output: the output, by number.
        places: flat places in it, ``[positions, channels]``.
        activation: what is applied to them in the file.
    """

    learned: Learned
    output: int
    places: Array
    activation: str

    @property
    def channels(self) -> int:
        return int(self.places.shape[1])


@family("undecoded")
def undecoded(tail: Tail) -> NmsConfiguration | WhyNot:
    """A head whose outputs are learned numbers."""
    if not tail.arranges:
        return WhyNot("more than arranging stands behind its layers")
    parts = _parts(tail)
    if parts is None:
        return WhyNot("its outputs are not all the numbers of its layers")
    groups: dict[tuple[int, int], list[_Part]] = {}
    for part in parts:
        groups.setdefault(part.learned.grid, []).append(part)
    levels = [sorted(groups[grid], key=lambda p: p.channels) for grid in sorted(groups, reverse=True)]
    kinds = [[(p.channels, p.activation) for p in level] for level in levels]
    if any(kind != kinds[0] for kind in kinds):
        return WhyNot("its levels are not alike")
    return _family(_Head(tail, levels, parts))


@dataclass(frozen=True)
class _Head:
    tail: Tail
    levels: list[list[_Part]]
    parts: list[_Part]

    @property
    def channels(self) -> list[int]:
        return [part.channels for part in self.levels[0]]

    @property
    def activations(self) -> list[str]:
        return [part.activation for part in self.levels[0]]

    @property
    def tensors(self) -> tuple[NmsTensor, ...]:
        """The outputs, each with as many elements as lie in it."""
        outputs = self.tail.source.graph.outputs
        sizes = [sum(p.places.size for p in self.parts if p.output == i) for i in range(len(outputs))]
        return tuple(NmsTensor(name_of(v), (1, 1, n)) for v, n in zip(outputs, sizes, strict=True))

    def decoder(self, level: int, **roles: int) -> BoxDecoder | None:
        """The decoder of a level; roles are the numbers of members by what they give. None: irregular places."""
        members = self.levels[level]
        grid = members[0].learned.grid
        stride = strides(self.tail, grid)
        operands = {role: affine(members[i].places[:, None, :], members[i].output) for role, i in roles.items()}
        boxes, scores = operands["boxes"], operands["scores"]
        if boxes is None or scores is None or None in operands.values():
            return None
        keys = {"boxes": "reg", "scores": "cls", "objectness": "objectness"}
        both = members[roles["boxes"]].learned is members[roles["scores"]].learned
        layers = {keys[r]: members[i].learned for r, i in roles.items() if r in keys}
        names = layers_of(combined=members[roles["boxes"]].learned) if both else layers_of(**layers)
        return BoxDecoder(
            decoder_name(stride), grid, stride, boxes, scores, operands.get("objectness"), operands.get("sizes"),
            layers=names,
        )  # fmt: skip

    def configuration(self, name: str, coding: str, activation: str, **roles: int) -> NmsConfiguration | WhyNot:
        """The configuration, members having these roles in every level."""
        made = [self.decoder(i, **roles) for i in range(len(self.levels))]
        decoders = tuple(d for d in made if d is not None)
        if len(decoders) < len(made):
            return WhyNot("its outputs have their numbers in no regular order", near=True)
        return NmsConfiguration(
            family=name,
            image=self.tail.image,
            classes=self.channels[roles["scores"]],
            coding=coding,
            score_activation=activation,
            tensors=self.tensors,
            decoders=decoders,
            objectness_activation=activation if "objectness" in roles else None,
        )


def _family(head: _Head) -> NmsConfiguration | WhyNot:
    channels, kinds = head.channels, head.activations
    plain = [i for i, kind in enumerate(kinds) if kind == "none"]
    scores = [i for i, kind in enumerate(kinds) if kind == "sigmoid"]
    if len(channels) == 3 and len(scores) == 2 and channels[plain[0]] == 4 and channels[scores[0]] == 1:
        return head.configuration(
            "yolox", "grid_offsets", "none", boxes=plain[0], objectness=scores[0], scores=scores[1]
        )
    if len(channels) == 2 and len(scores) == 1 and channels[plain[0]] % 4 == 0 and channels[plain[0]] > 4:
        return _distances(head, plain[0], scores[0], "none")
    if len(channels) == 2 and not scores and 64 in channels and channels[0] != channels[1]:
        return _distances(head, channels.index(64), 1 - channels.index(64), "sigmoid")
    if len(head.levels) == 1 and len(channels) == 3 and channels[:2] == [2, 2] and set(plain) >= {0, 1}:
        return _centres(head)
    if len(channels) == 2 and kinds.count("softmax") == 1:
        return WhyNot("the priors that its boxes are coded against are not in the file", near=True)
    return WhyNot("boxes are decoded behind this file, and its layers do not tell how", near=len(head.levels) > 1)


def _distances(head: _Head, box: int, score: int, activation: str) -> NmsConfiguration | WhyNot:
    bins = head.channels[box] // 4
    found = head.configuration("yolov8" if bins == 16 else "nanodet", "distances", activation, boxes=box, scores=score)
    if isinstance(found, WhyNot):
        return found
    # NanoDet-Plus has its points at the corners of cells: four levels whose boxes and scores lie in one output.
    corner = len(head.levels) == 4 and len(found.tensors) == 1
    return replace(found, bins=bins, point=0.0 if corner else 0.5)


def _centres(head: _Head) -> NmsConfiguration | WhyNot:
    """CenterNet: a map of centres, sizes, offsets; of the two of two channels the file has sizes first."""
    order = {one.name: i for i, one in enumerate(head.tail.learned)}
    sizes, offsets = sorted((0, 1), key=lambda i: order[head.levels[0][i].learned.name])
    activation = "sigmoid" if head.activations[2] == "none" else "none"
    found = head.configuration("centernet", "centres", activation, boxes=offsets, sizes=sizes, scores=2)
    return found if isinstance(found, WhyNot) else replace(found, suppression="peaks")


def _parts(tail: Tail) -> list[_Part] | None:
    """Where the outputs have each learned result; None where numbers are missing."""
    codes: dict[str, Array] = {}
    count = 1
    for one in tail.learned:
        size = int(np.prod(one.shape))
        codes[one.name] = np.arange(count, count + size, dtype=np.float64).reshape(one.shape)
        count += size
    arranged, probe, real = tail.compute(codes, linear=True), tail.probe, tail.made
    where, owner = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    outputs = [name_of(v) for v in tail.source.graph.outputs]
    for i, name in enumerate(outputs):
        flat = np.rint(arranged[name].reshape(-1)).astype(np.int64) if name in arranged else np.zeros(0, np.int64)
        if name not in real or not flat.size or flat.min() < 1 or flat.max() >= count:
            return None
        where[flat], owner[flat] = np.arange(flat.size), i
    found: list[_Part] = []
    for one in tail.learned:
        table = by_position(one, codes[one.name]).astype(np.int64)
        owners = owner[table]
        if owners.min() < 0 or (owners != owners[:1]).any():
            return None
        raw = by_position(one, probe[one.name])
        kinds: list[tuple[int, str]] = []
        for channel in range(one.channels):
            output = int(owners[0, channel])
            seen = real[outputs[output]].reshape(-1)[where[table[:, channel]]]
            kinds.append((output, _activation(raw[:, channel], seen, one)))
        edges = [0, *(c for c in range(1, len(kinds)) if kinds[c] != kinds[c - 1]), len(kinds)]
        for low, high in itertools.pairwise(edges):
            found.append(_Part(one, kinds[low][0], where[table[:, low:high]], kinds[low][1]))
    return found


def by_position(one: Learned, numbers: Array) -> Array:
    """The numbers of a learned result as ``[positions, channels]``."""
    return np.asarray(numbers.reshape(one.channels, -1).T if one.steps[0] == 1 else numbers.reshape(-1, one.channels))


def _activation(raw: Array, seen: Array, one: Learned) -> str:
    """The activation of a channel: what the layer has itself, or what the file applies behind it; there it may only be
    none, a sigmoid, or a softmax over channels.
    """
    already = "sigmoid" if one.activation == "Sigmoid" else "none"
    if np.allclose(seen, raw, atol=1e-5):
        return already
    return "sigmoid" if np.allclose(seen, decode.sigmoid(raw), atol=1e-5) else "softmax"
