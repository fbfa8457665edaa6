# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose, Resize, DepthToSpace, SpaceToDepth, PRelu and one-sided Clip against onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import helper

from frontend_oracle import compare, i64, kinds, model

RNG = np.random.default_rng(7)


def _one(op, shape, out, initializers=(), opset=17, extra=(), **attributes):
    names = ["x", *extra, *dict(initializers)] if not extra else ["x", *extra]
    node = helper.make_node(op, names, ["y"], **attributes)
    return model([node], [("x", shape)], [("y", out)], initializers, opset=opset).SerializeToString()


TRANSPOSED = [
    # cin, cout, groups, kernel, stride, dilation, pads, output padding
    (3, 5, 1, (2, 2), (2, 2), (1, 1), (0, 0, 0, 0), (0, 0)),
    (4, 6, 2, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), (1, 1)),
    (4, 4, 4, (4, 4), (2, 2), (1, 1), (1, 1, 1, 1), (0, 0)),
    (3, 2, 1, (9, 9), (3, 3), (1, 1), (4, 4, 4, 4), (2, 2)),
    (2, 3, 1, (3, 2), (2, 3), (2, 1), (0, 1, 1, 0), (1, 2)),
    (2, 3, 1, (3, 3), (1, 1), (2, 2), (1, 2, 2, 1), (0, 0)),
    (2, 3, 1, (1, 1), (2, 2), (1, 1), (0, 0, 0, 0), (1, 1)),
    (2, 2, 1, (3, 3), (2, 2), (1, 1), (2, 2, 2, 2), (0, 0)),
]


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolution(case):
    cin, cout, groups, kernel, stride, dilation, pads, extra = case
    weights = RNG.normal(size=(cin, cout // groups, *kernel)).astype(np.float32)
    initializers = {"w": weights, "b": RNG.normal(size=cout).astype(np.float32)}
    data = _one(
        "ConvTranspose", ["n", cin, 5, 6], ["n", cout, "h", "w"], initializers, strides=stride, dilations=dilation,
        group=groups, pads=pads, output_padding=extra,
    )  # fmt: skip
    compare(data, {"x": [1, cin, 5, 6]}, batch=2)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_transposed_convolution_of_fixed_output(mode):
    weights = {"w": RNG.normal(size=(2, 3, 3, 3)).astype(np.float32)}
    data = _one("ConvTranspose", [1, 2, 5, 6], [1, 3, 10, 12], weights, strides=[2, 2], auto_pad=mode)
    compare(data)


def test_transposed_convolution_in_one_dimension():
    weights = {"w": RNG.normal(size=(2, 3, 4)).astype(np.float32)}
    compare(_one("ConvTranspose", [1, 2, 7], [1, 3, "l"], weights, strides=[2], pads=[1, 1]))


COORDINATES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn"]
ROUNDINGS = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]


@pytest.mark.parametrize(("coordinate", "rounding"), list(itertools.product(COORDINATES, ROUNDINGS)))
@pytest.mark.parametrize("scales", [(2.0, 2.0), (3.0, 1.0), (1.5, 0.5), (0.4, 2.5)], ids=str)
def test_nearest(coordinate, rounding, scales):
    initializers = {"r": np.zeros(0, np.float32), "s": np.array([1, 1, *scales], np.float32)}
    data = _one(
        "Resize", [1, 3, 5, 7], [1, 3, "h", "w"], initializers, extra=["", "s"], mode="nearest", nearest_mode=rounding,
        coordinate_transformation_mode=coordinate,
    )  # fmt: skip
    compare(data)


@pytest.mark.parametrize("coordinate", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("sizes", [(8, 12), (4, 18), (16, 6), (7, 5), (3, 2)], ids=str)
def test_bilinear(coordinate, sizes):
    initializers = {"s": np.array([1, 3, *sizes], np.int64)}
    data = _one(
        "Resize", [1, 3, 4, 6], [1, 3, *sizes], initializers, extra=["", "", "s"], mode="linear",
        coordinate_transformation_mode=coordinate,
    )  # fmt: skip
    compare(data)


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_resize_before_operator_set_11(scale):
    initializers = {"s": np.array([1, 1, scale, scale], np.float32)}
    compare(_one("Resize", [1, 2, 6, 4], [1, 2, "h", "w"], initializers, opset=10, mode="nearest"))


def test_upsample():
    initializers = {"s": np.array([1, 1, 2, 3], np.float32)}
    compare(_one("Upsample", [1, 2, 4, 4], [1, 2, 8, 12], initializers, opset=9, mode="nearest"))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("size", [2, 3])
def test_depth_to_space(mode, size):
    data = _one("DepthToSpace", ["n", 2 * size * size, 3, 4], ["n", 2, 3 * size, 4 * size], blocksize=size, mode=mode)
    compare(data, {"x": [1, 2 * size * size, 3, 4]}, batch=2)


def test_space_to_depth():
    compare(_one("SpaceToDepth", [1, 3, 4, 6], [1, 12, 2, 3], blocksize=2))


@pytest.mark.parametrize("low", [0.05, -0.5])
def test_slope_per_channel(low):
    slope = RNG.uniform(low, 0.9, (4, 1, 1)).astype(np.float32)
    compare(_one("PRelu", [1, 4, 3, 3], [1, 4, 3, 3], {"a": slope}))


@pytest.mark.parametrize("names", [["x", "b"], ["x", "", "b"]])
def test_clip_on_one_side(names):
    node = helper.make_node("Clip", names, ["y"])
    data = model([node], [("x", [1, 4, 3, 3])], [("y", [1, 4, 3, 3])], {"b": np.float32(0.25)}, opset=13)
    compare(data.SerializeToString())


# --- cubic -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric"])
@pytest.mark.parametrize("factor", [2, 3, 4, 0.5, 1 / 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_cubic_by_whole_factors(coordinates, factor, channels):
    size = (6, 9) if factor > 1 or factor == 1 / 3 else (6, 8)
    out = [round(s * factor) for s in size]
    nodes = [
        helper.make_node(
            "Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", coordinate_transformation_mode=coordinates,
            cubic_coeff_a=-0.75,
        )
    ]  # fmt: skip
    built = model(nodes, [("x", ["N", channels, *size])], [("y", None)], {"sizes": i64(2, channels, *out)})
    compare(built.SerializeToString(), batch=2)


@pytest.mark.parametrize(
    ("out", "more"),
    [
        ((9, 13), {}),
        ((12, 27), {}),
        ((12, 18), {"coordinate_transformation_mode": "align_corners"}),
        ((12, 18), {"exclude_outside": 1}),
        ((120, 180), {}),
        ((96, 144), {"channels": 512}),
    ],
)
def test_cubic_otherwise_is_a_product_axis_by_axis(out, more):
    channels = more.pop("channels", 2)
    nodes = [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], "r", mode="cubic", **more)]
    built = model(nodes, [("x", ["N", channels, 6, 9])], [("y", None)], {"sizes": i64(1, channels, *out)})
    result = compare(built.SerializeToString())
    assert "conv" in kinds(result)
