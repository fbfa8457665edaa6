# SPDX-License-Identifier: Apache-2.0
"""What quantized networks of earlier versions lack, put in when an archive is opened; nowhere else is it made up for.

Integers that follow from a layer's attributes alone (coefficients of bilinear interpolation) were computed by every
reader before ``optimize`` froze them with the others; the same rule gives them here.
"""

from __future__ import annotations

from headrace.hn.network import Network


def complete(network: Network) -> None:
    """Give the layers of a quantized network, whose shapes are right, the integers that they lack."""
    for layer in network:
        integers = layer.operation.integers_of_attributes(network.input_shapes(layer))
        for name, array in integers.items():
            layer.params.setdefault(name, array)
