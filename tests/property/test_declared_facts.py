# SPDX-License-Identifier: Apache-2.0
"""What an operation declares of itself is true of what it computes: every fact, of every kind, shown on numbers.

A new kind fails :func:`test_every_kind_has_examples` until it stands in :data:`EXAMPLES`; a new fact of
:class:`headrace.layers.Operation` fails :func:`test_every_fact_is_tested` until a test reads it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar, get_origin, get_type_hints

import numpy as np
import pytest

import headrace.optimize.freeze  # noqa: F401  registers the freezers
from frontend_oracle import NumpyOps
from headrace.compiler.lower import lowered_operations
from headrace.layers import Operation, ScaleRule, all_operations, read_operation
from headrace.numerics.array import Array
from headrace.optimize.freeze.families import freezer_of
from headrace.timing import Plane, Work, row_windows

ROOT = Path(__file__).resolve().parents[2]
Shapes = tuple[tuple[int, ...], ...]
IMAGE: Shapes = ((2, 6, 5, 4),)
TWO: Shapes = ((2, 6, 5, 4), (2, 6, 5, 4))
VECTOR: Shapes = ((3, 12),)
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "padding": [1, 1, 2, 1]}

#: Kind → attributes as JSON, and shapes of the operands (the batch first).
EXAMPLES: dict[str, list[tuple[dict[str, Any], Shapes]]] = {
    "activation": [
        ({"activation": "relu"}, IMAGE),
        ({"activation": "silu"}, IMAGE),
        ({"activation": "prelu"}, IMAGE),
        ({"activation": "clip", "activation_params": {"min": -0.5, "max": 1.0}}, VECTOR),
    ],
    "avgpool": [(WINDOW, IMAGE), ({**WINDOW, "count_padding": True}, IMAGE), ({**WINDOW, "total": True}, IMAGE)],
    "batch_norm": [({}, IMAGE), ({"activation": "relu"}, IMAGE), ({}, VECTOR)],
    "concat": [({"axis": 2}, ((2, 6, 5, 4), (2, 6, 5, 3))), ({"axis": 0}, TWO)],
    "conv": [
        ({"kernel_shape": [3, 2, 4, 6], "padding": [1, 0, 2, 1]}, IMAGE),
        ({"kernel_shape": [3, 2, 2, 6], "groups": 2, "activation": "relu"}, IMAGE),
        ({"kernel_shape": [1, 1, 4, 4], "elementwise_add": True}, TWO),
    ],
    "dense": [({"kernel_shape": [12, 5]}, VECTOR)],
    "depth_to_space": [({"mode": "DCR"}, IMAGE), ({"mode": "CRD"}, IMAGE)],
    "dw": [({"kernel_shape": [3, 3, 1, 4], "groups": 4, "padding": [1, 1, 1, 1]}, IMAGE)],
    "ew_add": [({}, TWO), ({"activation": "relu"}, ((2, 6, 5, 4), (2, 1, 1, 4)))],
    "ew_mult": [({}, TWO), ({}, ((2, 6, 5, 4), (2, 1, 1, 4)))],
    "ew_sub": [({}, TWO)],
    "external_pad": [({"before": [1, 0, 2], "after": [0, 1, 1]}, IMAGE)],
    "input_layer": [],  # it computes nothing
    "matmul": [({}, ((2, 3, 4, 5), (2, 3, 5, 6)))],
    "maxpool": [(WINDOW, IMAGE)],
    "normalization": [({}, IMAGE)],
    "output_layer": [({}, IMAGE), ({}, VECTOR)],
    "reciprocal_sum": [({"axes": [0, 1]}, IMAGE)],
    "reduce_max": [({"axes": [2]}, IMAGE)],
    "reshape": [({"shape": [120]}, IMAGE), ({"shape": [3, 10, 4]}, IMAGE)],
    "resize_bilinear": [({"sizes": [9, 4], "coordinates": "half_pixel"}, IMAGE)],
    "resize_nearest": [({"sizes": [9, 4]}, IMAGE)],
    "slice": [({"starts": [1, 0, 1], "steps": [2, 1, 1], "sizes": [2, 5, 3]}, IMAGE)],
    "softmax": [({}, IMAGE)],
    "space_to_depth": [({"mode": "DCR"}, ((2, 6, 4, 3),))],
    "transpose": [({"permutation": [2, 0, 1]}, IMAGE)],
}
CASES = [
    pytest.param(read_operation(kind, attributes, kind), shapes, id=f"{kind}-{number}")
    for kind, examples in EXAMPLES.items()
    for number, (attributes, shapes) in enumerate(examples)
]
on_every_case = pytest.mark.parametrize(("operation", "shapes"), CASES)


def open_batch(shapes: Shapes) -> list[tuple[int, ...]]:
    return [(-1, *shape[1:]) for shape in shapes]


def parameters(operation: Operation, shapes: Shapes) -> dict[str, Array]:
    """Random values of every float parameter but the gain, none of them near zero."""
    rng = np.random.default_rng(5)
    output = operation.output_shape(open_batch(shapes), "example")
    wanted = operation.parameters(open_batch(shapes), output)
    return {
        name: rng.uniform(0.3, 1.5, p.shape) * rng.choice([-1, 1], p.shape)
        for name, p in wanted.items()
        if name != "gain" and p.shape is not None
    }


def operands(shapes: Shapes) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.normal(0.1, 1.0, shape) for shape in shapes]


def run(operation: Operation, given: list[Array], params: dict[str, Array] | None = None) -> Array:
    shapes = tuple(x.shape for x in given)
    made = operation.forward_float(NumpyOps(), parameters(operation, shapes) if params is None else params, given)
    assert made.shape[1:] == operation.output_shape(open_batch(shapes), "example")[1:]
    return made


def changed(operation: Operation, given: list[Array], index: tuple[Any, ...]) -> Array:
    """Where the result differs when a part of every operand that has it is another."""
    other = [x.copy() for x in given]
    for x in other:
        if x.shape == given[0].shape:
            x[index] += 2.5
    return run(operation, given) != run(operation, other)


def test_every_kind_has_examples() -> None:
    assert sorted(EXAMPLES) == [operation.kind for operation in all_operations()]
    assert all(examples or operation_of(kind).is_boundary for kind, examples in EXAMPLES.items())


def operation_of(kind: str) -> type[Operation]:
    return next(operation for operation in all_operations() if operation.kind == kind)


def test_every_fact_is_tested() -> None:
    hints = get_type_hints(Operation, include_extras=True)
    facts = {name for name, hint in hints.items() if get_origin(hint) is ClassVar}
    facts |= {name for name, value in vars(Operation).items() if isinstance(value, property)}
    text = inspect.getsource(inspect.getmodule(test_every_fact_is_tested))  # type: ignore[arg-type]
    described = {"kind", "prefix", "description", "json_attributes", "all_attributes"}  # tests/unit/test_layers.py
    untested = sorted(name for name in facts - described if f".{name}" not in text)
    assert untested == [], "a declared fact needs a test that shows it on numbers"


@pytest.mark.parametrize("operation", all_operations(), ids=lambda o: o.kind)
def test_every_kind_is_carried_through_every_stage(operation: type[Operation]) -> None:
    """A kernel, a time, a form for freezing and a row of the page of layers; or it is decomposed, or a boundary."""
    kind = operation.kind
    assert f"| `{kind}` |" in (ROOT / "docs" / "reference" / "layers.md").read_text()
    if operation.is_boundary:
        return
    assert operation.elementwise or operation.row_cost is not Operation.row_cost, "it does not say which rows it reads"
    assert (operation in lowered_operations()) == operation.has_integer_form, "a kernel, or a decomposition"
    assert (freezer_of(operation) is not None) == operation.has_integer_form, "a form for freezing, or a decomposition"


def plane(name: str, shape: tuple[int, ...]) -> Plane:
    return Plane(name, *((1, 1, shape[1]) if len(shape) == 2 else shape[1:]))


@on_every_case
def test_rows(operation: Operation, shapes: Shapes) -> None:
    """Another value in a row of an operand shows in no output row that does not read it."""
    if operation.is_boundary:
        return
    opened = open_batch(shapes)
    output = operation.output_shape(opened, "example")
    cost = operation.row_cost(opened, output)
    planes = tuple(plane(str(i), shape) for i, shape in enumerate(shapes))
    assert len(cost.rules) == len(planes)
    work = Work("w", operation.kind, cost.family, planes, cost.rules, plane("y", output))
    given, params = operands(shapes), parameters(operation, shapes)
    before = run(operation, given, params)
    for i, source in enumerate(planes):
        first, last = row_windows(work, i)
        assert first.size == work.output.height
        for row in range(source.height):
            other = [x.copy() for x in given]
            other[i].reshape(shapes[i][0], source.height, -1)[:, row] += 2.5
            differs = run(operation, other, params) != before
            rows = differs.reshape(shapes[0][0], work.output.height, -1).any(axis=(0, 2))
            assert not rows[(row < first) | (row > last)].any()


@on_every_case
def test_arity(operation: Operation, shapes: Shapes) -> None:
    least, most = operation.arity
    assert least <= len(shapes) <= most


@on_every_case
def test_copied_codes(operation: Operation, shapes: Shapes) -> None:
    given = operands(shapes)
    made = run(operation, given)
    elements = np.concatenate([x.reshape(-1) for x in given])
    copies = bool(np.isin(made, elements).all())
    assert copies or not operation.copies_codes
    if operation.copies_codes:
        assert operation.scale_rule in (ScaleRule.PASSES, ScaleRule.CONCAT)


@on_every_case
def test_passed_codes(operation: Operation, shapes: Shapes) -> None:
    """No value is made that is none of the operands', but for the zeros of padding."""
    if operation.passes_codes:
        given = operands(shapes)
        elements = np.concatenate([x.reshape(-1) for x in given])
        assert np.isin(run(operation, given), [*elements, 0.0]).all()


@on_every_case
def test_fixed_range(operation: Operation, shapes: Shapes) -> None:
    fixed = operation.fixed_range()
    assert (fixed is not None) == (operation.scale_rule == ScaleRule.FIXED)
    if fixed is not None:
        made = run(operation, [40 * x for x in operands(shapes)])
        assert fixed[0] <= made.min() and made.max() <= fixed[1]


@on_every_case
def test_elementwise(operation: Operation, shapes: Shapes) -> None:
    if operation.elementwise:
        given = operands(shapes)
        place = (0, *(size // 2 for size in shapes[0][1:]))
        where = changed(operation, given, place)
        assert np.argwhere(where).tolist() in ([], [list(place)])


@on_every_case
def test_channelwise(operation: Operation, shapes: Shapes) -> None:
    if operation.channelwise:
        where = changed(operation, operands(shapes), (..., 1))
        assert set(np.argwhere(where)[:, -1]) <= {1}


@on_every_case
def test_constants_are_kept(operation: Operation, shapes: Shapes) -> None:
    if operation.keeps_constants:
        constants = np.linspace(-1.5, 2.0, shapes[0][-1])
        made = run(operation, [np.broadcast_to(constants, shapes[0]).copy()])
        np.testing.assert_allclose(made, np.broadcast_to(constants, made.shape), rtol=1e-6)


@on_every_case
def test_factors_pass(operation: Operation, shapes: Shapes) -> None:
    if operation.passes_factors:
        factors = np.linspace(0.25, 3.0, shapes[0][-1])
        (given,) = operands(shapes)
        np.testing.assert_allclose(run(operation, [given * factors]), run(operation, [given]) * factors, rtol=1e-6)


@on_every_case
def test_weights(operation: Operation, shapes: Shapes) -> None:
    """The named array has the operand's channels along one axis, the result's along the other."""
    weights = operation.weights
    if weights is None:
        return
    params, given = parameters(operation, shapes), operands(shapes)
    array = params[weights.name]
    made = run(operation, given, params)
    assert array.shape[weights.output_axis] == made.shape[-1]
    assert shapes[0][-1] % array.shape[weights.input_axis] == 0
    factor = np.ones(array.shape[weights.output_axis])
    factor[-1] = 2.0  # of the last output channel alone
    others = [axis for axis in range(array.ndim) if axis != weights.output_axis]
    other = params | {weights.name: array * np.expand_dims(factor, others)}
    assert set(np.argwhere(run(operation, given, other) != made)[:, -1]) == {made.shape[-1] - 1}


@on_every_case
def test_additive(operation: Operation, shapes: Shapes) -> None:
    if operation.additive is None or not operation.is_linear:
        return
    params, given = parameters(operation, shapes), operands(shapes)
    offset = np.linspace(1.0, 2.0, params[operation.additive].size)
    moved = run(operation, given, params | {operation.additive: params[operation.additive] + offset})
    np.testing.assert_allclose(moved, run(operation, given, params) + offset, rtol=1e-6, atol=1e-6)


@on_every_case
def test_linear(operation: Operation, shapes: Shapes) -> None:
    """``f(a) + f(b) = f(a + b) + f(0)`` of what multiplies by constants and says that nothing follows."""
    if operation.weights is not None and operation.is_linear:
        a, b = operands(shapes), [x[::-1] for x in operands(shapes)]
        left = run(operation, a) + run(operation, b)
        zero = [np.zeros_like(x) for x in a]
        right = run(operation, [x + y for x, y in zip(a, b, strict=True)]) + run(operation, zero)
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


@on_every_case
def test_integers(operation: Operation, shapes: Shapes) -> None:
    """What is frozen fits what is declared of it."""
    opened = open_batch(shapes)
    frozen = operation.frozen(opened, operation.output_shape(opened, "example"))
    computes = operation.has_integer_form and operation.scale_rule not in (ScaleRule.PASSES, ScaleRule.CONCAT)
    assert (frozen is not None) == computes
    if frozen is None:
        assert not operation.one_accumulator or not operation.has_integer_form
        return
    if operation.weights is not None:
        assert f"{operation.weights.name}_q" in frozen.parameters
    if operation.requantizes_by_channel:
        assert frozen.channels == operation.output_shape(opened, "example")[-1]
    if operation.one_accumulator:
        assert len(shapes) == 1 or getattr(operation, "elementwise_add", False)
    if operation.reads_wide:
        assert operation.weights is None, "multiply-accumulate kernels read 8 bits"
