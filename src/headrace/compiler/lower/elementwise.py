# SPDX-License-Identifier: Apache-2.0
"""Element-wise layers and activations of their own."""

from __future__ import annotations

from headrace.compiler.lower.base import Context, Kernel, lowers, set_requantize, terms_of
from headrace.hef.microcode import Opcode


@lowers("ew_add", "ew_sub")
def add(context: Context) -> Kernel:
    """X ± y: the sign is in the frozen multipliers."""
    return set_requantize(context, context.kernel(Opcode.ELEMENTWISE_ADD), 2)


@lowers("ew_mult")
def multiply(context: Context) -> Kernel:
    return set_requantize(context, context.kernel(Opcode.ELEMENTWISE_MULTIPLY), 1)


@lowers("activation")
def activation(context: Context) -> Kernel:
    return set_requantize(context, context.kernel(Opcode.RESCALE), terms_of(context))
