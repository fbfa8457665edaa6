# SPDX-License-Identifier: Apache-2.0
"""TFLite operators of places, graphs and states against LiteRT: the source graph in onnxruntime gives the same."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")
pytest.importorskip("onnxruntime")

from headrace.errors import UnsupportedModelError
from headrace.frontends.formats.tflite.graph import read_tflite
from headrace.frontends.reader import Source
from parsing import parse_tflite
from small_tflite import SmallModel, litert_outputs, run_source, uniform_feeds


def same(model, *outputs, frames=2, **feeds):
    data = model.bytes(*outputs)
    given = uniform_feeds(data, frames=frames, **feeds)
    want, got = litert_outputs(data, given), run_source(read_tflite(Source.of(data)), given)
    for name, array in want.items():
        assert got[name].shape == array.shape and got[name].dtype == array.dtype, name
        np.testing.assert_allclose(got[name].astype(np.float64), array.astype(np.float64), atol=1e-5, rtol=1e-5)


def one(operator, *shape, made=None, kind="float32", constants=(), **options):
    m = SmallModel()
    x = m.input(1, *shape)
    y = m.op(operator, [x, *(m.constant(c) for c in constants)], made or [1, *shape], kind, **options)
    return m, y


I32 = np.int32


@pytest.mark.parametrize("operator", ["ARG_MAX", "ARG_MIN"])
@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_places_of_extremes(operator, kind):
    number = {"int32": 2, "int64": 4}[kind]
    same(*one(operator, 4, 5, made=[1, 4], kind=kind, constants=[I32(2)], output_type=number))


@pytest.mark.parametrize("options", [{}, {"exclusive": True}, {"reverse": True}, {"exclusive": True, "reverse": True}])
def test_running_totals(options):
    same(*one("CUMSUM", 4, 5, constants=[I32(2)], **options))


def test_largest():
    m = SmallModel()
    x = m.input(1, 9)
    values, places = m.op(
        "TOPK_V2", [x, m.constant(I32(3))], None, outputs=[m.tensor([1, 3]), m.tensor([1, 3], "int32")]
    )
    same(m, values, places)


@pytest.mark.parametrize("axis", [-1, 1])
def test_one_hot(axis):
    m, places = one("ARG_MAX", 4, 5, made=[1, 4], kind="int32", constants=[I32(2)], output_type=2)
    numbers = [m.constant(I32(5)), m.constant(np.float32(2)), m.constant(np.float32(-1))]
    same(m, m.op("ONE_HOT", [places, *numbers], [1, 4, 5] if axis < 0 else [1, 5, 4], axis=axis))


@pytest.mark.parametrize("operator", ["REDUCE_ANY", "REDUCE_ALL"])
def test_truth_of_some(operator):
    m = SmallModel()
    x = m.input(1, 4, 5)
    truth = m.op("GREATER", [x, m.constant(np.float32(0.4))], [1, 4, 5], "bool")
    y = m.op(operator, [truth, m.constant(np.array([2], I32))], [1, 4], "bool")
    same(m, m.op("CAST", [y], [1, 4], in_data_type=6, out_data_type=0))


@pytest.mark.parametrize("shape", [(5, 6), (4, 3)])
def test_l2_pool(shape):
    m = SmallModel()
    x = m.input(1, *shape, 2)
    size = [(n + 1) // 2 for n in shape]
    options = {"padding": "SAME", "stride_w": 2, "stride_h": 2, "filter_w": 3, "filter_h": 2}
    same(m, m.op("L2_POOL_2D", [x], [1, *size, 2], **options))


def test_rows_of_a_table():
    m, places = one("ARG_MAX", 4, 5, made=[1, 4], kind="int32", constants=[I32(2)], output_type=2)
    flat = m.op("RESHAPE", [places, m.constant(np.array([4], I32))], [4], "int32", new_shape=[4])
    table = m.constant(np.arange(15, dtype=np.float32).reshape(5, 3))
    same(m, m.op("EMBEDDING_LOOKUP", [flat, table], [4, 3]))


def test_scattered():
    m = SmallModel()
    x = m.input(1, 3)
    rows = m.op("RESHAPE", [x, m.constant(np.array([3], I32))], [3], new_shape=[3])
    places = m.constant(np.array([[4], [1], [4]], I32))
    same(m, m.op("SCATTER_ND", [places, rows, m.constant(np.array([6], I32))], [6]))


def test_gather_by_positions():
    m = SmallModel()
    x = m.input(1, 4, 3)
    places = m.constant(np.array([[0, 3], [0, 1]], I32))
    same(m, m.op("GATHER_ND", [x, places], [2, 3]))


def test_gather_of_each_batch():
    m = SmallModel()
    x = m.input(1, 2, 4, 3)
    places = m.constant(np.array([[[3, 1, 1], [0, 2, 3]]], I32))
    same(m, m.op("GATHER", [x, places], [1, 2, 3, 3], axis=2, batch_dims=2))


@pytest.mark.parametrize("kind", ["SUM", "MAX", "MIN", "PROD"])
def test_segments(kind):
    m = SmallModel()
    rows = m.op("RESHAPE", [m.input(1, 4, 3), m.constant(np.array([4, 3], I32))], [4, 3], new_shape=[4, 3])
    segments = [m.constant(np.array([1, 0, 1, 0], I32)), m.constant(I32(2))]
    same(m, m.op(f"UNSORTED_SEGMENT_{kind}", [rows, *segments], [2, 3]))


@pytest.mark.parametrize("start", [[0, 1, 0], [0, 9, -4]])
def test_a_part_replaced(start):
    m = SmallModel()
    x = m.input(1, 5, 4)
    part = m.constant(np.full((1, 2, 3), 7, np.float32))
    same(m, m.op("DYNAMIC_UPDATE_SLICE", [x, part, m.constant(np.array(start, I32))], [1, 5, 4]))


def test_diagonals():
    m = SmallModel()
    x = m.input(1, 4)
    matrix = m.op("MATRIX_DIAG", [x], [1, 4, 4])
    same(m, m.op("MATRIX_SET_DIAG", [matrix, m.op("NEG", [x], [1, 4])], [1, 4, 4]))


def test_buckets():
    same(*one("BUCKETIZE", 6, kind="int32", boundaries=[-0.5, 0.0, 0.25]))


def test_angles():
    m = SmallModel()
    x = m.input(1, 9)
    shifted = m.op("REVERSE_V2", [x, m.constant(np.array([1], I32))], [1, 9])
    same(m, m.op("ATAN2", [x, shifted], [1, 9]), frames=4)


def test_suppressed_boxes():
    m = SmallModel()
    x = m.input(1, 6, 5)
    x = m.op("RESHAPE", [x, m.constant(np.array([6, 5], I32))], [6, 5], new_shape=[6, 5])
    corner = m.op("SLICE", [x, m.ints([0, 0]), m.ints([6, 2])], [6, 2])
    size = m.op("ADD", [m.op("ABS", [m.op("SLICE", [x, m.ints([0, 2]), m.ints([6, 2])], [6, 2])], [6, 2]),
                        m.constant(np.float32(0.3))], [6, 2])  # fmt: skip
    boxes = m.op("CONCATENATION", [corner, m.op("ADD", [corner, size], [6, 2])], [6, 4], axis=1)
    scores = m.op(
        "RESHAPE", [m.op("SLICE", [x, m.ints([0, 4]), m.ints([6, 1])], [6, 1]), m.ints([6])], [6], new_shape=[6]
    )
    numbers = [m.constant(I32(4)), m.constant(np.float32(0.3)), m.constant(np.float32(-0.5))]
    made = [m.tensor([4], "int32"), m.tensor([], "int32")]
    m.op("NON_MAX_SUPPRESSION_V4", [boxes, scores, *numbers], None, outputs=made)
    count = m.op("RESHAPE", [made[1], m.ints([1])], [1], "int32", new_shape=[1])
    same(m, made[0], count, frames=4)


# --- graphs that graphs call ------------------------------------------------------------------------------------------


def doubled(operator="MUL"):
    g = SmallModel()
    x = g.input(1, 4, name="x")
    g.outputs = [g.op(operator, [x, g.constant(np.float32(2))], [1, 4])]
    return g


def test_a_composite_operator():
    m = SmallModel()
    m.graphs = [doubled()]
    y = m.op("STABLEHLO_COMPOSITE", [m.input(1, 4)], [1, 4], graph=1)
    m.operators[-1][3].update(name="odml.twice", attributes="\0\0\1")
    same(m, y)


def counting():
    """Two graphs of a loop of three rounds, each of which adds the input to what there is."""
    condition, body = SmallModel(), SmallModel()
    count, x = condition.input(kind="int32"), condition.input(1, 4)
    condition.outputs = [condition.op("LESS", [count, condition.constant(I32(3))], [], "bool")]
    count, x = body.input(kind="int32"), body.input(1, 4)
    body.outputs = [
        body.op("ADD", [count, body.constant(I32(1))], [], "int32"), body.op("ADD", [x, x], [1, 4]),
    ]  # fmt: skip
    return [condition, body]


def test_a_loop_of_known_length():
    m = SmallModel()
    m.graphs = counting()
    made = [m.tensor([], "int32"), m.tensor([1, 4], name="y")]
    m.op("WHILE", [m.constant(I32(0)), m.input(1, 4)], None, outputs=made, condition=1, body=2)
    same(m, made[1])


@pytest.mark.parametrize("known", [True, False])
def test_a_branch(known):
    m = SmallModel()
    m.graphs = [doubled(), doubled("ADD")]
    x = m.input(1, 4)
    if known:
        truth = m.constant(np.array(True))
    else:
        first = m.op("SLICE", [x, m.ints([0, 0]), m.ints([1, 1])], [1, 1])
        truth = m.op("GREATER", [first, m.constant(np.zeros((1, 1), np.float32))], [1, 1], "bool")
        truth = m.op("RESHAPE", [truth, m.constant(np.zeros(0, I32))], [], "bool", new_shape=[])
    same(m, m.op("IF", [truth, x], [1, 4], then_graph=1, else_graph=2), frames=6)


def test_graphs_that_call_each_other():
    m, g = SmallModel(), SmallModel()
    x = g.input(1, 4)
    g.outputs = [g.op("STABLEHLO_COMPOSITE", [x], [1, 4], graph=1)]
    m.graphs = [g]
    with pytest.raises(UnsupportedModelError, match="deep"):
        parse_tflite(m.bytes(m.op("STABLEHLO_COMPOSITE", [m.input(1, 4)], [1, 4], graph=1)))


def test_a_loop_without_end():
    m = SmallModel()
    condition, body = counting()
    body.outputs[0] = body.inputs[0]
    m.graphs = [condition, body]
    made = [m.tensor([], "int32"), m.tensor([1, 4], name="y")]
    m.op("WHILE", [m.constant(I32(0)), m.input(1, 4)], None, outputs=made, condition=1, body=2)
    with pytest.raises(UnsupportedModelError, match="rounds|operators"):
        parse_tflite(m.bytes(made[1]))


# --- what is kept from frame to frame ---------------------------------------------------------------------------------


def test_a_variable_is_an_input_and_an_output():
    """A running total over frames, which begins with what CALL_ONCE sets, one frame after the other as LiteRT runs."""
    from ai_edge_litert.interpreter import Interpreter

    m, first = SmallModel(), SmallModel()
    begun = np.array([[1, 2, 3, 4]], np.float32)
    handle = first.op("VAR_HANDLE", [], [], "resource", shared_name="total")
    first.op("ASSIGN_VARIABLE", [handle, first.constant(begun)], None, outputs=[])
    m.graphs = [first]
    m.op("CALL_ONCE", [], None, outputs=[], graph=1)
    x, handle = m.input(1, 4), m.op("VAR_HANDLE", [], [], "resource", shared_name="total")
    total = m.op("ADD", [m.op("READ_VARIABLE", [handle], [1, 4]), x], [1, 4])
    m.op("ASSIGN_VARIABLE", [handle, total], None, outputs=[])
    data = m.bytes(m.op("NEG", [total], [1, 4]))
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    held = begun
    for frame in np.random.default_rng(0).normal(size=(3, 1, 4)).astype(np.float32):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
        interpreter.invoke()
        want = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        got = run_source(read_tflite(Source.of(data)), {"t0": frame, "total": held})
        held = got.pop("total/next")
        np.testing.assert_allclose(next(iter(got.values())), want, rtol=1e-6)
    assert any("total" in text for text in parse_tflite(data).report.warnings)


def test_a_variable_that_only_begins_is_a_constant():
    m, first = SmallModel(), SmallModel()
    handle = first.op("VAR_HANDLE", [], [], "resource", shared_name="weights")
    first.op("ASSIGN_VARIABLE", [handle, first.constant(np.float32([[2, 3, 4, 5]]))], None, outputs=[])
    m.graphs = [first]
    m.op("CALL_ONCE", [], None, outputs=[], graph=1)
    read = m.op("READ_VARIABLE", [m.op("VAR_HANDLE", [], [], "resource", shared_name="weights")], [1, 4])
    network = parse_tflite(m.bytes(m.op("MUL", [m.input(1, 4), read], [1, 4]))).network
    assert len(network.input_layers) == len(network.output_layers) == 1


@pytest.mark.parametrize("place", [0, 2])
def test_what_is_cut_in_front_and_behind_may_be_empty(place):
    """A loop writes its result into row ``place`` of three: rows in front, the new one, rows behind."""
    m = SmallModel()
    x, row = m.input(1, 3, 4), m.input(1, 1, 4)
    before = m.op("SLICE", [x, m.ints([0, 0, 0]), m.ints([1, place, 4])], [1, place, 4])
    behind = m.op("SLICE", [x, m.ints([0, place + 1, 0]), m.ints([1, -1, 4])], [1, 2 - place, 4])
    y = m.op("CONCATENATION", [before, m.op("NEG", [row], [1, 1, 4]), behind], [1, 3, 4], axis=1)
    same(m, y)
    assert parse_tflite(m.bytes(y)).network.output_layers
