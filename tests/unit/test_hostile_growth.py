# SPDX-License-Identifier: Apache-2.0
"""Small files that ask for very much: coded errors in seconds and little memory, wherever the asking is done."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

from fuzz.seeds import _onnx
from fuzz.targets import check
from headrace.errors import Diagnostic

N, F = helper.make_node, np.float32
MANY = 10**9
IMAGE = {"x": [1, 3, 8, 8]}


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def outcome(nodes: list[Any], shapes: Any = None, ends: Any = ("y",), opset: int = 18, **weights: Any) -> str:
    return check("onnx", {"": _onnx(nodes, shapes or IMAGE, ends, opset, **weights).SerializeToString()})


GROWING = {
    "edges": ([N("Pad", ["x", "s"], ["y"], mode="edge")], {"s": ints(0, 0, MANY, 0, 0, 0, MANY, 0)}),
    "wrapped": ([N("Pad", ["x", "s"], ["y"], mode="wrap")], {"s": ints(0, 0, MANY, 0, 0, 0, MANY, 0)}),
    "outputs of a Split": ([N("Split", ["x"], ["y", "z"], num_outputs=MANY)], {}),
    "an equation of dots": ([N("Einsum", ["x"], ["y"], equation="..." * 100_000 + "->b")], {}),
    "an equation of letters": ([N("Einsum", ["x"], ["y"], equation="a" * 1_000_000 + "->b")], {}),
    "operands of a Concat": ([N("Concat", ["x"] * 50_000, ["y"], axis=1)], {}),
    "operands of a Sum": ([N("Sum", ["x"] * 50_000, ["y"])], {}),
    "a size": ([N("Resize", ["x", "", "", "s"], ["y"], mode="linear")], {"s": ints(1, 3, 10**6, 10**6)}),
    "a shape": ([N("Expand", ["x", "s"], ["y"])], {"s": ints(10**5, 3, 8, 8)}),
    "a window": ([N("HannWindow", ["s"], ["c"]), N("Add", ["x", "c"], ["y"])], {"s": np.array(10**10)}),
    "strides": ([N("ConvTranspose", ["x", "k"], ["y"], strides=[MANY] * 2)], {"k": np.ones((3, 2, 2, 2), F)}),
    "a grid": (
        [N("AffineGrid", ["t", "s"], ["g"]), N("GridSample", ["x", "g"], ["y"])],
        {"t": np.ones((1, 2, 3), F), "s": ints(1, 3, 10**5, 10**5)},
    ),
    "columns": ([N("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 1e9, 1e9])], {}),
}


@pytest.mark.parametrize("what", GROWING)
def test_one_node_that_asks_for_much(what: str) -> None:
    nodes, weights = GROWING[what]
    assert outcome(nodes, opset={"columns": 7, "a grid": 20}.get(what, 18), **weights).startswith("E-")


@pytest.mark.parametrize("steps", [10**5, MANY])
@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_sequences_of_any_length(operator: str, steps: int) -> None:
    gates = {"LSTM": 12, "GRU": 9}[operator]
    weights = {"w": np.ones((1, gates, 4), F), "r": np.ones((1, gates, 3), F)}
    assert outcome([N(operator, ["x", "w", "r"], ["a", "y"], hidden_size=3)], {"x": [steps, 1, 4]}, **weights) != "read"


def test_products_and_sums_of_long_axes() -> None:
    for nodes in ([N("CumSum", ["x", "a"], ["y"])], [N("DFT", ["x"], ["y"], axis=1)]):
        assert outcome(nodes, {"x": [1, MANY, 1]}, a=np.array(1)) != "read"
    volume = outcome([N("Conv", ["x", "k"], ["y"])], {"x": [1, 1, 10**5, 4, 4]}, k=np.ones((2, 1, 3, 3, 3), F))
    assert volume != "read"


def test_many_nodes_that_nothing_knows() -> None:
    names = ["x", *(f"y{i}" for i in range(800))]
    nodes = [N(f"Foo{i}", [a], [b]) for i, (a, b) in enumerate(itertools.pairwise(names))]
    assert outcome(nodes, ends=[names[-1]]).startswith("E-ONNX")


def test_messages_are_short_whatever_a_name_is() -> None:
    long = "a" * 10_000_000
    text = str(Diagnostic("E-X", long, f"rule {long}", long, long))
    assert len(text) < 50_000 and text.count("…") == 4
    assert outcome([N("Relu", ["x"], [long]), N("Foo", [long], ["y"])]).startswith("E-ONNX")
