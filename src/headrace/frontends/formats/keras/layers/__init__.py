# SPDX-License-Identifier: Apache-2.0
"""Layers of Keras in ONNX words, one file per family; importing the package registers all converters."""

from headrace.frontends.formats.keras.layers import (
    activation,
    attention,
    convolution,
    dense,
    merge,
    normalization,
    pool,
    preprocessing,
    recurrent,
    shape,
    wrappers,
)

__all__ = [
    "activation", "attention", "convolution", "dense", "merge", "normalization", "pool", "preprocessing", "recurrent",
    "shape", "wrappers",
]  # fmt: skip
