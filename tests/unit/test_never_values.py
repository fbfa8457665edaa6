# SPDX-License-Identifier: Apache-2.0
"""Values that only mean "never" (attention masks, what a clamp cuts off) set no scale: against onnxruntime."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
runtime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from headrace.emulator import Executor  # noqa: E402
from headrace.optimize import OptimizeOptions, optimize  # noqa: E402
from parsing import parse_onnx  # noqa: E402
from same_bytes import assert_same_bytes  # noqa: E402

TOKENS, WIDTH, HEADS = 12, 16, 2
FLOAT_MIN = float(np.finfo(np.float32).min)
Array = np.ndarray[Any, Any]


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(op, list(inputs), [output], output, **attributes)


def made(nodes: Sequence[Any], inputs: Sequence[tuple[str, list[Any]]], constants: dict[str, Any]) -> bytes:
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


CAUSAL = np.triu(np.ones((TOKENS, TOKENS), bool), 1)


def attention(spelling: str, low: float) -> bytes:
    """One attention of two heads with a mask spelt in one of the ways that exporters have."""
    rng = np.random.default_rng(zlib.crc32(spelling.encode()))
    size = WIDTH // HEADS
    additive = np.where(CAUSAL, np.float32(low), np.float32(0))
    constants: dict[str, Any] = {
        "w": (rng.normal(size=(WIDTH, 3 * WIDTH)) * 0.25).astype(np.float32),
        "cut": np.array([0, TOKENS, 3, HEADS, size]), "first": np.array([0]), "root": np.float32(size**-0.5),
        "flat": np.array([0, TOKENS, WIDTH]), "low": np.float32(low), "one": np.float32(1), "never": CAUSAL[None, None],
        "m": additive[None, None], "bias": rng.normal(size=(1, HEADS, TOKENS, TOKENS)).astype(np.float32),
    }  # fmt: skip
    if spelling == "per_head":
        constants["m"] = np.stack([additive, np.maximum(additive, np.float32(-3))])[None]
    middle = {
        "constant": [node("Mul", ["s", "root"], "s1"), node("Add", ["s1", "m"], "logits")],
        "per_head": [node("Mul", ["s", "root"], "s1"), node("Add", ["m", "s1"], "logits")],
        "before_scaling": [node("Add", ["s", "m"], "s1"), node("Mul", ["s1", "root"], "logits")],
        "where": [node("Mul", ["s", "root"], "s1"), node("Where", ["never", "low", "s1"], "logits")],
        "input": [node("Mul", ["s", "root"], "s1"), node("Add", ["s1", "mask"], "logits")],
        "input_before_scaling": [node("Add", ["s", "mask"], "s1"), node("Mul", ["s1", "root"], "logits")],
        "ones": [
            node("Mul", ["s", "root"], "s1"), node("Sub", ["one", "mask"], "m1"), node("Mul", ["m1", "low"], "m2"),
            node("Add", ["s1", "m2"], "logits"),
        ],
        "bias": [  # as T5: a bias of the distance where the mask sees, else never
            node("Mul", ["s", "root"], "s1"), node("Cast", ["mask"], "seen", to=TensorProto.BOOL),
            node("Where", ["seen", "bias", "low"], "m2"), node("Add", ["s1", "m2"], "logits"),
        ],
    }  # fmt: skip
    middle["rows"] = middle["wholly_masked_rows"] = middle["input"]
    used = {name for one in middle[spelling] for name in one.input}
    nodes = [
        node("MatMul", ["x", "w"], "qkv"),
        node("Reshape", ["qkv", "cut"], "r"),
        node("Transpose", ["r"], "t", perm=[2, 0, 3, 1, 4]),
        helper.make_node("Split", ["t"], ["q5", "k5", "v5"], "split", axis=0, num_outputs=3),
        *[node("Squeeze", [f"{n}5", "first"], n) for n in "qkv"],
        node("Transpose", ["k"], "kt", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], "s"),
        *middle[spelling],
        node("Softmax", ["logits"], "p", axis=-1),
        node("MatMul", ["p", "v"], "o"),
        node("Transpose", ["o"], "ot", perm=[0, 2, 1, 3]),
        node("Reshape", ["ot", "flat"], "y"),
    ]
    inputs: list[tuple[str, list[Any]]] = [("x", ["N", TOKENS, WIDTH])]
    if "mask" in used:
        inputs.append(("mask", ["N", 1, TOKENS if "rows" in spelling else 1, TOKENS]))
    needed = used | {"w", "cut", "first", "flat"}
    return made(nodes, inputs, {k: v for k, v in constants.items() if k in needed})


def frames(spelling: str, low: float, count: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    data = {"x": rng.normal(size=(count, TOKENS, WIDTH)).astype(np.float32)}
    keep = np.arange(TOKENS)[None] < rng.integers(4, TOKENS + 1, (count, 1))
    if spelling in ("ones", "bias"):
        data["mask"] = keep.astype(np.float32)[:, None, None]
    elif spelling.startswith("input"):
        data["mask"] = np.where(keep, 0, np.float32(low)).astype(np.float32)[:, None, None]
    elif "rows" in spelling:
        seen = keep[:, None, None, :] & ~CAUSAL
        if spelling == "wholly_masked_rows":
            seen = seen & (np.arange(TOKENS)[:, None] >= 2)  # the first two tokens see nothing
        data["mask"] = np.where(seen, 0, np.float32(low)).astype(np.float32)
    return data


def quantized(model: bytes, calibration: dict[str, Array]) -> Any:
    network = parse_onnx(model, "net").network
    data = by_layer(network, calibration)
    return optimize(network, data, OptimizeOptions(min_snr=0.0))


def by_layer(network: Any, data: dict[str, Array]) -> dict[str, Array]:
    result = {}
    for layer in network.input_layers:
        value = data[layer.attributes["source_name"]]
        result[layer.name] = value.reshape(len(value), *layer.output_shape[1:])
    return result


def emulated(network: Any, data: dict[str, Array], permutation: Sequence[int] | None = None) -> Array:
    got = Executor(network, "quantized").run(by_layer(network, data), dequantize=True)
    value = next(iter(got.values()))
    return value if permutation is None else value.transpose(permutation)


def original(model: bytes, data: dict[str, Array]) -> Array:
    return runtime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, data)[0]


def snr(want: Array, got: Array) -> float:
    """About the mean, dB."""
    noise = float(np.square(want.astype(np.float64) - got.reshape(want.shape)).sum())
    return 10 * np.log10(float(np.square(want.astype(np.float64) - want.mean()).sum()) / max(noise, 1e-30))


SPELLINGS = [
    ("constant", [-np.inf, FLOAT_MIN, -65504.0, -100.0]),
    ("per_head", [-np.inf, -1e4]),
    ("before_scaling", [-np.inf, -1e9]),
    ("where", [-np.inf, FLOAT_MIN, -1e4]),
    ("input", [FLOAT_MIN, -65504.0, -100.0, -30.0]),
    ("input_before_scaling", [FLOAT_MIN, -1e4]),
    ("ones", [FLOAT_MIN, -1e4]),
    ("bias", [FLOAT_MIN, -1e9]),
    ("rows", [-1e9, -65504.0]),
    ("wholly_masked_rows", [FLOAT_MIN, -1e9, -65504.0, -1e4]),
]


@pytest.mark.parametrize(("spelling", "low"), [(s, low) for s, lows in SPELLINGS for low in lows])
def test_masked_attention_is_as_good_as_attention(spelling: str, low: float) -> None:
    """Whatever the mask's value and spelling; without a mask the same network has 33 dB."""
    model = attention(spelling, low)
    result = quantized(model, frames(spelling, low, 96, 1))
    test = frames(spelling, low, 8, 2)
    want = original(model, test)
    got = emulated(result.network, test, (0, 2, 1, 3)).reshape(want.shape)
    assert np.isfinite(want).all()
    assert snr(want, got) >= 29.0
    assert min(snr(want[:, i], got[:, i]) for i in range(TOKENS)) >= 24.0, "a token that sees little is as good"
    if low in (FLOAT_MIN, -65504.0):
        assert_same_bytes(result.network)


def test_the_public_case_with_a_mask_as_input(cases: Any) -> None:
    folder = cases / "public" / "42-attention-mask-input"
    model = (folder / "model.onnx").read_bytes()
    calibration, test = dict(np.load(folder / "calib.npz")), dict(np.load(folder / "test.npz"))
    for low in (FLOAT_MIN, -65504.0, -100.0):
        sets = [{**d, "mask": np.where(d["mask"] < 0, np.float32(low), d["mask"])} for d in (calibration, test)]
        result = quantized(model, sets[0])
        session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        frames = [session.run(None, {k: v[i : i + 1] for k, v in sets[1].items()})[0] for i in range(len(test["mask"]))]
        assert snr(np.concatenate(frames), emulated(result.network, sets[1])) >= 35.0


def test_the_case_of_logits_of_100000(cases: Any) -> None:
    model = (cases / "softmax_logits_100000.onnx").read_bytes()
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    result = quantized(model, {"x": x})
    want = np.concatenate([original(model, {"x": row[None]}) for row in x])
    assert (emulated(result.network, {"x": x}).reshape(want.shape).argmax(axis=1) == want.argmax(axis=1)).mean() > 0.95


def test_the_public_case_of_a_row_of_8400(cases: Any) -> None:
    model = (cases / "public" / "35-softmax-row-8400" / "model.onnx").read_bytes()
    rng = np.random.default_rng(0)
    coarse = rng.random((5, 3, 60, 140)).astype(np.float32)
    images = coarse.repeat(8, 2).repeat(8, 3) * 0.85 + rng.random((5, 3, 480, 1120)).astype(np.float32) * 0.15
    network = parse_onnx(model, "net").network
    name = network.input_layers[0].name
    data = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    result = optimize(network, {name: data[:3]}, OptimizeOptions(min_snr=0.0))
    got = Executor(result.network, "quantized").run({name: data[3:]}, dequantize=True)
    heat = next(value for value in got.values() if value[0].size == 8400)
    want = np.concatenate([original(model, {"image": images[i : i + 1]}) for i in (3, 4)])
    assert snr(want, heat) >= 28.0
