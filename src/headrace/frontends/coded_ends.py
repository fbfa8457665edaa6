# SPDX-License-Identifier: Apache-2.0
"""Files whose inputs and outputs are codes: steps of the host between them and the values of the network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from headrace.frontends.file_model import IR_VERSION
from headrace.frontends.graph import OPSET, EndCodes
from headrace.hn.whole import DeviceStep, DeviceTensor, ModelTensor, OnnxStep, Step, WholeModel

_TYPES = {
    "int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8, "int16": onnx.TensorProto.INT16,
    "uint16": onnx.TensorProto.UINT16,
}  # fmt: skip
#: What the values of a tensor of codes are called.
_VALUES = "{}/values"


def with_codes(whole: WholeModel, codes: Mapping[str, EndCodes]) -> WholeModel:
    """The whole model of a file with the file's own inputs and outputs: steps of the host at its ends.

    Args:
        whole: of values.
        codes: what the file says of its inputs and outputs, by name.
    """
    first = [t.name for t in whole.inputs if t.name in codes and codes[t.name].kind in _TYPES]
    last = [t.name for t in whole.outputs if t.name in codes and codes[t.name].kind in _TYPES]
    if not (first or last):
        return whole
    both = dict.fromkeys([*first, *last])
    steps: list[Step] = [_of_values(step, both) for step in whole.steps]
    if first:
        steps.insert(0, _step("DequantizeLinear", first, codes))
    if last:
        steps.append(_step("QuantizeLinear", last, codes))
    inputs, outputs = _typed(whole.inputs, first, codes), _typed(whole.outputs, last, codes)
    return replace(whole, inputs=inputs, outputs=outputs, steps=tuple(steps))


def _of_values(step: Step, names: Collection[str]) -> Step:
    """A step that reads and makes the values of these tensors under their names."""
    if isinstance(step, DeviceStep):
        return DeviceStep(_renamed(step.takes, names), _renamed(step.gives, names))
    inputs, outputs = _values(step.inputs, names), _values(step.outputs, names)
    if (inputs, outputs) == (step.inputs, step.outputs) or not isinstance(step, OnnxStep):
        return replace(step, inputs=inputs, outputs=outputs)
    model = onnx.ModelProto.FromString(step.model)
    for end in (e for e in model.graph.input if e.name in names):
        model.graph.node.insert(0, helper.make_node("Identity", [_VALUES.format(end.name)], [end.name]))
        end.name = _VALUES.format(end.name)
    for end in (e for e in model.graph.output if e.name in names):
        model.graph.node.append(helper.make_node("Identity", [end.name], [_VALUES.format(end.name)]))
        end.name = _VALUES.format(end.name)
    return OnnxStep(inputs, outputs, model.SerializeToString(deterministic=True))


def _values(tensors: Sequence[str], names: Collection[str]) -> tuple[str, ...]:
    return tuple(_VALUES.format(n) if n in names else n for n in tensors)


def _renamed(ports: Sequence[DeviceTensor], names: Collection[str]) -> tuple[DeviceTensor, ...]:
    return tuple(replace(p, tensor=_VALUES.format(p.tensor)) if p.tensor in names else p for p in ports)


def _typed(
    tensors: Sequence[ModelTensor], names: Sequence[str], codes: Mapping[str, EndCodes]
) -> tuple[ModelTensor, ...]:
    return tuple(replace(t, dtype=codes[t.name].kind) if t.name in names else t for t in tensors)


def _step(operator: str, names: Sequence[str], codes: Mapping[str, EndCodes]) -> OnnxStep:
    """One node for each tensor."""
    reads = operator == "DequantizeLinear"
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    outputs: list[onnx.ValueInfoProto] = []
    for number, name in enumerate(names):
        own, values = codes[name], _VALUES.format(name)
        numbers = [f"scale{number}", f"zero{number}"]
        weights.append(numpy_helper.from_array(np.array(own.scale, np.float32), numbers[0]))
        weights.append(numpy_helper.from_array(np.array(own.zero_point, own.kind), numbers[1]))
        ends = (name, values) if reads else (values, name)
        nodes.append(helper.make_node(operator, [ends[0], *numbers], [ends[1]]))
        kinds = {name: _TYPES[own.kind], values: onnx.TensorProto.FLOAT}
        inputs.append(helper.make_tensor_value_info(ends[0], kinds[ends[0]], None))
        outputs.append(helper.make_tensor_value_info(ends[1], kinds[ends[1]], None))
    graph = helper.make_graph(nodes, "codes", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    made = tuple(_VALUES.format(name) for name in names)
    data = model.SerializeToString(deterministic=True)
    return OnnxStep(tuple(names), made, data) if reads else OnnxStep(made, tuple(names), data)


__all__ = ["with_codes"]
