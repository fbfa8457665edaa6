# SPDX-License-Identifier: Apache-2.0
"""Networks larger than a device, with made-up integers, and one context of a program as a program of its own."""

from __future__ import annotations

from copy import deepcopy

from compiler_support import convolution, freeze
from headrace.hef.microcode import NONE, ContextRecord, Program, TensorRole
from headrace.hn import Network
from random_graphs import GraphBuilder


def large_residual(size: int = 112) -> Network:
    """31 convolutions, 43 million parameters, and residuals that cross any cut (one from the first stage to the last
    of each width)."""
    b = GraphBuilder(0, "large")
    x = convolution(b, b.input((size, size, 3)), 64, 7, 4)
    for width, blocks in ((128, 3), (256, 4), (512, 5), (768, 1)):
        x = skip = convolution(b, x, width, 3, 2)
        for _ in range(blocks):
            y = convolution(b, x, width, 3)
            x = convolution(b, y, width, 1 if width < 512 else 3, 1, x)
        x = b.add("ew_add", [x, skip], {})
    x = b.add("reshape", [b.add("global_avgpool", [x], {})], {"shape": [768]})
    b.output(b.add("dense", [x], {"kernel_shape": [768, 1000]}))
    return freeze(b.net)


def context_program(program: Program, number: int) -> Program:
    """One context alone: what it reads of others is an input, what others read of it an output."""
    p = deepcopy(program)
    context = p.contexts[number]
    mine = range(context.first_kernel, context.first_kernel + context.kernel_count)
    written = {p.kernels[k].output for k in mine}
    read = {t for k in mine for t in p.inputs_of(p.kernels[k])}
    later = {t for k in p.kernels[mine.stop :] for t in p.inputs_of(k)}
    kept = sorted(written | read)
    index = {t: i for i, t in enumerate(kept)}
    for t in kept:
        role = TensorRole(p.tensors[t].role)
        outside = t in written and (role == TensorRole.OUTPUT or t in later)
        p.tensors[t].role = int(
            TensorRole.INPUT if t not in written else TensorRole.OUTPUT if outside else TensorRole.INTERNAL
        )
    p.operands = [index.get(t, 0) for t in p.operands]
    p.tensors = [p.tensors[t] for t in kept]
    p.buffers = [
        b
        for b in p.buffers
        if (b.consumer in mine if b.consumer != NONE else b.tensor in written)
    ]  # fmt: skip
    for b in p.buffers:
        b.tensor = index[b.tensor]
        b.consumer = b.consumer if b.consumer == NONE else b.consumer - mine.start
    p.stages = [s for s in p.stages if s.kernel in mine]
    for s in p.stages:
        s.kernel -= mine.start
    p.kernels = [p.kernels[k] for k in mine]
    for k in p.kernels:
        k.output, k.context = index[k.output], 0
    p.contexts = [ContextRecord(0, len(p.kernels), context.weight_bytes)]
    return p
