# SPDX-License-Identifier: Apache-2.0
"""Layers that move codes."""

from __future__ import annotations

from headrace.compiler.lower.base import Context, Kernel, lowers
from headrace.hef.microcode import Opcode

_AXES = ("height", "width", "channel")


def _per_axis(prefix: str, values: tuple[int, int, int]) -> dict[str, int]:
    return {f"{prefix}_{axis}": value for axis, value in zip(_AXES, values, strict=True)}


@lowers("slice")
def cut(context: Context) -> Kernel:
    a = context.attributes
    return context.kernel(
        Opcode.SLICE, **_per_axis("start", context.axes(a.starts, 0)), **_per_axis("step", context.axes(a.steps, 1))
    )


@lowers("external_pad")
def pad(context: Context) -> Kernel:
    before = context.axes(context.attributes.before, 0)
    return context.kernel(Opcode.PAD, output_zero=context.quantized.inputs[0].zero_point, **_per_axis("start", before))


@lowers("concat")
def concat(context: Context) -> Kernel:
    return context.kernel(Opcode.CONCATENATE, axis=context.axis(context.attributes.axis))


@lowers("reshape")
def reshape(context: Context) -> Kernel:
    return context.kernel(Opcode.RESHAPE)


@lowers("transpose")
def transpose(context: Context) -> Kernel:
    p = (0, 1, 2) if context.is_vector else context.attributes.permutation
    return context.kernel(Opcode.TRANSPOSE, permutation=p[0] | p[1] << 8 | p[2] << 16)
