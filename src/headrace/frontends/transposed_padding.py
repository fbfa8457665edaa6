# SPDX-License-Identifier: Apache-2.0
"""Where TensorFlow and TFLite place the result of a transposed convolution, in ONNX's terms."""

from __future__ import annotations


def transposed_padding(size: int, output: int, kernel: int, stride: int, same: bool) -> tuple[int, int, int]:
    """Padding before and after, and output padding, that give ``output`` positions as the forward convolution has them.

    Args:
        size: positions of the image.
        output: positions of the result, those that a convolution would make the image of.
        kernel: positions of the kernel.
        stride: of the convolution.
        same: whether it pads as SAME does, else not at all.
    """
    forward = -(-output // stride) if same else (output - kernel + stride) // stride
    before = max((forward - 1) * stride + kernel - output, 0) // 2
    after = (size - 1) * stride + kernel - before - output
    return before, max(after, 0), max(-after, 0)
