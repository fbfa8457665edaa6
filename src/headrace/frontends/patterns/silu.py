# SPDX-License-Identifier: Apache-2.0
"""SiLU (swish) written out: x · sigmoid(x)."""

from __future__ import annotations

import onnx_ir as ir

from headrace.frontends.patterns.pattern import maker
from headrace.frontends.patterns.self_gated import Gate, SelfGated


class SiLU(SelfGated):
    name = "silu"
    operator = "Swish"
    words = "sigmoid"

    def gate(self, value: ir.Value) -> Gate | None:
        sigmoid = maker(value, "Sigmoid")
        return None if sigmoid is None else (sigmoid.inputs[0], (sigmoid,))
