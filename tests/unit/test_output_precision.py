# SPDX-License-Identifier: Apache-2.0
"""Graph outputs and logits in 16 bits: where they may be, when they are, what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.errors import UsageError
from headrace.hn import Network, output_quantization
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize import OptimizeOptions, optimize
from headrace.optimize.algorithms.output_precision import OutputPrecision, apply, candidates, widened
from headrace.optimize.options import OutputBits
from headrace.optimize.scales.ranges import scale_groups
from random_graphs import GraphBuilder, random_frames, weighted
from same_bytes import assert_same_bytes

EIGHT = TensorQuantization(0.125, 16, 8)


def options(**changes: object) -> OptimizeOptions:
    return OptimizeOptions(min_snr=0, threads=1, **changes)  # type: ignore[arg-type]


def classifier(classes: int = 200, seed: int = 2) -> Network:
    """Many classes of like size: every probability is below one 8-bit code or a few."""
    b = GraphBuilder(seed)
    x = weighted(b, b.input((6, 6, 4)), 16, 3, "relu")
    x = b.add("reshape", [b.add("global_avgpool", [x], {})], {"shape": [16]})
    kernel = b.rng.normal(0, 0.3, (16, classes)).astype(np.float32)
    x = b.add("dense", [x], {"kernel_shape": [16, classes]}, {"kernel": kernel})
    b.output(b.add("softmax", [x], {}))
    return b.net


def heads(reader: str = "") -> Network:
    """A box head through slices, a sigmoid head, a depthwise head; one of them read once more where asked."""
    b = GraphBuilder(4)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "relu")
    wide = weighted(b, x, 6, 1)
    boxes = b.add("slice", [wide], {"starts": [0, 0, 0], "sizes": [8, 8, 4], "steps": [1, 1, 1]})
    score = weighted(b, x, 2, 1, "sigmoid")
    if reader == "conv":
        b.output(weighted(b, boxes, 3, 1))
    b.output(b.add("reshape", [boxes], {"shape": [1, 64, 4]}))
    b.output(score)
    b.output(weighted(b, x, 8, 3, dw=True))
    return b.net


def found(net: Network) -> list[str]:
    tensors = dict.fromkeys(net.layers, EIGHT)
    return [name for names in candidates(net, scale_groups(net), tensors) for name in names]


def test_outputs_and_logits_are_candidates_unless_something_cannot_read_them() -> None:
    net = heads()
    assert {"net/conv2", "net/slice1", "net/reshape1", "net/conv3", "net/dw1", "net/output_layer1"} <= set(found(net))
    assert "net/conv1" not in found(net)
    again = heads("conv")  # a convolution reads the slice, so its whole group stays
    assert not {"net/conv2", "net/slice1", "net/reshape1"} & set(found(again))
    assert "net/conv3" in found(again)


def test_an_input_that_is_an_output_stays() -> None:
    b = GraphBuilder(0)
    x = b.input((4, 4, 2))
    b.output(b.add("slice", [x], {"starts": [0, 0, 0], "sizes": [2, 2, 2], "steps": [1, 1, 1]}))
    assert found(b.net) == []


def test_wide_ranges_have_room_unless_their_meaning_ends_them() -> None:
    net = heads()
    groups = scale_groups(net)
    open_end = apply(net, groups, dict.fromkeys(net.layers, EIGHT), [["net/dw1"]])["net/dw1"]
    assert open_end.bits == 16
    assert open_end.limits == pytest.approx([2 * end for end in EIGHT.limits], rel=1e-4)
    unit = TensorQuantization(float(np.float32(1 / 255)), 0, 8)
    bounded = apply(net, groups, dict.fromkeys(net.layers, unit), [["net/conv3"]])["net/conv3"]
    assert bounded.limits[1] == pytest.approx(1.0, abs=1e-4)
    # Of an output with several scales each keeps its own room.
    parts = TensorQuantization(EIGHT.scale, EIGHT.zero_point, 8, (EIGHT.scale, unit.scale), (EIGHT.zero_point, 0))
    wide = widened(parts, {(unit.scale, 0)})
    assert wide.bits == 16
    low, high = wide.spans
    assert [low[0], high[0]] == pytest.approx([2 * end for end in EIGHT.limits], rel=1e-4)
    assert [low[1], high[1]] == pytest.approx([0, 1], abs=1e-4)


def test_small_probabilities_get_sixteen_bits_and_large_errors_do_not() -> None:
    net = classifier()
    frames = random_frames(net, 32, 0)
    eight, own = optimize(net, frames, options(output_bits=8)), optimize(net, frames, options())
    name = net.output_layers[0].name
    assert output_quantization(eight.network[name]).bits == 8
    assert output_quantization(own.network[name]).bits == 16
    assert own.report.outputs[name].snr_db > eight.report.outputs[name].snr_db + 6
    record = next(d for d in own.report.algorithms if d.name == OutputPrecision.name)
    assert record.accepted
    assert record.after > record.before
    b = GraphBuilder(1)
    x = b.input((8, 8, 3))
    for _ in range(24):
        x = weighted(b, x, 8, 3, "relu")
    b.output(weighted(b, x, 4, 1))
    deep = optimize(b.net, random_frames(b.net, 16, 0), options())
    assert output_quantization(deep.network[b.net.output_layers[0].name]).bits == 8


@pytest.mark.parametrize("activation", ["sigmoid", "sin"])
def test_what_ends_at_bounds_shows_what_lies_beyond_calibration(activation: str) -> None:
    """An index that ends at the largest measured value would end the 16-bit codes there, too; a wave has no end."""
    b = GraphBuilder(5)
    x = weighted(b, b.input((4, 4, 2)), 2, 1, activation)
    b.output(x)
    frames = random_frames(b.net, 16, 0)
    result = optimize(b.net, {name: 0.25 * value for name, value in frames.items()}, options(output_bits=16))
    low, high = result.report.layers[x].notes.table_range
    least = {"sigmoid": 10, "sin": 0}[activation]
    assert low < -least
    assert high > least
    assert (high - low < 10) == (activation == "sin")


@pytest.mark.parametrize("net", [heads(), classifier()], ids=["heads", "classifier"])
def test_reference_emulator_and_device_give_the_same_bytes(net: Network) -> None:
    quantized = optimize(net, random_frames(net, 16, 0), options(output_bits=16)).network
    assert all(output_quantization(x).bits == 16 for x in quantized.output_layers)
    assert_same_bytes(quantized)


def test_only_eight_sixteen_or_measured() -> None:
    with pytest.raises(UsageError, match="output_bits"):
        options(output_bits=12).check()


def test_convolutions_multiply_sixteen_bits_where_the_user_wants_them() -> None:
    """Only then: the candidates that are measured leave them out."""
    b = GraphBuilder(5)
    names = [weighted(b, b.input((8, 8, 3)), 6, 3, "relu")]
    names += [weighted(b, names[-1], 6, 3)]
    names += [weighted(b, names[-1], 4, 1)]
    b.output(names[-1])
    frames = random_frames(b.net, 8, seed=1)
    asked = (OutputBits(tuple(names[:2]), 16),)
    wide = optimize(b.net, frames, options(output_bits=8, bits=asked)).network
    assert [output_quantization(wide[name]).bits for name in names] == [16, 16, 8]
    assert_same_bytes(wide)
    narrow = optimize(b.net, frames, options(output_bits=8)).network
    assert [output_quantization(narrow[name]).bits for name in names] == [8, 8, 8]
