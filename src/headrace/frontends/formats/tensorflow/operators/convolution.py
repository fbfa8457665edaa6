# SPDX-License-Identifier: Apache-2.0
"""Convolutions of two and three dimensions, also depthwise and transposed, and the two ends of a dilated one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tensorflow.build import NeedsShape, Operation, converts
from headrace.frontends.formats.tensorflow.operators.activation import relu6
from headrace.frontends.formats.tensorflow.states import SplitFrames
from headrace.frontends.graph import Unsupported
from headrace.frontends.node_builder import Attribute
from headrace.frontends.transposed_padding import transposed_padding

_DILATED = "SpaceToBatchND, one convolution with stride 1, BatchToSpaceND, with constant blocks"


def spatial(operation: Operation, attribute: str, count: int) -> list[int]:
    """The sizes of a window's attribute for each dimension of the image; for batch and channels they are 1."""
    given = operation.attributes.integers(attribute) or [1] * (count + 2)
    if len(given) != count + 2:
        raise Unsupported(f"{attribute} {given}", f"{count + 2} integers")
    inner = given[1:-1] if operation.channels_last() else given[2:]
    others = [given[0], given[-1] if operation.channels_last() else given[1]]
    if others != [1, 1] or min(inner) < 1:
        raise Unsupported(f"{attribute} {given}", "positive integers, 1 for batch and channels")
    return inner


def padding(operation: Operation, count: int) -> dict[str, Attribute]:
    """The attributes of ONNX that say how a window's image is padded."""
    word = operation.attributes.text("padding", "VALID")
    if word == "SAME":
        return {"auto_pad": "SAME_UPPER"}
    if word == "VALID":
        return {}
    return {"pads": _explicit(operation, count)}


def _explicit(operation: Operation, count: int) -> list[int]:
    """Explicit paddings, all before and then all after."""
    word, given = operation.attributes.text("padding", "VALID"), operation.attributes.integers("explicit_paddings")
    if word != "EXPLICIT" or len(given) != 2 * (count + 2) or min(given) < 0:
        raise Unsupported(f"padding {word!r} with {given}", "SAME, VALID, or EXPLICIT with two integers per dimension")
    inner = given[2:-2] if operation.channels_last() else given[4:]
    if sum(given) != sum(inner):
        raise Unsupported(f"explicit_paddings {given}", "0 for batch and channels")
    return [*inner[0::2], *inner[1::2]]


def kernel_sizes(operation: Operation, index: int, rank: int) -> list[int]:
    """The shape of the kernel."""
    sizes = operation.shape(index)
    if len(sizes) != rank or 0 in sizes:
        raise Unsupported(f"the kernel has shape {sizes}", f"{rank} sizes above 0")
    return sizes


def _window(operation: Operation, sizes: Sequence[int], count: int) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "kernel_shape": list(sizes),
        "strides": spatial(operation, "strides", count),
        "dilations": spatial(operation, "dilations", count),
    }
    if operation.dilation is None:
        return attributes | padding(operation, count)
    block, edges = operation.dilation
    if len(block) != count or attributes["strides"] != [1] * count or attributes["dilations"] != [1] * count:
        raise Unsupported("frames split by SpaceToBatchND meet a convolution with strides", _DILATED)
    before, after = [e[0] for e in edges], [e[1] for e in edges]
    if operation.attributes.text("padding", "VALID") == "SAME":
        totals = [s - 1 for s in sizes]
        before = [p + t // 2 * b for p, t, b in zip(before, totals, block, strict=True)]
        after = [p + (t - t // 2) * b for p, t, b in zip(after, totals, block, strict=True)]
    elif operation.attributes.text("padding", "VALID") != "VALID":
        raise Unsupported("frames split by SpaceToBatchND meet a convolution with explicit paddings", _DILATED)
    return attributes | {"dilations": list(block), "pads": [*before, *after]}


def _kernel(operation: Operation, index: int, order: Sequence[int]) -> ir.Value:
    return operation.emit("Transpose", [operation.value(index)], {"perm": list(order)}, glue=True)


def _convolved(operation: Operation) -> ir.Value:
    """Channels first; the kernel is [height, width, inputs per group, outputs]."""
    count = 3 if operation.name == "Conv3D" else 2
    sizes = kernel_sizes(operation, 1, count + 2)
    attributes = _window(operation, sizes[:count], count)
    image = operation.image(0, count + 2)
    groups = _groups(operation, sizes[count], sizes[count + 1], count + 2)
    kernel = _kernel(operation, 1, (count + 1, count, *range(count)))
    return operation.emit("Conv", [image, kernel], attributes | {"group": groups})


def _groups(operation: Operation, per_group: int, outputs: int, rank: int) -> int:
    shape = operation.builder.shape_of(operation.value(0))
    channels = None if shape is None else shape[-1 if operation.channels_last() else 1]
    if channels is None:
        return 1
    if channels % per_group or outputs % (channels // per_group):
        raise Unsupported(f"{channels} input channels and a kernel with {per_group} inputs and {outputs} outputs")
    return channels // per_group


@converts("Conv2D", "Conv3D")
def convolution(operation: Operation) -> None:
    operation.done_image(_convolved(operation), 5 if operation.name == "Conv3D" else 4)


@converts("DepthwiseConv2dNative")
def depthwise(operation: Operation) -> None:
    operation.done_image(_depthwise(operation))


def _depthwise(operation: Operation) -> ir.Value:
    """Channels first; the kernel is [height, width, channels, multiplier]."""
    sizes = kernel_sizes(operation, 1, 4)
    attributes = _window(operation, sizes[:2], 2)
    turned = _kernel(operation, 1, (2, 3, 0, 1))
    outputs = sizes[2] * sizes[3]
    kernel = operation.emit("Reshape", [turned, operation.list([outputs, 1, *sizes[:2]])], glue=True)
    return operation.emit("Conv", [operation.image(0), kernel], attributes | {"group": sizes[2]})


@converts("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed(operation: Operation) -> None:
    """A convolution backwards: its operands are the shape of the result, the kernel [height, width, outputs, inputs]
    and the image.
    """
    count = 2 if operation.name == "Conv2DBackpropInput" else 3
    sizes = kernel_sizes(operation, 1, count + 2)
    strides = spatial(operation, "strides", count)
    if spatial(operation, "dilations", count) != [1] * count:
        raise Unsupported("a transposed convolution with dilations", "dilations 1")
    wanted, shape = operation.integers(0, "the shape of the result"), operation.shape(2)
    if len(wanted) == count:  # the sizes of the image alone
        wanted = [1, *wanted, 0] if operation.channels_last() else [1, 0, *wanted]
    at = 1 if operation.channels_last() else 2
    if len(wanted) != count + 2 or len(shape) != count + 2 or min(wanted[at : at + count]) < 1:
        raise NeedsShape(f"an input of shape {shape} and a result of shape {wanted}", "known sizes")
    word = operation.attributes.text("padding", "VALID")
    edges = [
        transposed_padding(shape[at + i], wanted[at + i], sizes[i], strides[i], word == "SAME") for i in range(count)
    ]
    if word == "EXPLICIT":
        given = _explicit(operation, count)
        for i in range(count):
            after = (shape[at + i] - 1) * strides[i] + sizes[i] - given[i] - wanted[at + i]
            edges[i] = (given[i], max(after, 0), max(-after, 0))
    attributes: dict[str, Attribute] = {
        "kernel_shape": sizes[:count],
        "strides": strides,
        "pads": [*(e[0] for e in edges), *(e[1] for e in edges)],
    }
    if any(e[2] for e in edges):
        attributes["output_padding"] = [e[2] for e in edges]
    kernel = _kernel(operation, 1, (count + 1, count, *range(count)))
    image = operation.image(2, count + 2)
    operation.done_image(operation.emit("ConvTranspose", [image, kernel], attributes), count + 2)


@converts("_FusedConv2D", "_FusedDepthwiseConv2dNative")
def fused(operation: Operation) -> None:
    """A convolution with what an optimizer put into it: bias, batch normalization, activation."""
    value = _convolved(operation) if operation.name == "_FusedConv2D" else _depthwise(operation)
    words = operation.attributes.words("fused_ops")
    arguments = list(operation.values(2))
    for word in words:
        if word == "BiasAdd" and arguments:
            sizes = operation.list([-1, 1, 1])
            bias = operation.emit("Reshape", [arguments.pop(0), sizes], glue=True)
            value = operation.emit("Add", [value, bias])
        elif word == "FusedBatchNorm" and len(arguments) >= 4:
            epsilon = operation.attributes.real("epsilon", 1e-4)
            value = operation.emit("BatchNormalization", [value, *arguments[:4]], {"epsilon": epsilon})
            del arguments[:4]
        else:
            value = fused_activation(operation, word, value)
    operation.done_image(value)


def fused_activation(operation: Operation, word: str, value: ir.Value) -> ir.Value:
    """An activation by the word that stands in ``fused_ops``."""
    plain = {"Relu": "Relu", "Elu": "Elu", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}
    if word == "Relu6":
        return relu6(operation, value)
    if word == "LeakyRelu":
        return operation.emit("LeakyRelu", [value], {"alpha": operation.attributes.real("leakyrelu_alpha", 0.2)})
    if word not in plain:
        raise Unsupported(f"{word} was put into it", "BiasAdd, FusedBatchNorm and activations")
    return operation.emit(plain[word], [value])


# --- dilation written out ---------------------------------------------------------------------------------------------


def _edges(operation: Operation, index: int, count: int) -> tuple[tuple[int, int], ...]:
    array = operation.array(index, "the edges")
    if array.shape != (count, 2) or array.dtype.kind not in "iu" or (array < 0).any():
        raise Unsupported(f"edges of shape {list(array.shape)}", "two integers per dimension")
    return tuple((int(a), int(b)) for a, b in array)


@converts("SpaceToBatchND")
def space_to_batch(operation: Operation) -> None:
    """Every d-th position of the padded image becomes a frame of its own."""
    block = operation.integers(1, "the block")
    if not block or min(block) < 1 or max(block) > 1 << 16:
        raise Unsupported(f"block {block}", "positive integers")
    operation.done(SplitFrames(operation.value(0), tuple(block), _edges(operation, 2, len(block))))


#: Operators on each element by itself, which may stand between the convolution and BatchToSpaceND.
POINTWISE = frozenset({
    "Abs", "Add", "AddV2", "BiasAdd", "Elu", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Identity",
    "LeakyRelu", "Maximum", "Minimum", "Mul", "Neg", "RealDiv", "Relu", "Relu6", "Selu", "Sigmoid", "Softplus", "Sub",
    "Tanh",
})  # fmt: skip
#: Those that make an image of one row of a line, and back.
TURNS = {"ExpandDims": 1, "Squeeze": -1}
CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative"})


def cropped(operation: Operation, value: ir.Value, crop: Sequence[tuple[int, int]]) -> ir.Value:
    """What is left of a tensor whose dimensions behind the batch are cropped before and after."""
    if not any(map(any, crop)):
        return value
    far = int(np.iinfo(np.int64).max)
    starts = operation.list([a for a, _ in crop])
    ends = operation.list([-b if b else far for _, b in crop])
    return operation.emit("Slice", [value, starts, ends, operation.list(range(1, len(crop) + 1))])


def crops(operation: Operation, count: int) -> tuple[tuple[int, int], ...]:
    """What BatchToSpaceND crops of each dimension."""
    return _edges(operation, 2, count)
