# SPDX-License-Identifier: Apache-2.0
"""Parallel branches become one convolution: the same numbers, and nothing else is touched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from headrace.passes import run_passes
from headrace.passes.merge_branches import MergeBranches
from hn_maker import RNG, Maker, run


def conv(maker, name, source, shape, groups=1, **attributes):
    """shape: kernel height, width, input channels of a group, outputs."""
    kind = "dw" if groups == shape[3] and shape[2] == 1 and groups > 1 else "conv"
    attributes = {"kernel_shape": list(shape), "groups": groups, **attributes}
    return maker.add(kind, name, [source], attributes, kernel=RNG.normal(size=shape), bias=RNG.normal(size=shape[3]))


def merged(network):
    """The network's result before and after; the records."""
    x = RNG.normal(size=(2, *network.input_layers[0].output_shape[1:]))
    want = run(network, x)
    records = run_passes(network, (MergeBranches(),))
    got = run(network, x)
    for a, b in zip(want, got, strict=True):
        assert np.abs(a - b).max() < 1e-6
    return records


def kinds(network):
    return [layer.kind for layer in network]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_repvgg_block_in_every_order(order):
    m = Maker((6, 5, 4))
    conv(m, "c3", "x", (3, 3, 4, 4), padding=[1] * 4)
    conv(m, "c1", "x", (1, 1, 4, 4))
    m.bn("id", "x", 4)
    names = [("c3", "c1", "id")[i] for i in order]
    m.add("ew_add", "s1", names[:2]).add("ew_add", "s2", ["s1", names[2]])
    network = m.add("activation", "r", ["s2"], {"activation": "relu"}).out("r")
    (record,) = merged(network)
    assert record["merged"] == 2
    assert kinds(network) == ["input_layer", "conv", "activation", "output_layer"]
    assert {"c3", "c1", "id", "s1", "s2"} <= set(network["n/c3"].original_names)


def test_the_tensor_itself_and_an_activation_in_the_sum():
    m = Maker((6, 5, 4))
    conv(m, "a", "x", (3, 3, 4, 4), padding=[1] * 4)
    conv(m, "b", "x", (3, 1, 4, 4), padding=[1, 0, 1, 0])
    m.add("ew_add", "s1", ["x", "a"]).add("ew_add", "s2", ["b", "s1"], {"activation": "relu"})
    network = m.out("s2")
    merged(network)
    assert kinds(network) == ["input_layer", "conv", "output_layer"]
    assert network["n/a"].attributes["activation"] == "relu"


def test_depthwise_strided_and_dilated():
    """MobileOne's stride-2 block; a dilated kernel whose taps the host has."""
    m = Maker((8, 8, 6))
    conv(m, "a", "x", (5, 5, 1, 6), groups=6, strides=[2, 2], padding=[2] * 4)
    conv(m, "b", "x", (1, 1, 1, 6), groups=6, strides=[2, 2])
    conv(m, "c", "x", (3, 3, 1, 6), groups=6, strides=[2, 2], dilations=[2, 2], padding=[2] * 4)
    network = m.add("ew_add", "s1", ["a", "b"]).add("ew_add", "s2", ["s1", "c"]).out("s2")
    merged(network)
    assert kinds(network) == ["input_layer", "dw", "output_layer"]


def test_groups_within_groups():
    m = Maker((5, 5, 8))
    conv(m, "a", "x", (3, 3, 8, 8), padding=[1] * 4)
    conv(m, "b", "x", (3, 3, 2, 8), groups=4, padding=[1] * 4)
    conv(m, "c", "x", (1, 1, 1, 8), groups=8)
    network = m.add("ew_add", "s1", ["a", "b"]).add("ew_add", "s2", ["c", "s1"]).out("s2")
    merged(network)
    assert kinds(network) == ["input_layer", "conv", "output_layer"]


def test_two_tensors_each_with_their_branches():
    m = Maker((5, 5, 4))
    m.add("activation", "y", ["x"], {"activation": "relu"})
    for name, source in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")):
        conv(m, name, source, (3, 3, 4, 4), padding=[1] * 4)
    m.add("ew_add", "s1", ["a", "c"]).add("ew_add", "s2", ["b", "d"]).add("ew_add", "s3", ["s1", "s2"])
    network = m.out("s3")
    assert len(merged(network)) == 2
    assert sorted(kinds(network)).count("conv") == 2 and kinds(network).count("ew_add") == 1


def unchanged(network):
    before = kinds(network)
    assert not merged(network)
    assert kinds(network) == before


def test_a_plain_residual_stays():
    m = Maker((5, 5, 4))
    unchanged(conv(m, "a", "x", (3, 3, 4, 4), padding=[1] * 4).add("ew_add", "s", ["a", "x"]).out("s"))


def test_a_branch_that_is_read_elsewhere_stays():
    m = Maker((5, 5, 4))
    conv(m, "a", "x", (3, 3, 4, 4), padding=[1] * 4)
    conv(m, "b", "x", (1, 1, 4, 4))
    unchanged(m.add("ew_add", "s", ["a", "b"]).out("s", "b"))


def test_branches_with_activations_stay():
    m = Maker((5, 5, 4))
    conv(m, "a", "x", (3, 3, 4, 4), padding=[1] * 4)
    conv(m, "b", "x", (1, 1, 4, 4), activation="relu")
    unchanged(m.add("ew_add", "s", ["a", "b"]).out("s"))


def test_taps_that_no_branch_has_together_stay():
    """3×1 and 1×3 would need 3×3: more products than the two have."""
    m = Maker((5, 5, 4))
    conv(m, "a", "x", (3, 1, 4, 4), padding=[1, 0, 1, 0])
    conv(m, "b", "x", (1, 3, 4, 4), padding=[0, 1, 0, 1])
    unchanged(m.add("ew_add", "s", ["a", "b"]).out("s"))


def test_one_convolution_read_twice_stays():
    m = Maker((5, 5, 4))
    conv(m, "a", "x", (3, 3, 4, 4), padding=[1] * 4)
    unchanged(m.add("ew_add", "s", ["a", "a"]).out("s"))


def test_random_trees():
    rng = np.random.default_rng(3)
    for _ in range(30):
        m = Maker((6, 6, 4))
        m.add("activation", "y", ["x"], {"activation": "tanh"})
        waiting = []
        for i in range(int(rng.integers(2, 8))):
            source, k = str(rng.choice(["x", "y"])), int(rng.choice([1, 3]))
            match int(rng.integers(0, 4)):
                case 0:
                    m.bn(f"l{i}", source, 4)
                case 1 if source not in waiting:
                    waiting.append(source)
                    continue
                case _:
                    groups = int(rng.choice([1, 2, 4]))
                    conv(m, f"l{i}", source, (k, k, 4 // groups, 4), groups=groups, padding=[k // 2] * 4)
            waiting.append(f"l{i}")
        count = 0
        while len(waiting) > 1:
            a = waiting.pop(int(rng.integers(0, len(waiting))))
            b = waiting.pop(int(rng.integers(0, len(waiting))))
            activation = {"activation": "relu"} if rng.integers(0, 4) == 0 else {}
            m.add("ew_add", f"s{count}", [a, b], activation)
            waiting.append(f"s{count}")
            count += 1
        merged(m.out(waiting[0]))


def test_many_sums_take_time_in_proportion():
    import time

    def seconds(count):
        m = Maker((4, 4, 2))
        kernel, bias = RNG.normal(size=(1, 1, 2, 2)), RNG.normal(size=2)
        source = "x"
        for i in range(count):
            for name in (f"a{i}", f"b{i}"):
                m.add("conv", name, [source], {"kernel_shape": [1, 1, 2, 2]}, kernel=kernel, bias=bias)
            m.add("ew_add", f"s{i}", [f"a{i}", f"b{i}"])
            source = f"s{i}"
        network = m.out(source)
        begin = time.process_time()
        assert len(run_passes(network, (MergeBranches(),), verify=False)) == count
        assert kinds(network).count("conv") == count
        return time.process_time() - begin

    assert seconds(1600) < 10 * seconds(400) + 1
