# SPDX-License-Identifier: Apache-2.0
"""The whole model: the steps from the original inputs of a file to its original outputs (``docs/formats/har.md``).

One step is the device's; those before and behind it run on the host: networks in ONNX's form, which onnxruntime runs,
and operators of our own. A step reads tensors by name that are inputs of the model or were made by a step before it.
Everything here is plain data, read without trust; :mod:`headrace.host` runs it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import Diagnostic, InputFileError
from headrace.hn import strict_json
from headrace.typeguards import is_integer, is_list, is_object

FORMAT_VERSION = 1
ANY = -1  # number of frames; size of a dimension that is open
MAX_STEPS = 32
MAX_TENSORS = 1024  # that the steps make
MAX_NAME_BYTES = 4096
MAX_RANK = 16
MAX_SIZE = 1 << 31  # of a dimension, and of frames
MAX_NETWORK_BYTES = (2 << 30) - 1  # what a protobuf message may have
#: Element types of tensors between steps: names of numpy's types, and text.
ELEMENT_TYPES = (
    "float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "string",
)  # fmt: skip
#: onnxruntime's own domain, and what of it a model may use: what its optimizer and usual exporters write.
CONTRIBUTED_DOMAIN = "com.microsoft"
CONTRIBUTED = frozenset({
    "Attention", "BiasGelu", "ConvTransposeWithDynamicPads", "DequantizeLinear", "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul", "EmbedLayerNormalization", "ExpandDims", "FastGelu", "FusedConv", "FusedGemm",
    "FusedMatMul", "FusedMatMulActivation", "Gelu", "GroupQueryAttention", "Inverse", "MatMulInteger16",
    "MatMulIntegerToFloat", "MatMulNBits", "MultiHeadAttention", "NGramRepeatBlock", "NhwcMaxPool", "Pad",
    "QAttention", "QEmbedLayerNormalization", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat",
    "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean",
    "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear", "QuickGelu", "Range", "RotaryEmbedding",
    "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "TransposeMatMul", "Trilu", "Unique",
})  # fmt: skip
#: Operators that onnxruntime has in the standard's domain, though the standard does not.
CONTRIBUTED_STANDARD = frozenset({"SimplifiedLayerNormalization"})


@dataclass(frozen=True)
class ModelTensor:
    """An input or output of the file.

    Attributes:
        name: in the file.
        dtype: one of :data:`ELEMENT_TYPES`.
        shape: as the file has it, the batch included; -1: open.
        frame_axis: the dimension that counts frames; -1: none, the tensor is of one frame or of all that ran together.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    frame_axis: int = 0


@dataclass(frozen=True)
class OnnxStep:
    """A network that onnxruntime runs.

    Attributes:
        inputs, outputs: tensors, called so in the model too.
        model: an ONNX model by itself, without external data; its operators are of the
            standard domains, or of :data:`CONTRIBUTED`.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes = field(repr=False)


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor of the file and the input or output layer of the network on the device that it is.

    ``tensor = frames.transpose(permutation).reshape(shape)``, where ``frames`` are those of the layer.

    Attributes:
        tensor: its name.
        layer: of the network; in a HEF the stream's name.
        layer_shape: of the layer, the batch first and -1.
        shape: of the tensor; -1 counts the frames, or of each of them what the file counts in the same dimension.
        permutation: axes of the layer in the tensor's order.
    """

    tensor: str
    layer: str
    layer_shape: tuple[int, ...]
    shape: tuple[int, ...]
    permutation: tuple[int, ...]


@dataclass(frozen=True)
class DeviceStep:
    """The network on the device."""

    takes: tuple[DeviceTensor, ...]
    gives: tuple[DeviceTensor, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(port.tensor for port in self.takes)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(port.tensor for port in self.gives)


@dataclass(frozen=True)
class OperatorStep:
    """An operator of our own.

    Attributes:
        operator: its name, see :mod:`headrace.host.operators`.
        inputs, outputs: tensors.
        attributes: plain JSON.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


Step = OnnxStep | DeviceStep | OperatorStep


@dataclass(frozen=True)
class WholeModel:
    """What a file computes, from its inputs to its outputs.

    Attributes:
        inputs, outputs: those of the file, in its order.
        steps: in the order they run; one of them is the device's.
        frames: how many frames run at once through the host's steps; -1: any number.
    """

    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    steps: tuple[Step, ...]
    frames: int = ANY

    @property
    def device(self) -> DeviceStep:
        """The device's step."""
        return next(step for step in self.steps if isinstance(step, DeviceStep))

    @property
    def before(self) -> tuple[OnnxStep | OperatorStep, ...]:
        """The steps that run before the device."""
        return tuple(step for step in self.steps[: self.steps.index(self.device)] if not isinstance(step, DeviceStep))

    @property
    def after(self) -> tuple[OnnxStep | OperatorStep, ...]:
        """The steps that run behind the device."""
        return tuple(
            step for step in self.steps[self.steps.index(self.device) + 1 :] if not isinstance(step, DeviceStep)
        )

    @property
    def networks(self) -> tuple[bytes, ...]:
        """The ONNX models of the host, numbered from 1 in files and reports."""
        return tuple(step.model for step in self.steps if isinstance(step, OnnxStep))

    @property
    def only_device(self) -> bool:
        """Whether the device computes all of it."""
        return len(self.steps) == 1

    def with_layers(self, names: Mapping[str, str]) -> WholeModel:
        """The same with other names for the device's inputs and outputs."""

        def renamed(ports: Iterable[DeviceTensor]) -> tuple[DeviceTensor, ...]:
            return tuple(replace(port, layer=names.get(port.layer, port.layer)) for port in ports)

        steps = tuple(
            DeviceStep(renamed(step.takes), renamed(step.gives)) if isinstance(step, DeviceStep) else step
            for step in self.steps
        )
        return replace(self, steps=steps)


# --- files -----------------------------------------------------------------------------------------------------------


def file_names(prefix: str, count: int) -> list[str]:
    """Names of the files that hold the host's networks, and last that of the steps."""
    return [*(f"{prefix}.host_{i + 1}.onnx" for i in range(count)), f"{prefix}.whole.json"]


def to_files(whole: WholeModel, prefix: str) -> dict[str, bytes]:
    """The whole model as files by name: the steps as JSON, each network as ONNX."""
    networks = whole.networks
    return dict(zip(file_names(prefix, len(networks)), [*networks, dumps(whole)], strict=True))


def from_files(files: Mapping[str, bytes], prefix: str, where: str) -> WholeModel | None:
    """The whole model of files by name; None where there is none.

    Raises:
        InputFileError: it breaks a rule of the format.
    """
    text = f"{prefix}.whole.json"
    if text not in files:
        return None
    networks: list[bytes] = []
    while (name := f"{prefix}.host_{len(networks) + 1}.onnx") in files and len(networks) < MAX_STEPS:
        networks.append(files[name])
    return loads(files[text], networks, f"{where}: {text}")


def dumps(whole: WholeModel) -> bytes:
    """The steps as JSON text; networks stand in it by number."""
    return (json.dumps(to_dict(whole), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_dict(whole: WholeModel) -> dict[str, Any]:
    """The same as plain JSON values."""
    count = 0
    steps: list[dict[str, Any]] = []
    for step in whole.steps:
        if isinstance(step, OnnxStep):
            count += 1
            ends = {"inputs": list(step.inputs), "outputs": list(step.outputs)}
            steps.append({"kind": "onnx", "network": count, **ends})
        elif isinstance(step, DeviceStep):
            ports = {"takes": [_port(p) for p in step.takes], "gives": [_port(p) for p in step.gives]}
            steps.append({"kind": "device", **ports})
        else:
            ends = {"inputs": list(step.inputs), "outputs": list(step.outputs)}
            steps.append({"kind": "operator", "operator": step.operator, **ends, "attributes": dict(step.attributes)})
    return {
        "version": FORMAT_VERSION,
        "frames": whole.frames,
        "inputs": [_tensor(t) for t in whole.inputs],
        "outputs": [_tensor(t) for t in whole.outputs],
        "steps": steps,
    }


def _tensor(tensor: ModelTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "frame_axis": tensor.frame_axis,
    }


def _port(port: DeviceTensor) -> dict[str, Any]:
    return {
        "tensor": port.tensor,
        "layer": port.layer,
        "layer_shape": list(port.layer_shape),
        "shape": list(port.shape),
        "permutation": list(port.permutation),
    }


class _Reader:
    """Reads JSON values and says where one is not what it has to be."""

    def __init__(self, where: str) -> None:
        self.where = where

    def bad(self, rule: str, got: object, need: object) -> InputFileError:
        levers = ("parse the model again",)
        return InputFileError(Diagnostic("E-WHOLE-CORRUPT", self.where, rule, str(got)[:200], str(need), levers))

    def object(self, value: object, what: str, fields: Sequence[str]) -> dict[str, Any]:
        if not is_object(value) or sorted(value) != sorted(fields):
            got = ", ".join(map(str, value)) if is_object(value) else type(value).__name__
            raise self.bad(f"{what} has not the fields it must", got, ", ".join(fields))
        return value

    def items(self, value: object, what: str, most: int) -> list[Any]:
        if not is_list(value) or len(value) > most:
            got = f"{len(value)} entries" if is_list(value) else type(value).__name__
            raise self.bad(f"{what} is not a list of at most {most}", got, "a list")
        return value

    def name(self, value: object, what: str) -> str:
        if not isinstance(value, str) or not value or len(value.encode()) > MAX_NAME_BYTES:
            raise self.bad(f"{what} is not a name", repr(value)[:80], f"1 … {MAX_NAME_BYTES} bytes of text")
        return value

    def names(self, value: object, what: str) -> tuple[str, ...]:
        return tuple(self.name(item, what) for item in self.items(value, what, MAX_TENSORS))

    def integer(self, value: object, what: str, least: int, most: int) -> int:
        if not is_integer(value) or not least <= value <= most:
            raise self.bad(f"{what} is out of range", repr(value)[:40], f"{least} … {most}")
        return value

    def shape(self, value: object, what: str) -> tuple[int, ...]:
        return tuple(self.integer(item, what, ANY, MAX_SIZE) for item in self.items(value, what, MAX_RANK))

    def frames(self, value: object) -> int:
        frames = self.integer(value, "the number of frames", ANY, MAX_SIZE)
        if frames == 0:
            raise self.bad("the number of frames is out of range", 0, "-1, or 1 and more")
        return frames

    def tensor(self, value: object) -> ModelTensor:
        found = self.object(value, "a tensor", ("name", "dtype", "shape", "frame_axis"))
        if found["dtype"] not in ELEMENT_TYPES:
            raise self.bad("the element type is unknown", repr(found["dtype"])[:40], ", ".join(ELEMENT_TYPES))
        shape = self.shape(found["shape"], "the shape of a tensor")
        axis = self.integer(found["frame_axis"], "the dimension of the frames", -1, max(len(shape) - 1, 0))
        return ModelTensor(self.name(found["name"], "a tensor"), found["dtype"], shape, axis)

    def port(self, value: object, leaves: bool) -> DeviceTensor:
        """A tensor that enters or leaves the device; one that leaves may have its frames joined with another size."""
        found = self.object(value, "a stream", ("tensor", "layer", "layer_shape", "shape", "permutation"))
        layer_shape = self.shape(found["layer_shape"], "the shape of a layer")
        shape = self.shape(found["shape"], "the shape of a tensor")
        permutation = self.shape(found["permutation"], "the order of the axes")
        if len(layer_shape) not in (2, 4) or layer_shape[0] != ANY or min(layer_shape[1:]) < 1:
            raise self.bad("the shape of a layer is not valid", list(layer_shape), "[-1, H, W, C] or [-1, C]")
        if sorted(permutation) != list(range(len(layer_shape))):
            raise self.bad("the order of the axes is none", list(permutation), f"0 … {len(layer_shape) - 1}, each once")
        sizes = [size for size in shape if size != ANY]
        joined, rest = divmod(math.prod(layer_shape[1:]), max(1, math.prod(sizes)))
        if len(shape) - len(sizes) != 1 or 0 in sizes or rest or (joined != 1 and not leaves):
            raise self.bad("tensor and layer have not the same elements", list(shape), list(layer_shape))
        tensor, layer = self.name(found["tensor"], "a tensor"), self.name(found["layer"], "a layer")
        return DeviceTensor(tensor, layer, layer_shape, shape, permutation)

    def step(self, value: object, networks: Iterator[tuple[int, bytes]]) -> Step:
        kind = value.get("kind") if is_object(value) else None
        if kind == "onnx":
            found = self.object(value, "a step", ("kind", "network", "inputs", "outputs"))
            number, model = next(networks, (0, b""))
            if found["network"] != number or not model:
                raise self.bad("a network of the host is missing or out of order", found["network"], number or "none")
            if len(model) > MAX_NETWORK_BYTES:
                raise self.bad("a network of the host is too large", len(model), f"≤ {MAX_NETWORK_BYTES} bytes")
            inputs, outputs = self.names(found["inputs"], "an input"), self.names(found["outputs"], "an output")
            return OnnxStep(inputs, outputs, model)
        if kind == "device":
            found = self.object(value, "a step", ("kind", "takes", "gives"))
            takes = tuple(self.port(v, False) for v in self.items(found["takes"], "what the device takes", MAX_TENSORS))
            gives = tuple(self.port(v, True) for v in self.items(found["gives"], "what the device gives", MAX_TENSORS))
            return DeviceStep(takes, gives)
        if kind == "operator":
            found = self.object(value, "a step", ("kind", "operator", "inputs", "outputs", "attributes"))
            if not is_object(found["attributes"]):
                raise self.bad("attributes are no object", type(found["attributes"]).__name__, "an object")
            inputs, outputs = self.names(found["inputs"], "an input"), self.names(found["outputs"], "an output")
            return OperatorStep(self.name(found["operator"], "an operator"), inputs, outputs, found["attributes"])
        raise self.bad("the kind of a step is unknown", repr(kind)[:40], "onnx, device or operator")


def loads(data: bytes, networks: Sequence[bytes], where: str) -> WholeModel:
    """Read the JSON text of a whole model without trusting it.

    Args:
        data: the text.
        networks: the ONNX models that it numbers from 1; they are not looked into here.
        where: how the text is called in errors.

    Raises:
        InputFileError: ``E-WHOLE-CORRUPT``.
    """
    reader = _Reader(where)
    try:
        raw = strict_json.parse(data)
    except ValueError as error:
        raise reader.bad("it is not JSON", error, "a JSON object") from None
    if is_object(raw) and is_integer(raw.get("version")) and raw["version"] > FORMAT_VERSION:
        raise reader.bad("the steps are of a newer format", raw["version"], f"≤ {FORMAT_VERSION}")
    top = reader.object(raw, "the whole model", ("version", "frames", "inputs", "outputs", "steps"))
    reader.integer(top["version"], "the version", 1, FORMAT_VERSION)
    numbered = iter(enumerate(networks, 1))
    steps = tuple(reader.step(v, numbered) for v in reader.items(top["steps"], "the steps", MAX_STEPS))
    if next(numbered, None) is not None:
        raise reader.bad("a network of the host has no step", f"{len(networks)} networks", "a step for each")
    inputs, outputs = (
        tuple(reader.tensor(v) for v in reader.items(top[end], f"the {end}", MAX_TENSORS))
        for end in ("inputs", "outputs")
    )
    whole = WholeModel(inputs, outputs, steps, reader.frames(top["frames"]))
    problems = list(broken_rules(whole, where))
    if problems:
        raise InputFileError(problems)
    return whole


def broken_rules(whole: WholeModel, where: str) -> Iterator[Diagnostic]:
    """What is wrong with the steps together: one is the device's, every tensor is made once and before it is read."""

    def bad(rule: str, got: object, need: object) -> Diagnostic:
        return Diagnostic("E-WHOLE-CORRUPT", where, rule, str(got)[:200], str(need), ("parse the model again",))

    count = sum(isinstance(step, DeviceStep) for step in whole.steps)
    if count != 1:
        yield bad("one step is the device's", count, 1)
    known = [tensor.name for tensor in whole.inputs]
    made = [*known, *(name for step in whole.steps for name in step.outputs)]
    if len(made) > MAX_TENSORS:
        yield bad("there are too many tensors", len(made), f"≤ {MAX_TENSORS}")
        return
    seen: dict[str, None] = {}
    for name in made:
        if name in seen:
            yield bad("two things make a tensor of one name", name, "each tensor once")
        seen[name] = None
    available = dict.fromkeys(known)
    for step in whole.steps:
        for name in step.inputs:
            if name not in available:
                yield bad("a step reads a tensor that nothing has made", name, "a tensor of the steps before it")
        available.update(dict.fromkeys(step.outputs))
    for tensor in whole.outputs:
        if tensor.name not in available:
            yield bad("nothing makes an output", tensor.name, "a tensor of a step, or an input")
    outputs = [tensor.name for tensor in whole.outputs]
    if len(outputs) != len(dict.fromkeys(outputs)):
        yield bad("an output is listed twice", ", ".join(outputs), "each once")


__all__ = [
    "ANY",
    "ELEMENT_TYPES",
    "DeviceStep",
    "DeviceTensor",
    "ModelTensor",
    "OnnxStep",
    "OperatorStep",
    "Step",
    "WholeModel",
    "broken_rules",
    "dumps",
    "file_names",
    "from_files",
    "loads",
    "to_dict",
    "to_files",
]
