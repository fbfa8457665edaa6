# SPDX-License-Identifier: Apache-2.0
"""Nodes with operands and attributes at random: whatever a file asks for, the answer is about the file.

A function of ours that meets operands it should have refused by name is a fault (``E-INTERNAL``), so each check that is
missing in a handler, or in what folds constants, ends a test here.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ir = pytest.importorskip("onnx_ir")
from onnx import helper  # noqa: E402

from frontend_oracle import model  # noqa: E402
from headrace.errors import HeadraceError  # noqa: E402
from headrace.frontends import fold_products  # noqa: E402
from headrace.frontends.fold import EVALUATORS, Budget  # noqa: E402
from headrace.frontends.folding import evaluate  # noqa: E402
from headrace.frontends.graph import Unsupported  # noqa: E402
from headrace.frontends.to_hn import HANDLERS  # noqa: E402
from parsing import parse_onnx  # noqa: E402

assert fold_products  # registers
INTEGERS = [0, 1, -1, 2, 3, -2, 4, 7, 64, 1 << 20, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63)]
REALS = [0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, float("nan"), float("inf")]
WORDS = [
    "", "constant", "reflect", "edge", "linear", "cubic", "nearest", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET",
    "asymmetric", "half_pixel", "align_corners", "floor", "ceil", "DCR", "CRD", "tanh", "ij,jk->ik", "...", "other",
]  # fmt: skip
DTYPES = ("float32", "float32", "float32", "int64", "int64", "int32", "uint8", "bool", "float64")
SIZES = (1, 1, 2, 3, 4, 4, 8)


class Chance:
    """Choices of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def one(self, things: Any) -> Any:
        return things[int(self.rng.integers(len(things)))]

    def often(self, share: float) -> bool:
        return float(self.rng.random()) < share

    def shape(self, most: int = 5) -> list[int]:
        sizes = (*SIZES, 0) if self.often(0.1) else SIZES
        return [self.one(sizes) for _ in range(int(self.rng.integers(most + 1)))]

    def array(self, shape: list[int] | None = None) -> np.ndarray:
        """A constant: numbers, or a short list of indices or sizes."""
        if self.often(0.35):
            return np.array([self.one(INTEGERS[:8]) for _ in range(int(self.rng.integers(6)))], np.int64)
        if self.often(0.1):
            return np.array(self.one(INTEGERS), np.int64)
        shape = self.shape() if shape is None else shape
        values = self.rng.integers(-3, 5, shape).astype(self.one(DTYPES))
        if values.dtype.kind == "f" and values.size and self.often(0.1):
            values.reshape(-1)[0] = self.one(REALS)
        return values

    def value(self, kind: int) -> Any:
        """A value of an attribute of a type."""
        types = onnx.AttributeProto
        integers = INTEGERS if self.often(0.2) else INTEGERS[:8]
        if kind == types.INT:
            return int(self.one(integers))
        if kind == types.FLOAT:
            return float(self.one(REALS))
        if kind == types.STRING:
            return self.one(WORDS)
        if kind == types.INTS:
            return [int(self.one(integers)) for _ in range(int(self.rng.integers(7)))]
        if kind == types.FLOATS:
            return [float(self.one(REALS)) for _ in range(int(self.rng.integers(5)))]
        return onnx.numpy_helper.from_array(self.array()) if kind == types.TENSOR else None

    def attributes(self, operator: str, opset: int) -> dict[str, Any]:
        """Some of those that the operator has."""
        try:
            schema = onnx.defs.get_schema(operator, opset, "")
        except onnx.defs.SchemaError:
            return {}
        found: dict[str, Any] = {}
        for name, attribute in sorted(schema.attributes.items()):
            if attribute.required or self.often(0.4):
                value = self.value(int(attribute.type.value))
                if value is not None and value != []:
                    found[name] = value
        return found


def counts(operator: str, opset: int) -> tuple[int, int, int]:
    """The least and the most operands, and results."""
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return 1, 3, 1
    return schema.min_input, min(schema.max_input, 5), max(schema.min_output, 1)


def usual(operator: str, shape: list[int], chance: Chance) -> tuple[list[Any], dict[str, Any]]:
    """Constants and attributes that the operator takes beside a tensor of this shape; what is not here has none."""
    floats = lambda *sizes: chance.rng.uniform(0.5, 1.5, sizes).astype(np.float32)  # noqa: E731
    whole = lambda *values: np.array(values, np.int64)  # noqa: E731
    rank, channels, last = len(shape), max(shape[1 % len(shape)], 1), shape[-1]
    axis, window = chance.one(range(-rank, rank)), [chance.one([1, 2, 3]) for _ in range(max(rank - 2, 1))]
    groups = chance.one([1, 1, channels])
    per_channel = [floats(channels) for _ in range(4)]
    found: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "Conv": ([floats(groups * 2, channels // groups, *window), floats(groups * 2)], {"group": groups}),
        "ConvTranspose": ([floats(channels, 2, *window)], {"strides": [chance.one([1, 2]) for _ in window]}),
        "MaxPool": ([], {"kernel_shape": window}),
        "AveragePool": ([], {"kernel_shape": window}),
        "Gemm": ([floats(last, 3), floats(3)], {}),
        "MatMul": ([floats(last, 3)], {}),
        "BatchNormalization": (per_channel, {}),
        "InstanceNormalization": (per_channel[:2], {}),
        "GroupNormalization": (per_channel[:2], {"num_groups": groups}),
        "LayerNormalization": ([floats(last), floats(last)], {"axis": -1}),
        "RMSNormalization": ([floats(last)], {"axis": -1}),
        "PRelu": ([floats(channels, *[1] * (rank - 2))], {}),
        "Pow": ([np.float32(chance.one([2, 3, 0.5, -1]))], {}),
        "Slice": ([whole(0), whole(2), whole(axis)], {}),
        "Gather": ([whole(0, 0)], {"axis": axis}),
        "Split": ([], {"axis": axis}),
        "Concat": ([floats(*shape)], {"axis": axis}),
        "Pad": ([whole(*[0, 0, *[1] * (rank - 2)] * 2)], {}),
        "Reshape": ([whole(1, -1)], {}),
        "Expand": ([whole(*shape)], {}),
        "Tile": ([whole(1, *[2] * (rank - 1))], {}),
        "Unsqueeze": ([whole(chance.one([1, 2]))], {}),
        "Squeeze": ([whole(axis)], {}),
        "Resize": ([None, np.array([1, 1, *[2] * (rank - 2)], np.float32)], {}),
        "SpaceToDepth": ([], {"blocksize": 2}),
        "DepthToSpace": ([], {"blocksize": 2}),
        "Cast": ([], {"to": 1}),
        "Where": ([chance.rng.random((1, *shape[1:])) < 0.5, floats(1)], {}),
        "Transpose": ([], {"perm": [0, *(int(i) + 1 for i in chance.rng.permutation(rank - 1))]}),
        "LRN": ([], {"size": 3}),
    }  # fmt: skip
    if operator.startswith("Reduce"):
        return [whole(axis)], {}
    if operator in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Equal"):
        like = floats(channels, *[1] * (rank - 2)) if rank > 1 else floats(channels)
        return [np.full(1, np.inf, np.float32) if operator == "Equal" else like], {}
    return found.get(operator, ([], {}))


def built(chance: Chance, operator: str) -> onnx.ModelProto:
    """A tensor, perhaps turned, the operator as it usually is with some of it changed, and something behind it."""
    opset = chance.one([9, 13, 18, 20, 22, 23])
    shape = [chance.one([1, 1, 1, 2]), *(chance.one(SIZES) for _ in range(chance.one([1, 2, 3, 3, 3])))]
    shape = chance.shape() or [1] if chance.often(0.1) else shape
    nodes, source = [], "x"
    if chance.often(0.2) and len(shape) > 1:
        order = [0, *(int(i) + 1 for i in chance.rng.permutation(len(shape) - 1))]
        order = [int(i) for i in chance.rng.permutation(len(shape))] if chance.often(0.3) else order
        nodes.append(helper.make_node("Transpose", ["x"], ["t"], perm=order))
        source, shape_now = "t", [shape[i] for i in order]
    else:
        shape_now = shape
    given, attributes = usual(operator, shape_now, chance)
    least, most, results = counts(operator, opset)
    if chance.often(0.3):
        attributes |= chance.attributes(operator, opset)
    if chance.often(0.15) and attributes:
        del attributes[chance.one(sorted(attributes))]
    if chance.often(0.2):
        given += [chance.array() for _ in range(max(least, min(most, int(chance.rng.integers(5)))) - len(given) - 1)]
    constants: dict[str, np.ndarray] = {}
    operands = ["" if chance.often(0.02) else source]
    for index, array in enumerate(given):
        name = f"c{index}"
        if array is None or chance.often(0.03):
            operands.append("")
        elif chance.often(0.05):
            operands.append(source)
        else:
            like = list(np.shape(array))
            constants[name] = chance.array(chance.one([like, shape, None])) if chance.often(0.1) else np.asarray(array)
            operands.append(name)
    if chance.often(0.1) and len(operands) > 1:
        operands[0], operands[1] = operands[1], operands[0]
    if operator == "Where":
        operands[:2] = operands[1::-1]
    outputs = [f"o{i}" for i in range(results if chance.often(0.9) else results + 1)]
    node = helper.make_node(operator, operands, outputs, **attributes)
    nodes += [node, helper.make_node("Relu", [outputs[0]], ["y"])]
    return model(nodes, [("x", shape)], [("y", None)], constants, opset)


@pytest.mark.parametrize("seed", range(4))
def test_handlers_refuse_by_name_what_they_do_not_translate(seed: int) -> None:
    parsed = 0
    for index, operator in enumerate(sorted(HANDLERS)):
        for turn in range(3):
            chance = Chance(seed * 1_000_003 + index * 101 + turn)
            data = built(chance, operator).SerializeToString()
            try:
                parse_onnx(data)
                parsed += 1
            except HeadraceError as error:
                assert error.code != "E-INTERNAL", (operator, seed, turn, str(error))
    assert parsed > 10


def constant_node(chance: Chance, operator: str) -> tuple[ir.Node, list[np.ndarray | None]]:
    least, most, results = counts(operator, 21)
    count = int(chance.rng.integers(least, max(most, least) + 1))
    first = chance.array()
    shapes = [list(first.shape), list(first.shape[1:]), list(first.shape[-1:]), None, None]
    arrays: list[np.ndarray | None] = [first if i == 0 else chance.array(chance.one(shapes)) for i in range(count)]
    arrays = [None if i and chance.often(0.05) else a for i, a in enumerate(arrays)]
    made = helper.make_node(operator, [], [], **chance.attributes(operator, 21))
    attributes = [ir.serde.deserialize_attribute(attribute) for attribute in made.attribute]
    outputs = [ir.Value(name=f"o{i}") for i in range(results)]
    values = [None if a is None else ir.Value(name=f"i{i}") for i, a in enumerate(arrays)]
    return ir.Node("", operator, values, attributes, outputs=outputs), arrays


@pytest.mark.parametrize("seed", range(4))
def test_what_folds_constants_refuses_by_name_what_it_does_not_compute(seed: int) -> None:
    computed = 0
    for index, operator in enumerate(sorted(EVALUATORS)):
        for turn in range(12):
            chance = Chance(seed * 1_000_003 + index * 101 + turn)
            node, arrays = constant_node(chance, operator)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    evaluate(node, arrays, Budget())
                computed += 1
            except Unsupported as problem:
                assert "do not fit" not in problem.reason, (operator, problem.reason)
    assert computed > 50
