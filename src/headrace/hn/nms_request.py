# SPDX-License-Identifier: Apache-2.0
"""``nms_postprocess`` of a model script: a configuration of the public form, and what else the line says, put together
with the head that was recognized or with the layers that the configuration names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import Diagnostic, ScriptError, unknown_name
from headrace.hn import nms, strict_json
from headrace.hn.network import Layer, Network
from headrace.hn.nms import BoxDecoder, Fields, Masks, NmsConfiguration, NmsTensor, Operand
from headrace.typeguards import is_list, is_object

#: Words of ``meta_arch`` → the families of recognized heads that they mean.
META_ARCHS: dict[str, tuple[str, ...]] = {
    "yolov3": ("yolov3",),
    "yolov4": ("yolov3",),
    "yolov5": ("yolov5",),
    "yolov5_seg": ("yolov5",),
    "yolov7": ("yolov5",),
    "yolov6": ("yolov6", "yolov8"),
    "yolov8": ("yolov8", "yolov10", "yolov6", "nanodet"),
    "yolov10": ("yolov10", "yolov8"),
    "nanodet": ("nanodet", "yolov8"),
    "yolox": ("yolox",),
    "ssd": ("ssd",),
    "centernet": ("centernet",),
    "fcos": ("fcos",),
    "detr": ("detr",),
}
#: Those that can be built from layers that a configuration names.
_FROM_LAYERS = ("yolov3", "yolov5", "yolov5_seg", "yolov7", "yolov6", "yolov8", "nanodet", "yolox", "ssd")
_ANCHORED = ("yolov3", "yolov5", "yolov5_seg", "yolov7")
_MOST_PROTOTYPES = 1024


@dataclass(frozen=True)
class NmsRequest:
    """What a line asks for; None: it does not say.

    Attributes:
        where: the line, for messages.
        path: the configuration's file as it is written there.
        content: what the file holds.
        meta_arch: the family.
        decoding_only: boxes over the threshold, none suppressed.
        classes, score_threshold, iou_threshold, image, per_class, bins, background, background_index: as in a
            configuration.
    """

    where: str = field(compare=False)
    path: str | None = None
    content: bytes | None = None
    meta_arch: str | None = None
    decoding_only: bool | None = None
    classes: int | None = None
    score_threshold: float | None = None
    iou_threshold: float | None = None
    image: tuple[int, int] | None = None
    per_class: int | None = None
    bins: int | None = None
    background: bool | None = None
    background_index: int | None = None


def configured(request: NmsRequest, network: Network, recognized: NmsConfiguration | None) -> NmsConfiguration:
    """The configuration that a line asks for.

    Args:
        request: the line; with its file's content where it names one.
        network: as parsed.
        recognized: the head that was found in the file, or None.

    Raises:
        ScriptError: the file breaks a rule, or line, file and network contradict each other.
    """
    public = _public(request)
    family = _family(request, public, recognized)
    base = recognized if recognized is not None and recognized.family in META_ARCHS[family] else None
    if base is None and recognized is not None and not _names_layers(public):
        rule = f"the network's head is another one than meta_arch={family}"
        need = f"meta_arch={recognized.family}, or a configuration that names layers"
        raise _error(request, "E-NMS-FAMILY", rule, recognized.family, need, ("leave meta_arch out",))
    if family == "yolov5_seg" and base is not None and base.masks is None:
        need = "a network whose last output has prototypes of masks"
        raise _error(
            request, "E-NMS-FAMILY", "the network's head has no masks", base.family, need, ("meta_arch=yolov5",)
        )
    if base is not None and _names_layers(public) and not _same_layers(public, base):
        base = None
    if base is None:
        base = _from_layers(request, public, family, network)
    return _with_values(request, public, base)


def _error(
    request: NmsRequest, code: str, rule: str, got: object, need: str, levers: Sequence[str] = ()
) -> ScriptError:
    return ScriptError(Diagnostic(code, request.where, rule, str(got)[:200], need, tuple(levers)))


def _public(request: NmsRequest) -> dict[str, Any]:
    if request.content is None:
        return {}
    try:
        raw = strict_json.parse(request.content) if len(request.content) <= nms.MAX_BYTES else None
    except ValueError as error:
        raise _error(request, "E-NMS-FILE", f"{request.path} is not JSON", error, "a JSON object") from None
    if not is_object(raw):
        raise _error(request, "E-NMS-FILE", f"{request.path} is no NMS configuration", type(raw).__name__, "an object")
    return raw


def _family(request: NmsRequest, public: Mapping[str, Any], recognized: NmsConfiguration | None) -> str:
    given = request.meta_arch or public.get("meta_arch")
    if given is None:
        if recognized is not None:
            return next(name for name, families in META_ARCHS.items() if recognized.family in families)
        given = _told_by_keys(public)
    if given is None:
        rule = "no detection head was recognized in the network, and the line names no layers"
        need = "a configuration whose bbox_decoders name layers, or meta_arch=..."
        levers = ("parse with --end-node-names at the convolutions before the decoding of boxes",)
        raise _error(request, "E-NMS-NONE", rule, "", need, levers)
    if not isinstance(given, str) or given not in META_ARCHS:
        raise ScriptError(unknown_name("E-NMS-FAMILY", "meta_arch", str(given)[:40], META_ARCHS, request.where))
    return given


def _decoders(public: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = public.get("bbox_decoders")
    return [one for one in found if is_object(one)] if is_list(found) else []


def _told_by_keys(public: Mapping[str, Any]) -> str | None:
    """The family by the keys of the first decoder."""
    found = _decoders(public)
    first: dict[str, Any] = found[0] if found else {}
    if "encoded_layer" in first:
        return "yolov5_seg" if public.get("proto") else "yolov5"
    if "objectness_layer" in first:
        return "yolox"
    if "combined_layer" in first:
        return "nanodet"
    if "reg_layer" in first:
        return "ssd" if "w" in first else "yolov8"
    return None


def _names_layers(public: Mapping[str, Any]) -> bool:
    return any(decoder.get(key) for decoder in _decoders(public) for key in nms.LAYER_KEYS)


def _same_layers(public: Mapping[str, Any], base: NmsConfiguration) -> bool:
    """Whether a configuration names the layers of the recognized head."""
    known = {name.rsplit("/", 1)[-1] for decoder in base.decoders for name in decoder.layers.values()}
    named = [str(d[key]).rsplit("/", 1)[-1] for d in _decoders(public) for key in nms.LAYER_KEYS if d.get(key)]
    return all(name in known for name in named)


def _with_values(request: NmsRequest, public: Mapping[str, Any], base: NmsConfiguration) -> NmsConfiguration:
    """The configuration with thresholds and limits of line and file; what the network decides must agree."""
    f = Fields(dict(public), f"{request.where}, {request.path}" if request.path else request.where)
    classes = request.classes if request.classes is not None else public.get("classes", base.classes)
    stated = f.counts("image_dims", 2, nms.MAX_SIDE) if f.has("image_dims") else base.image
    image = request.image or stated
    bins = request.bins if request.bins is not None else public.get("regression_length", base.bins)
    proto = public.get("proto")
    first = proto[0] if is_list(proto) and proto else None
    number = first.get("number") if is_object(first) else None
    # A configuration may count the bins from 0 to this one.
    fixed: tuple[tuple[str, object, object, bool], ...] = (
        ("classes", classes, base.classes, classes in (base.classes, _without_background(base))),
        ("image_dims", list(image), list(base.image), tuple(image) == base.image),
        ("regression_length", bins, base.bins, base.coding != "distances" or bins in (base.bins, base.bins - 1)),
        ("number of prototypes", number, base.prototypes, number is None or number == base.prototypes),
    )
    problems = [
        Diagnostic("E-NMS-NETWORK", request.where, f"{key} is not that of the network", str(got), str(need),
                   ("leave it out: it is taken from the network",))
        for key, got, need, fits in fixed
        if not fits
    ]  # fmt: skip
    if problems:
        raise ScriptError(problems)
    removes = request.background
    if removes is None and f.has("background_removal"):
        removes = f.truth("background_removal")
    background = base.background if removes is None else None
    if removes:
        background = request.background_index
        if background is None:
            background = f.count("background_removal_index", 0, base.classes - 1, base.background or 0)
        if background >= base.classes:
            rule = "background_removal_index is no class of the network"
            raise _error(request, "E-NMS-NETWORK", rule, background, f"0 … {base.classes - 1}")
    return replace(
        base,
        score_threshold=_chosen(request.score_threshold, f.real("nms_scores_th", 0, 1, base.score_threshold)),
        iou_threshold=_chosen(request.iou_threshold, f.real("nms_iou_th", 0, 1, base.iou_threshold)),
        per_class=request.per_class
        or f.count("max_proposals_per_class", 1, nms.MAX_PER_CLASS, min(base.per_class, nms.MAX_PER_CLASS)),
        in_all=f.count("max_total_proposals", 1, nms.MAX_BOXES, base.in_all),
        decoding_only=base.decoding_only if request.decoding_only is None else request.decoding_only,
        background=background,
    )


def _without_background(base: NmsConfiguration) -> int:
    return base.classes - (base.background is not None)


def _chosen(first: float | None, second: float) -> float:
    return second if first is None else first


# --- from named layers -----------------------------------------------------------------------------------------------


def _from_layers(request: NmsRequest, public: Mapping[str, Any], family: str, network: Network) -> NmsConfiguration:
    if family not in _FROM_LAYERS or not _names_layers(public):
        rule = f"no detection head of meta_arch={family} was recognized in the network"
        named = ", or a configuration that names layers" if family in _FROM_LAYERS else ""
        need = f"a network that ends in one{named}"
        raise _error(request, "E-NMS-NONE", rule, "", need, ("parse with its decoding of boxes in the file",))
    f = Fields(dict(public), f"{request.where}, {request.path}")
    height, width = request.image or f.counts("image_dims", 2, nms.MAX_SIDE)
    builder = _Builder(request, network, family, (height, width))
    classes = request.classes if request.classes is not None else f.count("classes", 1, nms.MAX_CLASSES)
    if family == "yolov5_seg":
        builder.find_prototypes(f)
    decoders = tuple(
        builder.decoder(Fields(one, f"{f.where}, decoder {i}"), classes) for i, one in enumerate(_decoders(public))
    )
    # The layer itself may end in the sigmoid: change_output_activation of public scripts asks for that.
    activation = "none" if builder.probable else "sigmoid"
    codings = {"yolov3": "anchors_exponential", "yolov5": "anchors_squared", "yolov7": "anchors_squared",
               "yolov5_seg": "anchors_squared", "yolox": "grid_offsets", "ssd": "priors"}  # fmt: skip
    return NmsConfiguration(
        family={"yolov7": "yolov5", "yolov5_seg": "yolov5"}.get(family, family),
        image=(height, width),
        classes=classes,
        coding=codings.get(family, "distances"),
        score_activation=activation,
        tensors=tuple(builder.tensors),
        decoders=decoders,
        per_class=f.count("max_proposals_per_class", 1, nms.MAX_PER_CLASS, nms.PER_CLASS),
        y_first=family == "ssd",
        bins=builder.bins or 1,
        objectness_activation=activation if family in (*_ANCHORED, "yolox") else None,
        masks=builder.masks,
        centre_scale=f.real("centers_scale_factor", 1e-6, nms.LARGEST, 1.0),
        size_scale=f.real("bbox_dimensions_scale_factor", 1e-6, nms.LARGEST, 1.0),
    )


class _Builder:
    """Decoders that read the outputs of named layers."""

    def __init__(self, request: NmsRequest, network: Network, family: str, image: tuple[int, int]) -> None:
        self._request, self._network, self._family, self._image = request, network, family, image
        self.tensors: list[NmsTensor] = []
        self.bins: int | None = None
        self.probable = False
        self.masks: Masks | None = None
        self._prototypes = 0

    def find_prototypes(self, f: Fields) -> None:
        """The output that has the prototypes of masks: it is told by its size, ``proto`` names none."""
        raw = f.items("proto", 1, 1)[0]
        p = Fields(raw, f"{f.where}, proto")
        number, stride = p.count("number", 1, _MOST_PROTOTYPES), p.real("stride", 1, nms.MAX_SIDE)
        wanted = tuple(round(size / stride) for size in self._image)
        found = [x for x in self._network.output_layers if tuple(x.output_shape[1:]) == (*wanted, number)]
        if len(found) != 1:
            shapes = ", ".join(str(list(x.output_shape[1:])) for x in self._network.output_layers)
            rule = "no output, or more than one, has the size of the prototypes of masks"
            raise p.bad("number, stride", rule, shapes, f"one output {[*wanted, number]}")
        self._prototypes = number
        self.masks = Masks(self._tensor(found[0], number))

    def decoder(self, f: Fields, classes: int) -> BoxDecoder:
        """One decoder of a configuration."""
        roles = {key: self._output(f, key) for key in nms.LAYER_KEYS if f.text(key, "")}
        first = next(iter(roles.values()), None)
        if first is None:
            raise f.bad("bbox_decoders", "a decoder names no layers", "", ", ".join(nms.LAYER_KEYS))
        grid = (first.output_shape[1], first.output_shape[2]) if len(first.output_shape) == 4 else (1, 1)
        stride = (self._image[0] / grid[0], self._image[1] / grid[1])
        anchored = self._family in (*_ANCHORED, "ssd")
        widths = f.reals("w", 1, nms.MAX_ANCHORS) if anchored else ()
        heights = f.reals("h", len(widths), len(widths)) if anchored else ()
        count = max(len(widths), 1)
        layers = {key: layer.inputs[0].partition(":")[0] for key, layer in roles.items()}
        name = f.text("name", f"bbox_decoder_{stride[0]:g}")
        if "encoded_layer" in roles:
            each = 5 + classes + self._prototypes
            one = self._tensor(roles["encoded_layer"], count * each)
            boxes, scores, third = (self._operand(one, first, each) for first in (0, 5, 4))
            masks = self._operand(one, 5 + classes, each) if self.masks is not None else None
            return BoxDecoder(
                name, grid, stride, boxes, scores, third, None, count, widths, heights, layers, masks=masks
            )
        if "combined_layer" in roles:
            shape = roles["combined_layer"].output_shape
            self._set_bins((shape[-1] - classes) // 4)
            one = self._tensor(roles["combined_layer"], 4 * (self.bins or 1) + classes)
            return BoxDecoder(name, grid, stride, self._operand(one, classes), self._operand(one, 0), layers=layers)
        missing = [key for key in ("reg_layer", "cls_layer") if key not in roles]
        if missing:
            raise f.bad(missing[0], "the decoder names no such layer", "", "the name of a layer")
        scores = self._tensor(roles["cls_layer"], count * classes)
        self.probable = self._ends_in_sigmoid(roles["cls_layer"])
        if self._family == "yolox":
            third = roles.get("objectness_layer")
            if third is None:
                raise f.bad("objectness_layer", "the decoder names no such layer", "", "the name of a layer")
            boxes, objectness = self._tensor(roles["reg_layer"], 4), self._tensor(third, 1)
            return BoxDecoder(
                name, grid, stride, self._operand(boxes, 0), self._operand(scores, 0), self._operand(objectness, 0),
                layers=layers,
            )  # fmt: skip
        if self._family == "ssd":
            boxes = self._tensor(roles["reg_layer"], count * 4)
            first, second = self._operand(boxes, 0, 4), self._operand(scores, 0, classes)
            return BoxDecoder(name, grid, stride, first, second, None, None, count, widths, heights, layers)
        self._set_bins(roles["reg_layer"].output_shape[-1] // 4)
        boxes = self._tensor(roles["reg_layer"], 4 * (self.bins or 1))
        return BoxDecoder(name, grid, stride, self._operand(boxes, 0), self._operand(scores, 0), layers=layers)

    def _ends_in_sigmoid(self, output: Layer) -> bool:
        maker = self._network[output.inputs[0].partition(":")[0]]
        return maker.attributes.get("activation") == "sigmoid" or maker.kind == "sigmoid"

    def _set_bins(self, bins: int) -> None:
        if self.bins not in (None, bins):
            rule = "the layers of two decoders have different numbers of channels"
            raise _error(self._request, "E-NMS-LAYER", rule, 4 * bins, str(4 * (self.bins or 1)))
        self.bins = bins

    def _output(self, f: Fields, key: str) -> Layer:
        """The output layer that gives the result of a named layer."""
        name = f.text(key)
        outputs: dict[str, Layer] = {}
        for layer in self._network.output_layers:
            maker = layer.inputs[0].partition(":")[0]
            outputs.setdefault(maker, layer)
            outputs.setdefault(maker.rsplit("/", 1)[-1], layer)
            outputs.setdefault(layer.name, layer)
            outputs.setdefault(layer.name.rsplit("/", 1)[-1], layer)
            outputs.setdefault(layer.boundary.source_name, layer)
        found = outputs.get(name) or outputs.get(name.rsplit("/", 1)[-1])
        if found is None:
            place = f"{f.where}, {key}"
            known = [n for n in outputs if "/" not in n]
            raise ScriptError(unknown_name("E-NMS-LAYER", "layer in front of an output", name, known, place))
        return found

    def _tensor(self, layer: Layer, channels: int) -> int:
        shape = layer.output_shape[1:]
        if shape[-1] != channels:
            rule = f"layer {layer.inputs[0]} has another number of channels than its part in the decoder"
            raise _error(self._request, "E-NMS-LAYER", rule, shape[-1], str(channels))
        names = [t.name for t in self.tensors]
        if layer.name in names:
            return names.index(layer.name)
        height, width = (shape[0], shape[1]) if len(shape) == 3 else (1, 1)
        self.tensors.append(NmsTensor(layer.name, (height, width, shape[-1])))
        return len(self.tensors) - 1

    def _operand(self, tensor: int, first: int, anchor: int = 0) -> Operand:
        channels = self.tensors[tensor].shape[2]
        return Operand(tensor, first, channels, anchor)
