# SPDX-License-Identifier: Apache-2.0
"""The oracles of the tests: a network by its layers' meaning in numpy, and a program by its records.

There is one of each, because they answer different questions. :func:`float_values` and :func:`integer_values` run what
a layer *says* it means (its own rules, on numpy instead of torch), so they catch an emulator that differs.
``native.programs.interpret``, brought to whole batches here, runs what the microcode's records mean by the definition
of the instruction set, sharing nothing with layers, ``headrace.numerics`` or the device, so it catches a compiler that
writes another network than it was given, and a device that reads another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.hef.microcode import Program, TensorRole
from headrace.hn import Network, quantized_view
from headrace.numerics.array import Array
from headrace.numerics.reference import ReferenceOps
from native.programs import interpret


def float_values(network: Network, inputs: dict[str, Array], ops: Any) -> dict[str, Array]:
    """Every layer's values in float; ``inputs`` are those of the input layers, ``ops`` a ``FloatOps``."""
    values = dict(inputs)
    for layer in network:
        if layer.name in values:
            continue
        operands = [values[name] for name in layer.inputs]
        values[layer.name] = layer.operation.forward_float(ops, layer.params, operands)
        assert values[layer.name].shape == (operands[0].shape[0], *layer.output_shape[1:]), layer
    return values


def integer_values(network: Network, codes: dict[str, Array]) -> dict[str, Array]:
    """Every layer's codes by the numpy reference; ``codes`` are the quantized inputs."""
    ops = ReferenceOps()
    values = dict(codes)
    for layer in network:
        if layer.name in values:
            continue
        operands = [values[name] for name in layer.inputs]
        view = quantized_view(network, layer)
        values[layer.name] = layer.operation.forward_integer(ops, view, operands)
    return values


def layer_codes(network: Network, codes: dict[str, Array]) -> dict[str, Array]:
    """:func:`integer_values` in the device's shape: ``[N, H, W, C]`` for every layer."""
    values = integer_values(network, codes)
    return {name: v.reshape(v.shape[0], *network[name].frame_shape) for name, v in values.items()}


def program_codes(program: Program, codes: dict[str, Array]) -> dict[str, Array]:
    """Every tensor's codes ``[N, H, W, C]`` by name, from the program's records alone.

    Args:
        program: decoded microcode.
        codes: of every input tensor, ``[N, …]``.
    """
    shaped: dict[str, Array] = {}
    for tensor in program.tensors:
        if tensor.role == TensorRole.INPUT:
            x = codes[program.name_of(tensor)]
            shaped[program.name_of(tensor)] = x.reshape(x.shape[0], tensor.height, tensor.width, tensor.channels)
    count = len(next(iter(shaped.values())))
    frames = [interpret(program, {name: x[i] for name, x in shaped.items()}) for i in range(count)]
    for kernel in program.kernels:
        tensor, made = program.tensors[kernel.output], [frame[program.name_of(kernel)] for frame in frames]
        assert made[0].shape == (tensor.height, tensor.width, tensor.channels), program.name_of(kernel)
        assert made[0].itemsize == tensor.element_bytes, program.name_of(kernel)
        shaped[program.name_of(tensor)] = np.stack(made)
    return shaped
