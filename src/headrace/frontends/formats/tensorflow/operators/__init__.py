# SPDX-License-Identifier: Apache-2.0
"""TensorFlow operators in ONNX words, one file per family; importing the package registers all converters."""

from headrace.frontends.formats.tensorflow.operators import (
    activation,
    audio,
    choose,
    constants,
    convolution,
    dense,
    elementwise,
    lists,
    move,
    normalize,
    pool,
    resize,
    shape,
    spectrum,
)

__all__ = [
    "activation",
    "audio",
    "choose",
    "constants",
    "convolution",
    "dense",
    "elementwise",
    "lists",
    "move",
    "normalize",
    "pool",
    "resize",
    "shape",
    "spectrum",
]
