# SPDX-License-Identifier: Apache-2.0
"""Constants under any other operator of the standard, by the reference implementation in the onnx package.

It is written to be read, not to be fast, and a hostile file may ask for anything. So only operators stand here that
compute tensors from tensors, the same on every call; the size of the result is known before it is made, and so is the
work: shape inference on the one node gives the first, a count of elementary steps the second. Floating point runs in
float64 and is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx import numpy_helper

from headrace.frontends.fold import Budget, Operands
from headrace.frontends.graph import Unsupported, attributes_read, integer, integers
from headrace.frontends.opset import RULES
from headrace.frontends.standard import absent_operand
from headrace.hn import Array

#: Steps that an element costs where the reference loops in Python, and where numpy does the work.
_LOOP, _VECTOR = 1 << 13, 1 << 4
_VECTORIZED = frozenset({
    "Acos", "Acosh", "ArgMax", "ArgMin", "Asin", "Asinh", "Atanh", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "BitShift", "Celu", "Cosh", "CumProd", "DepthToSpace", "Elu", "EyeLike", "Gelu",
    "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Hardmax", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "LogSoftmax", "LpNormalization", "Mean", "Mish", "NonZero", "PRelu", "Pad",
    "RMSNormalization", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Resize", "Selu",
    "Shrink", "Sinh", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Swish", "ThresholdedRelu",
})  # fmt: skip
_LOOPING = frozenset({
    "AffineGrid", "AveragePool", "BlackmanWindow", "CenterCropPad", "Col2Im", "Compress", "ConvTranspose", "DFT",
    "DeformConv", "Det", "GRU", "GatherND", "GridSample", "GroupNormalization", "HammingWindow",
    "HannWindow", "LRN", "LSTM", "LpPool", "MaxPool", "MaxUnpool", "MelWeightMatrix", "NonMaxSuppression", "OneHot",
    "RNN", "ReverseSequence", "RoiAlign", "RotaryEmbedding", "STFT", "ScatterElements", "ScatterND",
    "TopK", "Unique",
})  # fmt: skip
#: Their operands must keep their type.
_TYPED = frozenset({"EyeLike", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitShift"})
#: Results of a size that only the values tell, and never more elements than this many times those of the operands.
_BOUNDED = {"NonZero": 8, "Unique": 4, "Compress": 1, "NonMaxSuppression": 3}
KNOWN = _VECTORIZED | _LOOPING
#: Operators in a form that a later operator set than the file's describes with the same meaning.
_LEAST = {"Resize": 13}
Shape = list["int | None"]


def _window(node: ir.Node, operands: Operands) -> int:
    """Elements that one element of the result is made of."""
    sizes = integers(node, "kernel_shape", ()) or []
    kernel = operands[1] if node.op_type in ("ConvTranspose", "DeformConv") and len(operands) > 1 else None
    taps = math.prod(max(s, 1) for s in sizes)
    return max(taps, math.prod(kernel.shape[1:]) if kernel is not None else 1)


def _recurrent(node: ir.Node, operands: Operands) -> int:
    return sum(int(a.size) for a in operands[1:3] if a is not None)


def _boxes(node: ir.Node, operands: Operands) -> int:
    return max(int(operands[0].size), 1) if operands and operands[0] is not None else 1


def _samples(node: ir.Node, operands: Operands) -> int:
    return max(integer(node, "sampling_ratio", 0), 8) ** 2


#: What multiplies the steps of an element, where something does.
_FACTORS: dict[str, Callable[[ir.Node, Operands], int]] = {
    "AveragePool": _window, "MaxPool": _window, "LpPool": _window, "ConvTranspose": _window, "DeformConv": _window,
    "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent, "NonMaxSuppression": _boxes, "Det": _boxes,
    "RoiAlign": _samples, "GridSample": lambda node, operands: 16, "LRN": _boxes,
    "DFT": _boxes, "STFT": _boxes,
}  # fmt: skip


def _version(node: ir.Node, opset: int) -> int:
    """The operator set that a node is written in: the file's, or that of the rule which rewrote it."""
    least = max(RULES[node.op_type][0] if node.op_type in RULES else 0, _LEAST.get(node.op_type, 0))
    return max(opset, least)


def _proto(node: ir.Node, operands: Operands) -> onnx.NodeProto:
    names = [f"i{i}" if a is not None else "" for i, a in enumerate(operands)]
    proto = onnx.helper.make_node(node.op_type, names, [f"o{i}" for i in range(len(node.outputs))])
    for name, attribute in sorted(node.attributes.items()):
        attributes_read(node).add(name)
        if name == "flatten":
            raise Unsupported(f"{node.op_type} of operator set 12 or older of constants is not folded")
        value = attribute.value
        if name == "nearest_mode" and value == "simple":  # operator set 10: the pixel before, or behind in shrinking
            scales = operands[2] if len(operands) > 2 else None
            value = "ceil" if scales is not None and (scales < 1).any() else "floor"
        if isinstance(value, ir.Tensor):
            value = numpy_helper.from_array(value.numpy())
        proto.attribute.append(onnx.helper.make_attribute(name, value, attr_type=int(attribute.type)))
    return proto


def _inferred(proto: onnx.NodeProto, arrays: dict[str, Array], opset: int) -> list[Shape | None]:
    """The shapes of the node's results, None where the values decide."""
    schema = onnx.defs.get_schema(proto.op_type, opset, "")
    small = {name: numpy_helper.from_array(a) for name, a in arrays.items() if a.size <= 64}
    types = {
        name: onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in arrays.items()
    }
    found = onnx.shape_inference.infer_node_outputs(
        schema, proto, types, small, opset_imports=[onnx.helper.make_opsetid("", opset)]
    )
    shapes: list[Shape | None] = []
    for name in proto.output:
        tensor = found[name].tensor_type if name in found else None
        if tensor is None or not tensor.HasField("shape"):
            shapes.append(None)
        else:
            shapes.append([d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim])
    return shapes


def _elements(node: ir.Node, shapes: Sequence[Shape | None], operands: Operands) -> tuple[int, int]:
    """Elements read and made."""
    total = sum(int(a.size) for a in operands if a is not None)
    made = 0
    for shape in shapes:
        if shape is not None and all(d is not None for d in shape):
            made += math.prod(d or 0 for d in shape)
        elif node.op_type in _BOUNDED:
            made += _BOUNDED[node.op_type] * total
        else:
            raise Unsupported(f"the size of what {node.op_type} makes of these constants is not known beforehand")
    return total, made


def reference(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """The results of a node of constants whose operator is in :data:`KNOWN`.

    Raises:
        Unsupported: too much memory or work, or operands that the operator does not take.
    """
    opset, proto = _version(node, budget.opset), _proto(node, operands)
    absent = absent_operand(proto, opset)
    if absent is not None:
        raise Unsupported(f"input {absent} is absent")
    arrays = {f"i{i}": a for i, a in enumerate(operands) if a is not None}
    try:
        shapes = _inferred(proto, arrays, opset)
    except (
        onnx.shape_inference.InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError, RuntimeError,
        ValueError, TypeError,
    ) as error:  # fmt: skip
        raise Unsupported(f"its constant operands do not fit: {str(error)[:160]}") from None
    read, made = _elements(node, shapes, operands)
    factor = _FACTORS[node.op_type](node, operands) if node.op_type in _FACTORS else 1
    budget.take([made])
    budget.spend((read + made) * max(factor, 1) * (_VECTOR if node.op_type in _VECTORIZED else _LOOP))
    results = _run(proto, arrays, opset, node.op_type not in _TYPED)
    for shape, result in zip(shapes, results, strict=True):
        if shape is not None and len(shape) != result.ndim:
            raise Unsupported(f"{node.op_type} of constants gives another shape than the standard states")
        if any(d is not None and d != size for d, size in zip(shape or [], result.shape, strict=False)):
            raise Unsupported(f"{node.op_type} of constants gives another shape than the standard states")
    return results


def _run(proto: onnx.NodeProto, arrays: dict[str, Array], opset: int, wide: bool) -> list[Array]:
    # Imported where it is needed: most files need it for nothing.
    from onnx.reference import ReferenceEvaluator

    single = wide and any(a.dtype == np.float32 for a in arrays.values())
    feeds = {n: a.astype(np.float64) if single and a.dtype == np.float32 else a for n, a in arrays.items()}
    types = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in feeds.items()}
    graph = onnx.helper.make_graph(
        [proto], "constants",
        [onnx.helper.make_tensor_value_info(n, types[n], a.shape) for n, a in feeds.items()],
        [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in proto.output],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        evaluator: Any = ReferenceEvaluator(model)
        found = evaluator.run(None, feeds)
    except Exception as error:  # noqa: BLE001 - another package's code, on operands that it may not foresee
        raise Unsupported(f"its constant operands do not fit: {type(error).__name__}: {str(error)[:120]}") from None
    results = [np.asarray(r) for r in found]
    return [r.astype(np.float32) if single and r.dtype == np.float64 else r for r in results]
