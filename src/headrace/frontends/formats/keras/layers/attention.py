# SPDX-License-Identifier: Apache-2.0
"""Attention: products of queries and keys, softmax, products with values."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts, flat
from headrace.frontends.graph import Unsupported
from headrace.hn import Array

_HEADS_FIRST = (0, 2, 1, 3)
_LARGEST_MASK = 1 << 24


def _causal(queries: int, keys: int) -> Array:
    """What is added to scores so that no position looks at later ones."""
    if queries * keys > _LARGEST_MASK:
        raise Unsupported(f"a mask of {queries} by {keys} positions", f"at most {_LARGEST_MASK} in all")
    return np.triu(np.full((queries, keys), -1e9, np.float32), 1)


def _projected(call: LayerCall, x: Tensor, part: tuple[str, int], heads: int, width: int) -> ir.Value:
    """``x`` [N, T, D] through one of the dense layers, as [N, T, heads, width]."""
    name, index = part
    weights = call.weights.part((f"{name}_dense", f"_{name}_dense"), index, 4)
    kernel = call.weight(0, [x.channels, heads, width], f"{name} kernel", weights)
    value = call.emit("MatMul", [x.value, call.make(kernel.reshape(x.channels, heads * width))])
    if call.flag("use_bias", True):
        bias = call.weight(1, [heads, width], f"{name} bias", weights)
        value = call.emit("Add", [value, call.make(bias.reshape(-1))])
    return call.emit("Reshape", [value, call.list([0, 0, heads, width])])


@converts("MultiHeadAttention")
def multi_head_attention(call: LayerCall) -> Tensor:
    """Of sequences [N, T, D]; the mask of causal attention is a constant."""
    call.unmasked()
    call.no_arguments("attention_mask", "query_mask", "value_mask", "key_mask", "return_attention_scores")
    tensors = flat(call.arguments) + flat([call.named.get(k) for k in ("query", "value", "key")])
    if not 2 <= len(tensors) <= 3 or any(t.rank != 3 for t in tensors):
        raise Unsupported(f"tensors of ranks {[t.rank for t in tensors]}", "query, value and key of rank 3")
    query, values = tensors[:2]
    keys = tensors[2] if len(tensors) == 3 else values
    if call.axes("attention_axes", 3, 1) != [1]:
        raise Unsupported("attention over other dimensions", "attention_axes [1]")
    heads, width = call.integer("num_heads"), call.integer("key_dim")
    depth = width if call.option("value_dim") is None else call.integer("value_dim")
    q = _projected(call, query, ("query", 0), heads, width)
    k = _projected(call, keys, ("key", 1), heads, width)
    v = _projected(call, values, ("value", 2), heads, depth)
    q = call.emit("Mul", [q, call.number(1 / math.sqrt(width))])
    scores = call.emit("MatMul", [call.transposed(q, _HEADS_FIRST), call.transposed(k, (0, 2, 3, 1))])
    if call.named.get("use_causal_mask") is True:
        mask = _causal(query.size(1), keys.size(1))
        scores = call.emit("Add", [scores, call.make(mask)])
    weighted = call.emit("MatMul", [call.emit("Softmax", [scores], {"axis": -1}), call.transposed(v, _HEADS_FIRST)])
    joined = call.emit("Reshape", [call.transposed(weighted, _HEADS_FIRST), call.list([0, 0, heads * depth])])
    return _output(call, joined, query, heads, depth)


def _output(call: LayerCall, joined: ir.Value, query: Tensor, heads: int, depth: int) -> Tensor:
    size = query.channels if call.option("output_shape") is None else call.integers("output_shape", 1)[0]
    weights = call.weights.part(("output_dense", "_output_dense"), 3, 4)
    kernel = call.weight(0, [heads, depth, size], "output kernel", weights).reshape(heads * depth, size)
    value = call.emit("MatMul", [joined, call.make(kernel)])
    if call.flag("use_bias", True):
        value = call.emit("Add", [value, call.make(call.weight(1, [size], "output bias", weights))])
    return Tensor(value, (*query.shape[:-1], size))


@converts("Attention")
def attention(call: LayerCall) -> Tensor:
    """Of sequences [N, T, D] without arrays of its own, but one factor."""
    call.unmasked()
    call.no_arguments("return_attention_scores")
    tensors = call.tensors
    if not 2 <= len(tensors) <= 3 or any(t.rank != 3 for t in tensors):
        raise Unsupported(f"tensors of ranks {[t.rank for t in tensors]}", "query, value and key of rank 3")
    call.word("score_mode", "dot", "dot")
    query, values = tensors[:2]
    keys = tensors[2] if len(tensors) == 3 else values
    scores = call.emit("MatMul", [query.value, call.transposed(keys.value, (0, 2, 1))])
    if call.flag("use_scale"):
        scores = call.emit("Mul", [scores, call.make(call.weight(0, [], "scale"))])
    if call.named.get("use_causal_mask") is True:
        mask = _causal(query.size(1), keys.size(1))
        scores = call.emit("Add", [scores, call.make(mask)])
    weighted = call.emit("MatMul", [call.emit("Softmax", [scores], {"axis": -1}), values.value])
    return Tensor(weighted, (*query.shape[:-1], values.channels))


@converts("AdditiveAttention")
def additive_attention(call: LayerCall) -> Tensor:
    """Of sequences [N, T, D]: the score of two positions is the sum of tanh(query + key), weighted."""
    call.unmasked()
    call.no_arguments("return_attention_scores")
    tensors = call.tensors
    if not 2 <= len(tensors) <= 3 or any(t.rank != 3 for t in tensors):
        raise Unsupported(f"tensors of ranks {[t.rank for t in tensors]}", "query, value and key of rank 3")
    query, values = tensors[:2]
    keys = tensors[2] if len(tensors) == 3 else values
    rows = call.emit("Unsqueeze", [query.value, call.list([2])])
    columns = call.emit("Unsqueeze", [keys.value, call.list([1])])
    scores = call.emit("Tanh", [call.emit("Add", [rows, columns])])
    if call.flag("use_scale", True):
        scores = call.emit("Mul", [scores, call.make(call.weight(0, [query.channels], "scale"))])
    scores = call.emit("ReduceSum", [scores, call.list([3])], {"keepdims": 0})
    if call.named.get("use_causal_mask") is True:
        mask = _causal(query.size(1), keys.size(1))
        scores = call.emit("Add", [scores, call.make(mask)])
    weighted = call.emit("MatMul", [call.emit("Softmax", [scores], {"axis": -1}), values.value])
    return Tensor(weighted, (*query.shape[:-1], values.channels))
