# SPDX-License-Identifier: Apache-2.0
"""Element-wise layers and activations of their own."""

from __future__ import annotations

from headrace.compiler.lower.lowering import Context, lowers, requantized, terms_of
from headrace.hef.kernel import Kernel
from headrace.hef.microcode import Opcode
from headrace.layers.activation import Activation
from headrace.layers.elementwise import Add, Multiply, Subtract


@lowers(Add, Subtract)
def add(context: Context, operation: Add | Subtract) -> Kernel:
    """X ± y: the sign is in the frozen multipliers."""
    del operation
    return requantized(context, context.kernel(Opcode.ELEMENTWISE_ADD), 2, [[r] for r in context.reach])


@lowers(Multiply)
def multiply(context: Context, operation: Multiply) -> Kernel:
    del operation
    kernel, (x, y) = context.kernel(Opcode.ELEMENTWISE_MULTIPLY), context.reach
    return requantized(context, kernel, 1, [[x * y]])


@lowers(Activation)
def activation(context: Context, operation: Activation) -> Kernel:
    kernel = context.kernel(Opcode.RESCALE)
    return requantized(context, kernel, terms_of(context, operation), [context.reach])
