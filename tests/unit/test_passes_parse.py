# SPDX-License-Identifier: Apache-2.0
"""The clean-up passes: they change nothing that is computed, and leave alone what they must."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.passes import run_passes
from headrace.passes.absorb_pad import AbsorbPad
from headrace.passes.fold_affine import FoldAffine
from headrace.passes.fold_batch_norm import DropIdentityBatchNorm, FoldBatchNorm
from headrace.passes.fold_space_to_depth import FoldSpaceToDepth, MergeSlices
from headrace.passes.fuse_activation import FuseActivation
from headrace.passes.remove_no_ops import MergeReshapes, RemoveDeadLayers, RemoveNoOps
from hn_maker import RNG, Maker, run


def same(network, *passes):
    """Apply the passes; outputs must not change beyond float32 constants. Returns the kinds left."""
    x = RNG.normal(size=(2, *network.input_layers[0].output_shape[1:]))
    before = run(network, x)
    run_passes(network, passes)
    for a, b in zip(before, run(network, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    return [layer.kind for layer in network if layer.kind not in ("input_layer", "output_layer")]


def test_batch_norms_fold_together_and_into_convolutions():
    network = Maker().conv("c", "x", 4, 3).bn("b1", "c", 3).bn("b2", "b1", 3).out("b2")
    assert same(network, FoldBatchNorm()) == ["conv"]
    assert network["n/c"].original_names == ["c", "b1", "b2"]
    assert sorted(network.params) == ["n/c/bias", "n/c/kernel"]
    assert same(Maker().bn("b1", "x", 4).bn("b2", "b1", 4, activation="relu").out("b2"), FoldBatchNorm()) == [
        "batch_norm"
    ]


def test_folding_takes_the_activation_along():
    network = (
        Maker().conv("c", "x", 4, 3).bn("b", "c", 3, activation="leaky_relu", activation_params={"alpha": 0.3}).out("b")
    )
    assert same(network, FoldBatchNorm()) == ["conv"]
    assert network["n/c"].attributes["activation_params"] == {"alpha": 0.3}


@pytest.mark.parametrize("case", ["activation", "two users", "residual"])
def test_what_must_not_fold(case):
    maker = Maker()
    if case == "activation":
        network = maker.conv("c", "x", 4, 3, activation="relu").bn("b", "c", 3).out("b")
    elif case == "two users":
        network = maker.conv("c", "x", 4, 3).bn("b", "c", 3).out("b", "c")
    else:
        maker.conv("d", "x", 4, 3)
        maker.add("conv", "c", ["x", "d"], {"kernel_shape": [3, 3, 4, 3], "elementwise_add": True},
                  kernel=RNG.normal(size=(3, 3, 4, 3)), bias=np.zeros(3))  # fmt: skip
        network = maker.bn("b", "c", 3).out("b")
    assert "batch_norm" in same(network, FoldBatchNorm())


def test_identity_batch_norm_goes():
    network = Maker().add("batch_norm", "b", ["x"], scale=np.ones(4), offset=np.zeros(4)).out("b")
    assert same(network, DropIdentityBatchNorm()) == []
    network = (
        Maker().add("batch_norm", "b", ["x"], {"activation": "relu"}, scale=np.ones(4), offset=np.zeros(4)).out("b")
    )
    assert same(network, DropIdentityBatchNorm()) == ["batch_norm"]


def test_activation_fuses_once_and_only_into_its_sole_producer():
    maker = Maker().conv("c", "x", 4, 3).add("activation", "a", ["c"], {"activation": "relu"})
    network = maker.add("activation", "t", ["a"], {"activation": "tanh"}).out("t")
    assert same(network, FuseActivation()) == ["conv", "activation"]
    network = Maker().conv("c", "x", 4, 3).add("activation", "a", ["c"], {"activation": "relu"}).out("a", "c")
    assert same(network, FuseActivation()) == ["conv", "activation"]
    network = (
        Maker()
        .add("maxpool", "m", ["x"], {"kernel_shape": [2, 2]})
        .add("activation", "a", ["m"], {"activation": "tanh"})
        .out("a")
    )
    assert same(network, FuseActivation()) == ["maxpool", "activation"]
    network = (
        Maker().add("ew_add", "s", ["x", "x"]).add("activation", "a", ["s"], {"activation": "hard_swish"}).out("a")
    )
    assert same(network, FuseActivation()) == ["ew_add"]


def test_pad_is_absorbed_by_all_its_users_or_by_none():
    pad = {"before": [1, 0, 0], "after": [1, 2, 0]}
    network = Maker().add("external_pad", "p", ["x"], pad).conv("c", "p", 4, 3).conv("d", "p", 4, 2).out("c", "d")
    assert same(network, AbsorbPad()) == ["conv", "conv"]
    assert network["n/c"].attributes["padding"] == [1, 0, 1, 2]
    network = Maker().add("external_pad", "p", ["x"], pad).conv("c", "p", 4, 3).conv("d", "p", 4, 2, k=1).out("c", "d")
    assert "external_pad" in same(network, AbsorbPad())
    network = Maker().add("external_pad", "p", ["x"], pad).add("maxpool", "m", ["p"], {"kernel_shape": [3, 3]}).out("m")
    assert "external_pad" in same(network, AbsorbPad())
    channels = {"before": [0, 0, 1], "after": [0, 0, 0]}
    assert "external_pad" in same(
        Maker().add("external_pad", "p", ["x"], channels).conv("c", "p", 5, 3).out("c"), AbsorbPad()
    )


def test_layers_that_change_nothing_go():
    maker = Maker((1, 5, 4)).add("reshape", "r", ["x"], {"shape": [1, 5, 4]})
    maker.add("transpose", "t", ["r"], {"permutation": [0, 1, 2]})
    maker.add("slice", "s", ["t"], {"starts": [0, 0, 0], "steps": [1, 1, 1], "sizes": [1, 5, 4]})
    maker.add("external_pad", "p", ["s"], {"before": [0, 0, 0], "after": [0, 0, 0]})
    network = maker.add("concat", "c", ["p"], {"axis": 1}).out("c")
    assert same(network, RemoveNoOps()) == []
    assert network.input_layers[0].original_names == ["x", "r", "t", "s", "p", "c"]
    square = Maker((5, 5, 4)).add("transpose", "t", ["x"], {"permutation": [1, 0, 2]}).out("t")
    assert same(square, RemoveNoOps()) == ["transpose"]  # the same shape, other data


def test_reshapes_merge_and_dead_layers_go():
    maker = (
        Maker()
        .add("reshape", "a", ["x"], {"shape": [120]})
        .add("reshape", "b", ["a"], {"shape": [4, 5, 6]})
        .conv("dead", "x", 4, 2)
    )
    network = maker.out("b")
    assert same(network, MergeReshapes(), RemoveDeadLayers()) == ["reshape"]
    assert list(network.params) == []


def blocks(order, height=8, width=6, channels=3, **attributes):
    """Slices of slices as YOLO's Focus has them (rows first, then columns), concatenated in ``order``, and a conv."""
    maker = Maker((height, width, channels))
    for row in (0, 1):
        sizes = [height // 2, width, channels]
        maker.add("slice", f"r{row}", ["x"], {"starts": [row, 0, 0], "steps": [2, 1, 1], "sizes": sizes})
    for row, column in order:
        sizes = [height // 2, width // 2, channels]
        name = f"s{row}{column}"
        maker.add("slice", name, [f"r{row}"], {"starts": [0, column, 0], "steps": [1, 2, 1], "sizes": sizes})
    maker.add("concat", "cat", [f"s{row}{column}" for row, column in order], {"axis": 2})
    return maker.conv("c", "cat", 4 * channels // attributes.get("groups", 1), 4, **attributes)


FOCUS = (MergeSlices(), FoldSpaceToDepth(), RemoveDeadLayers())


@pytest.mark.parametrize("order", [[(0, 0), (1, 0), (0, 1), (1, 1)], [(1, 1), (0, 1), (0, 0), (1, 0)]])
@pytest.mark.parametrize("attributes", [{"padding": [1, 1, 1, 1]}, {"strides": [2, 1], "padding": [0, 2, 1, 0]}])
def test_a_focus_becomes_one_convolution(order, attributes):
    network = blocks(order, **attributes).out("c")
    assert same(network, *FOCUS) == ["conv"]
    conv = network.of_kind("conv")[0]
    assert conv.attributes["kernel_shape"] == [6, 6, 3, 4]
    assert conv.original_names[-2:] == ["cat", "c"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [2, 3])
def test_space_to_depth_goes_into_its_convolution(mode, block):
    maker = Maker((6, 12, 2)).add("space_to_depth", "s", ["x"], {"block": block, "mode": mode})
    network = maker.conv("c", "s", 2 * block * block, 5, padding=[1, 0, 2, 1]).out("c")
    assert same(network, *FOCUS) == ["conv"]


def test_blocks_stay_where_the_fold_would_not_be_the_same():
    order = [(0, 0), (1, 0), (0, 1), (1, 1)]
    kept = ["slice"] * 4 + ["concat", "conv"]
    assert same(blocks(order, dilations=[1, 1], height=12, width=12).out("c"), *FOCUS) == ["conv"]
    assert same(blocks(order, dilations=[2, 1], height=12, width=12).out("c"), *FOCUS) == kept
    assert same(blocks(order, groups=2).out("c"), *FOCUS) == kept
    assert same(blocks(order).out("c", "cat"), *FOCUS) == kept
    assert same(blocks(order).out("cat"), *FOCUS) == kept[:-1]


def test_odd_rows_left_over_keep_the_slices():
    # 9 rows: the last one is in no block, but a convolution on the pixels would see it where blocks see padding.
    maker = Maker((9, 6, 3))
    for row in (0, 1):
        for column in (0, 1):
            attributes = {"starts": [row, column, 0], "steps": [2, 2, 1], "sizes": [4, 3, 3]}
            maker.add("slice", f"s{row}{column}", ["x"], attributes)
    maker.add("concat", "cat", ["s00", "s01", "s10", "s11"], {"axis": 2})
    network = maker.conv("c", "cat", 12, 4, padding=[1, 1, 1, 1]).out("c")
    assert "slice" in same(network, *FOCUS)


def affine(maker, name, source, scale, offset):
    return maker.add("batch_norm", name, [source], scale=np.asarray(scale), offset=np.asarray(offset))


@pytest.mark.parametrize("activation", ["hard_swish", "sigmoid", "silu", "gelu", "exp"])
@pytest.mark.parametrize(("scale", "offset"), [(0.75, -0.3), (-1.5, 0.2)])
def test_one_scale_and_offset_go_into_a_table(activation, scale, offset):
    maker = Maker().conv("c", "x", 4, 3, activation=activation)
    maker = affine(affine(maker, "a", "c", [scale] * 3, [offset] * 3), "b", "a", [2.0] * 3, [1.0] * 3)
    network = maker.out("b")
    assert same(network, FoldAffine()) == ["conv"]
    params = network.of_kind("conv")[0].attributes["activation_params"]
    assert params == {"output_scale": scale * 2, "output_offset": offset * 2 + 1}


@pytest.mark.parametrize(
    ("activation", "params", "scales", "offset"),
    [
        ("relu", {}, [0.5, 2.0, 3.0], 0.25),
        ("relu", {}, [0.5, 2.0, 3.0], 0.0),
        ("relu6", {}, [0.5] * 3, -0.25),
        ("clip", {"min": -1.0, "max": 0.5}, [2.0] * 3, 1.0),
    ],
)
def test_a_clamp_takes_the_affine_into_weights_and_bounds(activation, params, scales, offset):
    maker = Maker().conv("c", "x", 4, 3, activation=activation, **({"activation_params": params} if params else {}))
    assert same(affine(maker, "a", "c", scales, [offset] * 3).out("a"), FoldAffine()) == ["conv"]


@pytest.mark.parametrize(
    ("activation", "scales", "offsets"),
    [
        ("relu", [0.5, -2.0, 3.0], [0.0] * 3),
        ("relu", [0.5] * 3, [0.0, 0.1, 0.0]),
        ("relu6", [0.5, 1.0, 1.0], [0.0] * 3),
        ("silu", [0.5, 1.0, 1.0], [0.0] * 3),
        ("silu", [0.0] * 3, [1.0] * 3),
        ("leaky_relu", [0.5] * 3, [1.0] * 3),
        ("linear", [0.5] * 3, [1.0] * 3),
    ],
)
def test_an_affine_stays_where_the_fold_would_not_be_the_same(activation, scales, offsets):
    maker = Maker().conv("c", "x", 4, 3, activation=activation)
    assert same(affine(maker, "a", "c", scales, offsets).out("a"), FoldAffine()) == ["conv", "batch_norm"]


def test_an_affine_stays_where_others_read_the_activation():
    maker = affine(Maker().conv("c", "x", 4, 3, activation="silu"), "a", "c", [0.5] * 3, [1.0] * 3)
    assert same(maker.out("a", "c"), FoldAffine()) == ["conv", "batch_norm"]


def test_a_multiply_add_behind_slopes_stays():
    """What its sign decides has no table that could take it."""
    made = Maker().conv("c", "x", 4, 3)
    made.add("activation", "p", ["c"], {"activation": "prelu"}, slope=RNG.normal(size=3))
    network = made.bn("b", "p", 3).out("b")
    x = RNG.normal(size=(2, 6, 5, 4))
    want = run(network, x)
    run_passes(network, (FuseActivation(), FoldAffine()))
    assert [layer.kind for layer in network][1:-1] == ["conv", "batch_norm"]
    assert "n/c/slope" in network.params and "n/p/slope" not in network.params
    for a, b in zip(run(network, x), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
