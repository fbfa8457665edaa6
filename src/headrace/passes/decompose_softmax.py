# SPDX-License-Identifier: Apache-2.0
"""Softmax into primitives the device has: maximum, exp of a difference, reciprocal of a sum, product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from headrace.hn import Layer, Network
from headrace.hn.value import Wish
from headrace.layers import Multiply, Operation, ReciprocalSum, ReduceMax, Softmax, Subtract
from headrace.passes.rewriting import Facts, Pass, fresh_name

# Ranges and precisions that the meaning of each part fixes; read by the optimizer (docs/numerics.md, section 7).
UNIT_16 = Wish(bits=16, range=(0.0, 1.0))
UNIT_8 = Wish(bits=8, range=(0.0, 1.0))


@dataclass(frozen=True)
class DecomposeSoftmax(Pass):
    """``softmax(x) = e · 1/Σe`` with ``e = exp(x - max x)``; e and 1/Σe get 16 bits."""

    name: ClassVar[str] = "decompose-softmax"

    def run(self, network: Network) -> list[Facts]:
        return [self._decompose(network, layer) for layer in network.of(Softmax)]

    def _decompose(self, network: Network, softmax: Layer) -> Facts:
        source = network[softmax.inputs[0]]
        axis = len(source.output_shape) - 2  # the last, counted from the first non-batch axis
        reduced = (*source.output_shape[:-1], 1)
        anchor = softmax.name

        def put(operation: Operation, inputs: list[str], shape: tuple[int, ...], wish: Wish | None) -> str:
            nonlocal anchor
            layer = Layer(fresh_name(network, operation), operation, inputs, shape, [], wish)
            network.insert_after(anchor, layer)
            anchor = layer.name
            return layer.name

        top = put(ReduceMax((axis,)), [source.name], reduced, None)
        exponential = put(Subtract("exp"), [source.name, top], softmax.output_shape, UNIT_16)
        reciprocal = put(ReciprocalSum((axis,)), [exponential], reduced, UNIT_16)
        # A product of matrices behind it asks for 16 bits (passes/decompose_matmul.py).
        own = UNIT_16 if softmax.wish.bits == 16 else UNIT_8
        if softmax.wish.codes is not None:
            own = replace(own, bits=softmax.wish.codes.bits, codes=softmax.wish.codes)
        product = put(Multiply(), [exponential, reciprocal], softmax.output_shape, own)
        network[product].original_names = list(softmax.original_names)
        network.redirect(softmax.name, product)
        network.remove(softmax.name)
        return {"layer": softmax.name, "becomes": [top, exponential, reciprocal, product]}
