# SPDX-License-Identifier: Apache-2.0
"""What turns the outputs of a detector into boxes, as a HAR holds it (``<net>.nms.json``, docs/formats/nms.md).

The keys are those of the public NMS configurations (thresholds, classes, ``bbox_decoders`` with strides, anchors and
layers); beside them stands what the native library computes with: how boxes and scores are coded, and where in which
output each number lies. The native library checks all of it again when it loads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import strict_json
from headrace.typeguards import is_integer, is_list, is_number, is_object

#: How numbers become a box; native/src/postprocess/configuration.hpp says what each means.
CODINGS = (
    "distances", "grid_offsets", "anchors_exponential", "anchors_squared", "priors", "centres", "normalized_centres",
    "corners",
)  # fmt: skip
ANCHORED = ("anchors_exponential", "anchors_squared", "priors")
SCORE_ACTIVATIONS = ("none", "sigmoid", "softmax")
OBJECTNESS_ACTIVATIONS = ("none", "sigmoid")
BOX_ACTIVATIONS = ("none", "relu", "exponential", "sigmoid")
SUPPRESSIONS = ("class", "fast", "peaks", "none", "best", "queries")
POINT_CODINGS = ("grid", "priors", "pixels")
MAX_BYTES = 1 << 20
MAX_LEVELS = 64
MAX_TENSORS = 64
MAX_ANCHORS = 256
MAX_PER_CLASS = 4096
MAX_BOXES = 65536
MAX_CLASSES = 16384
MAX_BINS = 256
MAX_SIDE = 65536
MAX_POSITIONS = 1 << 22
MAX_ELEMENTS = 1 << 28
MAX_KEY_POINTS = 1024
MAX_PROTOTYPES = 1024
MAX_MASK = 1 << 26
MAX_FURTHER = 1 << 25
LARGEST = 1e6
#: Layers that the public form names for a decoder.
LAYER_KEYS = ("reg_layer", "cls_layer", "objectness_layer", "encoded_layer", "combined_layer")
SCORE_THRESHOLD, IOU_THRESHOLD, PER_CLASS, IN_ALL = 0.2, 0.7, 100, 300


@dataclass(frozen=True)
class Operand:
    """Where numbers lie: those of position p, anchor a are ``tensor.flat[base + p·position + a·anchor + k·element]``.

    ``tensor`` counts in :attr:`NmsConfiguration.tensors`; the tensor is NHWC, one frame.
    """

    tensor: int
    base: int
    position: int
    anchor: int = 0
    element: int = 1


@dataclass(frozen=True)
class NmsTensor:
    """An output that is read: the name of the output layer, and (H, W, C)."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Masks:
    """Masks of boxes: the sum of prototypes, each times a number of the box, inside where its sigmoid is above a limit.

    Attributes:
        tensor: index of the prototypes in :attr:`NmsConfiguration.tensors`: (H, W, prototypes), over the whole picture.
        threshold: the limit.
    """

    tensor: int
    threshold: float = 0.5


@dataclass(frozen=True)
class KeyPoints:
    """Points of a box; ``g``, ``s``, ``o`` and ``anchor`` as in :data:`CODINGS`.

    Attributes:
        count: points of a box.
        numbers: of a point: 2 for x and y, 3 with its score.
        coding: ``grid`` (scale·t + g + offset)·s, ``priors`` (g + o)·s + scale·t·anchor, or ``pixels`` t.
        activation: of the score: ``none`` or ``sigmoid``.
    """

    count: int
    numbers: int = 3
    coding: str = "grid"
    scale: float = 1.0
    offset: float = 0.0
    activation: str = "none"


@dataclass(frozen=True)
class Angle:
    """Boxes are turned about their centre by scale·activation(t) + offset radians, from x to y.

    Of distances the centre lies at half their differences, turned as well (``dist2rbox`` of ultralytics).
    """

    activation: str = "none"
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class BoxDecoder:
    """One level of a detector.

    Attributes:
        name: of the decoder.
        grid: rows and columns of its positions.
        strides: pixels from row to row and from column to column.
        boxes, scores, objectness, sizes: where the numbers of a position lie; the last two only where they are used.
        masks, key_points, angles: the same, where the configuration has these; a point has its numbers together.
        units: of distances, pixels of one down and right, where they are not the strides.
        anchors: how many boxes a position has.
        widths, heights: of the anchors, where the coding has them: pixels, of priors parts of the picture.
        layers: layers whose results these are, by the public form's keys (:data:`LAYER_KEYS`).
    """

    name: str
    grid: tuple[int, int]
    strides: tuple[float, float]
    boxes: Operand
    scores: Operand
    objectness: Operand | None = None
    sizes: Operand | None = None
    anchors: int = 1
    widths: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict[str, str])
    masks: Operand | None = None
    key_points: Operand | None = None
    angles: Operand | None = None
    units: tuple[float, float] | None = None


@dataclass(frozen=True)
class NmsConfiguration:
    """Decoding, threshold and suppression of a detector's outputs.

    Attributes:
        family: ``meta_arch`` of the public configurations, or the like for others.
        image: height and width of the network's input.
        classes: scores of a position; with ``background`` one of them is no class.
        coding: one of :data:`CODINGS`.
        y_first: of priors and corners: y stands before x, height before width.
        bins: numbers of a distance's distribution; 1: the distance itself.
        point: where in its cell the point of a position lies.
        score_root: a score is the root of its product with objectness.
        suppression: class by class; ``fast``: of a class what any better box covers, though that one is hidden itself;
            of what is no peak among its neighbours; or none; ``best``: of each position its best class only, and what
            any better box covers, whatever its class; ``queries``: of each position its best class only, none hidden.
        masks, key_points, angle: what else a box has.
        decoding_only: boxes over the threshold, none suppressed.
        per_level: candidates of a level that are looked at, the best; None: of all levels together, at most 30,000.
        clipped: boxes end at the picture's edges before they are compared.
    """

    family: str
    image: tuple[int, int]
    classes: int
    coding: str
    score_activation: str
    tensors: tuple[NmsTensor, ...]
    decoders: tuple[BoxDecoder, ...]
    score_threshold: float = SCORE_THRESHOLD
    iou_threshold: float = IOU_THRESHOLD
    per_class: int = PER_CLASS
    in_all: int = IN_ALL
    background: int | None = None
    suppression: str = "class"
    decoding_only: bool = False
    y_first: bool = False
    bins: int = 1
    point: float = 0.5
    box_activation: str = "none"
    objectness_activation: str | None = None
    score_root: bool = False
    centre_scale: float = 1.0
    size_scale: float = 1.0
    offset_scale: float = 1.0
    masks: Masks | None = None
    key_points: KeyPoints | None = None
    angle: Angle | None = None
    per_level: int | None = None
    clipped: bool = False

    @property
    def prototypes(self) -> int:
        """Prototypes of masks; 0 without masks."""
        return 0 if self.masks is None else self.tensors[self.masks.tensor].shape[2]

    @property
    def further(self) -> bool:
        """Whether boxes have masks, key points or angles."""
        return not self.masks is self.key_points is self.angle is None

    def renamed(self, names: Mapping[str, str]) -> NmsConfiguration:
        """The same with other names of outputs."""
        tensors = tuple(replace(one, name=names.get(one.name, one.name)) for one in self.tensors)
        return replace(self, tensors=tensors)


# --- JSON ------------------------------------------------------------------------------------------------------------


def to_dict(configuration: NmsConfiguration) -> dict[str, Any]:
    """Plain JSON values."""
    c = configuration
    out: dict[str, Any] = {
        "meta_arch": c.family,
        "nms_scores_th": c.score_threshold,
        "nms_iou_th": c.iou_threshold,
        "image_dims": list(c.image),
        "max_proposals_per_class": c.per_class,
        "max_total_proposals": c.in_all,
        **({} if c.per_level is None else {"max_proposals_per_level": c.per_level}),
        "classes": c.classes,
        "regression_length": c.bins,
        "background_removal": c.background is not None,
        **({} if c.background is None else {"background_removal_index": c.background}),
        "centers_scale_factor": c.centre_scale,
        "bbox_dimensions_scale_factor": c.size_scale,
        "suppression": c.suppression,
        "bbox_decoding_only": c.decoding_only,
        **({"boxes_clipped": True} if c.clipped else {}),
        "box_coding": c.coding,
        "box_activation": c.box_activation,
        "y_first": c.y_first,
        "point_offset": c.point,
        "offset_scale": c.offset_scale,
        "score_activation": c.score_activation,
        **({} if c.objectness_activation is None else {"objectness_activation": c.objectness_activation}),
        "score_root": c.score_root,
        **_further_dict(c),
        "tensors": [{"name": t.name, "shape": list(t.shape)} for t in c.tensors],
        "bbox_decoders": [_decoder_dict(d, c.coding) for d in c.decoders],
    }
    return out


def _further_dict(c: NmsConfiguration) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if c.masks is not None:
        out |= {"mask_prototypes": c.masks.tensor, "mask_threshold": c.masks.threshold}
    if c.key_points is not None:
        out["key_points"] = dict(vars(c.key_points))
    if c.angle is not None:
        out["angle"] = dict(vars(c.angle))
    return out


def _decoder_dict(d: BoxDecoder, coding: str) -> dict[str, Any]:
    same = d.strides[0] == d.strides[1]
    anchors = {"w": list(d.widths), "h": list(d.heights)} if coding in ANCHORED else {"anchors": d.anchors}
    operands = {
        "boxes": d.boxes, "scores": d.scores, "objectness": d.objectness, "sizes": d.sizes,
        "masks": d.masks, "key_points": d.key_points, "angles": d.angles,
    }  # fmt: skip
    return {
        "name": d.name,
        **({"stride": _plain(d.strides[0])} if same else {"strides": [_plain(s) for s in d.strides]}),
        **({} if d.units is None else {"units": [_plain(u) for u in d.units]}),
        "grid": list(d.grid),
        **anchors,
        **dict(d.layers),
        **{key: dict(vars(one)) for key, one in operands.items() if one is not None},
    }


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number


def dumps(configuration: NmsConfiguration) -> bytes:
    """JSON text."""
    return (json.dumps(to_dict(configuration), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def loads(data: bytes, where: str) -> NmsConfiguration:
    """Read JSON text without trusting it.

    Raises:
        InputFileError: ``E-NMS-CORRUPT``.
    """
    if len(data) > MAX_BYTES:
        raise _bad(where, "the configuration is too large", f"{len(data)} bytes", f"≤ {MAX_BYTES} bytes")
    try:
        raw = strict_json.parse(data)
    except ValueError as error:
        raise _bad(where, "it is not JSON", error, "a JSON object") from None
    return from_dict(raw, where)


def _bad(where: str, rule: str, got: object, need: object) -> InputFileError:
    levers = ("parse the model again", "write nms_postprocess(...) in the model script")
    return InputFileError(Diagnostic("E-NMS-CORRUPT", where, rule, str(got)[:200], str(need), levers))


class Fields:
    """One object of a configuration, read with the place of what is wrong."""

    def __init__(self, raw: object, where: str) -> None:
        if not is_object(raw):
            raise _bad(where, "this is no object", type(raw).__name__, "an object")
        self.raw: dict[str, Any] = raw
        self.where = where

    def bad(self, key: str, rule: str, got: object, need: object) -> InputFileError:
        return _bad(f"{self.where}, {key}", rule, got, need)

    def has(self, key: str) -> bool:
        return key in self.raw

    def real(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = self.raw.get(key, default)
        if not is_number(value) or not math.isfinite(value) or not low <= value <= high:
            raise self.bad(key, "this is no number in range", repr(value), f"{low:g} … {high:g}")
        return float(value)

    def count(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.raw.get(key, default)
        if not is_integer(value) or not low <= value <= high:
            raise self.bad(key, "this is no integer in range", repr(value), f"{low} … {high}")
        return value

    def truth(self, key: str, default: bool = False) -> bool:
        value = self.raw.get(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, "this is neither true nor false", repr(value), "true or false")
        return value

    def word(self, key: str, words: Sequence[str], default: str | None = None) -> str:
        value = self.raw.get(key, default)
        if not isinstance(value, str) or value not in words:
            raise self.bad(key, "the word is not known", repr(value), ", ".join(words))
        return value

    def text(self, key: str, default: str | None = None, most: int = 256, least: int = 0) -> str:
        value = self.raw.get(key, default)
        if not isinstance(value, str) or not least <= len(value.encode("utf-8", "replace")) <= most:
            raise self.bad(key, "this is no short text", repr(value), f"{least} to {most} bytes")
        return value

    def items(self, key: str, low: int, high: int) -> list[Any]:
        value = self.raw.get(key)
        if not is_list(value) or not low <= len(value) <= high:
            got = f"{len(value)} entries" if is_list(value) else type(value).__name__
            raise self.bad(key, "the list has another length", got, f"{low} … {high} entries")
        return value

    def reals(self, key: str, low: int, high: int, least: float = 1e-9) -> tuple[float, ...]:
        values = self.items(key, low, high)
        if any(not is_number(v) or not math.isfinite(v) or not least <= v <= LARGEST for v in values):
            raise self.bad(key, "not all are numbers in range", values[:8], f"{least:g} … {LARGEST:g}")
        return tuple(float(v) for v in values)

    def counts(self, key: str, size: int, high: int) -> tuple[int, ...]:
        values = self.items(key, size, size)
        if any(not is_integer(v) or not 1 <= v <= high for v in values):
            raise self.bad(key, "not all are integers in range", values, f"1 … {high}")
        return tuple(values)


def from_dict(raw: object, where: str) -> NmsConfiguration:
    """Read plain JSON values without trusting them.

    Raises:
        InputFileError: ``E-NMS-CORRUPT``.
    """
    f = Fields(raw, where)
    height, width = f.counts("image_dims", 2, MAX_SIDE)
    classes = f.count("classes", 1, MAX_CLASSES)
    tensors = tuple(
        _tensor(Fields(one, f"{where}, tensor {i}")) for i, one in enumerate(f.items("tensors", 1, MAX_TENSORS))
    )
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise f.bad("tensors", "two tensors have one name", [tensor.name for tensor in tensors], "a name each")
    coding = f.word("box_coding", CODINGS)
    per_class = f.count("max_proposals_per_class", 1, MAX_PER_CLASS)
    configuration = NmsConfiguration(
        family=f.text("meta_arch", most=64, least=1),
        image=(height, width),
        classes=classes,
        coding=coding,
        score_activation=f.word("score_activation", SCORE_ACTIVATIONS),
        tensors=tensors,
        decoders=(),
        score_threshold=f.real("nms_scores_th", 0, 1),
        iou_threshold=f.real("nms_iou_th", 0, 1),
        per_class=per_class,
        in_all=f.count("max_total_proposals", 1, MAX_BOXES, min(per_class * classes, MAX_BOXES)),
        background=f.count("background_removal_index", 0, classes - 1) if f.truth("background_removal") else None,
        suppression=f.word("suppression", SUPPRESSIONS, "class"),
        decoding_only=f.truth("bbox_decoding_only"),
        per_level=f.count("max_proposals_per_level", 1, MAX_BOXES) if f.has("max_proposals_per_level") else None,
        clipped=f.truth("boxes_clipped"),
        y_first=f.truth("y_first"),
        bins=f.count("regression_length", 1, MAX_BINS, 1),
        point=f.real("point_offset", -16, 16, 0.5),
        box_activation=f.word("box_activation", BOX_ACTIVATIONS, "none"),
        objectness_activation=f.word("objectness_activation", OBJECTNESS_ACTIVATIONS)
        if f.has("objectness_activation")
        else None,
        score_root=f.truth("score_root"),
        centre_scale=f.real("centers_scale_factor", 1e-6, LARGEST, 1.0),
        size_scale=f.real("bbox_dimensions_scale_factor", 1e-6, LARGEST, 1.0),
        offset_scale=f.real("offset_scale", 0.1, 16, 1.0),
    )
    configuration = _with_further(f, configuration)
    items = f.items("bbox_decoders", 1, MAX_LEVELS)
    decoders = tuple(_decoder(Fields(d, f"{where}, decoder {i}"), configuration) for i, d in enumerate(items))
    positions = sum(d.grid[0] * d.grid[1] * d.anchors for d in decoders)
    if positions > MAX_POSITIONS:
        raise f.bad("bbox_decoders", "there are too many positions", positions, f"≤ {MAX_POSITIONS}")
    return replace(configuration, decoders=decoders)


def _with_further(f: Fields, c: NmsConfiguration) -> NmsConfiguration:
    """Masks, key points and angle."""
    if f.has("mask_prototypes"):
        tensor = f.count("mask_prototypes", 0, len(c.tensors) - 1)
        c = replace(c, masks=Masks(tensor, f.real("mask_threshold", 1e-6, 1 - 1e-6, 0.5)))
        if c.prototypes > MAX_PROTOTYPES:
            raise f.bad("mask_prototypes", "there are too many prototypes", c.prototypes, f"≤ {MAX_PROTOTYPES}")
        if math.prod(c.image) > MAX_MASK:
            raise f.bad("image_dims", "a mask of this size is too large", list(c.image), f"≤ {MAX_MASK} pixels")
    if f.has("key_points"):
        k = Fields(f.raw["key_points"], f"{f.where}, key_points")
        points = KeyPoints(
            k.count("count", 1, MAX_KEY_POINTS), k.count("numbers", 2, 3), k.word("coding", POINT_CODINGS),
            k.real("scale", -LARGEST, LARGEST, 1.0), k.real("offset", -16, 16, 0.0),
            k.word("activation", OBJECTNESS_ACTIVATIONS, "none"),
        )  # fmt: skip
        if points.coding == "priors" != c.coding:
            raise k.bad("coding", "the boxes are not coded against priors", points.coding, "grid or pixels")
        c = replace(c, key_points=points)
    if f.has("angle"):
        a = Fields(f.raw["angle"], f"{f.where}, angle")
        activation = a.word("activation", OBJECTNESS_ACTIVATIONS, "none")
        c = replace(c, angle=Angle(activation, a.real("scale", -LARGEST, LARGEST, 1.0), a.real("offset", -16, 16, 0.0)))
    numbers = c.in_all * (c.prototypes + 3 * (0 if c.key_points is None else c.key_points.count))
    if numbers > MAX_FURTHER:
        rule = "the masks and key points of all boxes are too many"
        raise f.bad("max_total_proposals", rule, f"{numbers} numbers", f"≤ {MAX_FURTHER}")
    return c


def _tensor(f: Fields) -> NmsTensor:
    height, width, channels = f.counts("shape", 3, MAX_ELEMENTS)
    if height * width * channels > MAX_ELEMENTS:
        raise f.bad("shape", "the tensor is too large", [height, width, channels], f"≤ {MAX_ELEMENTS} elements")
    return NmsTensor(f.text("name"), (height, width, channels))


def _decoder(f: Fields, c: NmsConfiguration) -> BoxDecoder:
    rows, columns = f.counts("grid", 2, MAX_SIDE)
    if f.has("strides"):
        down, right = f.reals("strides", 2, 2, 1e-6)
    else:
        down = right = f.real("stride", 1e-6, LARGEST)
    if f.has("units") and c.coding != "distances":
        raise f.bad("units", "only distances have units", c.coding, "box_coding distances")
    units = f.reals("units", 2, 2, 1e-6) if f.has("units") else None
    anchored = c.coding in ANCHORED
    widths = f.reals("w", 1, MAX_ANCHORS) if anchored else ()
    heights = f.reals("h", len(widths), len(widths)) if anchored else ()
    anchors = len(widths) if anchored else f.count("anchors", 1, MAX_ANCHORS, 1)
    numbers = 4 * c.bins if c.coding == "distances" else 2 if c.coding == "centres" else 4

    def operand(key: str, elements: int) -> Operand:
        o = Fields(f.raw.get(key), f"{f.where}, {key}")
        found = Operand(
            o.count("tensor", 0, len(c.tensors) - 1),
            o.count("base", 0, MAX_ELEMENTS),
            o.count("position", 0, MAX_ELEMENTS),
            o.count("anchor", 0, MAX_ELEMENTS, 0),
            o.count("element", 0, MAX_ELEMENTS, 1),
        )
        last = found.base + (rows * columns - 1) * found.position + (anchors - 1) * found.anchor
        last += (elements - 1) * found.element
        size = math.prod(c.tensors[found.tensor].shape)
        if last >= size:
            raise f.bad(key, "it reaches outside of its tensor", f"element {last}", f"inside {size} elements")
        return found

    return BoxDecoder(
        name=f.text("name", ""),
        grid=(rows, columns),
        strides=(down, right),
        boxes=operand("boxes", numbers),
        scores=operand("scores", c.classes),
        objectness=None if c.objectness_activation is None else operand("objectness", 1),
        sizes=operand("sizes", 2) if c.coding == "centres" else None,
        anchors=anchors,
        widths=widths,
        heights=heights,
        layers={key: f.text(key) for key in LAYER_KEYS if f.has(key)},
        masks=None if c.masks is None else operand("masks", c.prototypes),
        key_points=None if c.key_points is None else operand("key_points", c.key_points.count * c.key_points.numbers),
        angles=None if c.angle is None else operand("angles", 1),
        units=None if units is None else (units[0], units[1]),
    )
