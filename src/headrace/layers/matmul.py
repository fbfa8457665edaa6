# SPDX-License-Identifier: Apache-2.0
"""Products of two computed matrices, as in attention: one product per row of height.

The device has no matrix product of two activations; a pass decomposes it into products of elements (16 bit) and their
sums, which it has (passes/decompose_matmul.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.layers.operation import Counts, Operation, Shape, register
from headrace.layers.rows import RowCost, row_by_row
from headrace.layers.shapes import need_rank, shape_error
from headrace.numerics.ops import AnyTensor, FloatOps
from headrace.numerics.requantize import Array

#: Products of elements that one layer may need per frame; each is an element of a tensor once it is decomposed.
MAX_PRODUCTS = 1 << 27


@register
@dataclass(frozen=True)
class Matmul(Operation):
    """[G, N, K] times [G, K, M]: height counts the matrices, width their rows, channels their columns."""

    kind = "matmul"
    prefix = "matmul"
    arity = (2, 2)
    has_integer_form = False
    description = "Products of the matrices (width × channels) of two tensors, row by row of height; decomposed."

    def output_shape(self, shapes: Sequence[Shape], where: str) -> Shape:
        left, right = shapes
        for shape in shapes:
            need_rank(shape, 4, where)
        if left[1] != right[1] or left[3] != right[2]:
            raise shape_error(
                where, "the matrices do not fit", [list(left[1:]), list(right[1:])], "[G, N, K] and [G, K, M]"
            )
        products = left[1] * left[2] * left[3] * right[3]
        if products > MAX_PRODUCTS:
            got = f"{products} of {list(left[1:])} and {list(right[1:])}"
            raise shape_error(where, "the matrices need too many products", got, f"≤ {MAX_PRODUCTS}")
        return (-1, left[1], left[2], right[3])

    def forward_float(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Array], inputs: Sequence[AnyTensor]
    ) -> AnyTensor:
        return ops.matmul(inputs[0], inputs[1])

    def row_cost(self, shapes: Sequence[Shape], output: Shape) -> RowCost:
        # Before decomposition: the second operand's rows repeated, products, sums; one controller each.
        return row_by_row(shapes, controllers=3)

    def counts(self, shapes: Sequence[Shape], output: Shape) -> Counts:
        groups, rows, inner = shapes[0][1:]
        products = groups * rows * inner * shapes[1][3]
        return Counts(operations=2 * products, output_elements=groups * rows * shapes[1][3])
