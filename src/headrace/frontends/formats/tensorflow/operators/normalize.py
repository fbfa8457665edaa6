# SPDX-License-Identifier: Apache-2.0
"""FusedBatchNorm with the statistics of training, and what it was before it was fused."""

from __future__ import annotations

from headrace.frontends.formats.tensorflow.build import Operation, converts


@converts("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def normalize(operation: Operation) -> None:
    """Its operands are the image, scale, offset, mean and variance."""
    epsilon = operation.attributes.real("epsilon", 1e-4)
    shape = operation.builder.shape_of(operation.value(0))
    rank = 4 if shape is None else len(shape)
    inputs = [operation.image(0, rank), *operation.values(1, 5)]
    made = operation.emit("BatchNormalization", inputs, {"epsilon": epsilon})
    operation.done_image(made, rank)


@converts("BatchNormWithGlobalNormalization")
def normalize_with_all(operation: Operation) -> None:
    """The oldest form: image, mean, variance, offset, scale, and whether the scale counts."""
    image, mean, variance, offset, scale = operation.values(0, 5)
    epsilon = operation.attributes.real("variance_epsilon", 1e-3)
    if not operation.attributes.flag("scale_after_normalization"):
        scale = operation.emit("Add", [operation.emit("Sub", [scale, scale]), operation.number(1)])
    image = operation.image(0)
    made = operation.emit("BatchNormalization", [image, scale, offset, mean, variance], {"epsilon": epsilon})
    operation.done_image(made)
