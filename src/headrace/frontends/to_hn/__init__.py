# SPDX-License-Identifier: Apache-2.0
"""From the source graph to HN, one file per layer family; importing the package registers all handlers."""

from headrace.frontends.to_hn import (
    activation,
    arithmetic,
    compare,
    convolution,
    dense,
    elementwise,
    move,
    normalize,
    pool,
    reduce,
    repeat,
    resize,
    shape,
    softmax,
    transposed_convolution,
)
from headrace.frontends.to_hn.base import HANDLERS, Builder, Result

__all__ = [
    "HANDLERS",
    "Builder",
    "Result",
    "activation",
    "arithmetic",
    "compare",
    "convolution",
    "dense",
    "elementwise",
    "move",
    "normalize",
    "pool",
    "reduce",
    "repeat",
    "resize",
    "shape",
    "softmax",
    "transposed_convolution",
]
