# SPDX-License-Identifier: Apache-2.0
"""Whatever depends on constants alone is computed, under any operator, within limits of memory and work."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from frontend_oracle import compare, kinds, model  # noqa: E402
from headrace.errors import HeadraceError, UnsupportedModelError  # noqa: E402
from headrace.frontends.fold import Budget  # noqa: E402
from headrace.frontends.folding import evaluate, folds  # noqa: E402
from headrace.frontends.formats.onnx.read import read_model  # noqa: E402
from headrace.frontends.graph import Unsupported, constant  # noqa: E402
from headrace.frontends.opset import normalize  # noqa: E402
from headrace.frontends.reader import Source  # noqa: E402
from parsing import parse_onnx, parse_tflite  # noqa: E402

RNG = np.random.default_rng(11)


def f(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def beside_input(nodes, constants, shape, opset=18, add="c"):
    """``x + c`` where ``c`` is what ``nodes`` make of ``constants``."""
    built = model([*nodes, helper.make_node("Add", ["x", add], ["y"])], [("x", shape)], [("y", None)], constants, opset)
    return built.SerializeToString()


def node(op, inputs, **attributes):
    return helper.make_node(op, inputs, ["c"], name="folded", **attributes)


#: operator, constants, the shape of the result, operator set, attributes
CASES = [
    ("Resize", {"a": f(1, 6, 7, 7), "-1": 0, "-2": 0, "s": i64(1, 6, 5, 5)}, [1, 6, 5, 5], 18, {"mode": "cubic"}),
    ("Resize", {"a": f(1, 2, 8, 8), "-1": 0, "r": np.array([1, 1, 1.5, 0.5], np.float32)}, [1, 2, 12, 4], 18,
     {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("Resize", {"a": f(1, 2, 8, 8), "-1": 0, "-2": 0, "s": i64(1, 2, 3, 3)}, [1, 2, 3, 3], 18,
     {"mode": "cubic", "antialias": 1}),
    ("Conv", {"a": f(1, 4, 9, 8), "w": f(6, 2, 3, 2), "b": f(6)}, [1, 6, 5, 8], 18,
     {"group": 2, "strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    ("Conv", {"a": f(1, 3, 5, 6, 7), "w": f(4, 3, 2, 3, 1)}, [1, 4, 6, 4, 7], 18,
     {"pads": [1, 0, 0, 1, 0, 0], "strides": [1, 1, 1], "dilations": [1, 1, 2]}),
    ("ConvTranspose", {"a": f(1, 2, 4, 4), "w": f(2, 3, 3, 3)}, [1, 3, 9, 9], 18, {"strides": [2, 2]}),
    ("MatMul", {"a": f(1, 3, 5, 4), "w": f(4, 6)}, [1, 3, 5, 6], 18, {}),
    ("Gemm", {"a": f(4, 1), "w": f(5, 4), "b": f(5)}, [1, 5], 18,
     {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Einsum", {"a": f(1, 3, 5, 4), "w": f(4, 6)}, [1, 6, 3, 5], 18, {"equation": "bchw,wk->bkch"}),
    ("Softmax", {"a": f(1, 3, 5, 4)}, [1, 3, 5, 4], 18, {"axis": 2}),
    ("LayerNormalization", {"a": f(1, 3, 6), "w": f(6)}, [1, 3, 6], 18, {}),
    ("AveragePool", {"a": f(1, 2, 6, 6)}, [1, 2, 3, 3], 18, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("GridSample", {"a": f(1, 2, 5, 5), "g": f(1, 4, 3, 2)}, [1, 2, 4, 3], 20, {"mode": "linear"}),
    ("GatherElements", {"a": f(1, 4, 3), "i": RNG.integers(0, 4, (1, 2, 3))}, [1, 2, 3], 18, {"axis": 1}),
    ("ScatterND", {"a": f(1, 4), "i": i64(0, 2).reshape(1, 2), "u": f(1)}, [1, 4], 18, {}),
    ("CumSum", {"a": f(1, 5, 3), "i": np.int64(1)}, [1, 5, 3], 18, {"exclusive": 1, "reverse": 1}),
    ("DepthToSpace", {"a": f(1, 8, 3, 2)}, [1, 2, 6, 4], 18, {"blocksize": 2, "mode": "CRD"}),
    ("Pad", {"a": f(1, 2, 4, 4), "p": i64(0, 0, 1, 2, 0, 0, 2, 1)}, [1, 2, 7, 7], 18, {"mode": "reflect"}),
    ("HardSwish", {"a": f(1, 6)}, [1, 6], 18, {}),
    ("Erf", {"a": f(1, 6)}, [1, 6], 18, {}),
    ("LSTM", {"a": f(3, 1, 2), "w": f(1, 8, 2), "r": f(1, 8, 2)}, [3, 1, 1, 2], 18, {"hidden_size": 2}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_any_operator_of_constants_folds_as_onnxruntime_computes_it(case):
    operator, constants, shape, opset, attributes = case
    nodes = [node(operator, ["" if k[0] == "-" else k for k in constants], **attributes)]
    given = {k: v for k, v in constants.items() if k[0] != "-"}
    if shape[0] != 1:  # where the batch is not in front
        nodes.append(helper.make_node("Reshape", ["c", "shape"], ["d"]))
        given["shape"], shape = i64(1, *shape), [1, *shape]
    add = "d" if "shape" in given else "c"
    if len(shape) > 4:
        nodes.append(helper.make_node("Reshape", [add, "flat"], ["e"]))
        add, given["flat"], shape = "e", i64(1, -1), [1, int(np.prod(shape))]
    result = compare(beside_input(nodes, given, shape, opset, add), tolerance=2e-5)
    assert set(kinds(result)) <= {"batch_norm", "reshape", "transpose"}
    assert result.report.folded_constants == len(nodes)


def test_onnx_s_own_examples_fold_to_the_stated_results():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = [c for c in collect_testcases(None) if len(c.model.graph.node) == 1 and "bfloat16" not in c.name]
    right, wrong = [], []
    for case in cases:
        for inputs, outputs in case.data_sets or []:
            if all(isinstance(a, np.ndarray) for a in (*inputs, *outputs)):
                verdict = _as_constants(case.model, inputs, outputs)
                if verdict is not None:
                    (right if verdict else wrong).append(case.name)
    assert not wrong
    assert len(right) >= 840


def _as_constants(original, inputs, outputs):
    """Whether the node's results are right when all it reads is constant; None where it does not fold."""
    copy = onnx.ModelProto.FromString(original.SerializeToString())
    names = [i.name for i in copy.graph.input]
    copy.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in zip(names, inputs, strict=False))
    try:
        source = read_model(Source.of(copy.SerializeToString()))
        broken = source.broken | normalize(source)
        only, *more = source.graph
        if more or only in broken or not folds(only):
            return None  # several: what the standard defines by others, see test_frontend_definitions.py
        with np.errstate(all="ignore"):
            got = evaluate(only, [constant(v) for v in only.inputs], Budget(int(source.facts["opset"])))
    except Unsupported:
        return None
    except HeadraceError as error:
        assert error.code != "E-INTERNAL", error
        return None
    wanted = dict(zip([o.name for o in copy.graph.output], outputs, strict=False))
    pairs = [(a, wanted[n]) for n, a in zip(copy.graph.node[0].output, got, strict=False) if n in wanted]
    return all(
        a.shape == b.shape and np.allclose(a.astype(np.float64), b.astype(np.float64), 1e-3, 1e-5, equal_nan=True)
        for a, b in pairs
    )


HUGE = [
    (node("Conv", ["a", "w"], pads=[4000] * 4), {"a": f(1, 64, 64, 64), "w": f(64, 64, 3, 3)}),  # 10^12 steps
    (node("MatMul", ["a", "a"]), {"a": np.ones((2048, 2048), np.float32)}),
    (node("MatMul", ["a", "b"]), {"a": np.ones((1 << 20, 1), np.float32), "b": np.ones((1, 1 << 20), np.float32)}),
    (node("Resize", ["a", "", "", "s"], mode="cubic"), {"a": f(1, 1, 2, 2), "s": i64(1, 1, 10**6, 10**6)}),
    (node("Resize", ["a", "", "s"], mode="linear"), {"a": f(1, 1, 2, 2), "s": np.array([1, 1, 1e6, 1e6], np.float32)}),
    (node("Einsum", ["a", "a", "a"], equation="ab,cd,ef->abcdef"), {"a": f(300, 300)}),
    (node("Einsum", ["a", "a", "a"], equation="ab,cd,ef->a"), {"a": f(300, 300)}),
    (node("GridSample", ["a", "g"]), {"a": f(1, 1, 4, 4), "g": np.zeros((1, 2000, 2000, 2), np.float32)}),
    (node("RoiAlign", ["a", "r", "b"], sampling_ratio=10**6, output_height=2, output_width=2),
     {"a": f(1, 1, 4, 4), "r": f(1, 4), "b": i64(0)}),
    (node("MaxPool", ["a"], kernel_shape=[10**5, 10**5], pads=[10**5 - 1] * 4), {"a": f(1, 1, 4, 4)}),
    (node("OneHot", ["i", "d", "v"]), {"i": i64(*range(9)), "d": np.int64(10**12), "v": np.array([0, 1], np.float32)}),
    (node("Pad", ["a", "p"], mode="reflect"), {"a": f(1, 4), "p": i64(0, 0, 0, 10**12)}),
    (node("HannWindow", ["n"]), {"n": np.int64(10**12)}),
    (node("NonMaxSuppression", ["b", "s"]), {"b": f(1, 20000, 4), "s": f(1, 1, 20000)}),
    (node("ConvTranspose", ["a", "w"], strides=[10**6, 10**6]), {"a": f(1, 1, 9, 9), "w": f(1, 1, 2, 2)}),
    (node("LSTM", ["a", "w", "r"], hidden_size=256), {"a": f(4096, 1, 8), "w": f(1, 1024, 8), "r": f(1, 1024, 256)}),
]  # fmt: skip


@pytest.mark.parametrize("case", HUGE, ids=lambda c: c[0].op_type)
def test_what_would_take_hours_or_all_memory_is_refused_before_it_runs(case):
    built, constants = case
    started = time.monotonic()
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(beside_input([built], constants, [1, 4], 20))
    assert time.monotonic() - started < 8
    first = caught.value.diagnostics[0]
    assert "'folded'" in first.where
    assert any(word in first.rule for word in ("steps to compute", "would need", "not known beforehand", "do not fit"))


def test_many_small_computations_share_one_limit():
    nodes = [helper.make_node("MatMul", [f"m{i}", "a"], [f"m{i + 1}"]) for i in range(64)]
    nodes.append(helper.make_node("ReduceMean", ["m64", "axes"], ["c"]))
    constants = {"m0": f(700, 700), "a": f(700, 700), "axes": i64(0)}
    with pytest.raises(UnsupportedModelError, match="steps to compute"):
        parse_onnx(beside_input(nodes, constants, [1, 700]))


@pytest.mark.parametrize("operator", ["RandomNormal", "RandomUniform"])
def test_random_numbers_never_fold(operator):
    nodes = [helper.make_node(operator, [], ["c"], shape=[1, 4], seed=1.0)]
    with pytest.raises(UnsupportedModelError, match="random"):
        parse_onnx(beside_input(nodes, {}, [1, 4]))


def test_loops_never_fold():
    names = [("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("before", TensorProto.FLOAT)]
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "one"], ["after"]), helper.make_node("Identity", ["go"], ["on"])], "b",
        [helper.make_tensor_value_info(n, kind, []) for n, kind in names],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("after", TensorProto.FLOAT, [])],
    )  # fmt: skip
    nodes = [node("Loop", ["three", "yes", "one"], body=body)]
    built = beside_input(nodes, {"yes": np.array(True), "one": np.float32(1), "three": np.int64(3)}, [1, 4])
    with pytest.raises(UnsupportedModelError, match="control flow"):
        parse_onnx(built)


def test_products_add_up_in_one_order():
    """Sums of products are the same bits whatever library multiplies matrices here: the order is stated."""
    a, b = f(5, 4000), f(4000, 3)
    total = np.zeros((5, 3))
    for k in range(4000):
        total += a[:, k, None].astype(np.float64) * b[None, k, :].astype(np.float64)
    source = read_model(
        Source.of(model([node("MatMul", ["a", "b"])], [], [("c", [5, 3])], {"a": a, "b": b}).SerializeToString())
    )
    only = next(iter(source.graph))
    got = evaluate(only, [constant(v) for v in only.inputs], Budget())[0]
    assert got.tobytes() == total.astype(np.float32).tobytes()


def test_constants_under_operators_of_tflite_fold():
    pytest.importorskip("ai_edge_litert")
    from frontend_oracle import run_network
    from small_tflite import SmallModel, uniform_feeds, worst_difference

    m = SmallModel()
    x = m.input(1, 6, 6, 2)
    grown = m.op("RESIZE_BILINEAR", [m.constant(f(1, 4, 4, 3)), m.ints([6, 6])], [1, 6, 6, 3], half_pixel_centers=True)
    made = m.op(
        "CONV_2D", [grown, m.constant(f(2, 3, 3, 3)), m.constant(f(2))], [1, 6, 6, 2], padding="SAME", stride_h=1,
        stride_w=1,
    )  # fmt: skip
    data = m.bytes(m.op("ADD", [x, made], [1, 6, 6, 2]))
    network = parse_tflite(data, "net").network
    assert {layer.kind for layer in network} <= {"input_layer", "reshape", "transpose", "batch_norm", "output_layer"}
    assert worst_difference(network, data, uniform_feeds(data), run_network) < 1e-5


def test_values_that_are_not_numbers_are_not_folded():
    strings = helper.make_tensor("s", TensorProto.STRING, [1], [b"a"])
    nodes = [helper.make_node("Constant", [], ["s"], value=strings), node("StringConcat", ["s", "s"])]
    with pytest.raises(HeadraceError) as caught:
        parse_onnx(beside_input(nodes, {}, [1, 4], 20))
    assert caught.value.code != "E-INTERNAL"


@pytest.mark.parametrize("largest", [1, 0])
@pytest.mark.parametrize("axis", [0, -1])
def test_choices_of_constants_are_those_of_onnx(axis: int, largest: int) -> None:
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    from headrace.frontends import fold_choices

    x = np.random.default_rng(0).permutation(60).reshape(6, 10).astype(np.float32)
    node = helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=axis, largest=largest)
    k = np.array([4], np.int64)
    wanted = ReferenceEvaluator(node).run(None, {"x": x, "k": k})
    for got, one in zip(fold_choices.top_k(ir.from_proto(node), [x, k], Budget()), wanted, strict=True):
        np.testing.assert_array_equal(got, one)
    ties = fold_choices.top_k(ir.from_proto(node), [np.ones((6, 10), np.float32), k], Budget())[1]
    assert np.moveaxis(ties, axis, -1).reshape(-1, 4).tolist() == [[0, 1, 2, 3]] * (ties.size // 4)
    with pytest.raises(Unsupported):
        fold_choices.top_k(ir.from_proto(node), [x, np.array([11])], Budget())

    node = helper.make_node("GatherND", ["x", "i"], ["y"])
    for places in ([[0, 9], [-1, -10]], [[5], [0]]):
        i = np.array(places, np.int64)
        (wanted,) = ReferenceEvaluator(node).run(None, {"x": x, "i": i})
        np.testing.assert_array_equal(fold_choices.gather_nd(ir.from_proto(node), [x, i], Budget())[0], wanted)
    for beyond in ([[6, 0]], [[0, -11]]):
        with pytest.raises(Unsupported):
            fold_choices.gather_nd(ir.from_proto(node), [x, np.array(beyond)], Budget())
