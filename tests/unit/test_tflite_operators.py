# SPDX-License-Identifier: Apache-2.0
"""Each TFLite operator against LiteRT: small files written here, parsed, and run in float on both."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from frontend_oracle import run_network
from headrace.errors import UnsupportedModelError
from headrace.frontends.formats.tflite.graph import read_tflite
from headrace.frontends.reader import Source
from parsing import parse_tflite
from small_tflite import SmallModel, run_source, uniform_feeds, worst_difference

TOLERANCE = 1e-5


def rng(seed=0):
    return np.random.default_rng(seed)


def weights(*shape, seed=0):
    return rng(seed).normal(0, 0.5, shape).astype(np.float32)


def unbiased(m, x, kernel):
    """Operands of a convolution; LiteRT wants a bias, if only of zeros."""
    outputs = kernel.shape[3] if kernel.shape[0] == 1 else kernel.shape[0]
    return [x, m.constant(kernel), m.constant(np.zeros(outputs, np.float32))]


def check(model, *outputs, kinds=None, **feeds):
    """Parse, compare with LiteRT, and return the network."""
    data = model.bytes(*outputs)
    network = parse_tflite(data, "net").network
    assert worst_difference(network, data, uniform_feeds(data, **feeds), run_network) < TOLERANCE
    if kinds is not None:
        assert [layer.kind for layer in network][1:-1] == kinds
    return network


def refused(model, *outputs):
    with pytest.raises(UnsupportedModelError) as caught:
        parse_tflite(model.bytes(*outputs), "net")
    return caught.value


# --- convolutions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (1, 1))]
)
@pytest.mark.parametrize("size", [(9, 11), (10, 8)])
def test_convolution(padding, stride, dilation, size):
    m = SmallModel()
    x = m.input(1, *size, 3)
    y = m.op(
        "CONV_2D", [x, m.constant(weights(5, 3, 2, 3)), m.constant(weights(5, seed=1))], [1, 1, 1, 5], padding=padding,
        stride_h=stride[0], stride_w=stride[1], dilation_h=dilation[0], dilation_w=dilation[1], activation="RELU",
    )  # fmt: skip
    check(m, y, kinds=["conv"])


def test_grouped_convolution():
    m = SmallModel()
    x = m.input(1, 6, 6, 4)
    y = m.op(
        "CONV_2D", [x, m.constant(weights(6, 3, 3, 2)), m.constant(weights(6))], [1, 6, 6, 6], stride_h=1, stride_w=1
    )
    network = check(m, y, kinds=["conv"])
    assert network.layers["net/conv1"].attributes["groups"] == 2


@pytest.mark.parametrize(("channels", "multiplier", "kind"), [(4, 1, "dw"), (3, 2, "conv"), (1, 5, "conv")])
def test_depthwise(channels, multiplier, kind):
    m = SmallModel()
    x = m.input(1, 7, 8, channels)
    kernel = m.constant(weights(1, 3, 3, channels * multiplier))
    y = m.op(
        "DEPTHWISE_CONV_2D", [x, kernel, m.constant(weights(channels * multiplier))], [1, 4, 4, channels * multiplier],
        stride_h=2, stride_w=2, depth_multiplier=multiplier, activation="RELU6",
    )  # fmt: skip
    check(m, y, kinds=[kind], low=-3, high=3)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size", [(10, 12), (9, 11)])
@pytest.mark.parametrize("block", [(2, 2), (3, 2)])
@pytest.mark.parametrize("depthwise", [False, True])
def test_dilation_written_out(padding, size, block, depthwise):
    """SPACE_TO_BATCH_ND, convolution, bias and activation, BATCH_TO_SPACE_ND are one convolution with dilation."""
    m = SmallModel()
    x = m.input(1, *size, 2)
    before = [b if padding == "SAME" else 0 for b in block]
    after, crop = [], []
    for n, b, p in zip(size, block, before, strict=True):
        short = -(n + 2 * p) % b
        after.append(p + short)
        crop.append(short)
    edges = [[p, q] for p, q in zip(before, after, strict=True)]
    split = [1 * block[0] * block[1], *((n + sum(e)) // b for n, e, b in zip(size, edges, block, strict=True)), 2]
    s = m.op("SPACE_TO_BATCH_ND", [x, m.ints(block), m.ints(edges)], split)
    inner = [split[0], split[1] - 2, split[2] - 2, 2]
    if depthwise:
        c = m.op("DEPTHWISE_CONV_2D", unbiased(m, s, weights(1, 3, 3, 2)), inner, padding="VALID", stride_h=1,
                 stride_w=1, depth_multiplier=1)  # fmt: skip
    else:
        c = m.op("CONV_2D", unbiased(m, s, weights(2, 3, 3, 2)), inner, padding="VALID", stride_h=1, stride_w=1)
    c = m.op("RELU", [m.op("ADD", [c, m.constant(weights(2))], inner)], inner)
    crops = [[0, v] for v in crop]
    out = [1, *(n + 2 * p - 2 * b for n, p, b in zip(size, before, block, strict=True)), 2]
    y = m.op("BATCH_TO_SPACE_ND", [c, m.ints(block), m.ints(crops)], out)
    network = check(m, y)
    assert {layer.kind for layer in network} == {"input_layer", "dw" if depthwise else "conv", "output_layer"}


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("length", [24, 23])
def test_dilation_of_one_dimension(same, length):
    """Conv1D with dilation: between the two turns to an image of one row and back, sizes are those of split frames."""
    m, block = SmallModel(), 2
    before = block if same else 0
    crop = -(length + 2 * before) % block
    part = (length + 2 * before + crop) // block
    x = m.input(1, length, 4)
    edges = m.ints([[before, before + crop]])
    s = m.op("SPACE_TO_BATCH_ND", [x, m.ints([block]), edges], [block, part, 4])
    wide = m.op("EXPAND_DIMS", [s, m.ints([1])], [block, 1, part, 4])
    c = m.op("CONV_2D", unbiased(m, wide, weights(6, 1, 3, 4)), [block, 1, part - 2, 6], padding="VALID", stride_h=1,
             stride_w=1)  # fmt: skip
    line = m.op("RESHAPE", [c, m.ints([block, part - 2, 6])], [block, part - 2, 6])
    crops = m.ints([[0, crop]])
    out = [1, length + 2 * before - 2 * block, 6]
    network = check(m, m.op("RELU", [m.op("BATCH_TO_SPACE_ND", [line, m.ints([block]), crops], out)], out))
    assert {layer.kind for layer in network} == {"input_layer", "conv", "output_layer"}


def test_split_frames_without_a_convolution_are_reported():
    m = SmallModel()
    x = m.input(1, 4, 4, 2)
    s = m.op("SPACE_TO_BATCH_ND", [x, m.ints([2, 2]), m.ints([[0, 0], [0, 0]])], [4, 2, 2, 2])
    y = m.op(
        "BATCH_TO_SPACE_ND", [m.op("RELU", [s], [4, 2, 2, 2]), m.ints([2, 2]), m.ints([[0, 0], [0, 0]])], [1, 4, 4, 2]
    )
    rules = [d.rule for d in refused(m, y).diagnostics]
    assert any("SPACE_TO_BATCH_ND" in r for r in rules)


# --- dense -----------------------------------------------------------------------------------------------------------


def test_fully_connected_of_an_image_permutes_the_weights():
    m = SmallModel()
    x = m.input(1, 3, 4, 2)
    flat = m.op("RESHAPE", [x, m.ints([1, 24])], [1, 24], new_shape=[1, 24])
    y = m.op("FULLY_CONNECTED", [flat, m.constant(weights(5, 24)), m.constant(weights(5))], [1, 5], activation="RELU")
    check(m, y, kinds=["reshape", "dense"])


def test_fully_connected_flattens():
    m = SmallModel()
    x = m.input(1, 3, 4, 2)
    y = m.op("FULLY_CONNECTED", [x, m.constant(weights(5, 24)), m.constant(weights(5))], [1, 5])
    check(m, y)


def test_fully_connected_keeps_dimensions():
    m = SmallModel()
    x = m.input(1, 6, 8)
    w, b = m.constant(weights(5, 8)), m.constant(weights(5))
    y = m.op("FULLY_CONNECTED", [x, w, b], [1, 6, 5], keep_num_dims=True, activation="RELU")
    check(m, y, kinds=["conv"])


def test_batch_matmul_with_constant():
    m = SmallModel()
    x = m.input(1, 6, 8)
    y = m.op("BATCH_MATMUL", [x, m.constant(weights(5, 8))], [1, 6, 5], adj_y=True)
    check(m, y, kinds=["conv"])


# --- pools and reductions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pool(operator, padding):
    m = SmallModel()
    x = m.input(1, 7, 9, 3)
    options = {"padding": padding, "stride_h": 2, "stride_w": 2, "filter_h": 3, "filter_w": 2, "activation": "RELU"}
    y = m.op(operator, [x], [1, 4, 5, 3] if padding == "SAME" else [1, 3, 4, 3], **options)
    check(m, y)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [[1, 2], [-3, -2]])
def test_mean(keep, axes):
    m = SmallModel()
    x = m.input(1, 5, 6, 4)
    y = m.op("MEAN", [x, m.ints(axes)], [1, 1, 1, 4] if keep else [1, 4], keep_dims=keep)
    check(m, y)


# --- element-wise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
def test_two_tensors(operator):
    m = SmallModel()
    x = m.input(1, 5, 6, 4)
    z = m.op("RELU", [x], [1, 5, 6, 4])
    y = m.op(operator, [z, x], [1, 5, 6, 4], activation="RELU_N1_TO_1")
    check(m, y, low=-4, high=4)


def test_tensors_of_different_ranks():
    """[N, C] beside [N, H, W, C]: dimensions are counted from the last."""
    m = SmallModel()
    x = image(m, 1, 5, 6, 4)
    gate = m.op("LOGISTIC", [m.op("MEAN", [x, m.ints([1, 2])], [1, 4], keep_dims=False)], [1, 4])
    check(m, m.op("MUL", [x, gate], [1, 5, 6, 4]))


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL", "DIV"])
@pytest.mark.parametrize("first", [False, True])
def test_tensor_and_constant_per_channel(operator, first):
    m = SmallModel()
    x = m.input(1, 5, 6, 4)
    if operator == "DIV" and first:  # away from zero
        x = m.op("EXP", [x], [1, 5, 6, 4])
    c = m.constant(np.array([0.5, -2, 3, 1.25], np.float32))
    y = m.op(operator, [c, x] if first else [x, c], [1, 5, 6, 4])
    check(m, y)


@pytest.mark.parametrize(
    "operator", ["RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "ELU"]
)
def test_activation(operator):
    m = SmallModel()
    x = m.input(1, 5, 6, 4)
    check(m, m.op(operator, [x], [1, 5, 6, 4]), low=-8, high=8)


def test_leaky_relu():
    m = SmallModel()
    x = m.input(1, 5, 6, 4)
    check(m, m.op("LEAKY_RELU", [x], [1, 5, 6, 4], alpha=0.3))


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("shape", [(1, 10), (1, 4, 10), (1, 3, 4, 10)])
def test_softmax(beta, shape):
    m = SmallModel()
    x = m.input(*shape)
    check(m, m.op("SOFTMAX", [x], shape, beta=beta), low=-5, high=5)


def test_hard_swish_written_out():
    """x · relu6(x + 3) / 6, as exporters write it."""
    m = SmallModel()
    x = m.input(1, 5, 6, 4)
    shape = [1, 5, 6, 4]
    ramp = m.op("RELU6", [m.op("ADD", [x, m.constant(np.float32(3))], shape)], shape)
    y = m.op("MUL", [m.op("MUL", [x, ramp], shape), m.constant(np.float32(1 / 6))], shape)
    network = check(m, y, low=-8, high=8)
    assert [layer.attributes.get("activation") for layer in network][1:-1] == ["hard_swish"]


# --- shapes and moves ------------------------------------------------------------------------------------------------


def image(m, *shape):
    """An input that a convolution has told to be an image."""
    x = m.input(*shape)
    c = shape[-1]
    return m.op("CONV_2D", unbiased(m, x, weights(c, 1, 1, c)), shape, stride_h=1, stride_w=1)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation(axis):
    m = SmallModel()
    x = image(m, 1, 4, 6, 2)
    z = m.op("RELU", [x], [1, 4, 6, 2])
    shape = [1, 4, 6, 2]
    shape[axis] *= 2
    check(m, m.op("CONCATENATION", [x, z], shape, axis=axis))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split(axis):
    m = SmallModel()
    x = image(m, 1, 4, 6, 2)
    shape = [1, 4, 6, 2]
    shape[axis] //= 2
    a, b = m.op("SPLIT", [m.ints(axis), x], None, outputs=[m.tensor(shape), m.tensor(shape)], num_splits=2)
    check(m, m.op("SUB", [b, a], shape))


def test_split_sizes():
    m = SmallModel()
    x = image(m, 1, 4, 6, 5)
    parts = [m.tensor([1, 4, 6, 2]), m.tensor([1, 4, 6, 3])]
    a, b = m.op("SPLIT_V", [x, m.ints([2, -1]), m.ints(3)], None, outputs=parts, num_splits=2)
    check(m, a, b)


def test_slice():
    m = SmallModel()
    x = image(m, 1, 6, 7, 5)
    check(m, m.op("SLICE", [x, m.ints([0, 1, 2, 0]), m.ints([1, 4, -1, 3])], [1, 4, 5, 3]))


@pytest.mark.parametrize(
    ("begin", "end", "step", "masks", "shape"),
    [
        ([0, 1, 0, 0], [1, 6, 7, 5], [1, 2, 1, 1], {}, [1, 3, 7, 5]),
        ([0, 0, 0, 0], [0, 0, 0, 3], [1, 1, 1, 1], {"begin_mask": 7, "end_mask": 7}, [1, 6, 7, 3]),
        ([0, 0, 0, -1], [0, 0, 0, 0], [1, 1, 1, 1], {"begin_mask": 7, "end_mask": 7, "shrink_axis_mask": 8}, [1, 6, 7]),
        ([0, 2, 0], [0, 3, 0], [1, 1, 1], {"begin_mask": 5, "end_mask": 5, "shrink_axis_mask": 2}, [1, 7, 5]),
        ([0, -4, -3], [1, -1, 7], [1, 1, 2], {}, [1, 3, 2, 5]),
    ],
)  # fmt: skip
def test_strided_slice(begin, end, step, masks, shape):
    m = SmallModel()
    x = image(m, 1, 6, 7, 5)
    check(m, m.op("STRIDED_SLICE", [x, m.ints(begin), m.ints(end), m.ints(step)], shape, **masks))


@pytest.mark.parametrize("pads", [[[0, 0], [1, 2], [3, 0], [0, 0]], [[0, 0], [0, 0], [0, 0], [1, 4]]])
@pytest.mark.parametrize("operator", ["PAD", "PADV2"])
def test_pad(pads, operator):
    m = SmallModel()
    x = image(m, 1, 6, 7, 5)
    shape = [n + sum(p) for n, p in zip([1, 6, 7, 5], pads, strict=True)]
    more = [m.constant(np.float32(0))] if operator == "PADV2" else []
    check(m, m.op(operator, [x, m.ints(pads), *more], shape))


def test_pad_before_a_convolution_is_absorbed():
    m = SmallModel()
    x = m.input(1, 8, 8, 3)
    p = m.op("PAD", [x, m.ints([[0, 0], [0, 1], [0, 1], [0, 0]])], [1, 9, 9, 3])
    y = m.op("CONV_2D", unbiased(m, p, weights(4, 3, 3, 3)), [1, 4, 4, 4], padding="VALID", stride_h=2, stride_w=2)
    check(m, y, kinds=["conv"])


def test_detection_head():
    """(H·W·A)×C: reshape with a shape computed from the tensor's, concatenation, softmax."""
    m = SmallModel()
    heads = []
    for size in (6, 3):
        x = m.input(1, size, size, 4)
        c = m.op("CONV_2D", unbiased(m, x, weights(6, 3, 3, 4)), [1, size, size, 6], stride_h=1, stride_w=1)
        s = m.op("SHAPE", [c], [4], "int32", out_type=2)
        b = m.op("STRIDED_SLICE", [s, m.ints([0]), m.ints([1]), m.ints([1])], [], "int32", shrink_axis_mask=1)
        p = m.op("PACK", [b, m.ints(-1), m.ints(2)], [3], "int32", values_count=3)
        heads.append(m.op("RESHAPE", [c, p], [1, size * size * 3, 2]))
    joined = m.op("CONCATENATION", heads, [1, 135, 2], axis=1)
    check(m, m.op("SOFTMAX", [joined], [1, 135, 2], beta=1.0))


def test_shapes_and_back():
    m = SmallModel()
    x = image(m, 1, 1, 6, 5)
    s = m.op("SQUEEZE", [x], [1, 6, 5], squeeze_dims=[1])
    t = m.op("TRANSPOSE", [s, m.ints([0, 2, 1])], [1, 5, 6])
    e = m.op("EXPAND_DIMS", [t, m.ints(2)], [1, 5, 1, 6])
    check(m, m.op("RELU", [e], [1, 5, 1, 6]))


def test_unpack_and_pack():
    m = SmallModel()
    x = image(m, 1, 4, 6, 2)
    parts = m.op("UNPACK", [x], None, outputs=[m.tensor([1, 4, 6]), m.tensor([1, 4, 6])], num=2, axis=3)
    check(m, m.op("PACK", parts[::-1], [1, 4, 6, 2], values_count=2, axis=3))


def test_camera_bytes_are_cast():
    m = SmallModel()
    x = m.input(1, 6, 6, 3, kind="uint8", name="camera")
    c = m.op("CAST", [x], [1, 6, 6, 3], in_data_type=3, out_data_type=0)
    data = m.bytes(m.op("CONV_2D", unbiased(m, c, weights(4, 3, 3, 3)), [1, 6, 6, 4], stride_h=1, stride_w=1))
    feeds = {"camera": rng().integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)}
    assert worst_difference(parse_tflite(data, "net").network, data, feeds, run_network) < TOLERANCE


@pytest.mark.parametrize("axis", [1, 2])
def test_convolution_over_one_dimension(axis):
    m = SmallModel()
    x = m.input(1, 20, 3)
    shape = [1, 20, 3]
    wide = m.op("EXPAND_DIMS", [x, m.ints(axis)], [*shape[:axis], 1, *shape[axis:]])
    kernel = weights(4, *((1, 3) if axis == 1 else (3, 1)), 3)
    out = [1, 1, 20, 4] if axis == 1 else [1, 20, 1, 4]
    y = m.op("CONV_2D", unbiased(m, wide, kernel), out, stride_h=1, stride_w=1, dilation_w=axis, dilation_h=3 - axis)
    check(m, m.op("SQUEEZE", [y], [1, 20, 4], squeeze_dims=[axis]))


# --- float16 and integers stored small ------------------------------------------------------------------------------


def test_float16_weights():
    m = SmallModel()
    x = m.input(1, 6, 6, 3)
    w = m.op("DEQUANTIZE", [m.constant(weights(4, 3, 3, 3).astype(np.float16))], [4, 3, 3, 3])
    b = m.op("DEQUANTIZE", [m.constant(weights(4).astype(np.float16))], [4])
    y = m.op("CONV_2D", [x, w, b], [1, 6, 6, 4], stride_h=1, stride_w=1)
    network = check(m, y, kinds=["conv"])
    assert np.array_equal(network.params["net/conv1/bias"], weights(4).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("per_channel", [False, True])
def test_integer_weights_behind_dequantize(per_channel):
    m = SmallModel()
    x = m.input(1, 6, 6, 3)
    codes = rng().integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    scale = [0.01, 0.02, 0.03, 0.005] if per_channel else [0.01]
    w = m.op("DEQUANTIZE", [m.constant(codes, scale=scale, zero=[0] * len(scale), axis=0)], [4, 3, 3, 3])
    y = m.op("CONV_2D", [x, w, m.constant(weights(4))], [1, 6, 6, 4], stride_h=1, stride_w=1)
    check(m, y, kinds=["conv"])


# --- what the common path does not have yet says so -------------------------------------------------------------------


def later(build):
    """The ONNX words in onnxruntime; the layer, where it exists by now, otherwise a report that names the operator."""
    m, y = build()
    data = m.bytes(y)
    assert worst_difference(read_tflite(Source.of(data)), data, uniform_feeds(data), run_source) < TOLERANCE
    try:
        network = parse_tflite(data, "net").network
    except UnsupportedModelError as error:
        assert any(m.operators[-1][0] in str(d) for d in error.diagnostics)
        pytest.skip(f"not built yet: {error.diagnostics[0].rule}")
    assert worst_difference(network, data, uniform_feeds(data), run_network) < TOLERANCE


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("odd", [0, 1])
def test_transposed_convolution(padding, kernel, odd):
    def build():
        m = SmallModel()
        x = image(m, 1, 5, 6, 3)
        if padding == "SAME":
            size = [10 - odd, 12 - odd]
        else:
            size = [(n - 1) * 2 + kernel + odd for n in (5, 6)]
        shape = [1, *size, 4]
        w, b = m.constant(weights(4, kernel, kernel, 3)), m.constant(weights(4))
        return m, m.op("TRANSPOSE_CONV", [m.ints(shape), w, x, b], shape, padding=padding, stride_h=2, stride_w=2)

    later(build)


@pytest.mark.parametrize("operator", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
@pytest.mark.parametrize("mode", [{}, {"align_corners": True}, {"half_pixel_centers": True}])
@pytest.mark.parametrize("size", [(10, 12), (15, 18)])
def test_resize(operator, mode, size):
    def build():
        m = SmallModel()
        x = image(m, 1, 5, 6, 3)
        return m, m.op(operator, [x, m.ints(size)], [1, *size, 3], **mode)

    later(build)


@pytest.mark.parametrize("operator", ["DEPTH_TO_SPACE", "SPACE_TO_DEPTH"])
def test_blocks(operator):
    def build():
        m = SmallModel()
        x = image(m, 1, 4, 6, 8)
        shape = [1, 8, 12, 2] if operator == "DEPTH_TO_SPACE" else [1, 2, 3, 32]
        return m, m.op(operator, [x], shape, block_size=2)

    later(build)


def test_prelu():
    def build():
        m = SmallModel()
        x = image(m, 1, 4, 6, 3)
        return m, m.op("PRELU", [x, m.constant(np.array([[[0.1, 0.5, -0.25]]], np.float32))], [1, 4, 6, 3])

    later(build)


# --- normalizations, and what only folds ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 12), (1, 4, 5, 6)])
def test_unit_length(shape):
    m = SmallModel()
    x = m.input(*shape)
    check(m, m.op("L2_NORMALIZATION", [x], shape))


def test_local_response():
    m = SmallModel()
    x = m.input(1, 4, 5, 8)
    more = {"radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.75}
    check(m, m.op("LOCAL_RESPONSE_NORMALIZATION", [x], [1, 4, 5, 8], **more))


def test_reverse():
    m = SmallModel()
    x = m.input(1, 4, 5, 6)
    check(m, m.op("REVERSE_V2", [x, m.ints([2])], [1, 4, 5, 6]))


def test_log_softmax():
    m = SmallModel()
    x = m.input(1, 10)
    check(m, m.op("LOG_SOFTMAX", [x], [1, 10]), low=-5.0, high=5.0)


@pytest.mark.parametrize("known", ["SELECT", "SELECT_V2"])
def test_select_by_a_constant(known):
    m = SmallModel()
    x = m.input(1, 4, 5, 6)
    y = m.op("TANH", [x], [1, 4, 5, 6])
    mask = np.random.default_rng(0).uniform(0, 1, (1, 4, 5, 6)) < 0.5
    check(m, m.op(known, [m.constant(mask), x, y], [1, 4, 5, 6]))


def test_integer_arithmetic_folds():
    """Shape arithmetic as converters write it: every result is a constant and gives a size."""
    m = SmallModel()
    x = m.input(1, 4, 6, 2)
    half = m.op("FLOOR_DIV", [m.ints([5]), m.ints([2])], [1], "int32")
    rest = m.op("FLOOR_MOD", [m.ints([7]), m.ints([4])], [1], "int32")
    rank = m.op("RANK", [x], [], "int32")
    same = m.op("NOT_EQUAL", [half, rest], [1], "bool")
    ones = m.op("FILL", [m.ints([1]), m.constant(np.int32(1))], [1], "int32")
    third = m.op("SELECT_V2", [same, m.op("MUL", [half, m.ints([12])], [1], "int32"), ones], [1], "int32")
    sizes = m.op("CONCATENATION", [ones, third, half], [3], "int32", axis=0)
    picked = m.op("ADD", [sizes, m.op("ZEROS_LIKE", [sizes], [3], "int32")], [3], "int32")
    y = m.op("RESHAPE", [x, picked], [1, 24, 2])
    m.op("SUB", [rank, rank], [], "int32")
    check(m, m.op("TANH", [y], [1, 24, 2]))


def test_selu_as_the_converter_writes_it():
    m = SmallModel()
    x = m.input(1, 4, 5, 6)
    number = lambda v: m.constant(np.float32(v))  # noqa: E731
    above = m.op("MUL", [x, number(1.0507009)], [1, 4, 5, 6])
    below = m.op("SUB", [m.op("EXP", [x], [1, 4, 5, 6]), number(1.0)], [1, 4, 5, 6])
    below = m.op("MUL", [below, number(1.7580993)], [1, 4, 5, 6])
    positive = m.op("GREATER", [x, number(0.0)], [1, 4, 5, 6], "bool")
    network = check(m, m.op("SELECT_V2", [positive, above, below], [1, 4, 5, 6]), kinds=["activation"], low=-3.0)
    assert network["net/activation1"].attributes["activation"] == "selu"
