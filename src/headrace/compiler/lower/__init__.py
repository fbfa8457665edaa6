# SPDX-License-Identifier: Apache-2.0
"""Quantised layers to kernels, one file per family; importing the package registers all of them."""

from headrace.compiler.lower import elementwise, mac, move, pool, reduce, resize
from headrace.compiler.lower.base import lower_layer, lowered_operations

__all__ = ["elementwise", "lower_layer", "lowered_operations", "mac", "move", "pool", "reduce", "resize"]
