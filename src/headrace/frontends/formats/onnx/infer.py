# SPDX-License-Identifier: Apache-2.0
"""Types and shapes of a file's tensors, by the standard's own shape inference, where the file does not state them.

What it says is used to name a shape, to choose a start of the network and to put a standard function in place of its
call; nothing relies on it being there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
import onnx.shape_inference
from onnx import numpy_helper

from headrace.frontends.standard import absent_operand, grows_without_limit, has_negative_size
from headrace.hn import Array

_SMALL = 64
#: Slices behind each other that inference follows.
_MAX_ROUNDS = 64
_MAX_BYTES = 128 << 20
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)


def inferred_types(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    known_values: Mapping[str, Array] | None = None,
) -> dict[str, onnx.TypeProto]:
    """The type of every tensor that is known or can be inferred, by name.

    Args:
        model: the file.
        shapes: shapes of inputs that the user gave.
        known_values: tensors that are known now, of which those count that nodes make.
    """
    values = {n: a for n, a in (known_values or {}).items() if a.size <= _SMALL and a.dtype.kind in "iub"}
    skeleton = _skeleton(model, shapes or {}, values)
    known = {i.name: i.type for i in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    if skeleton is None:
        return known
    try:
        # Without data propagation: it has no limit, and a file that doubles a list sixty times would never end.
        done = _inferred(skeleton)
    except Exception:  # noqa: BLE001 - another package's code, on a file that may be damaged: then nothing more is known
        return known
    found = {i.name: i.type for i in (*done.graph.input, *done.graph.value_info, *done.graph.output)}
    if shapes:
        stated = {} if _contradict(model, shapes) else {n: k for n, k in known.items() if _complete(k)}
        kept = {n: k for n, k in stated.items() if n not in found or not _complete(found[n])}
        return known | found | kept
    return known | {name: kind for name, kind in found.items() if name not in known or not _complete(known[name])}


def _inferred(skeleton: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types that can be inferred.

    A Slice takes part from the round on in which what it reads is known to have no size below 0.
    """
    nodes = list(skeleton.graph.node)
    done, left_out = skeleton, {index for index, node in enumerate(nodes) if node.op_type == "Slice"}
    for _ in range(_MAX_ROUNDS):
        del skeleton.graph.node[:]
        skeleton.graph.node.extend(node for index, node in enumerate(nodes) if index not in left_out)
        done = onnx.shape_inference.infer_shapes(skeleton)
        types = {i.name: i.type for i in (*done.graph.input, *done.graph.value_info, *done.graph.output)}
        types |= {t.name: onnx.helper.make_tensor_type_proto(t.data_type, t.dims) for t in done.graph.initializer}
        safe = {i for i in left_out if _may_be_cut(types.get(next(iter(nodes[i].input), "")))}
        if not safe:
            return done
        left_out -= safe
    return done


def _may_be_cut(kind: onnx.TypeProto | None) -> bool:
    return kind is not None and kind.tensor_type.HasField("shape") and not has_negative_size(kind)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """What inference needs of a model, so that the rest of it need not stay in memory."""
    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    graph = made.graph
    graph.node.extend(model.graph.node)
    for tensor in model.graph.initializer:
        if is_small(tensor):
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    return made


def is_small(tensor: onnx.TensorProto) -> bool:
    """Whether a constant may be one that sizes are computed from."""
    return tensor.data_type in _INTEGERS and math.prod(tensor.dims) <= _SMALL and not tensor.external_data


def _is_safe(node: onnx.NodeProto, opset: int) -> bool:
    """Whether inference may look at a node: it trusts that operands are there, and numbers that the node states."""
    if grows_without_limit(node):
        return False
    return absent_operand(node, opset) is None if node.domain in ("", "ai.onnx") else all(node.input)


def _contradict(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether shapes of inputs are others than the file states, so that what it states of its tensors may be wrong."""
    for info in model.graph.input:
        given, dims = shapes.get(info.name), info.type.tensor_type.shape.dim
        if given is not None and (
            len(given) != len(dims)
            or any(d.HasField("dim_value") and d.dim_value != g for d, g in zip(dims, given, strict=True))
        ):
            return True
    return False


def _complete(kind: onnx.TypeProto) -> bool:
    tensor = kind.tensor_type
    return tensor.elem_type != 0 and tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)


def _as_inferred(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node; one that drops no string has the shape of its operand, which the standard's inference does not say."""
    if node.op_type != "StringNormalizer" or node.domain or any(a.name == "stopwords" for a in node.attribute):
        return node
    return onnx.helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name)


def _skeleton(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], values: Mapping[str, Array]
) -> onnx.ModelProto | None:
    """The model without its weights: small integers stay, for sizes are computed from them."""
    if sum(node.ByteSize() for node in model.graph.node) > _MAX_BYTES:
        return None
    made = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    made.opset_import.extend(model.opset_import)
    made.graph.name = "skeleton"
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    made.graph.node.extend(
        _as_inferred(n) for n in model.graph.node if not all(name in values for name in n.output) and _is_safe(n, opset)
    )
    kept = {name for node in made.graph.node for name in node.output}
    gone = {name for node in model.graph.node for name in node.output} - kept
    made.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in values.items() if n in gone)
    weights: set[str] = set()
    for tensor in model.graph.initializer:
        weights.add(tensor.name)
        if is_small(tensor):
            made.graph.initializer.append(tensor)
        else:
            made.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for info in model.graph.input:
        if info.name not in weights:
            entry = made.graph.input.add()
            entry.CopyFrom(info)
            if info.name in shapes and info.type.HasField("tensor_type"):
                fixed = onnx.helper.make_tensor_type_proto(info.type.tensor_type.elem_type, list(shapes[info.name]))
                entry.type.CopyFrom(fixed)
    for info in model.graph.output:  # stated sizes of outputs may contradict the user's
        made.graph.output.add().name = info.name
    if not shapes:
        made.graph.value_info.extend(model.graph.value_info)
    return made
