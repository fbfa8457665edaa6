# SPDX-License-Identifier: Apache-2.0
"""An element-wise sum (and its activation) joins the convolution in front of it: one rounding instead of two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from headrace.hn import Layer, Network
from headrace.layers import Add, Convolving, ReduceMax, Reshape, Transpose
from headrace.passes.fuse_activation import take_activation
from headrace.passes.rewriting import Facts, Pass, sole_user


@dataclass(frozen=True)
class FuseElementwiseAdd(Pass):
    """``act(conv(x) + r)`` becomes one convolution with ``r`` as second input.

    The convolution is the operand's producer that nobody else reads, has no activation and no residual yet, and
    gives the sum's shape; of two candidates, the one later in topological order. Logits plus a mask stay a sum: what
    softmax tells apart of each of the two decides its range (optimize/reach.py).

    Attributes:
        apart: sums that stay layers of their own.
    """

    name: ClassVar[str] = "fuse-elementwise-add"
    apart: frozenset[str] = frozenset()

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        for add in network.of(Add):
            convolution = None if add.name in self.apart else self._candidate(network, add)
            if convolution is not None:
                self._fuse(network, convolution, add)
                records.append({"layer": add.name, "into": convolution.name})
        if records:
            network.sort()
        return records

    def _candidate(self, network: Network, add: Layer) -> Layer | None:
        position = {name: i for i, name in enumerate(network.layers)}
        if add.inputs[0] == add.inputs[1] or any(network[n].output_shape != add.output_shape for n in add.inputs):
            return None
        if _feeds_softmax(network, add.name):
            return None
        for name in sorted(add.inputs, key=lambda n: -position[n]):
            layer = network[name]
            plain = isinstance(layer.operation, Convolving) and layer.operation.is_linear
            plain = plain and layer.wish.codes is None  # the file rounds in between
            if plain and sole_user(network, name) is add:
                return layer
        return None

    @staticmethod
    def _fuse(network: Network, convolution: Layer, add: Layer) -> None:
        residual = next(name for name in add.inputs if name != convolution.name)
        network.set_operands(convolution, [*(convolution.operands or ()), network.value(residual)])
        assert isinstance(convolution.operation, Convolving)
        convolution.operation = replace(convolution.operation, elementwise_add=True)
        take_activation(network, convolution, add)
        if add.wish.codes is not None:
            convolution.output.wish = add.wish
        convolution.original_names += [n for n in add.original_names if n not in convolution.original_names]
        network.redirect(add.name, convolution.name)
        network.remove(add.name)
        network.sort()


def _feeds_softmax(network: Network, name: str) -> bool:
    """Whether the maximum of a decomposed softmax is among the readers, through moves."""
    users = network.users(name)
    moves = (user.name for user in users if isinstance(user.operation, (Reshape, Transpose)))
    return any(isinstance(user.operation, ReduceMax) for user in users) or any(
        _feeds_softmax(network, move) for move in moves
    )
