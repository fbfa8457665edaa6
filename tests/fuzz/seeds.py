# SPDX-License-Identifier: Apache-2.0
"""Small well-formed files that are changed at random: each feature that a reader takes stands in one of them."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.mutators import Case
from keras_samples import sample, sample_files
from small_onnx import small_model
from small_tensorflow import Function, Kind, SmallGraph, bundle_rows, table
from small_tflite import SmallModel
from tensorflow_cases import CASES, build

F, I = np.float32, np.int64


def _onnx(
    nodes: Sequence[Any], shapes: dict[str, Sequence[Any]], ends: Sequence[str], opset: int = 18, **weights: Any
) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ends]
    initial = [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _shapes_and_growth() -> Any:
    from onnx import helper

    n = helper.make_node
    nodes = [
        n("Shape", ["x"], ["s"]),
        n("Gather", ["s", "one"], ["c"]),
        n("ConstantOfShape", ["dims"], ["zeros"]),
        n("Range", ["start", "stop", "step"], ["r"]),
        n("Cast", ["r"], ["rf"], to=1),
        n("Tile", ["rf", "reps"], ["t"]),
        n("Expand", ["t", "wide"], ["e"]),
        n("Add", ["x", "e"], ["a"]),
        n("Add", ["a", "zeros"], ["b"]),
        n("Resize", ["b", "", "scales"], ["z"], mode="linear"),
        n("Pad", ["z", "pads"], ["p"]),
        n("Slice", ["p", "s0", "s1"], ["cut"]),
        n("OneHot", ["where", "depth", "vals"], ["hot"]),
        n("Einsum", ["cut", "mix"], ["y"], equation="nchw,cd->ndhw"),
        n("CumSum", ["hot", "axis"], ["k"]),
        n("MatMul", ["rf", "hot"], ["m"]),
    ]
    return _onnx(
        nodes,
        {"x": [1, 4, 4, 4]},
        ["y", "m"],
        one=np.array([1]),
        dims=np.array([1, 4, 1, 1]),
        start=np.array(0),
        stop=np.array(4),
        step=np.array(1),
        reps=np.array([1]),
        wide=np.array([1, 4, 4, 4]),
        where=np.array([0, 1, 2, 1]),
        scales=np.array([1, 1, 2, 2], F),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        s0=np.zeros(4, I),
        s1=np.array([1, 4, 8, 8]),
        depth=np.array(3),
        vals=np.array([0, 1], F),
        mix=np.ones((4, 3), F),
        axis=np.array(0),
    )


def _control_flow() -> Any:
    from onnx import TensorProto, helper

    n = helper.make_node

    def body(nodes: list[Any], outputs: Sequence[str], inputs: Sequence[Any] = ()) -> Any:
        made = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        return helper.make_graph(nodes, "body", list(inputs), made)

    yes, no = body([n("Relu", ["x"], ["t"])], ["t"]), body([n("Neg", ["x"], ["f"])], ["f"])
    state = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 8]),
    ]
    step = body([n("Identity", ["go"], ["go2"]), n("Sigmoid", ["v"], ["v2"])], ["go2", "v2"], state)
    nodes = [
        n("MatMul", ["x0", "w0"], ["x"]),
        n("If", ["known"], ["a"], then_branch=yes, else_branch=no),
        n("Loop", ["trips", "known", "a"], ["b"], body=step),
        n("ReduceMax", ["b"], ["top"], keepdims=0),
        n("Greater", ["top", "half"], ["q"]),
        n(
            "If",
            ["q"],
            ["c"],
            then_branch=body([n("Relu", ["b"], ["t1"])], ["t1"]),
            else_branch=body([n("Neg", ["b"], ["f1"])], ["f1"]),
        ),
        n("MatMul", ["c", "w"], ["y"]),
    ]
    return _onnx(
        nodes,
        {"x0": [1, 8]},
        ["y"],
        known=np.array(True),
        trips=np.array(3),
        half=F(0.5),
        w=np.ones((8, 4), F),
        w0=np.eye(8, dtype=F),
    )


def _functions_and_kinds(with_sparse: bool) -> Any:
    """Local functions, typed and text tensors, metadata."""
    from onnx import TensorProto, helper

    n = helper.make_node
    inner = helper.make_function(
        "f",
        "swish",
        ["a"],
        ["b"],
        [n("Sigmoid", ["a"], ["s"]), n("Mul", ["a", "s"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    outer = helper.make_function(
        "f",
        "twice",
        ["a"],
        ["b"],
        [n("swish", ["a"], ["m"], domain="f"), n("swish", ["m"], ["b"], domain="f")],
        [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)],
    )
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"])
    half = helper.make_tensor("half", TensorProto.FLOAT16, [3], np.ones(3, np.float16).tobytes(), raw=True)
    brain = helper.make_tensor("brain", TensorProto.BFLOAT16, [3], b"\0\x3f" * 3, raw=True)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("sv", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("si", TensorProto.INT64, [2], [0, 2]),
        [3],
    )
    nodes = [
        n("twice", ["x"], ["t"], domain="f"),
        n("MatMul", ["t", "mix"], ["u"]),
        n("Cast", ["half"], ["hf"], to=1),
        n("Cast", ["brain"], ["bf"], to=1),
        n("Add", ["u", "hf"], ["v"]),
        n("Add", ["v", "bf"], ["w"]),
        n("Clip", ["w", "low"], ["y"]),
    ]
    model = _onnx(nodes, {"x": [1, 3]}, ["y"], low=F(0), mix=np.eye(3, dtype=F))
    model.graph.initializer.extend([words, half, brain])
    if with_sparse:
        model.graph.node.insert(0, n("Constant", [], ["sp"], sparse_value=sparse))
        model.graph.node[2].input[1] = "sp"
    model.functions.extend([inner, outer])
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.metadata_props.add(key="names", value="{}")
    return model


def _recurrent_and_quantized() -> Any:
    from onnx import helper

    n, r = helper.make_node, np.random.default_rng(0)
    nodes = [
        n("QuantizeLinear", ["x", "sx", "zx"], ["qx"]),
        n("DequantizeLinear", ["qx", "sx", "zx"], ["dx"]),
        n("DequantizeLinear", ["qw", "sw", "zw"], ["dw"], axis=0),
        n("Conv", ["dx", "dw"], ["c"], pads=[1, 1, 1, 1]),
        n("QuantizeLinear", ["c", "sx", "zx"], ["qc"]),
        n("DequantizeLinear", ["qc", "sx", "zx"], ["dc"]),
        n("GridSample", ["dc", "grid"], ["g"]),
        n("Reshape", ["g", "seq"], ["s"]),
        n("LSTM", ["s", "W", "R", "B"], ["ly", "lh", "lc"], hidden_size=3),
        n("Squeeze", ["ly", "one"], ["sq"]),
        n("GRU", ["sq", "W2", "R2"], ["gy", "gh"], hidden_size=2, linear_before_reset=1),
        n("TopK", ["gh", "k"], ["v", "i"]),
        n("Identity", ["v"], ["y"]),
    ]
    return _onnx(
        nodes,
        {"x": [1, 2, 4, 4]},
        ["y"],
        sx=F(0.1),
        zx=np.uint8(128),
        qw=r.integers(-9, 9, (2, 2, 3, 3)).astype(np.int8),
        sw=np.full(2, 0.1, F),
        zw=np.zeros(2, np.int8),
        grid=r.uniform(-1, 1, (1, 4, 4, 2)).astype(F),
        seq=np.array([8, 1, 4]),
        W=r.normal(size=(1, 12, 4)).astype(F),
        R=r.normal(size=(1, 12, 3)).astype(F),
        B=np.zeros((1, 24), F),
        one=np.array([1]),
        W2=r.normal(size=(1, 6, 3)).astype(F),
        R2=r.normal(size=(1, 6, 2)).astype(F),
        k=np.array([1]),
    )


@functools.cache
def onnx_models() -> list[Case]:
    made = [
        small_model(size=8),
        _shapes_and_growth(),
        _control_flow(),
        _functions_and_kinds(False),
        _functions_and_kinds(True),
        _recurrent_and_quantized(),
    ]
    return [{"": m.SerializeToString()} for m in made]


@functools.cache
def onnx_external() -> list[Case]:
    from onnx import TensorProto

    model, data = small_model(size=8), bytearray()
    for tensor in model.graph.initializer:
        content = bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", len(data)), ("length", len(content))):
            tensor.external_data.add(key=key, value=str(value))
        data += content
    return [{"model.onnx": model.SerializeToString(), "weights.bin": bytes(data)}]


@functools.cache
def tflite_models() -> list[Case]:
    rng, out = np.random.default_rng(0), []
    m = SmallModel()
    x = m.input(1, 8, 8, 3)
    kernel, bias = m.constant(rng.normal(size=(4, 3, 3, 3)).astype(np.float16)), m.constant(np.zeros(4, F))
    k = m.op("DEQUANTIZE", [kernel], [4, 3, 3, 3])
    c = m.op("CONV_2D", [x, k, bias], [1, 4, 4, 4], stride_h=2, stride_w=2, activation="RELU6")
    p = m.op("PAD", [c, m.ints([[0, 0], [1, 1], [1, 1], [0, 0]])], [1, 6, 6, 4])
    a = m.op("MAX_POOL_2D", [p], [1, 3, 3, 4], stride_h=2, stride_w=2, filter_h=2, filter_w=2)
    s = m.op("STRIDED_SLICE", [a, m.ints([0, 0, 0, 1]), m.ints([1, 3, 3, 3]), m.ints([1, 1, 1, 1])], [1, 3, 3, 2])
    z = m.op("RESIZE_BILINEAR", [s, m.ints([6, 6])], [1, 6, 6, 2])
    w = m.constant(rng.normal(size=(5, 72)).astype(F))
    f = m.op("FULLY_CONNECTED", [m.op("RESHAPE", [z, m.ints([1, 72])], [1, 72]), w], [1, 5])
    out.append(m.bytes(m.op("SOFTMAX", [f], [1, 5], beta=1.0)))
    m = SmallModel()
    x = m.input(1, 6)
    dense = np.zeros((4, 6), F)
    dense[0, 1] = dense[2, 3] = dense[3, 5] = 1
    t = m.op("FULLY_CONNECTED", [x, m.sparse(dense)], [1, 4])
    t = m.op("TILE", [t, m.ints([1, 2])], [1, 8])
    out.append(m.bytes(m.op("ADD", [t, m.op("FILL", [m.ints([1, 8]), m.constant(F(1))], [1, 8])], [1, 8])))
    m = SmallModel()
    q = {"kind": "int8", "scale": [0.1], "zero": [3]}
    x = m.input(1, 4, 4, 2, **q)
    w = m.constant(rng.integers(-9, 9, (3, 1, 1, 2)).astype(np.int8), scale=[0.1, 0.2, 0.3], zero=[0, 0, 0])
    b = m.constant(np.zeros(3, np.int32), scale=[0.01, 0.02, 0.03], zero=[0, 0, 0])
    made = m.tensor([1, 4, 4, 3], "int8", scale=[0.1], zero=[3])
    m.op("CONV_2D", [x, w, b], None, outputs=[made], stride_h=1, stride_w=1)
    out.append(m.bytes(made))
    return [{"": data} for data in out]


def _functions() -> SmallGraph:
    g = SmallGraph()
    x = g.input(1, 4)
    body = g.function("f", ["t"], {"y": "call:output:0"})
    body.op("PartitionedCall", ["t"], name="call", T=None, f=Function("h"))
    g.function("h", ["t"], {"y": "r:activations:0"}).op("Relu", ["t"], name="r")
    g.function("test", ["t"], {"c": "no:output:0"}).op(
        "Const", name="no", T=None, dtype=Kind("bool"), value=np.array(False)
    )
    g.function("step", ["t"], {"t2": "r:activations:0"}).op("Relu", ["t"], name="r")
    called = g.op("PartitionedCall", [x], T=None, f=Function("f"))
    looped = g.op("While", [called], T=None, cond=Function("test"), body=Function("step"))
    many = g.op("Fill", [g.ints(1, 4), g.const(F(1))], index_type=Kind("int32"))
    tiled = g.op("Tile", [many, g.ints(1, 1)], Tmultiples=Kind("int32"))
    variable = g.op("VarHandleOp", name="v", T=None, dtype=Kind("float32"), shared_name="v")
    summed = g.op("AddV2", [looped, tiled])
    g.op("MatMul", [summed, g.op("ReadVariableOp", [variable], T=None, dtype=Kind("float32"))], name="y")
    return g


_FROZEN = 14


@functools.cache
def frozen_graphs() -> list[Case]:
    names = sorted(CASES)
    chosen = ["a loop of TensorFlow 1", "SpaceToBatchND cropped", *names[:: max(1, len(names) // _FROZEN)]]
    return [{"": build(name)[0]} for name in chosen]


def _bundle(prefix: str) -> Case:
    part = [([(0, 2), (0, 3)], np.ones((2, 3), F)), ([(2, 2), (0, 3)], np.ones((2, 3), F))]
    values = {"u": np.ones(7, np.int32)} if prefix != "variables/variables" else {"v": np.ones((4, 3), F)}
    rows, data = bundle_rows(values, {} if "v" in values else {"v": part})
    return {f"{prefix}.index": table(rows), f"{prefix}.data-00000-of-00001": data}


@functools.cache
def checkpoints() -> list[Case]:
    meta = {
        "model.ckpt.meta": _functions().meta().SerializeToString(),
        "checkpoint": b'model_checkpoint_path: "model.ckpt"\n',
    }
    return [_bundle("model.ckpt") | meta]


@functools.cache
def saved_models() -> list[Case]:
    return [_bundle("variables/variables") | {"saved_model.pb": _functions().saved({"x": "x:0"}, {"y": "y:0"})}]


_KERAS = ("conv2d", "shapes", "nested", "operations", "lstm", "bidirectional", "norms")


@functools.cache
def keras_models() -> list[Case]:
    return [{"": sample(f"{name}.keras")} for name in (*_KERAS, "einsum", "attention")]


@functools.cache
def keras_hdf5() -> list[Case]:
    from small_hdf5 import hdf5

    packed = hdf5({"g/a": np.arange(24, dtype=F).reshape(6, 4)}, {"": {"model_config": "{}"}}, packed=True)
    return [{"": packed}, *({"": sample(name)} for name in sample_files() if name.endswith(".h5"))]


@functools.cache
def parsed() -> Any:
    """A detector, with boxes."""
    from detection import heads
    from headrace.frontends import ParseOptions, parse

    return parse(heads.yolov8().model.SerializeToString(), ParseOptions("detector", device_only=False))


@functools.cache
def networks() -> list[Case]:
    from headrace.frontends import parse
    from headrace.hn import json_format

    found = [parse(onnx_models()[0][""]).network, parsed().network]
    return [{"": json_format.dumps(network)} for network in found]


@functools.cache
def archives() -> list[Case]:
    """Members of archives, each a file of the case; the target packs them."""
    from headrace.frontends import parse
    from headrace.hn import archive

    small = parse(onnx_models()[2][""])
    made = [
        archive.Archive("detector", native=parsed().network, whole=parsed().whole, nms=parsed().nms),
        archive.Archive(small.network.name, native=small.network, whole=small.whole),
    ]
    return [archive.members(one) for one in made]


@functools.cache
def boxes() -> list[Case]:
    from headrace.hn import nms

    return [{"": nms.dumps(parsed().nms)}]


@functools.cache
def public_boxes() -> list[Case]:
    """A configuration of the public form, beside the script that names it."""
    found = parsed().nms
    decoders = [{"name": d.name, "stride": int(d.strides[0]), **d.layers} for d in found.decoders]
    common = {
        "nms_scores_th": 0.25,
        "nms_iou_th": 0.6,
        "image_dims": list(found.image),
        "max_proposals_per_class": 50,
        "regression_length": 16,
        "background_removal": False,
        "bbox_decoders": decoders,
    }
    return [{"": json.dumps(common).encode()}]


_SCRIPT = b"""# a script
normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
model_optimization_config(calibration, batch_size=4, calibset_size=64)
model_optimization_flavor(optimization_level=1, compression_level=0)
post_quantization_optimization(finetune, policy=disabled)
quantization_param({conv*}, precision_mode=a8_w8)
quantization_param([conv1, conv2], bias_mode=single_scale_decomposition)
change_output_activation(conv1, sigmoid)
nms_postprocess(meta_arch=yolov8, engine=cpu, nms_scores_th=0.3)
context_switch_param(mode=enabled)
performance_param(compiler_optimization_level=max)
"""


def scripts() -> list[Case]:
    return [{"": _SCRIPT}]


@functools.cache
def data_files() -> list[Case]:
    plain, packed = io.BytesIO(), io.BytesIO()
    frames = np.arange(2 * 8 * 8 * 3, dtype=F).reshape(2, 8, 8, 3)
    np.save(plain, frames)
    np.savez_compressed(packed, input=frames)
    return [{"x.npy": plain.getvalue()}, {"x.npz": packed.getvalue()}]


def write(case: Case, folder: Path) -> None:
    for name, data in case.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
