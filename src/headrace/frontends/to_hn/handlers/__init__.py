# SPDX-License-Identifier: Apache-2.0
"""One handler per operator, one file per family; importing the package registers all of them."""

from headrace.frontends.to_hn.handlers import (
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

__all__ = [
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
