# SPDX-License-Identifier: Apache-2.0
"""Whole numbers: Floor, Ceil, Round, Sign, Mod, and casts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.element_types import Elements, elements_of_type
from headrace.frontends.graph import Unsupported, kind_of
from headrace.frontends.layout import View
from headrace.frontends.quantization import element_type
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, combine, per_channel
from headrace.frontends.to_hn.operands import SourceNode, divided
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn.value import Wish
from headrace.layers import Multiply, Subtract

#: Whole numbers that float32 tells apart lie below this; half of one of their quotients is never lost.
_HALF = 0.5
#: Whole numbers that go round at their ends where a cast meets others: a device's clip.
_FEW_BITS = frozenset({"INT4", "UINT4", "INT2", "UINT2"})
#: Ranges whose codes of 8 bits are the numbers themselves.
_BYTES = {"UINT8": (0.0, 255.0), "INT8": (-128.0, 127.0)}
#: Operators whose results are whole numbers though their type is real.
_WHOLE = frozenset({"Round", "Floor", "Ceil"})
#: Operators behind which whole numbers still are.
_KEEPING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Clip", "Slice", "Relu"})


@handles("Floor", "Ceil", "Round", "Sign")
def rounded(builder: Builder, node: SourceNode) -> list[Result]:
    if node.elements(0) is not Elements.REAL and node.op_type != "Sign":
        return [node.view(0)]
    return [applied(builder, node.view(0), node.op_type.lower())]


@handles("Mod")
def remainder(builder: Builder, node: SourceNode) -> list[Result]:
    """``x - d·floor(x / d)``, or with the quotient cut off (fmod, as C does)."""
    name = "trunc" if node.integer("fmod", 0) else "floor"
    view, whole = node.view(0), node.elements(0) is not Elements.REAL
    if node.known(1) is None:
        if whole:
            raise Unsupported("Mod of whole numbers by a computed tensor", "a constant divisor")
        divisor = node.view(1)
        quotient = combine(builder, Multiply(), view, applied(builder, divisor, "reciprocal"))
        multiple = combine(builder, Multiply(), applied(builder, quotient, name), divisor)
        return [combine(builder, Subtract(), view, multiple)]
    array = divided(builder, view, node.weights(1, "the divisor"))
    if not np.all(array) or (whole and name == "trunc"):
        raise Unsupported(f"Mod with divisor {array.reshape(-1)[:4].tolist()}", "a divisor that is not 0, and fmod 0")
    # Quotients of whole numbers are set off from the steps by half of one, for their product is not exact.
    quotient = per_channel(builder, view, 1.0 / array, _HALF / np.abs(array) if whole else 0.0)
    multiple = per_channel(builder, applied(builder, quotient, name), array)
    return [combine(builder, Subtract(), view, multiple)]


def _is_whole(node: SourceNode) -> bool:
    """Whether the numbers of operand 0 are whole, whatever their type."""
    if node.elements(0) is not Elements.REAL:
        return True
    value = node.inputs[0]
    for _ in range(64):
        producer = None if value is None else value.producer()
        if producer is None or producer.op_type not in _WHOLE | _KEEPING:
            return False
        if producer.op_type in _WHOLE:
            return True
        value = producer.inputs[0]
    return False


def converted(builder: Builder, node: SourceNode, to: ir.DataType) -> View:
    """Operand 0 in another type: cut off, or whether it is not 0; bytes are the codes themselves.

    Raises:
        Unsupported: the type holds something else, or fewer than 8 bits of a number, which go round at their ends.
    """
    if to.name.startswith(("STRING", "COMPLEX", "FLOAT8", "FLOAT4", "UNDEFINED")) or to.name in _FEW_BITS:
        need = "real numbers of 16 bits and more, whole numbers of 8 bits and more, or truth values"
        raise Unsupported(f"Cast to {to.name.lower()}", need)
    view = node.view(0)
    match elements_of_type(to):
        case Elements.REAL:
            return view
        case Elements.TRUTH:
            if node.elements(0) is Elements.TRUTH:
                return view
            return per_channel(builder, applied(builder, view, "is_zero"), -1.0, 1.0)
        case _:
            view = view if _is_whole(node) else applied(builder, view, "trunc")
    layer = builder.network[view.layer]
    if to.name in _BYTES and layer.operation.kind != "input_layer":
        layer.output.wish = Wish(bits=8, range=_BYTES[to.name])
    return view


@handles("Cast")
def cast(builder: Builder, node: SourceNode) -> list[Result]:
    try:
        to = ir.DataType(node.integer("to", 0))
    except ValueError:
        raise Unsupported(f"Cast to type {node.integer('to', 0)}", "a type that the standard has") from None
    return [converted(builder, node, to)]


@handles("CastLike")
def cast_like(builder: Builder, node: SourceNode) -> list[Result]:
    like = node.inputs[1] if len(node.inputs) > 1 else None
    given = node.known(0)
    if given is not None and like in builder.views:
        return [given.astype(np.float32)]  # what is computed is numbers
    if like is None or kind_of(like) is not None:
        raise Unsupported("CastLike to a type that is not read", "real or whole numbers, or truth values")
    kind = element_type(like)
    if kind in ("int4", "uint4"):  # stored as bytes
        return [converted(builder, node, ir.DataType[kind.upper()])]
    known = node.known(1)
    if known is not None:
        return [converted(builder, node, ir.DataType.from_numpy(known.dtype))]
    types = {Elements.REAL: ir.DataType.FLOAT, Elements.WHOLE: ir.DataType.INT64, Elements.TRUTH: ir.DataType.BOOL}
    return [converted(builder, node, types[node.elements(1)])]
