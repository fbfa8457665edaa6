# SPDX-License-Identifier: Apache-2.0
"""Operations, each defined once. Importing the package registers those of every module in it."""

from importlib import import_module
from pkgutil import iter_modules

from headrace.layers.activation import Activated, Activation
from headrace.layers.depth_space import DepthToSpace, SpaceToDepth
from headrace.layers.elementwise import Add, Multiply, Subtract
from headrace.layers.mac import (
    BatchNorm,
    Convolution,
    Convolving,
    Dense,
    DepthwiseConvolution,
    MultiplyAccumulate,
    Normalization,
    PerChannel,
)
from headrace.layers.matmul import Matmul
from headrace.layers.move import Boundary, Concat, InputLayer, OutputLayer, Pad, Reshape, Slice, Transpose
from headrace.layers.operation import (
    Counts,
    Frozen,
    Operation,
    Parameter,
    QuantizedLayer,
    ScaleRule,
    UnknownOperation,
    Weights,
    all_operations,
    operation_type,
    read_operation,
)
from headrace.layers.pool import AveragePool, MaxPool
from headrace.layers.resize import ResizeBilinear, ResizeNearest
from headrace.layers.softmax import ReciprocalSum, ReduceMax, Softmax

for _module in iter_modules(__path__):  # a new family is a new file, and no line here
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Activated",
    "Activation",
    "Add",
    "AveragePool",
    "BatchNorm",
    "Boundary",
    "Concat",
    "Convolution",
    "Convolving",
    "Counts",
    "Dense",
    "DepthToSpace",
    "DepthwiseConvolution",
    "Frozen",
    "InputLayer",
    "Matmul",
    "MaxPool",
    "Multiply",
    "MultiplyAccumulate",
    "Normalization",
    "Operation",
    "OutputLayer",
    "Pad",
    "Parameter",
    "PerChannel",
    "QuantizedLayer",
    "ReciprocalSum",
    "ReduceMax",
    "Reshape",
    "ResizeBilinear",
    "ResizeNearest",
    "ScaleRule",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Subtract",
    "Transpose",
    "UnknownOperation",
    "Weights",
    "all_operations",
    "operation_type",
    "read_operation",
]
