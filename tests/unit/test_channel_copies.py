# SPDX-License-Identifier: Apache-2.0
"""Channels computed more than once: what they mean, what they gain, and that the device gives the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.emulator import Executor
from headrace.hn import Network, check_network
from headrace.optimize import OptimizeOptions, optimize
from headrace.optimize.algorithms import channel_copies
from headrace.optimize.algorithms.channel_copies import ChannelCopies, Plan, apply, plans, sites
from headrace.optimize.chunks import ChunkRunner
from headrace.optimize.freeze.context import ROUNDING_OFFSET
from headrace.optimize.measure.judge import Judge
from headrace.optimize.measure.sensitivity import sensitivities
from headrace.optimize.scales.ranges import scale_groups, tensor_quantizations
from headrace.optimize.statistics.collect import Statistics, collect
from layer_maker import set_attributes
from random_graphs import GraphBuilder, random_frames, weighted
from same_bytes import assert_same_bytes, params_digest

OPTIONS = OptimizeOptions(min_snr=0, threads=1)
RUNNER = ChunkRunner(threads=1)


def edges(activation: str = "relu6", seed: int = 3) -> Network:
    """One channel with a large even part, of which a depthwise layer takes the differences, large ones."""
    b = GraphBuilder(seed)
    x = weighted(b, b.input((12, 12, 3)), 8, 3, activation)
    b.net.params[f"{x}/kernel"][..., 2] *= 0.05
    b.net.params[f"{x}/bias"][2] = 4.0
    x = weighted(b, x, 8, 3, activation, dw=True)
    difference = np.zeros((3, 3), np.float32)
    difference[1] = [-40, 80, -40]
    b.net.params[f"{x}/kernel"][:, :, 0, 2] = difference
    b.net.params[f"{x}/bias"][2] = 3.0
    x = weighted(b, x, 24, 1, activation)
    b.output(weighted(b, x, 24, 3))
    return b.net


def four_times(net: Network, root: str) -> Plan:
    site = next(site for site in sites(net) if site.root == root)
    copies = np.ones(net[root].output_shape[-1], np.int64)
    copies[2], copies[5] = 4, 2
    return Plan(site, copies, 1.0, 0.5)


def test_sites_are_what_passes_an_addend_on_and_takes_a_mean() -> None:
    net = edges()
    assert [(s.root, s.along, s.readers) for s in sites(net)] == [
        ("net/conv1", ("net/dw1",), ("net/conv2",)),
        ("net/conv2", (), ("net/conv3",)),
    ]
    per_pixel = 3 * 9 + 9 + 24  # one more channel: its own taps, the depthwise ones, one input of the reader
    assert sites(net)[0].work == per_pixel * 144


@pytest.mark.parametrize("reader", ["output", "sum", "pool", "grouped", "table", "residual"])
def test_other_readers_refuse_copies(reader: str) -> None:
    b = GraphBuilder(1)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "silu" if reader == "table" else "relu")
    end = x
    if reader == "sum":
        end = b.add("ew_add", [x, weighted(b, x, 8, 1)], {})
    elif reader == "pool":
        end = weighted(b, b.add("maxpool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]}), 4, 1)
    elif reader == "grouped":
        end = weighted(b, x, 8, 3)
        set_attributes(b.net, end, groups=2, kernel_shape=[3, 3, 4, 8])
        b.net.params[f"{end}/kernel"] = b.net.params[f"{end}/kernel"][:, :, :4]
    elif reader == "table":
        end = weighted(b, x, 4, 1)
    elif reader == "residual":
        end = weighted(b, weighted(b, x, 4, 1), 8, 1)
        b.net.set_operands(b.net[end], [*b.net[end].operands, b.net[x].output])
        set_attributes(b.net, end, elementwise_add=True)
    b.output(end)
    check_network(b.net)
    assert "net/conv1" not in [site.root for site in sites(b.net)]


@pytest.mark.parametrize("activation", ["relu", "relu6", "linear"])
def test_copies_mean_the_same(activation: str) -> None:
    net = edges(activation)
    changed, _ = apply(net, Statistics(), [four_times(net, "net/conv1"), four_times(net, "net/conv2")])
    check_network(changed)
    assert changed["net/conv1"].output_shape[-1] == changed["net/dw1"].output_shape[-1] == 12
    frames = random_frames(net, 3, 0)
    (want,), (got,) = (Executor(n, "fp_optimized").run(frames).values() for n in (net, changed))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    np.testing.assert_array_equal(changed.params[f"net/conv1/{ROUNDING_OFFSET}"][2:6], [-0.375, -0.125, 0.125, 0.375])
    np.testing.assert_array_equal(
        changed.params[f"net/conv1/{ROUNDING_OFFSET}"][[0, 1, 6, 8, 9]], [0, 0, 0, -0.25, 0.25]
    )


def test_the_mean_of_the_copies_has_as_many_times_the_resolution() -> None:
    net = edges("linear")
    plan = four_times(net, "net/conv1")
    changed, _ = apply(net, Statistics(), [plan])
    frames = random_frames(net, 8, 0)
    off = OptimizeOptions(min_snr=0, threads=1, equalization=False, bias_correction=False, weight_rounding=False)
    result = optimize(changed, frames, off)
    step = result.report.layers["net/conv1"].scale.scale
    zero = result.report.layers["net/conv1"].scale.zero_point
    # Of what the integers stand for: the codes before rounding, from the frozen weights.
    real = Executor(changed, "fp_optimized").run(frames, ["net/conv1"])["net/conv1"]
    codes = Executor(result.network, "quantized").run(frames, ["net/conv1"], dequantize=False)["net/conv1"]
    error = (codes[..., 2:6].astype(np.float64) - zero).mean(axis=-1) * step - real[..., 2]
    alone = (codes[..., 0].astype(np.float64) - zero) * step - real[..., 0]
    shift = np.abs(error - error.mean()).max()
    assert shift < 0.5 * step / 4 + 0.2 * step  # a quarter of a step, and the weights' and the input's own errors
    assert error.std() < 0.6 * alone.std()


def test_plans_take_the_channel_that_matters_within_the_work_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = edges()
    frames = random_frames(net, 16, 0)
    statistics = collect(net, frames, 16, RUNNER)
    raw = {layer.name: False for layer in net.input_layers}
    tensors = tensor_quantizations(net, scale_groups(net), statistics.ranges, raw, 8)
    found = sensitivities(net, frames, RUNNER, Judge(net, frames, 16, RUNNER).weights)
    first = plans(net, tensors, found)[0]
    assert first.site.root == "net/conv1"
    assert first.copies[2] == first.copies.max() > 1
    assert first.after < first.before
    monkeypatch.setattr(channel_copies, "MOST_WORK", 0.0)
    assert plans(net, tensors, found) == []


def test_copies_are_kept_where_outputs_gain_and_every_decision_is_data() -> None:
    net = edges()
    frames = random_frames(net, 32, 0)
    result = optimize(net, frames, OPTIONS)
    records = [d for d in result.report.algorithms if d.name == ChannelCopies.name]
    whole = next(d for d in records if d.layer is None)
    assert whole.accepted
    assert whole.after > whole.before + ChannelCopies.least_gain
    site = next(d for d in records if d.layer == "net/conv1")
    assert site.copies[2] > 1
    assert result.network["net/conv1"].output_shape[-1] == sum(site.copies)
    assert not any(key.endswith(ROUNDING_OFFSET) for key in result.network.params)
    assert net["net/conv1"].output_shape[-1] == 8  # the caller's network is its own
    quiet = optimize(net, frames, OptimizeOptions(min_snr=0, threads=1, equalization=False))
    assert quiet.network["net/conv1"].output_shape[-1] == 8


def test_reference_emulator_and_device_give_the_same_bytes() -> None:
    quantized = optimize(edges(), random_frames(edges(), 16, 0), OPTIONS).network
    assert quantized["net/conv1"].output_shape[-1] > 8
    assert_same_bytes(quantized)


def test_the_same_bytes_for_any_thread_count() -> None:
    def digest(threads: int) -> str:
        net = edges()
        result = optimize(net, random_frames(net, 32, 0), OptimizeOptions(min_snr=0, threads=threads)).network
        return params_digest(result)

    assert digest(1) == digest(2) == digest(5)
