# SPDX-License-Identifier: Apache-2.0
"""A product of two computed matrices into products of elements and their sums, which the device has.

``C[g, n, m] = Σ_k A[g, n, k] · B[g, k, m]``: A as G·N rows of K pixels with one channel, B's rows repeated N times as
G·N rows of K pixels with M channels, their product element by element with 16 bits, and the sum over each row. So the
only roundings to 8 bits are those of the operands and of the result; between a product and the softmax of its result,
and between a softmax and a product, there are 16 bits too: the exponential makes much of small differences of its
operand, and attention over many positions has small numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.hn import Layer, Network
from headrace.hn.value import Wish
from headrace.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Matmul,
    Multiply,
    Operation,
    Reshape,
    ResizeNearest,
    Slice,
    Softmax,
    Subtract,
    Transpose,
)
from headrace.passes.rewriting import Facts, Pass, fresh_name, sole_user

_WIDE = Wish(bits=16)
#: Layers that a tensor passes on its way to a product without a change of its codes.
_MOVES = (Reshape, Transpose, Slice)
_SUMS = (Add, Subtract)


@dataclass(frozen=True)
class DecomposeMatmul(Pass):
    """Replace ``matmul`` by ``resize_nearest``, ``ew_mult`` (16 bit) and ``avgpool`` (a sum)."""

    name: ClassVar[str] = "decompose-matmul"

    def run(self, network: Network) -> list[Facts]:
        return [self._decompose(network, layer) for layer in network.of(Matmul)]

    def _decompose(self, network: Network, matmul: Layer) -> Facts:
        wide_result = _reaches_softmax(network, matmul)
        left, right = matmul.inputs
        groups, rows, inner = network[left].frame_shape
        columns = network[right].frame_shape[2]
        for name in dict.fromkeys(matmul.inputs):
            _widen_softmax(network, name)
        anchor = matmul.name
        made: list[str] = []

        def put(operation: Operation, inputs: list[str], shape: tuple[int, int, int], wide: bool = False) -> str:
            nonlocal anchor
            layer = Layer(fresh_name(network, operation), operation, inputs, (-1, *shape), [], _WIDE if wide else None)
            network.insert_after(anchor, layer)
            anchor = layer.name
            made.append(layer.name)
            return layer.name

        def shaped(name: str, shape: tuple[int, int, int]) -> str:
            same = network[name].output_shape[1:] == shape
            return name if same else put(Reshape(shape), [name], shape)

        first = shaped(left, (groups * rows, inner, 1))
        second = right
        if groups > 1 and rows > 1:
            repeated = ResizeNearest((groups * rows, inner), coordinates="asymmetric", rounding="floor")
            second = put(repeated, [right], (groups * rows, inner, columns))
        product = put(Multiply(), [first, second], (groups * rows, inner, columns), wide=True)
        window = AveragePool(kernel_shape=(1, inner), total=True)
        total = put(window, [product], (groups * rows, 1, columns), wide=wide_result)
        result = shaped(total, (groups, rows, columns))
        network[total].original_names = list(matmul.original_names)
        if matmul.wish.codes is not None:
            network[total].output.wish = matmul.wish
        network.redirect(matmul.name, result)
        network.remove(matmul.name)
        return {"layer": matmul.name, "becomes": made}


def _reaches_softmax(network: Network, matmul: Layer) -> bool:
    """Whether the result goes to a softmax alone, through nothing but moves and sums, so that it may have 16 bits.

    A factor in between (1/√size) is moved to the first operand, and to what is added in front of it. There it costs
    nothing: the range changes with it, the codes do not. A mask that is a constant stays a multiply-add, which reads
    8 bits.
    """
    path: list[Layer] = []
    name = matmul.name
    while True:
        user = sole_user(network, name)
        if user is None or network[name].wish.codes is not None:
            return False
        if isinstance(user.operation, Softmax):
            break
        if not isinstance(user.operation, (*_MOVES, *_SUMS, BatchNorm)) or not user.operation.is_linear:
            return False
        path.append(user)
        name = user.name
    narrow = False
    for position, layer in enumerate(path):
        if isinstance(layer.operation, BatchNorm):
            narrow |= not _pulled(network, matmul, path[:position], layer)
    return not narrow


def _pulled(network: Network, matmul: Layer, before: list[Layer], layer: Layer) -> bool:
    """Move a multiply-add's factor, if it is one positive number for all channels, to the front of the layers before
    it; returns whether nothing is left of the layer.
    """
    scale, offset = (network.param(layer, key) for key in ("scale", "offset"))
    if np.ptp(scale) or not scale[0] > 0:
        return False
    factor = float(scale[0])
    if factor != 1.0:
        _multiply_operand(network, matmul, 0, factor, layer)
        behind = matmul.name
        for passed in before:
            if isinstance(passed.operation, _SUMS):
                _multiply_operand(network, passed, 1 - passed.inputs.index(behind), factor, layer)
            elif isinstance(passed.operation, BatchNorm):
                network.params[f"{passed.name}/offset"] = network.param(passed, "offset") * np.float32(factor)
            behind = passed.name
    if np.any(offset):
        network.params[f"{layer.name}/scale"] = np.ones_like(scale)
        return False
    network.redirect(layer.name, layer.inputs[0])
    network.remove(layer.name)
    return True


def _multiply_operand(network: Network, reader: Layer, position: int, factor: float, origin: Layer) -> None:
    """Put a multiplication by one number in front of an operand of ``reader``."""
    source = network[reader.inputs[position]]
    channels = source.output_shape[-1]
    params = {"scale": np.full(channels, factor, np.float32), "offset": np.zeros(channels, np.float32)}
    layer = Layer(fresh_name(network, BatchNorm), BatchNorm(), [source.name], source.output_shape)
    layer.original_names = list(origin.original_names)
    network.insert_after(source.name, layer, params)
    network.set_operand(reader, position, layer.output)


def _widen_softmax(network: Network, name: str) -> None:
    """A softmax whose result goes to this product alone gets 16 bits."""
    while isinstance(network[name].operation, _MOVES) and sole_user(network, name) is not None:
        name = network[name].inputs[0]
    stated = network[name].wish.codes is not None
    if isinstance(network[name].operation, Softmax) and sole_user(network, name) is not None and not stated:
        network[name].output.wish = _WIDE
