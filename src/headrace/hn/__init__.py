# SPDX-License-Identifier: Apache-2.0
"""The network (HN), its JSON form and the archive (HAR) that carries it."""

from headrace.hn.check import check_network, infer_shape
from headrace.hn.network import Array, Layer, Network
from headrace.hn.passing import passed_quantization
from headrace.hn.quantized import output_quantization, quantized_view, store_requantization

__all__ = [
    "Array",
    "Layer",
    "Network",
    "check_network",
    "infer_shape",
    "output_quantization",
    "passed_quantization",
    "quantized_view",
    "store_requantization",
]
