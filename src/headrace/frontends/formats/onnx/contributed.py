# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's own operators (``com.microsoft``) in the words of the standard, as its optimizer and exporters write
them: several nodes of the standard in one.

Meanings: onnxruntime's ContribOperators.md. What is not said in the standard's words here (caches, lengths that are
data, packed weights) stays as it is, and so runs on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from headrace.frontends.formats.onnx.functions import MAX_BYTES, Expansion, replace_calls
from headrace.frontends.formats.onnx.infer import inferred_types
from headrace.hn.registering import entering
from headrace.hn.whole import CONTRIBUTED_DOMAIN, CONTRIBUTED_STANDARD

_MAX_ROUNDS = 8


class NotSaidError(Exception):
    """A node has a form that is not said in the standard's words."""


@dataclass
class Writing:
    """The nodes that take the place of one.

    Attributes:
        node: the call.
        types: of tensors, by name, where known.
        made: so far.
    """

    node: onnx.NodeProto
    types: Mapping[str, onnx.TypeProto]
    made: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])

    def __post_init__(self) -> None:
        self.attributes = {a.name: helper.get_attribute_value(a) for a in self.node.attribute}
        self.asked: set[str] = set()

    def given(self, index: int) -> str:
        """The name of an input; empty where absent."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def needed(self, index: int) -> str:
        if not self.given(index):
            raise NotSaidError
        return self.node.input[index]

    def only_inputs(self, most: int) -> None:
        if any(self.node.input[most:]):
            raise NotSaidError

    def only_outputs(self, *indices: int) -> None:
        if any(name for i, name in enumerate(self.node.output) if i not in indices):
            raise NotSaidError

    def number(self, name: str, default: float) -> float:
        self.asked.add(name)
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise NotSaidError
        return value

    def text(self, name: str) -> str:
        self.asked.add(name)
        value = self.attributes.get(name, b"")
        if not isinstance(value, bytes):
            raise NotSaidError
        return value.decode("utf-8", "replace")

    def numbers(self, name: str) -> list[float]:
        self.asked.add(name)
        value = self.attributes.get(name, [])
        if isinstance(value, bytes | str) or not hasattr(value, "__iter__"):
            raise NotSaidError
        return [float(v) for v in value]

    def idle(self, *names: str) -> None:
        """Attributes that say nothing of the result."""
        self.asked.update(names)

    def shape(self, tensor: str) -> list[int | None]:
        """Of a tensor whose rank must be known."""
        kind = self.types.get(tensor)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise NotSaidError
        return [d.dim_value if d.dim_value > 0 else None for d in kind.tensor_type.shape.dim]

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """A node of the standard; gives the name of what it makes."""
        name = output or f"{operator}.{len(self.made)}"
        self.made.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        return self.add("Constant", [], value=numpy_helper.from_array(np.asarray(array)))

    def scaled(self, tensor: str, factor: float) -> str:
        return tensor if factor == 1.0 else self.add("Mul", [tensor, self.constant(np.float32(factor))])

    def result(self, tensor: str, index: int = 0) -> None:
        """Name a tensor as an output of the call."""
        if index < len(self.node.output) and self.node.output[index]:
            self.add("Identity", [tensor], self.node.output[index])


Writer = Callable[[Writing], None]
WRITERS: dict[str, Writer] = {}


def writes(*operators: str) -> Callable[[Writer], Writer]:
    """Register a function as the meaning of operators of onnxruntime."""
    return entering(WRITERS, operators)


# --- products and activations -----------------------------------------------------------------------------------------


def _activated(w: Writing, tensor: str, name: str, params: Sequence[float]) -> str:
    match name, [float(p) for p in params]:
        case ("", _):
            return tensor
        case (("Relu" | "Sigmoid" | "Tanh" | "Softplus" | "Softsign"), _):
            return w.add(name, [tensor])
        case "LeakyRelu" | "Elu", [alpha, *_]:
            return w.add(name, [tensor], alpha=alpha)
        case "HardSigmoid", [alpha, beta, *_]:
            return w.add(name, [tensor], alpha=alpha, beta=beta)
        case "Clip", [low, high, *_]:
            return w.add("Clip", [tensor, w.constant(np.float32(low)), w.constant(np.float32(high))])
        case "HardSwish", _:
            return w.add("HardSwish", [tensor])
        case _:
            raise NotSaidError


@writes("FusedConv")
def _fused_conv(w: Writing) -> None:
    w.only_inputs(4)
    function, params = w.text("activation"), w.numbers("activation_params")
    own = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    w.idle(*own)
    kept = {k: v for k, v in w.attributes.items() if k in own}
    total = w.add("Conv", [n for n in w.node.input[:3] if n], **kept)
    if w.given(3):
        total = w.add("Add", [total, w.given(3)])
    w.result(_activated(w, total, function, params))


@writes("FusedGemm")
def _fused_gemm(w: Writing) -> None:
    own = ("alpha", "beta", "transA", "transB")
    w.idle(*own)
    params = [w.number(f"activation_{n}", 0.0) for n in ("alpha", "beta", "gamma")]
    total = w.add("Gemm", [n for n in w.node.input if n], **{k: v for k, v in w.attributes.items() if k in own})
    w.result(_activated(w, total, w.text("activation"), params))


def _swapped(w: Writing, tensor: str) -> str:
    """With its last two dimensions the other way round."""
    rank = len(w.shape(tensor))
    if rank < 2:
        raise NotSaidError
    return w.add("Transpose", [tensor], perm=[*range(rank - 2), rank - 1, rank - 2])


@writes("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation")
def _fused_matmul(w: Writing) -> None:
    w.only_inputs(2)
    if w.number("transBatchA", 0) or w.number("transBatchB", 0):
        raise NotSaidError
    factors = [
        _swapped(w, w.needed(i)) if w.number(name, 0) else w.needed(i) for i, name in enumerate(("transA", "transB"))
    ]
    total = w.scaled(w.add("MatMul", factors), w.number("alpha", 1.0))
    function = w.text("activation")
    params = [w.number(f"activation_{n}", 0.0) for n in ("alpha", "beta", "gamma")]
    w.idle("activation_axis")
    w.result(_activated(w, total, function, params))


@writes("Gelu", "BiasGelu", "FastGelu")
def _gelu(w: Writing) -> None:
    w.only_inputs(2)
    tensor = w.add("Add", [w.needed(0), w.given(1)]) if w.given(1) else w.needed(0)
    kind = "tanh" if w.node.op_type == "FastGelu" else "none"
    w.result(w.add("Gelu", [tensor], approximate=kind))


@writes("QuickGelu")
def _quick_gelu(w: Writing) -> None:
    """As ``x · sigmoid(alpha · x)``."""
    tensor = w.needed(0)
    w.result(w.add("Mul", [tensor, w.add("Sigmoid", [w.scaled(tensor, w.number("alpha", 1.702))])]))


# --- normalizations ---------------------------------------------------------------------------------------------------


@writes("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_normalization(w: Writing) -> None:
    """The norm of a sum, which is a result as well."""
    simplified = "Simplified" in w.node.op_type
    w.only_outputs(0, 3)
    first = 3 if simplified else 4
    w.only_inputs(first + 1)
    total = w.add("Add", [w.needed(0), w.needed(1)])
    if w.given(first):
        total = w.add("Add", [total, w.given(first)])
    epsilon = w.number("epsilon", 1e-12 if not simplified else 1e-6)
    gains = [w.needed(2), *([w.given(3)] if not simplified and w.given(3) else [])]
    operator = "RMSNormalization" if simplified else "LayerNormalization"
    w.result(w.add(operator, [total, *gains], axis=-1, epsilon=epsilon))
    w.result(total, 3)


@writes("SimplifiedLayerNormalization")
def _simplified_normalization(w: Writing) -> None:
    w.only_outputs(0)
    w.idle("stash_type")
    axis, epsilon = int(w.number("axis", -1)), w.number("epsilon", 1e-5)
    w.result(w.add("RMSNormalization", [w.needed(0), w.needed(1)], axis=axis, epsilon=epsilon))


@writes("GroupNorm")
def _group_norm(w: Writing) -> None:
    """Of pictures with their channels last, or first; SiLU behind it where asked for."""
    w.only_inputs(3)
    total, last = w.needed(0), bool(w.number("channels_last", 1))
    inner = w.add("Transpose", [total], perm=[0, 3, 1, 2]) if last else total
    groups, epsilon = int(w.number("groups", 1)), w.number("epsilon", 1e-5)
    made = w.add("GroupNormalization", [inner, w.needed(1), w.needed(2)], num_groups=groups, epsilon=epsilon)
    if w.number("activation", 0):
        made = w.add("Swish", [made])
    w.result(w.add("Transpose", [made], perm=[0, 2, 3, 1]) if last else made)


# --- attention --------------------------------------------------------------------------------------------------------


def _heads(w: Writing, tensor: str, heads: int, perm: Sequence[int]) -> str:
    split = w.add("Reshape", [tensor, w.constant(np.array([0, 0, heads, -1], np.int64))])
    return w.add("Transpose", [split], perm=list(perm))


def _masked(w: Writing, scores: str, mask: str) -> str:
    """Scores less much where a mask [batch, keys] is 0."""
    if len(w.shape(mask)) != 2:
        raise NotSaidError
    real = w.add("Cast", [mask], to=onnx.TensorProto.FLOAT)
    wide = w.add("Reshape", [real, w.constant(np.array([0, 1, 1, -1], np.int64))])
    away = w.scaled(
        w.add("Sub", [w.constant(np.float32(1)), wide]), w.number("mask_filter_value", -10000.0)
    )  # fmt: skip
    return w.add("Add", [scores, away])


def _attend(w: Writing, query: str, key: str, value: str, size: int, mask: str, bias: str) -> None:
    """The product of weights and values; ``size`` is that of a head."""
    heads = int(w.number("num_heads", 0))
    w.idle("mask_filter_value")
    if heads < 1 or w.number("unidirectional", 0):
        raise NotSaidError
    scale = w.number("scale", 0.0) or 1 / math.sqrt(size)
    q = w.scaled(_heads(w, query, heads, (0, 2, 1, 3)), scale)
    scores = w.add("MatMul", [q, _heads(w, key, heads, (0, 2, 3, 1))])
    if bias:
        scores = w.add("Add", [scores, bias])
    if mask:
        scores = _masked(w, scores, mask)
    mixed = w.add("MatMul", [w.add("Softmax", [scores], axis=-1), _heads(w, value, heads, (0, 2, 1, 3))])
    together = w.add("Transpose", [mixed], perm=[0, 2, 1, 3])
    w.result(w.add("Reshape", [together, w.constant(np.array([0, 0, -1], np.int64))]))


def _part(w: Writing, tensor: str, begin: int, end: int) -> str:
    """A range of the last dimension."""
    bounds = (w.constant(np.array([n], np.int64)) for n in (begin, end, -1))
    return w.add("Slice", [tensor, *bounds])


@writes("Attention")
def _attention(w: Writing) -> None:
    w.only_inputs(6)
    w.only_outputs(0)
    heads = int(w.number("num_heads", 0))
    if w.given(4) or w.number("do_rotary", 0) or w.number("past_present_share_buffer", 0) or heads < 1:
        raise NotSaidError
    w.idle("rotary_embedding_dim")
    width = w.shape(w.needed(1))[-1] or 0
    sizes = [int(n) for n in w.numbers("qkv_hidden_sizes")] or [width // 3] * 3
    if len(sizes) != 3 or sum(sizes) != width or min(sizes) < heads or any(s % heads for s in sizes):
        raise NotSaidError
    total = w.add("MatMul", [w.needed(0), w.needed(1)])
    if w.given(2):
        total = w.add("Add", [total, w.given(2)])
    ends = np.cumsum([0, *sizes]).tolist()
    parts = [_part(w, total, a, b) for a, b in pairwise(ends)]
    _attend(w, parts[0], parts[1], parts[2], sizes[0] // heads, w.given(3), w.given(5))


@writes("MultiHeadAttention")
def _multi_head(w: Writing) -> None:
    w.only_inputs(6)
    w.only_outputs(0)
    heads = int(w.number("num_heads", 0))
    parts = [w.needed(i) for i in range(3)]
    widths = [w.shape(p)[-1] for p in parts]
    if heads < 1 or any(len(w.shape(p)) != 3 for p in parts) or any(n is None or n % heads or not n for n in widths):
        raise NotSaidError
    sizes = [int(n or 0) for n in widths]
    if w.given(3):
        ends = np.cumsum([0, *sizes]).tolist()
        bounds = zip(parts, pairwise(ends), strict=True)
        parts = [w.add("Add", [p, _part(w, w.given(3), a, b)]) for p, (a, b) in bounds]
    _attend(w, parts[0], parts[1], parts[2], sizes[0] // heads, w.given(4), w.given(5))


# --- writing them out -------------------------------------------------------------------------------------------------


def _is_own(node: onnx.NodeProto) -> bool:
    return node.op_type in WRITERS and (
        node.domain == CONTRIBUTED_DOMAIN or (node.domain in ("", "ai.onnx") and node.op_type in CONTRIBUTED_STANDARD)
    )


def _written(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> list[onnx.NodeProto] | None:
    """Nodes of the standard; None where the call has a form that is not said in their words."""
    writing = Writing(node, types)
    try:
        WRITERS[node.op_type](writing)
    except NotSaidError:
        return None
    return writing.made if writing.asked >= writing.attributes.keys() else None


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    types = {v.name: v.type for v in (*model.graph.value_info, *model.graph.input)} | inferred_types(model)
    for tensor in model.graph.initializer:
        types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    return types


def _writer(
    waiting: Sequence[onnx.NodeProto], types: Mapping[str, onnx.TypeProto]
) -> Callable[[onnx.NodeProto], list[onnx.NodeProto] | None]:
    ours = {id(n) for n in waiting}
    return lambda node: _written(node, types) if id(node) in ours else None


def write_out(model: onnx.ModelProto, most_nodes: int) -> Expansion:
    """Put nodes of the standard in the place of onnxruntime's own.

    Args:
        model: changed in place.
        most_nodes: how many nodes there may be; calls beyond that stay.
    """
    operators: dict[str, str] = {}
    internal: set[str] = set()
    own = {(f.domain, f.name) for f in model.functions}
    for _ in range(_MAX_ROUNDS):
        waiting = [n for n in model.graph.node if _is_own(n) and (n.domain, n.op_type) not in own]
        if not waiting or model.ByteSize() > MAX_BYTES:
            break
        found = replace_calls(model, _writer(waiting, _types(model)), most_nodes)
        operators |= found.operators
        internal |= found.internal
        if not found.operators:  # types that follow from what was written may let more be written
            break
    return Expansion(operators, frozenset(internal))
