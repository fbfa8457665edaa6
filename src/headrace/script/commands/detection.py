# SPDX-License-Identifier: Apache-2.0
"""``nms_postprocess``: what makes boxes of a detector's outputs. It changes no number of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from headrace.hn.nms import MAX_BINS, MAX_CLASSES, MAX_PER_CLASS, MAX_SIDE
from headrace.hn.nms_request import META_ARCHS, NmsRequest
from headrace.script.arguments import ArgumentType, Misfit, Whole, Word, argument, keys, values
from headrace.script.effects import Boxes, CompileEffect
from headrace.script.fates import ACTS, ANYWAY, HINT
from headrace.script.forms import CompileCommand, Form, Resolving, acts
from headrace.script.parser import Value
from headrace.typeguards import is_integer, is_number

_FAMILIES = tuple(META_ARCHS)


@dataclass(frozen=True)
class Text(ArgumentType["str | None"]):
    """A file or a word."""

    @property
    def text(self) -> str:
        return "a file, or a word of `meta_arch`"

    def read(self, value: Value, key: str) -> str | None:
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 4096):
            raise Misfit(f"the {key} is no file", '"configuration.json"')
        return None if value is None else str(value)


@dataclass(frozen=True)
class Part(ArgumentType["float | None"]):
    """A number from 0 to 1."""

    @property
    def text(self) -> str:
        return "0 … 1"

    def read(self, value: Value, key: str) -> float | None:
        if value is None:
            return None
        if not is_number(value) or not 0 <= value <= 1:
            raise Misfit(f"{key} is not a number from 0 to 1", "0 … 1")
        return float(value)


@dataclass(frozen=True)
class Size(ArgumentType["tuple[int, int] | None"]):
    """Height and width."""

    @property
    def text(self) -> str:
        return "[height, width]"

    def read(self, value: Value, key: str) -> tuple[int, int] | None:
        if value is None:
            return None
        sizes = tuple(v for v in value if is_integer(v) and 0 < v <= MAX_SIDE) if isinstance(value, tuple) else ()
        if len(sizes) != 2 or not isinstance(value, tuple) or len(value) != 2:
            raise Misfit(f"{key} is not height and width", "[640, 640]")
        return sizes[0], sizes[1]


@dataclass(frozen=True)
class Truth(ArgumentType["bool | None"]):
    """True or False."""

    @property
    def text(self) -> str:
        return "`True`, `False`"

    def read(self, value: Value, key: str) -> bool | None:
        if value is not None and not isinstance(value, bool):
            raise Misfit(f"{key} is neither True nor False", "True or False")
        return value


@acts(
    "nms_postprocess",
    positional=(0, 2),
    note="boxes are made on the host, the sums of distributions too",
    idle=keys("dfl_on_nn_core", values(HINT)),
)
@dataclass(frozen=True)
class NmsPostprocess(CompileCommand):
    """Boxes are made of the outputs: those of the head that was recognized, or of layers that a file names."""

    config: str | None = argument(Text(), None, "the configuration, below the script's folder or here", position=0)
    family: str | None = argument(Text(), None, "as `meta_arch`", position=1)
    meta_arch: str | None = argument(Word(_FAMILIES), None, "the family of the head")
    engine: str | None = argument(
        Word(("cpu", "nn_core", "auto")), None, "where boxes are made: always on the host",
        {"cpu": ACTS, "auto": ANYWAY, "nn_core": HINT},
    )  # fmt: skip
    bbox_decoding_only: bool | None = argument(Truth(), None, "all boxes over the threshold, none suppressed")
    classes: int | None = argument(Whole(1, MAX_CLASSES), None, "scores of a box; those of the network")
    nms_scores_th: float | None = argument(Part(), None, "boxes of at least this score")
    nms_iou_th: float | None = argument(Part(), None, "of two boxes of a class that overlap more the better stays")
    image_dims: tuple[int, int] | None = argument(Size(), None, "of the network's input")
    max_proposals_per_class: int | None = argument(Whole(1, MAX_PER_CLASS), None, "boxes of a class")
    regression_length: int | None = argument(Whole(1, MAX_BINS), None, "numbers of a side's distribution")
    background_removal: bool | None = argument(Truth(), None, "one of the scores is of no class")
    background_removal_index: int | None = argument(Whole(0, MAX_CLASSES), None, "which")

    def resolved(self, resolving: Resolving) -> Self | None:
        """Checked: of two words without a key the first is a file, the second a family."""
        words = [word for word in (self.config, self.family) if word is not None]
        families = [word for word in words if word.lower() in _FAMILIES]
        if len(words) - len(families) > 1 or len(families) + (self.meta_arch is not None) > 1:
            resolving.bad("a line has one configuration and one meta_arch", '"file.json", meta_arch=yolov8')
            return None
        if self.family is not None and not families:
            resolving.bad(f"there is no meta_arch of the name {self.family!r}", ", ".join(_FAMILIES))
            return None
        return self

    @property
    def request(self) -> NmsRequest:
        """The line as a request; its file is not read yet."""
        words = [word for word in (self.config, self.family) if word is not None]
        families = [word.lower() for word in words if word.lower() in _FAMILIES]
        files = [word for word in words if word.lower() not in _FAMILIES]
        return NmsRequest(
            where=self.statement.where(),
            path=files[0] if files else None,
            meta_arch=self.meta_arch or (families[0] if families else None),
            decoding_only=self.bbox_decoding_only,
            classes=self.classes,
            score_threshold=self.nms_scores_th,
            iou_threshold=self.nms_iou_th,
            image=self.image_dims,
            per_class=self.max_proposals_per_class,
            bins=self.regression_length,
            background=self.background_removal,
            background_index=self.background_removal_index,
        )

    def effects(self) -> tuple[CompileEffect, ...]:
        """That boxes are made so."""
        return (Boxes(self.request),)


FORMS: tuple[Form, ...] = (NmsPostprocess.form,)
