# SPDX-License-Identifier: Apache-2.0
"""From floats to the final integers of each layer, one file per layer family; importing registers all of them."""

from headrace.optimize.freeze import activation, elementwise, mac, pool, resize, softmax
from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.network import Correction, Steps, freeze_network

__all__ = [
    "Correction",
    "FreezeContext",
    "Steps",
    "activation",
    "elementwise",
    "freeze_network",
    "mac",
    "pool",
    "resize",
    "softmax",
]
