# SPDX-License-Identifier: Apache-2.0
"""Dense, EinsumDense and Embedding."""

from __future__ import annotations

import math
import re

import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts
from headrace.frontends.formats.keras.layers.activation import activated
from headrace.frontends.graph import Unsupported
from headrace.hn import Array
from headrace.typeguards import is_list, is_text


@converts("Dense")
def dense(call: LayerCall) -> Tensor:
    """Of a vector, one layer; of more dimensions, each row of the last on its own."""
    x, units = call.x, call.integer("units")
    kernel = call.weight(0, [x.channels, units], "kernel")
    bias = [call.make(call.weight(1, [units], "bias"))] if call.flag("use_bias", True) else []
    if x.rank == 2:
        value = call.emit("Gemm", [x.value, call.make(kernel), *bias])
    else:
        value = call.emit("MatMul", [x.value, call.make(kernel)])
        value = call.emit("Add", [value, *bias]) if bias else value
    return Tensor(activated(call, value), (*x.shape[:-1], units))


@converts("EinsumDense")
def einsum_dense(call: LayerCall) -> Tensor:
    x, equation = call.x, call.option("equation")
    found = re.fullmatch(r"(\w+),(\w+)->(\w+)", equation) if is_text(equation) else None
    if found is None or len(found[1]) != x.rank:
        raise Unsupported(f"the equation {str(equation)[:80]!r}", "letters for each dimension: 'abc,cd->abd'")
    given, kernel, made = found.groups()
    sizes = dict(zip(given, x.shape, strict=True))
    stated = call.option("output_shape")
    stated = stated if is_list(stated) else [stated]
    if len(stated) != len(made) - 1:
        raise Unsupported(f"output_shape {str(stated)[:80]} and {made!r}", "a size for each dimension but the first")
    for letter, size in zip(made[1:], stated, strict=True):
        if isinstance(size, int) and sizes.get(letter) is None:
            sizes[letter] = size
    shape = [sizes.get(letter) for letter in kernel]
    if any(size is None for size in shape):
        raise Unsupported("the file leaves sizes of its kernel open", "known sizes")
    array = call.weight(0, [size for size in shape if size is not None], "kernel")
    value = _rows_times(call, x, (given, kernel, made), array)
    if value is None:
        value = call.emit("Einsum", [x.value, call.make(array)], {"equation": equation})
    value = _einsum_bias(call, value, made, [sizes.get(letter) for letter in made])
    return Tensor(activated(call, value), tuple(sizes.get(letter) for letter in made))


def _rows_times(call: LayerCall, x: Tensor, letters: tuple[str, str, str], kernel: Array) -> ir.Value | None:
    """The product where the last dimensions of the input meet the first of the kernel, in order: rows by a matrix."""
    given, own, made = letters
    summed = "".join(letter for letter in own if letter not in made)
    rest, new = given.removesuffix(summed), own.removeprefix(summed)
    if not summed or (rest + summed, summed + new, rest + new) != letters:
        return None
    matrix = kernel.reshape(math.prod(kernel.shape[: len(summed)]), -1)
    value = x.value
    if len(summed) > 1:
        value = call.emit("Reshape", [value, call.list([*[0] * len(rest), len(matrix)])])
    value = call.emit("MatMul", [value, call.make(matrix)])
    if len(new) > 1:
        value = call.emit("Reshape", [value, call.list([*[0] * len(rest), *kernel.shape[len(summed) :]])])
    return value


def _einsum_bias(call: LayerCall, value: ir.Value, made: str, sizes: list[int | None]) -> ir.Value:
    axes = call.option("bias_axes")
    if axes is None:
        return value
    if not is_text(axes) or any(a not in made for a in axes):
        raise Unsupported(f"bias_axes {str(axes)[:40]!r}", f"of {made!r}")
    first = min(made.index(a) for a in axes)
    shape: list[int] = []
    for letter, size in zip(made[first:], sizes[first:], strict=True):
        if letter in axes and size is None:
            raise Unsupported("the file leaves sizes of its bias open", "known sizes")
        shape.append(size if letter in axes and size is not None else 1)
    return call.emit("Add", [value, call.make(call.weight(1, shape, "bias"))])


@converts("Embedding")
def embedding(call: LayerCall) -> Tensor:
    x, width = call.x, call.integer("output_dim")
    table = call.weight(0, [call.integer("input_dim"), width], "table")
    index = call.emit("Cast", [x.value], {"to": int(ir.DataType.INT64)}, glue=True)
    return Tensor(
        call.emit("Gather", [call.make(table), index], {"axis": 0}), (*x.shape, width), call.flag("mask_zero")
    )
