# SPDX-License-Identifier: Apache-2.0
"""LpPool: the root of a window's sum of powers, which is an average pool that counts its padding."""

from __future__ import annotations

import math

from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.compositions.elementwise import applied, per_channel
from headrace.frontends.to_hn.handlers.arithmetic import MAX_POWER, whole_power
from headrace.frontends.to_hn.handlers.pool import window_pool
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import Result, handles


class _Averaged(SourceNode):
    """The node as an average pool of another tensor."""

    def __init__(self, node: SourceNode, view: View) -> None:
        super().__init__(node.builder, node.node)
        self._view = view

    @property
    def op_type(self) -> str:
        return "AveragePool"

    def view(self, index: int) -> View:
        return self._view

    def integer(self, name: str, default: int) -> int:
        return 1 if name == "count_include_pad" else super().integer(name, default)


@handles("LpPool")
def norm_pool(builder: Builder, node: SourceNode) -> list[Result]:
    view, order = node.view(0), node.integer("p", 2)
    if not 1 <= order <= MAX_POWER:
        raise Unsupported(f"the norm of order {order}", f"order 1 to {MAX_POWER}")
    powers = whole_power(builder, applied(builder, view, "abs") if order % 2 else view, order)
    mean = window_pool(builder, _Averaged(node, powers))[0]
    assert isinstance(mean, View)
    total = per_channel(builder, mean, float(math.prod(node.integers("kernel_shape", []))))
    return [total if order == 1 else applied(builder, total, "power", exponent=1.0 / order)]
