# SPDX-License-Identifier: Apache-2.0
"""TFLite operators in ONNX words, one file per family; importing the package registers all converters."""

from headrace.frontends.formats.tflite.operators import (
    activation,
    choose,
    control,
    convolution,
    dense,
    detection,
    elementwise,
    move,
    pool,
    recurrent,
    resize,
    shape,
    spectrum,
    stablehlo,
    streaming,
    volume,
)

__all__ = [
    "activation",
    "choose",
    "control",
    "convolution",
    "dense",
    "detection",
    "elementwise",
    "move",
    "pool",
    "recurrent",
    "resize",
    "shape",
    "spectrum",
    "stablehlo",
    "streaming",
    "volume",
]
