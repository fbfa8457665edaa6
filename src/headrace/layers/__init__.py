# SPDX-License-Identifier: Apache-2.0
"""Layer kinds, each defined once; importing the package registers all of them."""

from headrace.layers import activation, depth_space, elementwise, mac, matmul, move, pool, resize, softmax
from headrace.layers.base import (
    Counts,
    Frozen,
    LayerDefinition,
    Parameter,
    QuantizedLayer,
    ScaleRule,
    all_definitions,
    check_network,
    definition_of,
    infer_shape,
    output_quantization,
    quantized_view,
    store_requantization,
    write_attributes,
)
from headrace.layers.parameters import check_archive, check_parameters
from headrace.layers.passing import passed_quantization

__all__ = [
    "Counts",
    "Frozen",
    "LayerDefinition",
    "Parameter",
    "QuantizedLayer",
    "ScaleRule",
    "activation",
    "all_definitions",
    "check_archive",
    "check_network",
    "check_parameters",
    "definition_of",
    "depth_space",
    "elementwise",
    "infer_shape",
    "mac",
    "matmul",
    "move",
    "output_quantization",
    "passed_quantization",
    "pool",
    "quantized_view",
    "resize",
    "softmax",
    "store_requantization",
    "write_attributes",
]
