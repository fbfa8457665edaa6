# SPDX-License-Identifier: Apache-2.0
"""Mish written out: x · tanh(softplus(x))."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.pattern import Match, maker
from headrace.frontends.patterns.self_gated import Gate, SelfGated
from headrace.frontends.patterns.softplus import Softplus


class Mish(SelfGated):
    name = "mish"
    operator = "Mish"
    words = "tanh of softplus"

    def gate(self, value: ir.Value) -> Gate | None:
        tanh = maker(value, "Tanh")
        if tanh is None:
            return None
        softplus = maker(tanh.inputs[0], "Softplus")
        if softplus is not None:
            return softplus.inputs[0], (tanh, softplus)
        log = maker(tanh.inputs[0], "Log")
        found = Softplus().match(log) if log is not None else None
        return (found.source, (tanh, *found.nodes)) if isinstance(found, Match) else None
