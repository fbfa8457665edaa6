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
from typing import Any, ClassVar

import numpy as np

from headrace.hn import Layer, Network
from headrace.passes.base import Pass, fresh_name, sole_user

_WIDE = {"precision": {"bits": 16}}
#: Layers that a tensor passes on its way to a product without a change of its codes.
_MOVES = ("reshape", "transpose", "slice")


@dataclass(frozen=True)
class DecomposeMatmul(Pass):
    """Replace ``matmul`` by ``resize_nearest``, ``ew_mult`` (16 bit) and ``avgpool`` (a sum)."""

    name: ClassVar[str] = "decompose-matmul"

    def run(self, network: Network) -> list[dict[str, Any]]:
        return [self._decompose(network, layer) for layer in network.of_kind("matmul")]

    def _decompose(self, network: Network, matmul: Layer) -> dict[str, Any]:
        wide_result = _reaches_softmax(network, matmul)
        left, right = matmul.inputs
        groups, rows, inner = network[left].frame_shape
        columns = network[right].frame_shape[2]
        for name in dict.fromkeys(matmul.inputs):
            _widen_softmax(network, name)
        anchor, made = matmul.name, []

        def put(
            kind: str, inputs: list[str], attributes: dict[str, Any], shape: tuple[int, int, int], wide: bool = False
        ) -> str:
            nonlocal anchor
            hint = dict(_WIDE) if wide else None
            layer = Layer(fresh_name(network, kind), kind, inputs, attributes, (-1, *shape), [], hint)
            network.insert_after(anchor, layer)
            anchor = layer.name
            made.append(layer.name)
            return layer.name

        def shaped(name: str, shape: tuple[int, int, int]) -> str:
            same = network[name].output_shape[1:] == shape
            return name if same else put("reshape", [name], {"shape": list(shape)}, shape)

        first = shaped(left, (groups * rows, inner, 1))
        second = right
        if groups > 1 and rows > 1:
            sizes = {"sizes": [groups * rows, inner], "coordinates": "asymmetric", "rounding": "floor"}
            second = put("resize_nearest", [right], sizes, (groups * rows, inner, columns))
        product = put("ew_mult", [first, second], {}, (groups * rows, inner, columns), wide=True)
        window = {"kernel_shape": [1, inner], "strides": [1, 1], "total": True}
        total = put("avgpool", [product], window, (groups * rows, 1, columns), wide=wide_result)
        result = shaped(total, (groups, rows, columns))
        network[total].original_names = list(matmul.original_names)
        network.redirect(matmul.name, result)
        network.remove(matmul.name)
        return {"layer": matmul.name, "becomes": made}


def _reaches_softmax(network: Network, matmul: Layer) -> bool:
    """Whether the result goes to a softmax alone. A factor in between (1/√size) is then moved to the first operand.

    There the factor costs nothing: the range changes with it, the codes do not.
    """
    user = sole_user(network, matmul.name)
    if user is None or user.kind == "softmax":
        return user is not None
    after = sole_user(network, user.name)
    if user.kind != "batch_norm" or after is None or after.kind != "softmax":
        return False
    scale, offset = (network.param(user, key) for key in ("scale", "offset"))
    if user.attributes.get("activation", "linear") != "linear" or np.ptp(scale) or np.any(offset) or not scale[0] > 0:
        return False
    left = network[matmul.inputs[0]]
    channels = left.output_shape[-1]
    params = {"scale": np.full(channels, scale[0], np.float32), "offset": np.zeros(channels, np.float32)}
    factor = Layer(fresh_name(network, "batch_norm"), "batch_norm", [left.name], {}, left.output_shape)
    factor.original_names = list(user.original_names)
    network.insert_after(left.name, factor, params)
    matmul.inputs[0] = factor.name
    network.redirect(user.name, matmul.name)
    network.remove(user.name)
    return True


def _widen_softmax(network: Network, name: str) -> None:
    """A softmax whose result goes to this product alone gets 16 bits."""
    while network[name].kind in _MOVES and sole_user(network, name) is not None:
        name = network[name].inputs[0]
    if network[name].kind == "softmax" and sole_user(network, name) is not None:
        network[name].quantization = dict(_WIDE)
