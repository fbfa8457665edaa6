# SPDX-License-Identifier: Apache-2.0
"""Small graphs, one per operator and form, whose results TensorFlow computed (``golden/tensorflow_operators.npz``).

TensorFlow is no part of the tests. Where it is installed, the results are made anew so::

    python tests/tensorflow_cases.py FOLDER          # with Headrace: writes NAME.pb and NAME.npz
    python tests/tensorflow_golden.py FOLDER FILE    # with TensorFlow: runs them
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np

from small_tensorflow import Kind, Shape, SmallGraph

GOLDEN = Path(__file__).with_name("golden") / "tensorflow_operators.npz"
CASES = {}
#: Cases that are compared in onnxruntime: integers and places, which the host computes.
ON_HOST = set()
RANGES = {}
F32, I32, C64 = Kind("float32"), Kind("int32"), Kind("complex64")


def case(name, *shapes, low=-1.0, high=1.0, host=False):
    """Register a graph: its function gets the graph and its inputs and returns the tensor that is compared."""

    def enter(function):
        if host:
            ON_HOST.add(name)
        CASES[name] = (function, shapes)
        RANGES[name] = (low, high)
        return function

    return enter


def w(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 0.5, shape).astype(np.float32)


def build(name):
    """The bytes of a case's graph, its inputs by name, and the name of its result."""
    function, shapes = CASES[name]
    g = SmallGraph()
    inputs = [g.input(*shape, name=f"x{i}") for i, shape in enumerate(shapes)]
    made = function(g, *inputs)
    g.op("Identity", [made], name="y")
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    feeds = {f"x{i}": rng.uniform(*RANGES[name], [1 if s is None else s for s in shape]).astype(np.float32)
             for i, shape in enumerate(shapes)}  # fmt: skip
    return g.bytes(), feeds


def results():
    """What TensorFlow computed: name → checksum of the graph, and its result."""
    kept = np.load(GOLDEN)
    found, at = {}, 0
    for name, crc, shape in json.loads(str(kept["index"])):
        size = int(np.prod(shape))
        found[name] = crc, kept["values"][at : at + size].reshape(shape)
        at += size
    return found


# --- windows ----------------------------------------------------------------------------------------------------------

IMAGE = (1, 7, 8, 3)
for pad in ("SAME", "VALID"):
    for s in (1, 2, 3):
        strides = [1, s, s, 1]

        @case(f"Conv2D {pad} {s}", IMAGE)
        def _(g, x, pad=pad, strides=strides):
            return g.op("Conv2D", [x, g.const(w(3, 2, 3, 2))], strides=strides, padding=pad)

        @case(f"DepthwiseConv2dNative {pad} {s}", IMAGE)
        def _(g, x, pad=pad, strides=strides):
            return g.op("DepthwiseConv2dNative", [x, g.const(w(3, 3, 3, 2))], strides=strides, padding=pad)

        @case(f"MaxPool {pad} {s}", IMAGE)
        def _(g, x, pad=pad, strides=strides):
            return g.op("MaxPool", [x], ksize=[1, 3, 2, 1], strides=strides, padding=pad)

        @case(f"AvgPool {pad} {s}", IMAGE)
        def _(g, x, pad=pad, strides=strides):
            return g.op("AvgPool", [x], ksize=[1, 3, 2, 1], strides=strides, padding=pad)

        @case(f"Conv2DBackpropInput {pad} {s}", (1, 4, 3, 2))
        def _(g, x, pad=pad, strides=strides, s=s):
            more = 0 if pad == "SAME" else max(3 - s, 0)
            size = g.ints(1, 4 * s + more, 3 * s + more, 3)
            return g.op("Conv2DBackpropInput", [size, g.const(w(3, 3, 3, 2)), x], strides=strides, padding=pad)


@case("Conv2D dilated", IMAGE)
def _(g, x):
    more = {"strides": [1, 1, 1, 1], "dilations": [1, 2, 3, 1], "padding": "SAME"}
    return g.op("Conv2D", [x, g.const(w(3, 3, 3, 2))], **more)


@case("Conv2D explicit", IMAGE)
def _(g, x):
    more = {"strides": [1, 2, 2, 1], "padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 2, 0, 1, 0, 0]}
    return g.op("Conv2D", [x, g.const(w(3, 3, 3, 2))], **more)


@case("Conv2D in groups", (1, 5, 6, 4))
def _(g, x):
    return g.op("Conv2D", [x, g.const(w(3, 3, 2, 4))], strides=[1, 1, 1, 1], padding="SAME")


def _dilated(g, x, kernel, block, pads, crops):
    split = g.op("SpaceToBatchND", [x, g.ints(*block), g.const(np.array(pads, np.int32))], Tblock_shape=I32,
                 Tpaddings=I32)  # fmt: skip
    y = g.op("Conv2D", [split, g.const(kernel)], strides=[1, 1, 1, 1], padding="VALID")
    y = g.op("Relu", [g.op("BiasAdd", [y, g.const(w(kernel.shape[3]))])])
    edges = g.const(np.array(crops, np.int32))
    return g.op("BatchToSpaceND", [y, g.ints(*block), edges], Tblock_shape=I32, Tcrops=I32)


@case("SpaceToBatchND", (1, 8, 9, 2))
def _(g, x):
    return _dilated(g, x, w(3, 3, 2, 2), (2, 3), [[2, 2], [3, 3]], [[0, 0], [0, 0]])


@case("SpaceToBatchND cropped", (1, 7, 9, 2))
def _(g, x):
    return _dilated(g, x, w(3, 3, 2, 2), (2, 2), [[2, 3], [2, 3]], [[0, 1], [0, 1]])


@case("SpaceToBatchND of a line", (1, 11, 2))
def _(g, x):
    line = g.op("SpaceToBatchND", [x, g.ints(2), g.const(np.array([[2, 3]], np.int32))], Tblock_shape=I32,
                Tpaddings=I32)  # fmt: skip
    row = g.op("ExpandDims", [line, g.int(1)], Tdim=I32)
    y = g.op("Conv2D", [row, g.const(w(1, 3, 2, 2))], strides=[1, 1, 1, 1], padding="VALID")
    back = g.op("Squeeze", [y], squeeze_dims=[1])
    edges = g.const(np.array([[0, 1]], np.int32))
    return g.op("BatchToSpaceND", [back, g.ints(2), edges], Tblock_shape=I32, Tcrops=I32)


@case("_FusedConv2D", IMAGE)
def _(g, x):
    more = {"num_args": 1, "TArgs": [F32], "fused_ops": ["BiasAdd", "Relu6"]}
    return g.op(
        "_FusedConv2D", [x, g.const(w(3, 3, 3, 2)), g.const(w(2))], strides=[1, 1, 1, 1], padding="SAME", **more
    )


@case("FusedBatchNormV3", (1, 3, 4, 4))
def _(g, x):
    parts = [g.const(abs(w(4, seed=i)) + 0.5) for i in range(4)]
    return g.op("FusedBatchNormV3", [x, *parts], U=F32, is_training=False, epsilon=1e-3)


@case("MatMul", (1, 6))
def _(g, x):
    return g.op("BiasAdd", [g.op("MatMul", [x, g.const(w(6, 4))]), g.const(w(4))])


@case("MatMul transposed", (1, 6))
def _(g, x):
    return g.op("MatMul", [x, g.const(w(4, 6))], transpose_b=True)


@case("_FusedMatMul", (1, 6))
def _(g, x):
    return g.op("_FusedMatMul", [x, g.const(w(6, 4)), g.const(w(4))], num_args=1, fused_ops=["BiasAdd", "Relu"])


@case("BatchMatMulV2", (1, 3, 5), (1, 4, 5))
def _(g, x, y):
    return g.op("BatchMatMulV2", [x, y], adj_y=True)


@case("LRN", (1, 3, 3, 6))
def _(g, x):
    return g.op("LRN", [x], depth_radius=2, bias=1.0, alpha=0.5, beta=0.75)


# --- one tensor, two tensors ------------------------------------------------------------------------------------------

for operator in ("Abs", "Cos", "Elu", "Erf", "Exp", "Neg", "Relu", "Relu6", "Selu", "Sigmoid", "Sin", "Softplus",
                 "Softsign", "Square", "Tanh", "Softmax", "LogSoftmax", "LeakyRelu", "Expm1", "Erfc"):  # fmt: skip

    @case(operator, (1, 3, 4, 2), low=-4.0, high=8.0 if operator == "Relu6" else 4.0)
    def _(g, x, operator=operator):
        return g.op(operator, [x])


for operator in ("Sqrt", "Rsqrt", "Log", "Log1p", "Reciprocal", "Inv"):

    @case(operator, (1, 3, 4, 2), low=0.3, high=3.0)
    def _(g, x, operator=operator):
        return g.op(operator, [x])


for operator in ("Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "SquaredDifference"):

    @case(operator, (1, 3, 4, 2), (1, 3, 4, 2), low=0.4, high=2.0)
    def _(g, x, y, operator=operator):
        return g.op(operator, [x, y])

    if operator in ("Maximum", "Minimum"):  # of a constant per channel: not done
        continue

    @case(f"{operator} constant", (1, 3, 4, 2))
    def _(g, x, operator=operator):
        return g.op(operator, [x, g.const(abs(w(2)) + 0.3)])


@case("Add of lower rank", (1, 3, 4, 2), (1, 2))
def _(g, x, y):
    return g.op("AddV2", [x, y])


@case("AddN", (1, 3, 4), (1, 3, 4))
def _(g, x, y):
    return g.op("AddN", [x, y, x], N=3)


@case("Pow", (1, 3, 4))
def _(g, x):
    return g.op("Pow", [x, g.const(np.float32(3))])


@case("ClipByValue", (1, 3, 4))
def _(g, x):
    return g.op("ClipByValue", [x, g.const(np.float32(-0.3)), g.const(np.float32(0.5))])


@case("SelectV2", (1, 3, 4))
def _(g, x):
    chosen = g.const(np.array([True, False, True, True]))
    return g.op("SelectV2", [chosen, x, g.op("Neg", [x])])


for operator in ("Mean", "Sum", "Max", "Min"):

    @case(operator, (1, 3, 4, 2))
    def _(g, x, operator=operator):
        return g.op(operator, [x, g.ints(1, 2)], Tidx=I32)

    @case(f"{operator} kept", (1, 3, 4, 2))
    def _(g, x, operator=operator):
        return g.op(operator, [x, g.int(-1)], Tidx=I32, keep_dims=True)


# --- moves ------------------------------------------------------------------------------------------------------------


@case("Reshape", (1, 3, 4, 2))
def _(g, x):
    return g.op("Reshape", [x, g.ints(-1, 12, 2)], Tshape=I32)


@case("Reshape by the batch", (None, 3, 4, 2))
def _(g, x):
    shape = g.op("Shape", [x], out_type=I32)
    ends = [g.ints(0), g.ints(1), g.ints(1)]
    batch = g.op("StridedSlice", [shape, *ends], T=I32, Index=I32, shrink_axis_mask=1)
    wanted = g.op("Pack", [batch, g.int(24)], T=I32, N=2, axis=0)
    return g.op("MatMul", [g.op("Reshape", [x, wanted], Tshape=I32), g.const(w(24, 3))])


@case("Transpose", (1, 3, 4, 2))
def _(g, x):
    return g.op("Transpose", [x, g.ints(0, 3, 1, 2)], Tperm=I32)


@case("ExpandDims and Squeeze", (1, 3, 1, 2))
def _(g, x):
    return g.op("Squeeze", [g.op("ExpandDims", [x, g.int(1)], Tdim=I32)], squeeze_dims=[3])


def _strided(g, x, begin, end, step, **masks):
    return g.op("StridedSlice", [x, g.ints(*begin), g.ints(*end), g.ints(*step)], Index=I32, **masks)


@case("StridedSlice", (1, 6, 7, 4))
def _(g, x):
    return _strided(g, x, (0, 1, 0, 2), (0, -1, 0, 0), (1, 2, 3, 1), begin_mask=5, end_mask=13)


@case("StridedSlice of an index", (1, 6, 7, 4))
def _(g, x):
    return _strided(g, x, (0, -2), (0, 0), (1, 1), begin_mask=1, end_mask=1, shrink_axis_mask=2)


@case("StridedSlice with an ellipsis", (1, 6, 7, 4))
def _(g, x):
    return _strided(g, x, (0, 0, 1), (0, 0, 3), (1, 1, 1), begin_mask=1, end_mask=1, ellipsis_mask=2)


@case("StridedSlice with a new axis", (1, 6, 4))
def _(g, x):
    return _strided(g, x, (0, 0, 2), (0, 0, 4), (1, 1, 1), begin_mask=1, end_mask=1, new_axis_mask=2)


@case("StridedSlice backwards", (1, 6, 4))
def _(g, x):
    return _strided(g, x, (0, 0), (0, 0), (1, -1), begin_mask=3, end_mask=3)


@case("Slice", (1, 6, 7, 4))
def _(g, x):
    return g.op("Slice", [x, g.ints(0, 1, 2, 0), g.ints(-1, 3, 4, -1)], Index=I32)


@case("Split and ConcatV2", (1, 3, 6))
def _(g, x):
    split = g.op("Split", [g.int(2), x], num_split=3, name="split")
    return g.op("ConcatV2", [f"{split}:2", split, f"{split}:1", g.int(1)], N=3, Tidx=I32)


@case("SplitV", (1, 3, 6))
def _(g, x):
    split = g.op("SplitV", [x, g.ints(1, -1, 2), g.int(2)], num_split=3, Tlen=I32, name="split")
    return f"{split}:1"


@case("Pack", (1, 3, 4), (1, 3, 4))
def _(g, x, y):
    return g.op("Pack", [x, y], N=2, axis=1)


@case("Unpack", (1, 3, 4))
def _(g, x):
    return f"{g.op('Unpack', [x], num=3, axis=1, name='parts')}:2"


@case("GatherV2", (1, 3, 6))
def _(g, x):
    return g.op("GatherV2", [x, g.ints(4, 0, 1), g.int(2)], T=None, Tparams=F32, Tindices=I32, Taxis=I32)


@case("Pad", (1, 3, 4, 2))
def _(g, x):
    return g.op("Pad", [x, g.const(np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32))], Tpaddings=I32)


@case("PadV2", (1, 3, 4, 2))
def _(g, x):
    edges = g.const(np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32))
    return g.op("PadV2", [x, edges, g.const(np.float32(2))], Tpaddings=I32)


for mode in ("REFLECT", "SYMMETRIC"):

    @case(f"MirrorPad {mode}", (1, 4, 5, 2))
    def _(g, x, mode=mode):
        edges = g.const(np.array([[0, 0], [1, 2], [3, 1], [0, 0]], np.int32))
        return g.op("MirrorPad", [x, edges], Tpaddings=I32, mode=mode)


@case("Tile", (1, 3, 2, 2))
def _(g, x):
    return g.op("Tile", [x, g.ints(1, 2, 1, 3)], Tmultiples=I32)


@case("DepthToSpace", (1, 2, 3, 8))
def _(g, x):
    return g.op("DepthToSpace", [x], block_size=2)


@case("SpaceToDepth", (1, 4, 6, 2))
def _(g, x):
    return g.op("SpaceToDepth", [x], block_size=2)


for operator in ("ResizeBilinear", "ResizeNearestNeighbor"):
    for mode in ("", "align_corners", "half_pixel_centers"):

        @case(f"{operator} {mode}".strip(), (1, 3, 4, 2))
        def _(g, x, operator=operator, mode=mode):
            return g.op(operator, [x, g.ints(6, 8)], **({mode: True} if mode else {}))


for sizes in ((6, 8), (9, 20), (5, 3)):  # by 2 ONNX's Resize has TensorFlow's weights; by 3, 5 and fractions it has not
    for mode in ("", "align_corners", "half_pixel_centers"):

        @case(f"ResizeBicubic {sizes} {mode}".strip(), (1, 3, 4, 2))
        def _(g, x, sizes=sizes, mode=mode):
            return g.op("ResizeBicubic", [x, g.ints(*sizes)], **({mode: True} if mode else {}))


@case("ReverseV2", (1, 3, 4))
def _(g, x):
    return g.op("ReverseV2", [x, g.ints(1)], Tidx=I32)


@case("Roll", (1, 5, 4))
def _(g, x):
    return g.op("Roll", [x, g.ints(2, -1), g.ints(1, 2)], Tshift=I32, Taxis=I32)


@case("BroadcastTo", (1, 1, 4))
def _(g, x):
    return g.op("Relu", [g.op("BroadcastTo", [x, g.ints(1, 3, 4)], Tidx=I32)])


@case("Fill", (1, 3, 4))
def _(g, x):
    return g.op("AddV2", [x, g.op("Fill", [g.ints(3, 4), g.const(np.float32(0.7))], index_type=I32)])


@case("Cast", (1, 3, 4))
def _(g, x):
    steps = g.op("Range", [g.int(0), g.int(4), g.int(1)], T=None, Tidx=I32)
    return g.op("Mul", [x, g.op("Cast", [steps], T=None, SrcT=I32, DstT=F32)])


# --- loops ------------------------------------------------------------------------------------------------------------


@case("a loop of TensorFlow 1", (1, 3, 4))
def _(g, x):
    """Rows of a sequence, one by one: h = tanh(h·W + row), stacked."""
    frame = {"frame_name": "loop", "parallel_iterations": 1}
    rows = g.op("Transpose", [x, g.ints(1, 0, 2)], Tperm=I32)
    made = {"dtype": F32, "T": None, "element_shape": None, "dynamic_size": False}
    source = g.op("TensorArrayV3", [g.int(3)], name="source", **made)
    every = g.op("Range", [g.int(0), g.int(3), g.int(1)], T=None, Tidx=I32)
    filled = g.op("TensorArrayScatterV3", [source, every, rows, f"{source}:1"])
    target = g.op("TensorArrayV3", [g.int(3)], name="target", **made)
    values = {"i": (g.int(0), I32), "h": (g.const(np.zeros((1, 4), np.float32)), F32), "a": (f"{target}:1", F32)}
    for key, (value, kind) in values.items():
        g.op("Enter", [value], name=f"enter_{key}", T=kind, **frame)
        g.op("Merge", [f"enter_{key}", f"next_{key}"], name=f"merge_{key}", T=kind, N=2)
    limit = g.op("Enter", [g.int(3)], T=I32, is_constant=True, **frame)
    g.op("LoopCond", [g.op("Less", ["merge_i", limit], T=I32)], name="cond", T=None)
    for key, (_, kind) in values.items():
        g.op("Switch", [f"merge_{key}", "cond"], name=f"switch_{key}", T=kind)
        g.op("Identity", [f"switch_{key}:1"], name=f"body_{key}", T=kind)
    fixed = {"is_constant": True, **frame}
    handle = g.op("Enter", [source], T=Kind("resource"), **fixed)
    flow = g.op("Enter", [filled], T=F32, **fixed)
    weights = g.op("Enter", [g.const(w(4, 4))], T=F32, **fixed)
    row = g.op("TensorArrayReadV3", [handle, "body_i", flow], T=None, dtype=F32)
    h = g.op("Tanh", [g.op("AddV2", [g.op("MatMul", ["body_h", weights]), row])])
    goal = g.op("Enter", [target], T=Kind("resource"), **fixed)
    written = g.op("TensorArrayWriteV3", [goal, "body_i", h, "body_a"])
    step = g.op("AddV2", ["body_i", g.op("Const", ["^body_i"], T=None, dtype=I32, value=np.array(1, np.int32))], T=I32)
    for key, value, kind in (("i", step, I32), ("h", h, F32), ("a", written, F32)):
        g.op("NextIteration", [value], name=f"next_{key}", T=kind)
    last = g.op("Exit", ["switch_a"], name="exit_a")
    stacked = g.op("TensorArrayGatherV3", [target, every, last], T=None, dtype=F32, element_shape=None)
    return g.op("Transpose", [stacked, g.ints(1, 0, 2)], Tperm=I32)


# --- places, scattered elements, boxes, matrices, complex numbers -----------------------------------------------------


@case("Where", (1, 3, 4), host=True)
def _(g, x):
    found = g.op("Where", [g.op("Greater", [x, g.const(np.float32(0.2))])], T=Kind("bool"))
    return g.op("Cast", [found], T=None, SrcT=Kind("int64"), DstT=F32)


@case("NonMaxSuppression", (6, 4), (6,), low=0.0, host=True)
def _(g, x, scores):
    boxes = g.op("AddV2", [x, g.const(np.float32([0, 0, 0.6, 0.6]))])
    numbers = [g.const(np.float32(v)) for v in (0.3, 0.2)]
    kept = g.op("NonMaxSuppressionV3", [boxes, scores, g.int(4), *numbers], T_threshold=F32)
    return g.op("Cast", [kept], T=None, SrcT=I32, DstT=F32)


@case("NonMaxSuppression filled up", (6, 4), (6,), low=0.0, host=True)
def _(g, x, scores):
    boxes = g.op("AddV2", [x, g.const(np.float32([0, 0, 0.6, 0.6]))])
    numbers = [g.const(np.float32(v)) for v in (0.3, 0.2, 0.0)]
    more = {"pad_to_max_output_size": True}
    return f"{g.op('NonMaxSuppressionV5', [boxes, scores, g.int(5), *numbers], **more)}:1"


@case("ScatterNd", (3, 2), host=True)
def _(g, x):
    places = g.const(np.array([[4], [1], [4]], np.int32))
    return g.op("ScatterNd", [places, x, g.ints(6, 2)], Tindices=I32)


@case("TensorScatterUpdate", (5, 2), host=True)
def _(g, x):
    places, rows = g.const(np.array([[4], [1]], np.int32)), g.const(w(2, 2))
    return g.op("TensorScatterUpdate", [x, places, rows], Tindices=I32)


for kind in ("Sum", "Prod", "Max", "Min"):

    @case(f"UnsortedSegment{kind}", (4, 3), host=True)
    def _(g, x, kind=kind):
        return g.op(f"UnsortedSegment{kind}", [x, g.ints(1, 0, 1, 0), g.int(2)], Tindices=I32, Tnumsegments=I32)


@case("SegmentSum", (4, 3), host=True)
def _(g, x):
    return g.op("SegmentSum", [x, g.ints(0, 0, 1, 1)], Tindices=I32)


@case("MatrixBandPart", (1, 4, 5))
def _(g, x):
    return g.op("MatrixBandPart", [x, g.int(1), g.int(-1)], Tindex=I32)


@case("MatrixSetDiag", (1, 4, 4), host=True)
def _(g, x):
    row = g.op("Squeeze", [g.op("Slice", [x, g.ints(0, 0, 0), g.ints(1, 1, 4)], Index=I32)], squeeze_dims=[1])
    return g.op("MatrixSetDiag", [x, row])


@case("Atan2", (1, 9), (1, 9), host=True)
def _(g, x, y):
    return g.op("Atan2", [x, y])


@case("Bucketize", (1, 9), host=True)
def _(g, x):
    return g.op("Cast", [g.op("Bucketize", [x], boundaries=[-0.5, 0.1])], T=None, SrcT=I32, DstT=F32)


@case("ExtractImagePatches", (1, 7, 8, 3))
def _(g, x):
    more = {"ksizes": [1, 3, 2, 1], "strides": [1, 2, 2, 1], "rates": [1, 1, 2, 1], "padding": "SAME"}
    return g.op("ExtractImagePatches", [x], **more)


@case("ReverseSequence", (1, 4, 3), host=True)
def _(g, x):
    return g.op("ReverseSequence", [x, g.ints(3)], seq_dim=1, batch_dim=0, Tlen=I32)


for part in ("ComplexAbs", "Real", "Imag"):

    @case(f"RFFT {part}", (1, 3, 10))
    def _(g, x, part=part):
        return g.op(part, [g.op("RFFT", [x, g.ints(8)], T=None)], T=None)


@case("cosine transform of tf.signal", (1, 3, 16))
def _(g, x):
    """``real(rfft(x, 16)[..., :8] · 2 exp(i·b))``."""
    angles = (-np.arange(8) * np.pi / 16).astype(np.float32)
    turned = g.op("Exp", [g.op("Complex", [g.const(np.float32(0)), g.const(angles)], Tout=C64)], T=C64)
    turned = g.op("Mul", [g.const(np.complex64(2)), turned], T=C64)
    lines = g.op("RFFT", [x, g.ints(16)], T=None)
    stops = [g.ints(*entries) for entries in ((0, 0), (0, 8), (1, 1))]
    lines = g.op("StridedSlice", [lines, *stops], T=C64, Index=I32, ellipsis_mask=1, begin_mask=2)
    return g.op("Real", [g.op("Mul", [lines, turned], T=C64)], T=None)


@case("Xdivy", (1, 9), host=True)
def _(g, x):
    return g.op("Xdivy", [g.op("Relu", [x]), x])


@case("MulNoNan", (1, 9), host=True)
def _(g, x):
    return g.op("MulNoNan", [g.op("Log", [g.op("Relu", [x])]), g.op("Relu", [x])])


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(CASES):
        data, feeds = build(name)
        (folder / f"{number}.pb").write_bytes(data)
        np.savez(folder / f"{number}.npz", name=np.array(name), **feeds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

__all__ = ["CASES", "GOLDEN", "Shape", "build", "results"]
