# SPDX-License-Identifier: Apache-2.0
"""The steps of a whole model: what the device does not compute of a file, as ONNX models and operators of ours.

A model of the host is made of the file's own nodes. Where one depends on a size that only the device's tensors have,
the value that was computed when the file was parsed stands in its place; the frames then run one by one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from headrace.errors import Diagnostic, UnsupportedModelError
from headrace.frontends.file_model import IR_VERSION, captured
from headrace.frontends.graph import HostOperator, SourceGraph, declared_shape, name_of
from headrace.frontends.largest_part import Side
from headrace.frontends.lost import Lost, what_is_lost
from headrace.frontends.partition import File, Part
from headrace.hn import Array, Layer, Network
from headrace.hn.whole import (
    ANY,
    MAX_NETWORK_BYTES,
    DeviceStep,
    DeviceTensor,
    ModelTensor,
    OnnxStep,
    OperatorStep,
    Step,
    WholeModel,
)

_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.BFLOAT16: "float32", onnx.TensorProto.INT8: "int8", onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT32: "int32", onnx.TensorProto.INT64: "int64", onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.UINT16: "uint16", onnx.TensorProto.UINT32: "uint32", onnx.TensorProto.UINT64: "uint64",
    onnx.TensorProto.BOOL: "bool", onnx.TensorProto.STRING: "string",
}  # fmt: skip


def _dtype(kind: int) -> str:
    """An element type of ONNX by the name that it has between steps."""
    return _TYPES.get(kind, "float32")


@dataclass
class WholePart:
    """A whole model, and which of its steps has each node of the host.

    Attributes:
        model: the steps.
        step_of: number of a node of the file → number of its step, from 1.
        lost: what is not computed, since nothing runs it.
    """

    model: WholeModel
    step_of: dict[int, int] = field(default_factory=dict[int, int])
    lost: Lost = field(default_factory=Lost)


def device_step(network: Network) -> DeviceStep:
    """The step of the device."""
    return DeviceStep(tuple(map(_port, network.input_layers)), tuple(map(_port, network.output_layers)))


def _port(layer: Layer) -> DeviceTensor:
    end = layer.boundary
    return DeviceTensor(
        end.source_name, layer.name, tuple(layer.output_shape), tuple(end.source_shape), tuple(end.source_permutation)
    )


def _frame_axis(port: DeviceTensor) -> int:
    """The dimension of an output along which frames follow one another, or -1.

    A dimension that the file has joined with the frames counts only where each frame's part of it lies in one piece.
    """
    if ANY not in port.shape:
        return -1
    at = port.shape.index(ANY)
    outside = math.prod(port.layer_shape[axis] for axis in port.permutation[: port.permutation.index(0)])
    return at if outside == math.prod(port.shape[:at]) else -1


def _sizes(source: SourceGraph, value: ir.Value) -> tuple[int, ...]:
    """The sizes of an input as the file states them, :data:`ANY` where it does not; those that the user replaced."""
    stated = [d if isinstance(d, int) else ANY for d in declared_shape(value) or ()]
    frame = source.input_shapes.get(name_of(value), [])
    batch = source.batch_dims.get(value, 0)
    if value in source.single or len(frame) != len(stated):
        return tuple(stated)
    given = [*frame[1 : batch + 1], ANY, *frame[batch + 1 :]]  # of the frame the batch comes first
    return tuple(g if d != ANY and g not in (d, ANY) else d for d, g in zip(stated, given, strict=True))


def all_on_device(source: SourceGraph, network: Network) -> WholeModel:
    """The whole model of a file, or of a part that the user named, that the device computes alone.

    Args:
        source: as it was translated.
        network: the result.
    """
    step = device_step(network)
    inputs = tuple(
        ModelTensor(
            name_of(value),
            _dtype(int(value.dtype) if value.dtype is not None else 1),
            _sizes(source, value),
            -1 if value in source.single else source.batch_dims.get(value, 0),
        )
        for value in source.graph.inputs
    )
    dtypes = {name_of(v): int(v.dtype) for v in source.graph.outputs if v.dtype is not None}
    one = bool(inputs) and all(tensor.frame_axis < 0 for tensor in inputs)  # all that the file computes is one frame
    outputs = tuple(
        ModelTensor(
            port.tensor, _dtype(dtypes.get(port.tensor, 1)), port.shape,
            -1 if one else _frame_axis(port),
        )
        for port in step.gives
    )  # fmt: skip
    return WholeModel(inputs, outputs, (step,))


# --- with parts on the host -------------------------------------------------------------------------------------------


def whole_model(part: Part, network: Network, fixed: Mapping[str, int]) -> WholePart:
    """The steps of a file of which a part is on the device.

    Args:
        part: of the file.
        network: the part, translated.
        fixed: per input of the network the batch that the file fixes, or -1.

    Raises:
        UnsupportedModelError: what the host would have to run is too large, or waits for itself.
    """
    return _Steps(part, network, fixed).made()


class _Steps:
    """Makes the steps one by one, each of what is ready."""

    def __init__(self, part: Part, network: Network, fixed: Mapping[str, int]) -> None:
        self.part, self.file, self.model = part, part.file, part.file.model
        self.device = device_step(network)
        self.frames = max((n for n in fixed.values()), default=ANY)
        self.steps: list[Step] = []
        self.step_of: dict[int, int] = {}
        self.node_of = {id(proto): node.index for node in self.file.nodes for proto in node.parts}
        self.made_by: dict[str, HostOperator] = {
            name: operator for operator in self.file.source.host_operators for name in operator.outputs
        }
        self.lost = what_is_lost(part, self.device)
        self.available: dict[str, None] = dict.fromkeys([*self.model.inputs, *self.lost.inputs])
        self.running: list[HostOperator] = []

    def made(self) -> WholePart:
        outputs = [name for name in self.lost.outputs if name not in self.device.outputs]
        self._run(self.device.inputs, later=outputs)
        self.steps.append(self.device)
        self.available.update(dict.fromkeys(self.device.outputs))
        self._run(outputs)
        whole = WholeModel(self._inputs(), self._outputs(), tuple(self.steps), self.frames)
        return WholePart(whole, self.step_of, self.lost)

    # --- the order of the steps ----------------------------------------------------------------------------------

    def _run(self, wanted: Sequence[str], later: Sequence[str] = ()) -> None:
        """Append the steps that make tensors: operators of ours that have to run first, then what ONNX says."""
        missing = [name for name in wanted if name not in self.available]
        if not missing:
            return
        pulled = self._pulled(missing)
        for operator in pulled.operators:
            if operator in self.running:
                rule, got = "operators of the host wait for one another", operator.operator
                raise UnsupportedModelError(Diagnostic("E-HOST-CYCLE", self.file.source.where, rule, got))
            self.running.append(operator)
            self._run(operator.inputs, later)
            self.running.pop()
            if operator.outputs[0] not in self.available:
                self._operator(operator)
        if pulled.operators:
            self._run(wanted, later)
        else:
            self._onnx(pulled, missing, later)

    def _pulled(self, wanted: Iterable[str], extra: Iterable[str] = ()) -> _Pulled:
        available = dict.fromkeys([*self.available, *extra])
        pulled = _Pulled(self.file, self.part.sides, available, self.made_by)
        pulled.want(wanted)
        return pulled

    def _operator(self, operator: HostOperator) -> None:
        self.steps.append(OperatorStep(operator.operator, operator.inputs, operator.outputs, dict(operator.attributes)))
        self.available.update(dict.fromkeys(operator.outputs))
        for node in self.file.nodes:
            if node.label in operator.nodes:
                self.step_of[node.index] = len(self.steps)

    def _onnx(self, pulled: _Pulled, wanted: Sequence[str], later: Sequence[str]) -> None:
        mine = {name for proto in pulled.protos for name in proto.output}
        gives = dict.fromkeys(wanted)
        if later:  # what comes behind the device reads these too
            behind = self._pulled([n for n in later if n not in mine], [*gives, *self.device.outputs])
            gives.update(dict.fromkeys(n for n in behind.touched if n in mine))
            gives.update(dict.fromkeys(n for n in later if n in mine))
        if pulled.baked and self.frames == ANY:
            self.frames = 1
        model = _model(self.file, pulled, list(gives))
        self.steps.append(OnnxStep(tuple(pulled.inputs), tuple(gives), model))
        self.available.update(dict.fromkeys(gives))
        for proto in pulled.protos:
            if id(proto) in self.node_of:
                self.step_of.setdefault(self.node_of[id(proto)], len(self.steps))

    # --- the ends of the file ------------------------------------------------------------------------------------

    def _inputs(self) -> tuple[ModelTensor, ...]:
        names = [n for n in (*self.model.inputs, *self.lost.inputs) if n not in self.lost.unread]
        return tuple(self._tensor(name, self._info(name), True) for name in names)

    def _outputs(self) -> tuple[ModelTensor, ...]:
        return tuple(self._tensor(name, self._info(name), False) for name in self.lost.outputs)

    def _info(self, name: str) -> onnx.ValueInfoProto:
        """An end as the file declares it; a tensor that takes the place of one, as far as it is known."""
        found = self.model.inputs.get(name) or self.model.outputs.get(name)
        if found is not None:
            return found
        made = _declared(self.file, name)
        for dim, size in zip(made.type.tensor_type.shape.dim, self.file.shapes.get(name, ()), strict=False):
            dim.dim_value = size
        return made

    def _tensor(self, name: str, info: onnx.ValueInfoProto, is_input: bool) -> ModelTensor:
        tensor = info.type.tensor_type
        dims = tuple(int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else ANY for d in tensor.shape.dim)
        kind = tensor.elem_type or self.file.types.get(name, 1)
        axis = self._input_axis(name, dims) if is_input else self._output_axis(name, tensor)
        if axis >= 0 and self.frames == ANY and name not in (self.model.inputs if is_input else self.model.outputs):
            dims = (*dims[:axis], ANY, *dims[axis + 1 :])
        return ModelTensor(name, _dtype(kind), dims, axis)

    def _input_axis(self, name: str, dims: Sequence[int]) -> int:
        """The dimension of an input that counts frames, or -1."""
        source = self.file.source
        value = next((v for v in source.graph.inputs if name_of(v) == name), None)
        if name in self.lost.inputs:
            return 0 if dims and dims[0] == max(self.frames, 1) else -1
        if value is None or value in source.single:
            return -1
        at = source.batch_dims.get(value, 0)
        if at >= len(dims) or (dims[at] != ANY and name not in self.device.inputs and self._opens_batch()):
            return -1  # one for all frames: how many to choose, a scale
        return at if dims[at] in (ANY, max(self.frames, 1)) else -1

    def _opens_batch(self) -> bool:
        """Whether some input of the file has a batch of any size."""
        source = self.file.source
        shapes = {v: declared_shape(v) for v in source.graph.inputs if v not in source.single}
        return any(
            shape is not None and (at := source.batch_dims.get(v, 0)) < len(shape) and not isinstance(shape[at], int)
            for v, shape in shapes.items()
        )

    def _output_axis(self, name: str, tensor: onnx.TypeProto.Tensor) -> int:
        """The dimension of an output that counts frames, or -1: the device knows, or the first, as far as is known."""
        for port in self.device.gives:
            if port.tensor == name:
                return _frame_axis(port)
        known = self.file.shapes.get(name)
        if known is not None:
            return 0 if known and known[0] == max(self.frames, 1) else -1
        if not tensor.shape.dim:
            return -1
        first = tensor.shape.dim[0]
        if first.HasField("dim_value"):
            return 0 if first.dim_value == max(self.frames, 1) else -1
        ends = [i.type.tensor_type.shape.dim for i in self.model.inputs.values()]
        return 0 if first.dim_param and first.dim_param in {dims[0].dim_param for dims in ends if dims} else -1


class _Pulled:
    """What makes some tensors, back to those that are there.

    Attributes:
        protos: the nodes, in order.
        inputs: tensors that are there and are read.
        weights: constants of the file.
        constants: computed when the file was parsed, where their nodes cannot run here.
        operators: operators of ours that have to run first.
        baked: some constant depends on the batch, as far as is known.
    """

    def __init__(
        self,
        file: File,
        sides: Sequence[Side],
        available: Collection[str],
        made_by: Mapping[str, HostOperator],
    ) -> None:
        self.file, self.available, self.made_by = file, available, made_by
        self._inside = {
            id(p) for node in file.nodes if sides[node.index] is Side.INSIDE and not file.free[node.index]
            for p in node.parts
        }  # fmt: skip
        self.protos: list[onnx.NodeProto] = []
        self.inputs: dict[str, None] = {}
        self.weights: dict[str, None] = {}
        self.constants: dict[str, Array] = {}
        self.operators: list[HostOperator] = []
        self.touched: dict[str, None] = {}
        self._whole: dict[int, bool] = {}

    @property
    def baked(self) -> bool:
        return bool(self.constants)

    def want(self, names: Iterable[str]) -> None:
        """Pull what makes the tensors."""
        model = self.file.model
        waiting = list(names)
        pulled: dict[int, onnx.NodeProto] = {}
        while waiting:
            name = waiting.pop()
            if name in self.touched:
                continue
            self.touched[name] = None
            if name in self.available:
                self.inputs[name] = None
            elif name in self.made_by:
                if self.made_by[name] not in self.operators:
                    self.operators.append(self.made_by[name])
            elif name in model.weights:
                self.weights[name] = None
            elif name in model.makers and (name not in self.file.constants or self._runs(model.makers[name])):
                maker = model.makers[name]
                if id(maker) not in pulled:
                    pulled[id(maker)] = maker
                    waiting += [*(n for n in maker.input if n), *captured(maker)]
            elif name in self.file.constants:
                self.constants[name] = self.file.constants[name]
        self.protos = sorted(pulled.values(), key=lambda p: model.order[id(p)])
        self.inputs = {n: None for n in [*model.inputs, *self.available] if n in self.inputs}

    def _runs(self, proto: onnx.NodeProto) -> bool:
        """Whether a node depends on nothing that only the device has."""
        model = self.file.model
        stack = [proto]
        while stack:
            node = stack[-1]
            if id(node) in self._whole:
                stack.pop()
                continue
            makers = [
                model.makers[n]
                for n in (*(i for i in node.input if i), *captured(node))
                if n not in self.available and n not in self.made_by and n in model.makers
            ]
            waiting = [m for m in makers if id(m) not in self._whole]
            if waiting and id(node) not in self._inside:
                stack += waiting
                continue
            named = any(n and n not in model.internal for n in node.output)
            inside = id(node) in self._inside and named
            self._whole[id(node)] = not inside and all(self._whole.get(id(m), False) for m in makers)
            stack.pop()
        return self._whole[id(proto)]


def _model(file: File, pulled: _Pulled, outputs: Sequence[str]) -> bytes:
    """An ONNX model by itself of nodes of the file."""
    whole = file.model.proto
    made = onnx.ModelProto(ir_version=min(max(whole.ir_version, 4), max(IR_VERSION, whole.ir_version)))
    made.producer_name = "headrace"
    made.opset_import.extend(whole.opset_import)
    made.functions.extend(whole.functions)
    graph = made.graph
    graph.name = "host"
    for proto in pulled.protos:
        graph.node.append(proto)
        del graph.node[-1].metadata_props[:]
        graph.node[-1].doc_string = ""
    _check_size(file, sum(_bytes_of(file.model.weights[name]) for name in pulled.weights))
    for name in pulled.weights:
        _add_weight(made, file, name)
    for name, array in pulled.constants.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    for name in pulled.inputs:
        graph.input.append(_declared(file, name))
    for name in outputs:
        graph.output.append(_declared(file, name))
    _check_size(file, made.ByteSize())
    return made.SerializeToString(deterministic=True)


def _bytes_of(weight: onnx.TensorProto | onnx.SparseTensorProto) -> int:
    """Bytes of a weight, wherever its data lie."""
    if isinstance(weight, onnx.SparseTensorProto) or not uses_external_data(weight):
        return weight.ByteSize()
    if weight.data_type not in helper.get_all_tensor_dtypes() or not weight.data_type:
        raise UnsupportedModelError(
            Diagnostic("E-HOST-WEIGHT", weight.name, "a weight is of no known element type", str(weight.data_type))
        )
    kind = helper.tensor_dtype_to_np_dtype(weight.data_type)
    return math.prod(weight.dims) * kind.itemsize


def _check_size(file: File, size: int) -> None:
    if size > MAX_NETWORK_BYTES:
        rule, need = "what stays on the host is too large for a model", f"≤ {MAX_NETWORK_BYTES} bytes"
        levers = ("--start-node-names behind the largest weights",)
        raise UnsupportedModelError(Diagnostic("E-HOST-SIZE", file.source.where, rule, f"{size} bytes", need, levers))


def _add_weight(model: onnx.ModelProto, file: File, name: str) -> None:
    weight = file.model.weights[name]
    if isinstance(weight, onnx.SparseTensorProto):
        model.graph.sparse_initializer.append(weight)
        return
    model.graph.initializer.append(weight)
    tensor = model.graph.initializer[-1]
    if uses_external_data(tensor):  # where its data lie was checked when the file was read
        load_external_data_for_tensor(tensor, str(file.source.folder))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _declared(file: File, name: str) -> onnx.ValueInfoProto:
    """The type of a tensor; its rank where that is known, its sizes left to the run time."""
    info = file.model.inputs.get(name) or file.model.outputs.get(name)
    if info is not None and not info.type.HasField("tensor_type"):
        return info
    kind = info.type.tensor_type.elem_type if info is not None else file.types.get(name, 0)
    made = onnx.ValueInfoProto(name=name)
    made.type.tensor_type.elem_type = kind or onnx.TensorProto.FLOAT
    shape = file.shapes.get(name)
    if shape is not None:
        made.type.tensor_type.shape.SetInParent()
        for _ in shape:
            made.type.tensor_type.shape.dim.add()
    return made


__all__ = ["WholePart", "all_on_device", "device_step", "whole_model"]
