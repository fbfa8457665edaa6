# SPDX-License-Identifier: Apache-2.0
"""Outputs with several scales or far from zero: what optimize chooses, and archives that say so wrongly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headrace.compiler import CompileOptions, compile_network
from headrace.emulator.executor import Executor
from headrace.errors import InputFileError
from headrace.hn import Array, Network, json_format, output_quantization
from headrace.numerics.quantization import TensorQuantization, dequantize, quantize_input
from headrace.optimize import OptimizeOptions, optimize
from headrace.optimize.scales.parts import Unit, runs_of
from headrace.targets import load_target
from random_graphs import GraphBuilder, random_frames

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

QUICK: dict[str, Any] = {"calibrator": "minmax", "equalization": False}


def linear(b: GraphBuilder, x: str, size: list[float], at: list[float], **extra: Any) -> str:
    """A 1×1 convolution whose channels have these sizes and lie about these values."""
    inputs, outputs = b.shape(x)[-1], len(size)
    kernel = b.rng.normal(0, 1, (1, 1, inputs, outputs)) * np.array(size) / np.sqrt(inputs)
    attributes = {"kernel_shape": [1, 1, inputs, outputs], **extra}
    params = {"kernel": kernel.astype(np.float32), "bias": np.array(at, np.float32)}
    return b.add("conv", [x], attributes, params)


def trunk(seed: int) -> tuple[GraphBuilder, str]:
    b = GraphBuilder(seed)
    return b, b.convolution(b.input((6, 6, 3)), 8, 3, same=True, activation="relu")


def everywhere(net: Network, frames: dict[str, Array], options: OptimizeOptions) -> tuple[Network, Array, Array]:
    """(quantized network, float output, quantized output); the device gives the emulator's bytes and floats."""
    quantized = optimize(net, frames, options).network
    run = Executor(quantized, "quantized")
    codes, reals = (next(iter(run.run(frames, dequantize=d).values())) for d in (False, True))
    device = native.Device(None, 1, None)
    network = device.load(compile_network(quantized, load_target("hailo8"), CompileOptions()).hef)
    given = {name: quantize_input(value, output_quantization(quantized[name])) for name, value in frames.items()}
    assert np.array_equal(next(iter(network.infer(given).values())).reshape(codes.shape), codes)
    floats = next(iter(network.infer_float(frames).values())).reshape(reals.shape)
    assert np.array_equal(floats, reals)
    return quantized, next(iter(Executor(net).run(frames).values())), reals


def channel_db(want: Array, got: Array) -> list[float]:
    """dB about the mean of every channel."""
    axes = tuple(range(want.ndim - 1))
    signal = np.square(want - want.mean(axis=axes)).sum(axis=axes)
    return (10 * np.log10(signal / np.maximum(np.square(want - got).sum(axis=axes), 1e-30))).tolist()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_one_convolution_gives_unlike_channels_their_own_scales(bits: int, activation: str) -> None:
    b, x = trunk(1)
    y = linear(b, x, [300, 200, 250, 1, 0.5, 0.02, 0.03], [300, 200, 0, 1, 0, 0, 0.05], activation=activation)
    b.output(y)
    options = OptimizeOptions(**QUICK, output_bits=bits)
    quantized, want, got = everywhere(b.net, random_frames(b.net, 16, 1), options)
    found = output_quantization(quantized[y])
    assert [stop - start for start, stop in found.runs] == [3, 2, 2]
    assert found.bits == bits
    assert min(channel_db(want, got)) > 25


def test_channels_that_are_alike_share_one_scale() -> None:
    b, x = trunk(2)
    y = linear(b, x, [3, 1, 2, 1.5], [0, 1, 2, 0])
    b.output(y)
    quantized = optimize(b.net, random_frames(b.net, 16, 1), OptimizeOptions(**QUICK)).network
    assert output_quantization(quantized[y]).uniform


def test_a_tensor_that_a_layer_computes_with_has_one_scale() -> None:
    b, x = trunk(3)
    y = linear(b, x, [300, 1], [0, 0])
    b.output(y)
    b.output(b.convolution(y, 4, 3, activation="relu"))
    quantized = optimize(b.net, random_frames(b.net, 16, 1), OptimizeOptions(**QUICK, min_snr=0)).network
    assert output_quantization(quantized[y]).computable


def test_a_range_that_the_user_gives_the_joined_tensor_stands() -> None:
    from headrace.optimize.options import Clipping

    b, x = trunk(4)
    joined = b.add("concat", [linear(b, x, [300], [0]), linear(b, x, [1], [0])], {"axis": 2})
    b.output(joined)
    clipping = Clipping((joined,), "manual", (-100.0, 100.0))
    options = OptimizeOptions(**QUICK, min_snr=0, clippings=(clipping,), output_bits=8)
    quantized = optimize(b.net, random_frames(b.net, 8, 1), options).network
    found = output_quantization(quantized[joined])
    assert found.uniform
    assert found.limits == pytest.approx((-100, 100), abs=1)


def _direct(b: GraphBuilder, x: str) -> str:
    return linear(b, x, [0.02], [293.15])


def _averaged(b: GraphBuilder, x: str) -> str:
    y = linear(b, x, [1.0], [293.15])
    return b.add("avgpool", [y], {"kernel_shape": [3, 3], "strides": [3, 3], "padding": [0, 0, 0, 0]})


def _enlarged(b: GraphBuilder, x: str) -> str:
    return b.add("resize_bilinear", [linear(b, x, [0.5], [-2000.0])], {"sizes": [11, 9], "coordinates": "half_pixel"})


def _two_kinds(b: GraphBuilder, x: str) -> str:
    return linear(b, x, [1.0, 50.0, 0.2], [293.15, 101_325.0, 0.5])


def _joined(b: GraphBuilder, x: str) -> str:
    score = linear(b, x, [1.0, 2.0], [0.0, 0.0], activation="sigmoid")
    return b.add("concat", [linear(b, x, [0.02], [293.15]), score], {"axis": 2})


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("tail", [_direct, _averaged, _enlarged, _two_kinds, _joined])
def test_values_far_from_zero_keep_their_differences(tail: Callable[[GraphBuilder, str], str], bits: int) -> None:
    b, x = trunk(5)
    b.output(tail(b, x))
    options = OptimizeOptions(**QUICK, output_bits=bits)
    quantized, want, got = everywhere(b.net, random_frames(b.net, 16, 1), options)
    assert min(channel_db(want, got)) > 25
    output = quantized.output_layers[0]
    assert output.attributes["offset"]
    assert max(abs(z) for _, z in output_quantization(output).pairs) < 2**24
    assert all(output_quantization(y).computable for y in quantized if y.kind in ("conv", "avgpool", "resize_bilinear")
               and output_quantization(y).uniform)  # fmt: skip


def test_an_offset_is_not_taken_from_what_others_read() -> None:
    b, x = trunk(6)
    y = linear(b, x, [0.02], [293.15])
    b.output(y)
    b.output(b.add("activation", [y], {"activation": "sigmoid"}))
    quantized = optimize(b.net, random_frames(b.net, 8, 1), OptimizeOptions(**QUICK, min_snr=0)).network
    assert not any(output.attributes.get("offset") for output in quantized.output_layers)


def test_units_that_share_a_channel_share_a_scale() -> None:
    units = [
        Unit(["a"], None, (0, 640)),
        Unit(["b"], None, (0, 1)),
        Unit(["c"], None, (0, 600)),
        Unit(["d"], None, (0, 0.9)),
    ]
    assert runs_of(units, [[0, 2], [0, 2], [1, 3]]) == [[0, 2], [1, 3]]
    assert runs_of(units, [[0], [1, 2], [3]]) == [[0], [1, 2], [3]]  # a range for 1 and 2 is too long for 3
    assert runs_of(units, [[0], [2], [1], [3]]) == [[0, 2], [1, 3]]
    assert runs_of([units[1], Unit(["z"], None, (0, 0)), units[0]], [[0], [1], [2]]) == [[0, 1], [2]]


def test_codes_and_reals_of_several_scales() -> None:
    q = TensorQuantization(0.5, 3, 8, (0.5, 2.0), (3, -1000))
    codes = np.array([[0, 0], [255, 255]], np.uint8)
    assert dequantize(codes, q).tolist() == [[-1.5, 2000.0], [126.0, 2510.0]]
    assert np.array_equal(quantize_input(dequantize(codes, q), q), codes)
    assert TensorQuantization.from_dict(q.as_dict(), "x") == q
    rows = TensorQuantization(0.5, 3, 8, (0.5, 2.0), (3, 0), -2)
    assert TensorQuantization.from_dict(rows.as_dict(), "x") == rows
    assert dequantize(np.zeros((1, 2, 3), np.uint8), rows).tolist() == [[[-1.5] * 3, [0.0] * 3]]


# --- archives --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantized() -> Network:
    b, x = trunk(7)
    parts = [linear(b, x, [300, 200], [0, 0]), linear(b, x, [1, 1, 0.5], [0, 0, 0], activation="sigmoid")]
    b.output(b.add("concat", parts, {"axis": 2}))
    return optimize(b.net, random_frames(b.net, 8, 1), OptimizeOptions(**QUICK)).network


def again(network: Network, layer: str, change: Callable[[dict[str, Any]], Any]) -> Network:
    """The network with one tensor's quantization changed, as read from a file."""
    raw = copy.deepcopy(json_format.to_dict(network))
    change(raw["layers"][f"net/{layer}"]["quantization"]["output"])
    changed = json_format.from_dict(raw, "file")
    changed.params = network.params
    return changed


def _first_scale(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda q: q["scale"].__setitem__(0, value)


BROKEN: list[Callable[[dict[str, Any]], Any]] = [
    *(_first_scale(v) for v in (0.0, -1.0, float("nan"), float("inf"), 1e300, 1e-40, 0.1, "1", None, True, [1.0])),
    *(lambda q, v=v: q["zero_point"].__setitem__(0, v) for v in (0.5, 2**24, -(2**40), 10**400, None, "0", True)),
    lambda q: q["scale"].pop(),
    lambda q: (q["scale"].pop(), q["zero_point"].pop()),
    lambda q: q.update(scale=[], zero_point=[]),
    lambda q: q.update(scale=[0.5] * 100_000, zero_point=[0] * 100_000),
    lambda q: q.update(scale=0.5),
    lambda q: q.update(zero_point=0),
    *(lambda q, v=v: q.update(axis=v) for v in (0, -4, 1.5, "-1", None, -2)),
    lambda q: q.update(bits=12),
]


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("layer", ["concat1", "output_layer1"])
def test_archives_with_wrong_lists_are_refused(quantized: Network, layer: str, change: Any) -> None:
    for use in (
        lambda broken: compile_network(broken, load_target("hailo8"), CompileOptions()),
        lambda broken: Executor(broken, "quantized").run(random_frames(broken, 1, 0), dequantize=True),
    ):
        with pytest.raises(InputFileError) as caught:  # where it is read, or where it is used
            use(again(quantized, layer, change))
        assert {d.code for d in caught.value.diagnostics} <= {"E-HN-QUANTIZATION", "E-COMPILE-SCALE"}


@pytest.mark.parametrize("layer", ["concat1", "output_layer1"])
def test_lists_that_do_not_follow_from_the_inputs_are_refused(quantized: Network, layer: str) -> None:
    def swap(q: dict[str, Any]) -> None:
        q["scale"].reverse()

    with pytest.raises(InputFileError) as caught:
        compile_network(again(quantized, layer, swap), load_target("hailo8"), CompileOptions())
    assert "E-COMPILE-SCALE" in {d.code for d in caught.value.diagnostics}


def test_a_layer_never_computes_with_several_scales(quantized: Network) -> None:
    def several(q: dict[str, Any]) -> None:
        q.update(scale=[0.5] * 7 + [0.25], zero_point=[0] * 8)

    with pytest.raises(InputFileError) as caught:
        compile_network(again(quantized, "conv1", several), load_target("hailo8"), CompileOptions())
    assert caught.value.code == "E-HN-QUANTIZATION"
    assert "computes with a tensor whose channels differ" in str(caught.value)


def test_archives_of_one_scale_are_read_as_before(quantized: Network) -> None:
    """The form that every quantized archive had until now."""
    raw = {"scale": 0.5, "zero_point": 7, "bits": 8}
    assert TensorQuantization.from_dict(raw, "x") == TensorQuantization(0.5, 7, 8)
    assert TensorQuantization(0.5, 7, 8).as_dict() == raw
