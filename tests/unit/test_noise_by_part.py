# SPDX-License-Identifier: Apache-2.0
"""Noise about the mean, part by part: what the parts are, how the search and the gate judge by them."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.emulator import Executor
from headrace.errors import AccuracyError
from headrace.hn import Array, Network, output_quantization
from headrace.numerics.quantization import dequantize
from headrace.optimize import OptimizeOptions, OptimizeResult, optimize
from headrace.optimize.algorithms.output_precision import OutputPrecision
from headrace.optimize.measure.noise import OutputNoise, PartNoise, Sums, Whole
from headrace.optimize.measure.output_parts import CellMap, Part, cell_map, parts_of, place_text
from headrace.optimize.statistics.collect import Statistics
from headrace.optimize.trial import Proposal, Trial
from headrace.passes import run_passes
from headrace.passes.split_affine import SplitAffine
from layer_maker import make_layer
from random_graphs import GraphBuilder, random_frames, weighted
from same_bytes import assert_same_bytes

PLAIN = OptimizeOptions(min_snr=0, threads=1, equalization=False, weight_rounding=False)


def boxes_and_scores(axis: int = 2, swapped: bool = False) -> Network:
    """Boxes of some hundred pixels and scores in 0 … 1 in one output."""
    b = GraphBuilder(3)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "relu")
    boxes = weighted(b, x, 4, 1)
    b.net.params[f"{boxes}/kernel"] = b.net.params[f"{boxes}/kernel"] * 150
    scores = weighted(b, x, 4, 1, "sigmoid")
    b.output(b.add("concat", [scores, boxes] if swapped else [boxes, scores], {"axis": axis}))
    return b.net


def one_convolution(factors: Array) -> Network:
    """Channels of unlike size out of one convolution."""
    b = GraphBuilder(5)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "relu")
    x = weighted(b, x, len(factors), 1)
    kernel = b.rng.normal(0, 1, b.net.params[f"{x}/kernel"].shape)
    b.net.params[f"{x}/kernel"] = (kernel * factors).astype(np.float32)
    b.net.params[f"{x}/bias"] = np.zeros(len(factors), np.float32)
    b.output(x)
    return b.net


def found_parts(net: Network) -> tuple[CellMap, list[Part]]:
    output = net.output_layers[0]
    cells = cell_map(net, output)
    real = Executor(net, "native").run(random_frames(net, 8, 0))[output.name].astype(np.float64)
    return cells, parts_of(cells, Sums.of_map(cells, real).spread)


def places(net: Network) -> dict[str, str]:
    cells, parts = found_parts(net)
    return {part.name: place_text(part, cells.shape) for part in parts}


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_concatenation_gives_a_part_per_input_along_any_axis(axis: int) -> None:
    size = [8, 8, 4]
    wanted = [":", ":", ":"]
    wanted[axis] = f"0:{size[axis]}"
    after = [":", ":", ":"]
    after[axis] = f"{size[axis]}:{2 * size[axis]}"
    assert places(boxes_and_scores(axis)) == {"conv2": f"[{', '.join(wanted)}]", "conv3": f"[{', '.join(after)}]"}


def test_parts_are_seen_through_moves_functions_and_sums() -> None:
    b = GraphBuilder(2)
    x = b.input((4, 4, 3))
    heads = [weighted(b, x, n, 1) for n in (4, 1, 3)]
    joined = b.add("concat", heads, {"axis": 2})
    joined = b.add("activation", [joined], {"activation": "sigmoid"})
    joined = b.add("reshape", [joined], {"shape": [1, 16, 8]})
    joined = b.add("transpose", [joined], {"permutation": [0, 2, 1]})
    b.output(b.add("slice", [joined], {"starts": [0, 1, 0], "sizes": [1, 7, 16], "steps": [1, 1, 1]}))
    assert places(b.net) == {"conv1": "[:, 0:3, :]", "conv2": "[:, 3:4, :]", "conv3": "[:, 4:7, :]"}


def test_a_slice_and_a_padding_behind_a_join_are_parts_that_cover_the_output() -> None:
    b = GraphBuilder(2)
    x = b.input((4, 4, 3))
    joined = b.add("concat", [weighted(b, x, 3, 1), weighted(b, x, 2, 1)], {"axis": 2})
    b.output(b.add("external_pad", [joined], {"before": [1, 0, 0], "after": [0, 1, 0]}))
    cells, parts = found_parts(b.net)
    index = np.sort(np.concatenate([part.index for part in parts]))
    np.testing.assert_array_equal(index, np.arange(np.prod(cells.shape)))
    assert {part.name for part in parts} == {"conv1", "conv2", "padding"}


@pytest.mark.parametrize("seed", range(6))
def test_permuting_channels_permutes_the_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = np.where(np.arange(12) < 4, 300.0, 1.0)
    order = rng.permutation(12)
    sizes: list[set[frozenset[int]]] = []
    for chosen in (np.arange(12), order):
        net = one_convolution(factors)
        for key in ("kernel", "bias"):
            value = net.params[f"net/conv2/{key}"]
            net.params[f"net/conv2/{key}"] = np.ascontiguousarray(value[..., chosen])
        _, parts = found_parts(net)
        sizes.append({frozenset(int(chosen[i]) for i in np.unique(part.index % 12)) for part in parts})
    assert sizes[0] == sizes[1] == {frozenset(range(4)), frozenset(range(4, 12))}


def test_few_channels_that_hardly_move_are_no_part_and_bounded_ones_are_one() -> None:
    few = np.ones(40)
    few[7] = 1e-4
    assert list(places(one_convolution(few))) == ["conv2"]
    b = GraphBuilder(5)
    x = weighted(b, b.input((4, 4, 4)), 8, 1, "sigmoid")
    b.net.params[f"{x}/bias"] = np.array([0, 0, 0, 0, -9, -9, -9, -9], np.float32)
    b.output(x)
    assert list(places(b.net)) == ["conv1"]


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_numpy() -> None:
    net = boxes_and_scores()
    frames = random_frames(net, 16, 0)
    result = optimize(net, frames, PLAIN)
    output = net.output_layers[0].name
    real = Executor(result.fp_network, "fp_optimized").run(frames)[output].astype(np.float64)
    codes = Executor(result.network, "quantized").run(frames)[output]
    error = real - dequantize(codes, output_quantization(result.network[output]))
    variation = np.square(real - real.mean(axis=(0, 1, 2))).sum(axis=(0, 1, 2))
    noise = np.square(error).sum(axis=(0, 1, 2))
    record = result.report.outputs[output]
    for part, channels in zip(record.parts, (slice(0, 4), slice(4, 8)), strict=True):
        assert part.snr_db == pytest.approx(10 * np.log10(variation[channels].sum() / noise[channels].sum()), abs=0.01)
        assert part.range == pytest.approx([real[..., channels].min(), real[..., channels].max()])
    assert record.snr_db == pytest.approx(10 * np.log10(variation.sum() / noise.sum()), abs=0.01)
    assert record.worst == min(record.parts, key=lambda part: part.snr_db).name


def test_chunks_and_the_whole_give_the_same() -> None:
    cells = CellMap((2, 3), [], np.array([1, 2, 2, 1, 2, 2]), 3)
    rng = np.random.default_rng(0)
    real, error = rng.normal(5, 1, (9, 2, 3)), rng.normal(0, 0.1, (9, 2, 3))
    codes = rng.integers(0, 256, (9, 2, 3)).astype(np.uint8)
    part = Part("a", "net/a", np.array([1, 2]), np.arange(6), None)
    whole = OutputNoise.of("o", cells, [part], real, real - error, codes)
    merged = OutputNoise.of("o", cells, [part], real[:4], (real - error)[:4], codes[:4])
    merged.add(OutputNoise.of("o", cells, [part], real[4:], (real - error)[4:], codes[4:]))
    (one,), (two,) = whole.measured(), merged.measured()
    assert one.judged_db == pytest.approx(two.judged_db, abs=1e-9)
    assert one.codes == two.codes
    assert one.uncertainty_db == pytest.approx(two.uncertainty_db)


def test_an_offset_hides_nothing_and_a_constant_is_judged_by_its_size() -> None:
    rng = np.random.default_rng(0)
    real = np.stack([293 + 0.03 * rng.normal(size=100), np.full(100, 7.0)], axis=-1)
    whole = Sums.of_channels(real, np.full((100, 2), 0.03), np.zeros((100, 2), np.uint8))
    assert whole.whole(np.array([0])).snr_db == pytest.approx(0, abs=0.5)
    constant = whole.whole(np.array([1]))
    assert constant.basis == "constant"
    assert constant.snr_db == pytest.approx(20 * np.log10(7 / 0.03), abs=0.01)
    single = Sums.of_channels(np.array([[1.0, 2.0, 3.0]]), np.full((1, 3), 0.1), np.zeros((1, 3), np.uint8))
    one_frame = single.whole(np.arange(3))
    assert one_frame.basis == "values"
    assert one_frame.snr_db == pytest.approx(10 * np.log10(2 / 0.03), abs=0.01)


# --- judging ---------------------------------------------------------------------------------------------------------


def trial(*decibels: float, codes: int = 200, concentration: float = 0.0) -> Trial:
    """Parts of one output with these dB; those at 0 dB or less have one code."""
    parts: list[PartNoise] = []
    for number, value in enumerate(decibels):
        part = Part(f"part{number}", f"net/part{number}", np.array([1]), np.arange(100), None)
        left = 1 if value <= 0 else codes
        whole = Whole(1e4, 1.0, 10 ** (-value / 10), -1.0, 1.0, "channels", left)
        parts.append(PartNoise("o", part, whole, left, False, concentration, 32))
    net = Network("net")
    return Trial(Proposal("", net, Statistics(), {}), net, {"o": parts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [
        ((20, 20), (21, 21), True),
        ((20, 20), (20, 20.1), False),  # too little
        ((17.1, 25, 25, 25), (14.1, 40, 40, 40), False),  # the worst falls, whatever the others gain
        ((17.1, 25, 25, 25), (17.0, 30, 30, 30), True),  # by no more than is tolerated
        ((50, 60), (45, 90), False),
        ((14, 40), (17, 36), True),  # what is good may pay for what is bad
        ((10, 30), (0, 60), False),  # one died
        ((14.1, 18, 18, 19), (14.7, 19, 19, 13.9), False),  # YuNet: one part paid for a tenth of a dB
        ((14.1, 14.2, 14.2, 18), (17, 17, 17, 17), True),  # one may pay for what all the others gain
        ((0, 47), (27, 46), True),
    ],
)
def test_the_worst_part_decides_beside_the_sum(
    before: tuple[float, ...], after: tuple[float, ...], better: bool
) -> None:
    assert trial(*after).better_than(trial(*before)) is better


def test_a_part_with_two_codes_is_no_gain_where_it_had_more() -> None:
    assert not trial(9, 60, codes=2).better_than(trial(8, 20))
    assert trial(30, 60, codes=2).better_than(trial(20, 20))  # a mask: two codes are all there is


def test_noise_that_few_frames_make_is_uncertain() -> None:
    even, uneven = trial(17, 30, concentration=1 / 32), trial(17, 30, concentration=0.3)
    assert even.worst.uncertainty_db == 0
    assert uneven.worst.uncertainty_db > 2
    assert uneven.better_than(trial(18, 20))
    assert not even.better_than(trial(18, 20))


# --- end to end ------------------------------------------------------------------------------------------------------


def test_scores_beside_boxes_live() -> None:
    """One scale for boxes of some hundred pixels and scores in 0 … 1 leaves the scores one code: 47 dB in all."""
    net = boxes_and_scores()
    report = optimize(net, random_frames(net, 32, 0), OptimizeOptions(threads=1)).report
    (output,) = report.outputs.values()
    assert [part.snr_db > 20 for part in output.parts] == [True, True], output
    assert not any(part.dead for part in output.parts)


def read_inside() -> Network:
    """The same, and a convolution reads the join: its inputs must share a scale of 8 bits."""
    net = boxes_and_scores()
    joined = net.output_layers[0].inputs[0]
    kernel = np.random.default_rng(0).normal(0, 1, (1, 1, 8, 2)).astype(np.float32)
    attributes = {"kernel_shape": [1, 1, 8, 2]}
    net.add(
        make_layer("net/conv9", "conv", [joined], attributes, (-1, 8, 8, 2)),
        {"kernel": kernel, "bias": np.zeros(2, np.float32)},
    )
    net.add(make_layer("net/output_layer2", "output_layer", ["net/conv9"], {}, (-1, 8, 8, 2)))
    return net


def dead_scores() -> OptimizeResult:
    net = read_inside()
    with pytest.raises(AccuracyError) as caught:
        optimize(net, random_frames(net, 32, 0), OptimizeOptions(threads=1, output_bits=8))
    message = str(caught.value)
    assert "part conv3 [:, :, 4:8]" in message
    assert "left of values that vary" in message
    assert "net/conv2" in message  # whose range it was joined with
    return caught.value.result  # type: ignore[attr-defined]


def test_a_dead_part_fails_the_gate_with_its_cause() -> None:
    output = dead_scores().report.outputs["net/output_layer1"]
    assert output.snr_db > 25  # the whole shows nothing
    assert output.worst == "conv3"
    assert output.worst_snr_db < 3
    assert [part.dead for part in output.parts] == [False, True]


def test_no_gate_still_names_what_is_dead() -> None:
    net = read_inside()
    report = optimize(net, random_frames(net, 32, 0), OptimizeOptions(threads=1, output_bits=8, min_snr=0)).report
    assert any("part conv3" in warning and "left of values that vary" in warning for warning in report.warnings)


def dead_inside(scale: float) -> Network:
    """A layer of 300 ± 0.2 times ``scale`` in front of a convolution, beside a healthy branch."""
    b = GraphBuilder(7)
    x = weighted(b, b.input((6, 6, 3)), 6, 3, "relu")
    far = weighted(b, x, 6, 1)
    b.net.params[f"{far}/kernel"] = b.net.params[f"{far}/kernel"] * np.float32(0.02)
    b.net.params[f"{far}/bias"] = np.full(6, 300, np.float32)
    back = weighted(b, far, 6, 1)
    kernel = b.net.params[f"{back}/kernel"]
    b.net.params[f"{back}/kernel"] = (kernel - kernel.mean(axis=2, keepdims=True)) * np.float32(scale)
    healthy = weighted(b, x, 6, 1)
    b.output(b.add("ew_add", [back, healthy], {}))
    return b.net


def test_a_dead_layer_fails_only_where_it_matters() -> None:
    matters, does_not = dead_inside(60.0), dead_inside(0.02)
    frames = random_frames(matters, 32, 0)
    options = OptimizeOptions(threads=1, min_snr=0.1)
    with pytest.raises(AccuracyError) as caught:
        optimize(matters, frames, options)
    assert "net/conv2" in str(caught.value)
    result = optimize(does_not, frames, options)
    assert result.report.layers["net/conv2"].distinct_codes <= 2
    assert result.report.dead_layers == {}


@pytest.mark.parametrize("kind", ["mask", "zero"])
def test_two_values_and_no_values_are_no_loss(kind: str) -> None:
    """A mask of two values has two codes; a ReLU that never fires has one."""
    b = GraphBuilder(9)
    x = b.input((6, 6, 3))
    mask = weighted(b, x, 2, 1, "relu" if kind == "zero" else "sigmoid")
    b.net.params[f"{mask}/kernel"] = b.net.params[f"{mask}/kernel"] * np.float32(0 if kind == "zero" else 1e7)
    b.net.params[f"{mask}/bias"] = np.full(2, -1.0, np.float32)
    b.output(b.add("concat", [mask, weighted(b, x, 4, 1)], {"axis": 2}))
    report = optimize(b.net, random_frames(b.net, 16, 0), OptimizeOptions(threads=1)).report
    (output,) = report.outputs.values()
    assert not any(part.dead for part in output.parts)
    assert output.parts[0].distinct_codes <= 2


# --- corners and sizes -----------------------------------------------------------------------------------------------


def box_decoder() -> Network:
    """Corners in grid units from distances, then centres and sizes, joined and scaled to pixels, with scores."""
    b = GraphBuilder(11)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "relu")
    distances = weighted(b, x, 4, 1, "sigmoid")
    grid = np.stack(np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5), axis=-1).reshape(1, 128).astype(np.float32)
    corners: list[str] = []
    for first, sign in ((0, -1.0), (2, 1.0)):
        half = b.add("slice", [distances], {"starts": [0, 0, first], "sizes": [8, 8, 2], "steps": [1, 1, 1]})
        half = b.add("reshape", [half], {"shape": [1, 1, 128]})
        params = {"scale": np.full(128, sign, np.float32), "offset": grid[0] * 8}
        corners.append(b.add("batch_norm", [half], {}, params))
    middle, size = b.add("ew_add", corners, {}), b.add("ew_sub", corners[::-1], {})
    boxes = b.add("concat", [b.add("reshape", [one], {"shape": [8, 8, 2]}) for one in (middle, size)], {"axis": 2})
    params = {"scale": np.array([16, 16, 32, 32], np.float32), "offset": np.zeros(4, np.float32)}
    boxes = b.add("batch_norm", [boxes], {}, params)
    b.output(b.add("concat", [boxes, weighted(b, x, 3, 1, "sigmoid")], {"axis": 2}))
    return b.net


def test_sizes_of_boxes_survive_the_range_of_their_corners() -> None:
    """Sizes are differences of corners: rounding these to 8 bits, or joining sizes with centres, leaves 5 to 14 dB."""
    net = box_decoder()
    frames = random_frames(net, 24, 0)
    result = optimize(net, frames, OptimizeOptions(threads=1))
    (output,) = result.report.outputs.values()
    assert len(output.parts) == 3
    assert [part.snr_db > 20 for part in output.parts] == [True] * 3, output.parts
    wide = [d for d in result.report.algorithms if d.name == OutputPrecision.name and d.accepted]
    assert wide
    assert {output_quantization(result.network[name]).bits for name in ("net/batch_norm1", "net/batch_norm2")} == {16}
    assert_same_bytes(result.network)


def test_a_multiply_add_behind_a_join_moves_in_front_of_it_and_means_the_same() -> None:
    net = box_decoder()
    frames = random_frames(net, 4, 0)
    changed = net.clone()
    (record,) = run_passes(changed, (SplitAffine(),))
    assert len(record["into"]) == 2
    output = net.output_layers[0].name
    want, got = (Executor(one, "native").run(frames)[output] for one in (net, changed))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    inside = net.clone()  # a convolution behind it: the join stays
    scaled = next(x for x in inside.of_kind("batch_norm") if inside[x.inputs[0]].kind == "concat")
    kernel = {"kernel": np.ones((1, 1, 4, 1), np.float32), "bias": np.zeros(1, np.float32)}
    inside.add(make_layer("net/conv9", "conv", [scaled.name], {"kernel_shape": [1, 1, 4, 1]}, (-1, 8, 8, 1)), kernel)
    inside.add(make_layer("net/output_layer2", "output_layer", ["net/conv9"], {}, (-1, 8, 8, 1)))
    assert run_passes(inside, (SplitAffine(),)) == []


def sliced_scores() -> Network:
    """One sigmoid for all, of which slices become boxes and scores, as an anchor-based detector ends."""
    b = GraphBuilder(13)
    x = weighted(b, b.input((8, 8, 4)), 8, 3, "relu")
    raw = weighted(b, x, 7, 1, "sigmoid")
    cut = [(0, 2), (2, 2), (4, 3)]
    pieces = [b.add("slice", [raw], {"starts": [0, 0, a], "sizes": [8, 8, n], "steps": [1, 1, 1]}) for a, n in cut]
    centres = b.add(
        "batch_norm", pieces[:1], {}, {"scale": np.full(2, 16, np.float32), "offset": np.full(2, 80, np.float32)}
    )
    squares = b.add("ew_mult", [pieces[1], pieces[1]], {})
    sizes = b.add(
        "batch_norm", [squares], {}, {"scale": np.full(2, 120, np.float32), "offset": np.zeros(2, np.float32)}
    )
    b.output(b.add("concat", [centres, sizes, pieces[2]], {"axis": 2}))
    return b.net


def test_scores_sliced_from_what_boxes_are_made_of_keep_their_scale() -> None:
    """Joined with boxes again, the slice bound the sigmoid itself to the codes of boxes: 1 dB everywhere."""
    net = sliced_scores()
    result = optimize(net, random_frames(net, 24, 0), OptimizeOptions(threads=1))
    (output,) = result.report.outputs.values()
    assert len(output.parts) == 3
    assert min(part.snr_db for part in output.parts) > 20, output.parts
    assert_same_bytes(result.network)
