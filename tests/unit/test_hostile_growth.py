# SPDX-License-Identifier: Apache-2.0
"""Small files that ask for very much: coded errors in seconds and little memory, wherever the asking is done."""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper

from fuzz.seeds import _onnx, write
from fuzz.targets import TARGETS, check
from headrace.errors import Diagnostic
from small_hdf5 import hdf5
from small_tensorflow import Kind, SmallGraph

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
    "a choice of constants": (
        [N("Greater", ["x", "z"], ["c"]), N("Where", ["c", "a", "b"], ["y"])],
        {"z": np.zeros((), F), "a": np.ones((1, 40_000, 1, 1), F), "b": np.zeros((1, 1, 40_000, 1), F)},
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


def test_matrices_of_tensorflow_by_a_number() -> None:
    g = SmallGraph()
    line = g.op("Fill", [g.ints(30_000), g.const(F(1))], index_type=Kind("int32"))
    g.op("Add", [g.input(1, 4), g.op("MatrixDiag", [line])], name="y")
    assert check("frozen", {"": g.bytes()}) == "E-TENSORFLOW-UNSUPPORTED"


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        ("LSTM", {"units": 4}), ("RepeatVector", {"n": 10**30}), ("Reshape", {"target_shape": [10**30, 4]}),
        ("Dense", {"units": 10**30, "use_bias": False}), ("Embedding", {"input_dim": MANY, "output_dim": MANY}),
    ],
)  # fmt: skip
def test_layers_of_keras_by_a_number(layer: str, size: dict[str, Any]) -> None:
    shape = [None, MANY, 4] if layer == "LSTM" else [None, 4]

    def entry(kind: str, **config: Any) -> dict[str, Any]:
        made = {"name": kind.lower(), "trainable": True, "dtype": "float32"} | config
        return {"module": "keras.layers", "class_name": kind, "config": made, "registered_name": None}

    layers = [entry("InputLayer", batch_shape=shape), entry(layer, **size)]
    model = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
        made.writestr("config.json", json.dumps(model | {"registered_name": None}))
        made.writestr("model.weights.h5", hdf5({"layers/a/vars/0": np.ones((2, 2), F)}))
    assert check("keras", {"": out.getvalue()}).startswith("E-KERAS")


def test_what_stands_in_a_folder_may_be_anything(tmp_path: Path) -> None:
    """Pipes, devices, links that lead out or in circles: none is waited for, none is read without end."""
    from headrace.errors import HeadraceError
    from headrace.frontends import parse

    saved = TARGETS["saved-model"].seeds()[0]
    for number, replaced in enumerate(sorted(saved)):
        for kind in ("pipe", "zero", "circle", "folder"):
            folder = tmp_path / f"{kind}{number}"
            folder.mkdir()
            write(saved, folder)
            place = folder / replaced
            place.unlink()
            if kind == "pipe":
                os.mkfifo(place)
            elif kind == "folder":
                place.mkdir()
            else:
                place.symlink_to("/dev/zero" if kind == "zero" else place)
            with pytest.raises(HeadraceError) as caught:
                parse(folder)
            assert caught.value.code.startswith("E-"), caught.value


def test_external_data_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    from headrace.errors import HeadraceError
    from headrace.frontends import parse

    case = TARGETS["onnx-external"].seeds()[0]
    (tmp_path / "secret").write_bytes(case["weights.bin"])
    for number, location in enumerate(("../secret", str(tmp_path / "secret"), "/dev/zero", "link", "pipe", ".", "")):
        folder = tmp_path / str(number)
        folder.mkdir()
        write({"model.onnx": case["model.onnx"]}, folder)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = location
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "link").symlink_to(tmp_path / "secret")
        os.mkfifo(folder / "pipe")
        with pytest.raises(HeadraceError) as caught:
            parse(folder / "model.onnx")
        assert caught.value.code in ("E-ONNX-CORRUPT", "E-FILE-MISSING", "E-FILE-READ"), (location, caught.value)


@pytest.mark.parametrize(
    "maker",
    [
        N("Conv", ["x", "k"], ["q"]), N("MaxPool", ["x"], ["q"], kernel_shape=[9, 9]),
        N("Pad", ["x", "p"], ["q"]), N("Identity", ["negative"], ["q"]),
    ],
)  # fmt: skip
def test_sizes_below_zero_before_a_slice_do_not_end_the_process(maker: Any) -> None:
    """onnx's inference of Slice asserts that there are none; a second Slice stands behind the first."""
    first, second = (N("Slice", [a, "b", "e", "axes"], [y]) for a, y in (("x", "x1"), ("q", "y")))
    maker.input[0] = maker.input[0].replace("x", "x1")
    weights = {"k": np.ones((3, 3, 9, 9), F), "p": ints(0, 0, -9, 0, 0, 0, 0, 0), "b": ints(0), "e": ints(1)}
    shapes = {"x": [1, 3, 4, 4], "negative": [1, 3, -4, 4]}
    assert outcome([first, maker, second], shapes, **weights, axes=ints(3)).startswith("E-")


def test_a_checkpoint_with_a_name_that_no_file_can_have() -> None:
    case = TARGETS["checkpoint"].seeds()[0]
    named = case | {"checkpoint": b'model_checkpoint_path: "' + b"m" * 500 + b'"'}
    assert check("checkpoint", named) == "E-TENSORFLOW-FILES"
