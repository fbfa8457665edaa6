# SPDX-License-Identifier: Apache-2.0
"""Shapes of tensors inside a source graph, in one walk, whatever format the file has.

Sizes that the file computes from shapes are computed on the way.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx import numpy_helper

from headrace.frontends.fold import Budget, shape_of
from headrace.frontends.folding import evaluate, folds
from headrace.frontends.graph import SourceGraph, Unsupported, constant, declared_shape, name_of
from headrace.frontends.opset import RULES
from headrace.frontends.standard import absent_operand, has_negative_size, schema_of
from headrace.hn import Array

_SMALL = 64  # elements of what is computed on the way
_SAID = (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


class Walk:
    """What is known so far: shapes and types of tensors, and numbers of small ones."""

    def __init__(self, source: SourceGraph) -> None:
        self.opset = source.opset
        self.budget = Budget(source.opset)
        self.types: dict[int, onnx.TypeProto] = {}
        self.numbers: dict[int, Array] = {}
        for value in source.graph.inputs:
            shape = source.input_shapes.get(name_of(value)) or declared_shape(value) or []
            sizes = [1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(shape)]
            kind = value.dtype.value if value.dtype is not None else onnx.TensorProto.FLOAT
            self.types[id(value)] = onnx.helper.make_tensor_type_proto(kind, sizes)

    def number(self, value: ir.Value) -> Array | None:
        known = self.numbers.get(id(value))
        return constant(value) if known is None else known

    def type_of(self, value: ir.Value) -> onnx.TypeProto | None:
        array = self.number(value)
        if array is None:
            return self.types.get(id(value))
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if kind == onnx.TensorProto.DOUBLE and value.dtype in (None, ir.DataType.FLOAT):
            kind = onnx.TensorProto.FLOAT  # folding keeps more digits than the file
        return onnx.helper.make_tensor_type_proto(kind, array.shape)

    def shape(self, value: ir.Value) -> list[int] | None:
        kind = self.type_of(value)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        sizes = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.tensor_type.shape.dim]
        return sizes if all(size > 0 for size in sizes) else None

    def step(self, node: ir.Node) -> None:
        """Learn what one node makes, if it can be known."""
        given = [v for v in node.inputs if v is not None]
        if node.op_type == "Shape" and given and (known := self.shape(given[0])) is not None:
            self.numbers[id(node.outputs[0])] = shape_of(node, known)
            return
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and given:  # codes stand for reals of one type
            kind = self.type_of(given[0])
            if kind is not None:
                self.types[id(node.outputs[0])] = kind
            return
        numbers = [None if v is None else self.number(v) for v in node.inputs]
        small = all(
            a is not None and a.size <= _SMALL for a, v in zip(numbers, node.inputs, strict=True) if v is not None
        )
        if given and small and folds(node):
            try:
                results = evaluate(node, numbers, self.budget)
            except Unsupported:
                return
            self.numbers.update((id(v), a) for v, a in zip(node.outputs, results, strict=False) if a.size <= _SMALL)
            return
        self._infer(node)

    def _infer(self, node: ir.Node) -> None:
        version = max(self.opset, RULES[node.op_type][0]) if node.op_type in RULES else self.opset  # as it says it now
        schema = schema_of(node.op_type, version)
        names = ["" if v is None else f"i{i}" for i, v in enumerate(node.inputs)]
        outputs = [f"o{i}" for i in range(len(node.outputs))]
        proto = onnx.NodeProto(op_type=node.op_type, input=names, output=outputs)
        if schema is None or absent_operand(proto, version) is not None:
            return
        proto.attribute.extend(ir.to_proto(one) for key, one in node.attributes.items() if key in schema.attributes)
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name, value in zip(names, node.inputs, strict=True):
            if value is None:
                continue
            kind = self.type_of(value)
            if kind is None:
                return
            if has_negative_size(kind):
                return
            types[name] = kind
            array = self.number(value)
            if array is not None and array.size <= _SMALL:
                data[name] = numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array)
        imports = [onnx.helper.make_opsetid("", version)]
        try:
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
        except _SAID:
            return
        self.types.update((id(v), found[n]) for n, v in zip(outputs, node.outputs, strict=True) if n in found)


def walked(source: SourceGraph) -> Walk:
    """What is known of every tensor: :meth:`Walk.shape`, batch included, and :meth:`Walk.number` of small ones.

    Args:
        source: constants folded; not changed.
    """
    walk = Walk(source)
    for node in source.graph:
        if not node.domain:
            walk.step(node)
    return walk
