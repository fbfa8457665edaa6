# SPDX-License-Identifier: Apache-2.0
"""One training, saved by several tools: the same network up to names from each file, and the same results."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx_ir")

from onnx import helper

from frontend_oracle import NumpyOps, compare, model
from headrace.frontends import ParseOptions, parse
from headrace.hn.value import Wish
from headrace.passes import run_passes
from headrace.passes.merge_twins import MergeTwins
from hn_maker import Maker, run
from interpreters import float_values
from same_network import differences, pairs_of

RESNET8 = "derived_tf/resnet8"
MOBILENET = "derived_tf/mobilenet_v1_025/mobilenet_v1_0.25_224"
ULTRAFACE = "ultraface/version-RFB-320_without_postprocessing"
#: name → files of one training, the shape of the input where files leave it open, and how far parameters may differ as
#: a part of the largest: rounding, but where the files themselves are further apart (as their own run times are).
FAMILIES = {
    "resnet8": (
        [
            "mlperf_tiny/ic_resnet8_float.tflite", f"{RESNET8}/ic_resnet8_frozen.pb",
            f"{RESNET8}/ic_resnet8_saved_model", f"{RESNET8}/tf1_checkpoint", f"{RESNET8}/ic_resnet8_tf2onnx.onnx",
        ], None, 1e-5,
    ),
    "mobilenet": ([f"{MOBILENET}_{kind}" for kind in ("frozen.pb", "saved_model", "tf2onnx.onnx")], None, 1e-5),
    "fsrcnn": (["tf_superres/FSRCNN_x2.pb", "tf_superres/ckpt_x2"], [1, 32, 40, 1], 1e-5),
    "basic_pitch": (["basic_pitch/nmp.onnx", "basic_pitch/nmp.tflite", "basic_pitch/nmp_saved_model"], None, 1e-5),
    "ultraface": ([f"{ULTRAFACE}.onnx", f"{ULTRAFACE}.tflite"], None, 1e-3),
}  # fmt: skip


@pytest.fixture(scope="module")
def networks(zoo):
    made = {}

    def get(family):
        if family not in made:
            files, shape, _ = FAMILIES[family]
            options = ParseOptions(net_name="net", input_shapes=shape)
            made[family] = {file: parse(zoo / file, options).network for file in files}
        return made[family]

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_network_up_to_names(networks, family):
    first, *others = networks(family).values()
    for other in others:
        assert differences(first, other, FAMILIES[family][2]) == []


def results(network, image):
    """Values of all layers of a network for one frame, by name."""
    return float_values(network, {network.input_layers[0].name: image}, NumpyOps())


@pytest.mark.parametrize("family", FAMILIES)
def test_native_results_are_one_thing(networks, family):
    """To 1e-5 of an output's range; of UltraFace's two files the run times themselves are 2e-4 apart."""
    first, *others = networks(family).values()
    shape = [1 if size == -1 else size for size in first.input_layers[0].output_shape]
    image = np.random.default_rng(3).uniform(0, 1, shape).astype(np.float32)
    mine = results(first, image)
    for other in others:
        theirs, pairs = results(other, image), pairs_of(first, other)[0]
        for layer in first.output_layers:
            want, got = mine[layer.name], theirs[pairs[layer.name]]
            assert np.abs(want - got).max() <= (2e-4 if family == "ultraface" else 1e-5) * np.ptp(want)


# --- what makes them one ----------------------------------------------------------------------------------------------


def same_results(network, *passes):
    image = np.random.default_rng(5).normal(size=(2, *network.input_layers[0].output_shape[1:]))
    before = run(network, image)
    run_passes(network, passes)
    for a, b in zip(before, run(network, image), strict=True):
        np.testing.assert_array_equal(a, b)
    return [layer.kind for layer in network if layer.kind not in ("input_layer", "output_layer")]


def test_twins_become_one_with_all_behind_them():
    maker = Maker()
    kernel = np.random.default_rng(1).normal(size=(1, 1, 4, 4))
    for side in ("a", "b"):
        maker.add("conv", f"{side}1", ["x"], {"kernel_shape": [1, 1, 4, 4]}, kernel=kernel.copy(), bias=np.zeros(4))
        maker.add("activation", f"{side}2", [f"{side}1"], {"activation": "relu"})
    network = maker.add("ew_add", "sum", ["a2", "b2"], {}).out("sum", "b2")
    assert same_results(network, MergeTwins()) == ["conv", "activation", "ew_add"]
    assert network["n/a1"].original_names == ["a1", "b1"] and network["n/sum"].inputs == ("n/a2", "n/a2")


@pytest.mark.parametrize("change", ["parameters", "attributes", "input", "wish"])
def test_layers_that_differ_stay_two(change):
    maker = Maker()
    maker.add("activation", "f", ["x"], {"activation": "tanh"})
    kernel = np.random.default_rng(1).normal(size=(1, 1, 4, 4))
    for index, side in enumerate(("a", "b")):
        own = kernel + (index if change == "parameters" else 0)
        function = "relu6" if index and change == "attributes" else "relu"
        source = "f" if index and change == "input" else "x"
        maker.add("conv", side, [source], {"kernel_shape": [1, 1, 4, 4], "activation": function}, kernel=own,
                  bias=np.zeros(4))  # fmt: skip
    network = maker.add("ew_add", "sum", ["a", "b"], {}).out("sum", "f")
    if change == "wish":
        network["n/b"].output.wish = Wish(bits=16)
    assert same_results(network, MergeTwins()).count("conv") == 2


def test_long_borders_are_turned_whole():
    """Reflection by more than 64 elements: each side is one product with a matrix that has ones across."""
    shape, node = ["N", 2, 300], helper.make_node("Pad", ["x", "p"], ["y"], mode="reflect")
    pads = {"p": np.array([0, 0, 128, 0, 0, 127], np.int64)}
    result = compare(model([node], [("x", shape)], [("y", None)], pads).SerializeToString(), tolerance=1e-6)
    assert len(result.network.layers) < 20


@pytest.mark.parametrize("turned", [False, True])
def test_a_quotient_that_is_zero_where_its_divisor_is(turned):
    """TensorFlow's DivNoNan, as TFLite and ONNX write it out: nothing becomes infinite on the way."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Div", ["x", "r"], ["q"]),
        helper.make_node("Equal", ["zero", "r"] if turned else ["r", "zero"], ["c"]),
        helper.make_node("Where", ["c", "zero", "q"], ["y"]),
    ]  # fmt: skip
    zero = {"zero": np.zeros((), np.float32)}
    compare(model(nodes, [("x", [1, 3, 4, 5])], [("y", None)], zero).SerializeToString(), tolerance=1e-6)
