# SPDX-License-Identifier: Apache-2.0
"""Gains behind activations that let no factor pass, and the sensitivities that say where they pay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from headrace.emulator import Executor
from headrace.hn import Array, Network, check_network
from headrace.layers import Activation
from headrace.layers.activation import GAIN
from headrace.numerics.quantization import TensorQuantization
from headrace.numerics.requantize import Requantization
from headrace.optimize import OptimizeOptions, optimize
from headrace.optimize.algorithms.channel_scales import absorb, apply, best_gains, candidates, plans
from headrace.optimize.algorithms.channel_scales import request as spans_request
from headrace.optimize.chunks import ChunkRunner
from headrace.optimize.freeze.lookup import choose_lookups
from headrace.optimize.measure.judge import Judge
from headrace.optimize.measure.sensitivity import Sensitivity, sensitivities
from headrace.optimize.scales.ranges import scale_groups, tensor_quantizations
from headrace.optimize.statistics.collect import collect
from layer_maker import make_layer, set_attributes
from random_graphs import GraphBuilder, random_frames, weighted
from same_bytes import assert_same_bytes, params_digest

OPTIONS = OptimizeOptions(min_snr=0, threads=1)
RUNNER = ChunkRunner(threads=1)
SPREAD = (2.0 ** np.linspace(4, -4, 8)).astype(np.float32)


def uneven(b: GraphBuilder, activation: str = "silu") -> str:
    """A layer whose eight channels differ in size by 256."""
    x = weighted(b, b.input((8, 8, 4)), 8, 3, activation)
    b.net.params[f"{x}/kernel"] = b.net.params[f"{x}/kernel"] * SPREAD
    b.net.params[f"{x}/bias"] = b.net.params[f"{x}/bias"] * SPREAD
    return x


def detector(activation: str = "silu", seed: int = 3) -> Network:
    """Uneven channels, read by a depthwise layer that makes them equally important."""
    b = GraphBuilder(seed)
    x = weighted(b, uneven(b, activation), 8, 3, dw=True)
    b.net.params[f"{x}/kernel"] = b.net.params[f"{x}/kernel"] / SPREAD
    b.output(weighted(b, x, 6, 1))
    return b.net


# --- following gains -------------------------------------------------------------------------------------------------


def _pooled(b: GraphBuilder, x: str) -> str:
    return b.add("maxpool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]})


def _shuffled(b: GraphBuilder, x: str) -> str:
    """Channel shuffle, as exporters write it."""
    _, h, w, c = b.shape(x)
    x = b.add("reshape", [x], {"shape": [h * w, 2, c // 2]})
    x = b.add("transpose", [x], {"permutation": [0, 2, 1]})
    return b.add("reshape", [x], {"shape": [h, w, c]})


def _beside(b: GraphBuilder, x: str) -> str:
    return b.add("concat", [weighted(b, x, 4, 1, "relu"), x, weighted(b, x, 2, 1)], {"axis": 2})


def _gated(b: GraphBuilder, x: str) -> str:
    gate = weighted(b, b.add("global_avgpool", [x], {}), 8, 1, "hard_sigmoid")
    return b.add("ew_mult", [x, gate], {})


def _sliced(b: GraphBuilder, x: str) -> str:
    return b.add("slice", [x], {"starts": [0, 0, 3], "sizes": [8, 8, 5], "steps": [1, 1, 1]})


@pytest.mark.parametrize("between", [None, _pooled, _shuffled, _beside, _gated, _sliced])
@pytest.mark.parametrize("dw", [False, True])
def test_gains_change_nothing_in_real_numbers(between: Callable[[GraphBuilder, str], str] | None, dw: bool) -> None:
    b = GraphBuilder(1)
    source = x = uneven(b)
    x = x if between is None else between(b, x)
    b.output(weighted(b, x, b.shape(x)[3] if dw else 5, 3, dw=dw))
    layer = b.net[source]
    gain = (2.0 ** np.arange(8)).astype(np.float32)
    found = absorb(b.net, layer, gain)
    assert found is not None
    changed = b.net.clone()
    changed.params.update(found.params)
    changed.params[f"{source}/{GAIN}"] = gain
    check_network(changed)
    frames = random_frames(b.net, 3, 0)
    names = [source, *(n.name for n in b.net.output_layers)]
    want, got = (Executor(net, "fp_optimized").run(frames, names) for net in (b.net, changed))
    np.testing.assert_array_equal(got[source], want[source] * gain)  # powers of two are exact
    for name in names[1:]:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5 * np.abs(want[name]).max())


@pytest.mark.parametrize("reader", ["output", "sum", "activation", "residual", "uneven places"])
def test_a_reader_that_cannot_take_gains_off_refuses_them(reader: str) -> None:
    b = GraphBuilder(1)
    x = uneven(b)
    source = b.net[x]
    if reader == "sum":
        x = b.add("ew_add", [x, weighted(b, x, 8, 1)], {})
    elif reader == "activation":
        x = b.add("activation", [x], {"activation": "tanh"})
    elif reader == "residual":
        x = weighted(b, weighted(b, x, 4, 1), 8, 1)
        b.net.set_operands(b.net[x], [*b.net[x].operands, source.output])
        set_attributes(b.net, x, elementwise_add=True)
    elif reader == "uneven places":  # channels become rows, whose weights do not differ
        x = b.add("transpose", [x], {"permutation": [2, 1, 0]})
    b.output(x if reader == "output" else weighted(b, x, 4, 1))
    check_network(b.net)
    assert absorb(b.net, source, np.array([1, 2] * 4, np.float32)) is None


@pytest.mark.parametrize("activation", ["relu", "linear", "leaky_relu", "sigmoid"])
def test_what_equalization_does_or_whose_range_is_fixed_is_no_candidate(activation: str) -> None:
    b = GraphBuilder(1)
    b.output(weighted(b, uneven(b, activation), 8, 3))
    assert not candidates(b.net)


# --- choosing --------------------------------------------------------------------------------------------------------


def weights_of(net: Network, frames: dict[str, Array]) -> dict[str, Array]:
    return Judge(net, frames, len(next(iter(frames.values()))), RUNNER).weights


def test_predicted_noise_is_what_noise_does() -> None:
    """Errors of a known variance in one channel of one tensor, against the outputs they give."""
    net = detector()
    frames = random_frames(net, 16, 0)
    found = sensitivities(net, frames, RUNNER, weights_of(net, frames))
    executor, rng = Executor(net, "native"), np.random.default_rng(0)
    output = net.output_layers[0].name
    for name, channel in (("net/conv1", 2), ("net/dw1", 5)):
        tensor = executor.run(frames, [name])[name]
        sigma = 1e-3 * float(np.abs(tensor).max())
        tensor[..., channel] += rng.normal(0, sigma, tensor.shape[:3]).astype(np.float32)
        tail = _tail(net, name)
        noisy = Executor(tail).run({tail.input_layers[0].name: tensor}, [output])[output]
        want = executor.run(frames, [output])[output]
        ratio = np.square(noisy - want).sum() / np.square(want - want.mean((0, 1, 2))).sum()
        assert found[name].channels[channel] * sigma**2 == pytest.approx(ratio, rel=0.35)


def _tail(net: Network, start: str) -> Network:
    """The network behind one tensor."""
    tail = Network(net.name)
    shape = net[start].output_shape
    tail.add(make_layer(start, "input_layer", [], {"shape": list(shape)}, shape))
    reached = {start}
    for layer in net:
        if layer.inputs and all(name in reached for name in layer.inputs):
            tail.add(make_layer(layer.name, layer.kind, layer.inputs, layer.attributes, layer.output_shape))
            tail.params.update({f"{layer.name}/{k}": v for k, v in layer.params.items()})
            reached.add(layer.name)
    return tail


def test_sensitivities_do_not_depend_on_threads() -> None:
    net = detector()
    frames = random_frames(net, 16, 0)
    weights = weights_of(net, frames)
    one, many = (sensitivities(net, frames, ChunkRunner(threads=threads), weights) for threads in (1, 4))
    assert list(one) == list(many)
    for name, value in one.items():
        np.testing.assert_array_equal(value.channels, many[name].channels)


def test_gains_bring_channels_up_to_the_range_of_the_codes() -> None:
    span = np.array([[0.0, 0.0, 0.0, 0.0], [100.0, 60.0, 20.0, 0.0]])
    output = TensorQuantization(np.float32(100 / 255).item(), 0, 8)
    gain, noise = best_gains(span, output, Sensitivity(np.ones(4)))
    np.testing.assert_array_equal(gain, [1, 1, 4, 128])
    assert noise == pytest.approx(output.scale**2 / 12 * (2 + 1 / 16 + 1 / 128**2), rel=1e-3)
    # A lower end that grows with the gain is paid for by all channels: no gain where only one insensitive one has it.
    span[0] = [-10.0, -10.0, -10.0, -10.0]
    gain, _ = best_gains(span, TensorQuantization(output.scale, 23, 8), Sensitivity(np.array([1.0, 1.0, 1.0, 1e-9])))
    assert gain.max() <= 4


@pytest.mark.parametrize("activation", ["silu", "hard_swish", "gelu", "elu"])
def test_tables_of_all_gains_are_as_fine_as_one_of_their_own(activation: str) -> None:
    """One step of each index changes its table by about half a code at most; entries are the function's values."""
    output = TensorQuantization(np.float32(0.5).item(), 20, 8)
    gains = (1.0, 4.0, 128.0)
    found = choose_lookups(activation, {}, (-40.0, 110.0), output, gains)
    assert found.tables.shape == (3, 1 << found.indices[0].bits)
    assert len({(i.zero_point, i.bits) for i in found.indices}) == 1
    for gain, index, table in zip(gains, found.indices, found.tables, strict=True):
        inner = (table > table.min()) & (table < table.max())
        assert np.abs(np.diff(table.astype(int)))[inner[1:] & inner[:-1]].max(initial=0) <= 1
        at = np.arange(1 << index.bits)
        x = torch.from_numpy(index.scale * (at - index.zero_point))[None].to(torch.float32)
        attributes = Activation(activation)
        from headrace.emulator.float_ops import TorchFloatOps

        real = gain * attributes.evaluate(TorchFloatOps(), x, {}).numpy()[0].astype(np.float64)
        want = np.clip(np.rint(real / output.scale) + output.zero_point, 0, 255)
        assert np.abs(table - want).max() <= 1
        assert np.mean(table != want) < 0.01
        ends = gain * np.array([-40.0, 110.0])
        assert table[-1] == 255 or index.scale * (at[-1] - index.zero_point) >= 110.0 - 1e-3, ends


# --- the whole -------------------------------------------------------------------------------------------------------


def snr(result: object) -> float:
    return result.report.outputs["net/output_layer1"].snr_db  # type: ignore[attr-defined]


@pytest.mark.parametrize("activation", ["silu", "hard_swish", "gelu"])
def test_uneven_channels_behind_a_table_are_taken_apart(activation: str) -> None:
    net = detector(activation)
    frames = random_frames(net, 32, 0)
    off = optimize(net, frames, OptimizeOptions(min_snr=0, equalization=False))
    on = optimize(net, frames, OPTIONS)
    assert snr(on) > snr(off) + 3
    records = [d for d in on.report.algorithms if d.name == "channel-scales"]
    assert [d.layer for d in records if d.layer] == ["net/conv1"]
    assert all(d.accepted for d in records)
    assert on.report.layers["net/conv1"].notes.tables >= 3
    assert not any(key.endswith(GAIN) for key in on.network.params)


def test_reference_emulator_and_device_give_the_same_bytes() -> None:
    for seed, activation in ((3, "silu"), (4, "hard_swish")):
        quantized = optimize(detector(activation, seed), random_frames(detector(), 16, 0), OPTIONS).network
        own = quantized.params["net/conv1/channel_tables"]
        assert quantized.params["net/conv1/table"].shape[0] == own.max() + 1 > 1
        assert_same_bytes(quantized)


def test_ranges_follow_from_the_gains_as_if_measured_again() -> None:
    b = GraphBuilder(1)
    x = _gated(b, uneven(b))
    x = weighted(b, x, 8, 3, dw=True)
    b.net.params[f"{x}/kernel"] = b.net.params[f"{x}/kernel"] / SPREAD
    b.output(x)
    frames = random_frames(b.net, 12, 0)
    statistics = collect(b.net, frames, 12, RUNNER, spans_request(b.net))
    groups = scale_groups(b.net)
    raw = {layer.name: False for layer in b.net.input_layers}
    tensors = tensor_quantizations(b.net, groups, statistics.ranges, raw, 8)
    found = sensitivities(b.net, frames, RUNNER, weights_of(b.net, frames))
    chosen = plans(b.net, statistics, tensors, found)
    assert [plan.layer for plan in chosen] == ["net/conv1"]
    changed, derived = apply(b.net, statistics, chosen)
    measured = collect(changed, frames, 12, RUNNER)
    for name, (low, high) in measured.ranges.output.items():
        assert derived.ranges.output[name] == pytest.approx((low, high), rel=1e-4, abs=1e-5), name
    assert list(derived.ranges.before) == list(measured.ranges.before)
    for name, span in measured.ranges.before.items():
        assert derived.ranges.before[name] == pytest.approx(span, rel=1e-4, abs=1e-4), name


def test_the_same_bytes_for_any_thread_count() -> None:
    def digest(threads: int) -> str:
        net = detector()
        result = optimize(net, random_frames(net, 32, 0), OptimizeOptions(min_snr=0, threads=threads)).network
        return params_digest(result)

    assert digest(1) == digest(2) == digest(5)


@pytest.mark.parametrize(
    ("table", "numbers"),
    [
        (np.zeros(512, np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((2, 512), np.uint8), None),
        (np.zeros((2, 512), np.uint8), np.array([0, 2, 1], np.uint8)),
        (np.zeros((2, 512), np.uint16), np.zeros(3, np.uint8)),
        (np.zeros((257, 512), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((2, 512), np.uint8), np.zeros(3, np.int64)),
    ],
)
def test_tables_that_do_not_fit_are_refused(table: np.ndarray, numbers: np.ndarray | None) -> None:
    from headrace.errors import InternalError

    with pytest.raises(InternalError):
        Requantization(np.ones((1, 3), np.int32), np.ones(3, np.uint8), 0, 0, 511, table, numbers)
