# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear and DequantizeLinear of computed tensors.

A pair of the same numbers states the codes of a value. Either alone is a change of numbers: codes taken for numbers are
values of scale 1, and so everything between the two means what it says.
"""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.graph import Unsupported, live_uses
from headrace.frontends.layout import View
from headrace.frontends.quantization import Codes, codes_of_node
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import per_channel
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles
from headrace.hn.value import Wish
from headrace.layers import InputLayer
from headrace.passes.file_codes import Coded


def coded(builder: Builder, view: View, codes: Codes) -> View:
    """The view of a tensor whose codes are stated."""
    low, high = codes.limits
    layer = builder.emit(Coded(low, high), [view.layer])
    layer.output.wish = Wish(codes=codes.quantization)
    return builder.same_layout(layer, view)


def _undone_at_once(value: ir.Value, codes: Codes) -> bool:
    """Whether all that reads codes makes the same values of them again."""
    users = live_uses(value)
    if not users or value.is_graph_output():
        return False
    for user in users:
        if user.op_type != "DequantizeLinear" or user.domain or user.inputs[0] is not value:
            return False
        try:
            if codes_of_node(user) != codes:
                return False
        except Unsupported:
            return False
    return True


@handles("QuantizeLinear")
def quantize(builder: Builder, node: SourceNode) -> list[Result]:
    view, codes = node.view(0), codes_of_node(node.node)
    node.integer("saturate", 1)
    node.integer("precision", 0)
    if _undone_at_once(node.outputs[0], codes):
        builder.coded.add(node.outputs[0])
        return [coded(builder, view, codes)]
    own = codes.quantization
    rounded = coded(builder, view, codes)
    numbers = per_channel(builder, rounded, 1.0 / own.scale, float(own.zero_point - codes.shift))
    return [coded(builder, numbers, codes.of_numbers)]


@handles("DequantizeLinear")
def dequantize(builder: Builder, node: SourceNode) -> list[Result]:
    view, codes = node.view(0), codes_of_node(node.node)
    node.integer("output_dtype", 0)
    if node.inputs[0] in builder.coded:
        return [view]
    source = builder.network[view.layer]
    if isinstance(source.operation, InputLayer):
        source.output.wish = Wish(codes=codes.of_numbers.quantization)
    own = codes.quantization
    values = per_channel(builder, view, own.scale, own.scale * float(codes.shift - own.zero_point))
    return [coded(builder, values, codes)]
