# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools over three dimensions, of windows of a picture, and by a computed kernel, with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, f, i64, kinds, model, one  # noqa: E402
from headrace.errors import UnsupportedModelError  # noqa: E402
from parsing import parse_onnx  # noqa: E402

ONES = [1] * 6


def convolve(shape, weight, op="Conv", bias=True, **attributes):
    outputs = weight[0] if op == "Conv" else weight[1] * attributes.get("group", 1)
    extra = [f(*weight), *([f(outputs)] if bias else [])]
    return kinds(one(op, shape, extra=extra, opset=18, **attributes))


@pytest.mark.parametrize("depth", [1, 3, 4, 8])
@pytest.mark.parametrize(
    ("weight", "attributes"),
    [
        ((6, 3, 3, 3, 3), {"pads": ONES}),
        ((6, 3, 3, 3, 3), {"pads": ONES, "strides": [2, 2, 2]}),
        ((6, 3, 3, 3, 3), {"pads": [2, 1, 1, 2, 1, 1], "dilations": [2, 1, 2]}),
        ((6, 3, 1, 3, 3), {"pads": [0, 1, 1, 0, 1, 1], "strides": [1, 2, 2]}),
        ((6, 3, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}),
        ((6, 3, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0], "strides": [2, 1, 1]}),
        ((6, 3, 1, 1, 1), {"strides": [1, 2, 2]}),
        ((3, 1, 3, 3, 3), {"pads": ONES, "group": 3}),
        ((6, 1, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0], "group": 3}),
        ((6, 3, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1, 2]}),
        ((6, 3, 1, 2, 2), {"auto_pad": "VALID", "bias": False}),
    ],
)
def test_convolution_of_a_clip(depth, weight, attributes):
    convolve([1, 3, depth, 6, 7], weight, **attributes)


def test_two_groups():
    convolve([1, 4, 6, 5, 5], (6, 2, 3, 3, 3), group=2, pads=ONES)


def test_a_kernel_without_height_and_width_copies_no_weights():
    result = one("Conv", [1, 4, 12, 6, 7], extra=[f(5, 4, 3, 1, 1)], opset=18, pads=[1, 0, 0, 1, 0, 0])
    assert result.report.weights == 5 * 4 * 3 + 5


@pytest.mark.parametrize(
    ("weight", "attributes"),
    [
        ((4, 6, 2, 2, 2), {"strides": [2, 2, 2]}),
        ((4, 6, 3, 3, 3), {"strides": [2, 2, 2], "pads": ONES, "output_padding": [1, 1, 1]}),
        ((4, 3, 3, 2, 3), {"strides": [1, 2, 2], "group": 2}),
        ((4, 1, 3, 3, 3), {"strides": [2, 2, 2], "pads": ONES, "group": 4}),
        ((4, 5, 3, 3, 3), {"strides": [1, 1, 1], "dilations": [2, 1, 1]}),
    ],
)
def test_transposed_convolution_of_a_clip(weight, attributes):
    convolve([1, 4, 3, 4, 5], weight, "ConvTranspose", **attributes)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]},
        {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "pads": ONES},
        {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "ceil_mode": 1},
        {"kernel_shape": [1, 3, 3], "strides": [1, 2, 2]},
        {"kernel_shape": [3, 1, 1], "pads": [1, 0, 0, 1, 0, 0]},
    ],
)
def test_pools_of_a_clip(op, attributes):
    one(op, [1, 4, 7, 8, 9], opset=18, **attributes)


def test_a_mean_with_padding_counted():
    one("AveragePool", [1, 4, 7, 8, 9], opset=19, kernel_shape=[3, 3, 3], pads=ONES, count_include_pad=1)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("scales", [(2, 2, 2), (1, 2, 3), (2, 1, 1), (0.5, 0.5, 1)])
def test_resized_clips(mode, coordinates, scales):
    more = {"coordinate_transformation_mode": coordinates, "mode": mode, "nearest_mode": "floor"}
    one("Resize", [1, 3, 4, 6, 8], extra=[None, np.float32([1, 1, *scales])], opset=18, **more)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_whole_clips(op):
    assert kinds(one(op, [1, 4, 7, 8, 9])).count("reshape") <= 2


def test_a_small_residual_network_over_a_clip():
    """Two convolutions, a normalization, a sum, a mean: frames of several clips."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "a"], ["c0"], pads=ONES, strides=[1, 2, 2]), make("Relu", ["c0"], ["r0"]),
        make("Conv", ["r0", "b"], ["c1"], pads=ONES),
        make("BatchNormalization", ["c1", "g", "o", "m", "v"], ["n1"]), make("Add", ["n1", "r0"], ["s1"]),
        make("Relu", ["s1"], ["r1"]), make("GlobalAveragePool", ["r1"], ["p"]), make("Flatten", ["p"], ["q"]),
        make("Gemm", ["q", "w"], ["y"]),
    ]  # fmt: skip
    constants = {
        "a": f(6, 3, 3, 3, 3), "b": f(6, 6, 3, 3, 3), "g": f(6), "o": f(6), "m": f(6), "v": f(6, low=0.5, high=1.5),
        "w": f(6, 4),
    }  # fmt: skip
    data = model(nodes, [("x", ["N", 3, 6, 10, 10])], [("y", None)], constants, 18).SerializeToString()
    found = kinds(compare(data, batch=2))
    assert found.count("transpose") == 1  # of the input; nothing moves between the layers


# --- pictures that are parts of one frame ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "weight", "attributes"),
    [
        ("Conv", (5, 6, 3, 3), {"pads": [1, 1, 1, 1]}), ("Conv", (6, 1, 3, 3), {"group": 6}),
        ("Conv", (4, 3, 3, 3), {"group": 2, "strides": [2, 2]}), ("Conv", (5, 6, 1, 1), {}),
        ("ConvTranspose", (6, 5, 2, 2), {"strides": [2, 2]}), ("MaxPool", None, {"kernel_shape": [2, 2]}),
        ("AveragePool", None, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}), ("GlobalAveragePool", None, {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("frames", [1, "N"])
def test_windows_of_a_picture_as_frames(op, weight, attributes, frames):
    """Cut into windows, computed, put together again."""
    make = helper.make_node
    nodes = [
        make("Reshape", ["x", "cut"], ["a"]), make("Transpose", ["a"], ["b"], perm=[0, 2, 4, 1, 3, 5]),
        make("Reshape", ["b", "frames"], ["c"]), make(op, ["c", "w"] if weight else ["c"], ["d"], **attributes),
        make("Relu", ["d"], ["y"]),
    ]  # fmt: skip
    constants = {"cut": i64(-1, 6, 2, 4, 3, 4), "frames": i64(-1, 6, 4, 4), **({"w": f(*weight)} if weight else {})}
    data = model(nodes, [("x", [frames, 6, 8, 12])], [("y", None)], constants, 18).SerializeToString()
    compare(data, batch=1 if frames == 1 else 2)


# --- a computed kernel ------------------------------------------------------------------------------------------------


def tracker(search, template, order=None, **attributes):
    """Both through an activation; the template is the kernel."""
    make = helper.make_node
    nodes = [make("Tanh", ["x"], ["a"]), make("Tanh", ["z"], ["b"])]
    picture, kernel, constants = "a", "b", {}
    if order is not None:
        nodes += [make("Reshape", ["a", "as"], ["a1"]), make("Reshape", ["b", "bs"], ["b1"])]
        picture, kernel, constants = "a1", "b1", {"as": i64(*order[0]), "bs": i64(*order[1])}
    nodes.append(make("Conv", [picture, kernel], ["y"], **attributes))
    inputs = [("x", list(search)), ("z", list(template))]
    return model(nodes, inputs, [("y", None)], constants, 18).SerializeToString()


@pytest.mark.parametrize(
    "attributes", [{}, {"strides": [2, 1]}, {"pads": [1, 2, 0, 1]}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}]
)
def test_a_template_is_the_kernel(attributes):
    compare(tracker((1, 3, 9, 10), (1, 3, 4, 3), **attributes))


def test_a_template_by_channels():
    """As SiamRPN has it: channels of one frame as groups."""
    order = ((1, -1, 9, 10), (-1, 1, 4, 3))
    found = kinds(compare(tracker((1, 6, 9, 10), (1, 6, 4, 3), order, group=6)))
    assert "matmul" not in found


def test_a_template_of_several_outputs():
    compare(tracker((1, 3, 9, 10), (1, 12, 4, 3), ((1, 3, 9, 10), (4, 3, 4, 3))))


def test_a_template_that_meets_other_frames_is_refused():
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(tracker(("N", 3, 9, 10), ("N", 3, 4, 3)))
    assert "every frame of the batch" in str(caught.value)


def test_a_template_of_too_many_products_is_refused():
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(tracker((1, 64, 512, 512), (1, 64, 16, 16)))
    assert "products" in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 2, 4, 3), (1, 3, 40, 3), (1, 3, 4)])
def test_templates_that_do_not_fit_are_refused(shape):
    with pytest.raises(UnsupportedModelError):
        parse_onnx(tracker((1, 3, 9, 10), shape))


@pytest.mark.parametrize(
    "change", [{"strides": [0, 1, 1]}, {"pads": [1] * 4}, {"dilations": [1] * 2}, {"kernel_shape": [3, 3]}]
)
def test_attributes_of_another_rank_are_refused(change):
    node = helper.make_node("Conv", ["x", "w"], ["y"], **change)
    data = model([node], [("x", [1, 3, 4, 5, 6])], [("y", None)], {"w": f(2, 3, 3, 3, 3)}, 18).SerializeToString()
    with pytest.raises(UnsupportedModelError):
        parse_onnx(data)
