# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN against onnxruntime, and their places: where the batch is, what is refused and why."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from frontend_oracle import compare, kinds, model, run_network, session  # noqa: E402
from headrace.data.inputs import arranged, specs_of  # noqa: E402
from headrace.emulator import Executor  # noqa: E402
from headrace.errors import UnsupportedModelError  # noqa: E402
from headrace.frontends import fold, parse  # noqa: E402
from headrace.frontends.parsing import UnsupportedNodesError  # noqa: E402
from headrace.host import WholeRun  # noqa: E402
from parsing import parse_onnx  # noqa: E402

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OPERATORS = list(GATES)


def recurrent(
    op, steps=4, batch=1, features=3, size=5, direction="forward", layout=0, states=None, peephole=False, bias=True,
    lengths=None, seed=0, open_batch=False, **attributes,
):  # fmt: skip
    """One recurrent operator; ``states`` are None, "constant" or "input"."""
    rng = np.random.default_rng(seed)
    directions, gates = 1 + (direction == "bidirectional"), GATES[op]

    def weights(*shape):
        return rng.uniform(-0.6, 0.6, shape).astype(np.float32)

    constants = {"W": weights(directions, gates * size, features), "R": weights(directions, gates * size, size)}
    names = ["x", "W", "R", "", "", "", "", ""]
    n = "N" if open_batch else batch
    inputs = [("x", [n, steps, features] if layout else [steps, n, features])]
    if bias:
        constants["B"], names[3] = weights(directions, 2 * gates * size), "B"
    if lengths is not None:
        constants["lengths"], names[4] = np.array(lengths, np.int32), "lengths"
    for place, name in ((5, "h0"), (6, "c0"))[: 1 + (op == "LSTM")] if states else ():
        names[place] = name
        if states == "constant":
            state = weights(directions, 1, size).repeat(batch, 1)
            constants[name] = state.transpose(1, 0, 2) if layout else state
        else:
            inputs.append((name, [n, directions, size] if layout else [directions, n, size]))
    if peephole:
        constants["P"], names[7] = weights(directions, 3 * size), "P"
    while not names[-1]:
        names.pop()
    outputs = ["y", "last"] + (["cell"] if op == "LSTM" else [])
    more = {"layout": layout} if layout else {}
    node = helper.make_node(op, names, outputs, "cells", hidden_size=size, direction=direction, **more, **attributes)
    return model([node], inputs, [(o, None) for o in outputs], constants, 14).SerializeToString()


def refusal(data, **options):
    with pytest.raises(UnsupportedModelError) as caught:
        parse_onnx(data, **options)
    return str(caught.value)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [None, "constant", "input"])
def test_directions_and_states(op, direction, states):
    compare(recurrent(op, direction=direction, states=states))


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("states", [None, "constant", "input"])
def test_several_frames_at_once(op, states):
    compare(recurrent(op, batch=3, direction="bidirectional", states=states), batch=3)
    compare(recurrent(op, open_batch=True, states=states if states != "constant" else None), batch=2)


@pytest.mark.parametrize("states", [None, "constant", "input"])
@pytest.mark.parametrize("before", [0, 1])
def test_the_reset_gate_before_and_after_the_product(before, states):
    compare(recurrent("GRU", linear_before_reset=before, states=states))
    compare(recurrent("GRU", linear_before_reset=before, states=states, bias=False, clip=0.2))


@pytest.mark.parametrize("states", [None, "constant", "input"])
def test_peepholes(states):
    compare(recurrent("LSTM", peephole=True, states=states, direction="bidirectional"))
    compare(recurrent("LSTM", peephole=True, states=states, clip=0.3, input_forget=1))


@pytest.mark.parametrize("op", OPERATORS)
def test_clip(op):
    compare(recurrent(op, clip=0.25, bias=False))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("Relu", {}), ("Sigmoid", {}), ("Softsign", {}), ("Softplus", {}), ("LeakyRelu", {}),
        ("Elu", {"activation_alpha": [0.7]}), ("HardSigmoid", {}), ("LeakyRelu", {"activation_alpha": [0.2]}),
        ("HardSigmoid", {"activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("Affine", {"activation_alpha": [0.9], "activation_beta": [0.1]}),
        ("ScaledTanh", {"activation_alpha": [0.9], "activation_beta": [0.7]}),
        ("ThresholdedRelu", {"activation_alpha": [0.1]}),
    ],
)  # fmt: skip
def test_activations(name, numbers):
    compare(recurrent("RNN", activations=[name], **numbers))


def test_numbers_go_to_the_activations_that_have_them():
    compare(
        recurrent(
            "LSTM", activations=["HardSigmoid", "ScaledTanh", "Affine"], activation_alpha=[0.3, 0.7, 0.9],
            activation_beta=[0.4, 1.2, 0.1],
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Affine", "ScaledTanh", "ThresholdedRelu"])
def test_activations_whose_numbers_nobody_states_are_refused(name):
    assert "activation_alpha" in refusal(recurrent("RNN", activations=[name]))


@pytest.mark.parametrize("seed", range(12))
def test_at_random(seed):
    rng = np.random.default_rng(seed)
    op = OPERATORS[seed % 3]
    options = {
        "steps": int(rng.integers(1, 7)), "features": int(rng.integers(1, 6)), "size": int(rng.integers(1, 8)),
        "direction": ["forward", "reverse", "bidirectional"][int(rng.integers(3))],
        "states": [None, "constant", "input"][int(rng.integers(3))], "bias": bool(rng.integers(2)),
    }  # fmt: skip
    if op == "LSTM":
        options |= {"peephole": bool(rng.integers(2)), "input_forget": int(rng.integers(2))}
    if op == "GRU":
        options["linear_before_reset"] = int(rng.integers(2))
    batch = int(rng.integers(1, 4))
    compare(recurrent(op, batch=batch, seed=seed, **options), batch=batch, seed=seed)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("states", [None, "constant", "input"])
def test_batch_first(op, states):
    """Layout 1, which onnxruntime does not compute: layout 0 of the transposed tensors."""
    options = {"direction": "bidirectional", "states": states}
    network = parse_onnx(recurrent(op, layout=1, **options)).network
    plain = session(recurrent(op, **options))
    rng = np.random.default_rng(1)
    feeds = {i.name: rng.uniform(-1, 1, i.shape).astype(np.float32) for i in plain.get_inputs()}
    swapped = {name: array.transpose(1, 0, 2) for name, array in feeds.items()}
    names = [o.name for o in plain.get_outputs()]
    wanted = dict(zip(names, plain.run(None, feeds), strict=True))
    for name, found in run_network(network, swapped).items():
        order = (2, 0, 1, 3) if name == "y" else (1, 0, 2)
        np.testing.assert_allclose(found, wanted[name].transpose(order), atol=1e-5)


def test_two_layers_as_torch_exports_them():
    """Transpose and reshape between them, the states parts of one input, results of the last step picked."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    constants = {
        "W0": weights(2, 16, 3), "R0": weights(2, 16, 4), "W1": weights(2, 16, 8), "R1": weights(2, 16, 4),
        "s0": np.int64([0]), "s2": np.int64([2]), "s4": np.int64([4]), "flat": np.int64([0, 0, -1]),
        "zero": np.int64(0), "last": np.int64(-1), "w": weights(8, 6),
    }  # fmt: skip
    make = helper.make_node
    nodes = [
        make("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        make("Slice", ["h", "s0", "s2", "s0"], ["h0"]), make("Slice", ["h", "s2", "s4", "s0"], ["h1"]),
        make("Slice", ["c", "s0", "s2", "s0"], ["c0"]), make("Slice", ["c", "s2", "s4", "s0"], ["c1"]),
        make("LSTM", ["xt", "W0", "R0", "", "", "h0", "c0"], ["y0"], hidden_size=4, direction="bidirectional"),
        make("Transpose", ["y0"], ["t0"], perm=[0, 2, 1, 3]), make("Reshape", ["t0", "flat"], ["f0"]),
        make("LSTM", ["f0", "W1", "R1", "", "", "h1", "c1"], ["y1", "hn"], hidden_size=4, direction="bidirectional"),
        make("Transpose", ["y1"], ["t1"], perm=[0, 2, 1, 3]), make("Reshape", ["t1", "flat"], ["f1"]),
        make("Transpose", ["f1"], ["b1"], perm=[1, 0, 2]),
        make("Gather", ["b1", "last"], ["end"], axis=1), make("MatMul", ["end", "w"], ["y"]),
    ]  # fmt: skip
    inputs = [("x", [1, 5, 3]), ("h", [4, 1, 4]), ("c", [4, 1, 4])]
    data = model(nodes, inputs, [("y", None), ("hn", None)], constants, 14).SerializeToString()
    compare(data)


def of_columns(op, batch, states=None, direction="bidirectional"):
    """Every column of a picture is a sequence: the columns stand beside the batch, as Sequencer has them."""
    rng = np.random.default_rng(2)
    high, wide, channels, size, gates = 4, 3, 5, 6, GATES[op]
    directions = 1 + (direction == "bidirectional")
    constants = {
        "W": rng.uniform(-0.6, 0.6, (directions, gates * size, channels)).astype(np.float32),
        "R": rng.uniform(-0.6, 0.6, (directions, gates * size, size)).astype(np.float32),
        "k": rng.uniform(-0.6, 0.6, (channels, 3, 1, 1)).astype(np.float32),
        "sequences": np.int64([-1, high, channels]), "picture": np.int64([-1, wide, high, directions * size]),
        "ends": np.int64([-1, wide, directions * size]), "rows": np.int64([-1, high, directions * size]),
    }  # fmt: skip
    make, names = helper.make_node, ["sequence", "W", "R"]
    if states:
        state = rng.uniform(-1, 1, (directions, 1, size)).astype(np.float32)
        constants["s"] = state.repeat(wide * batch, 1)
        names += ["", "", "s", *(["s"] if op == "LSTM" else [])]
    nodes = [
        make("Conv", ["x", "k"], ["c"]), make("Transpose", ["c"], ["columns"], perm=[0, 3, 2, 1]),
        make("Reshape", ["columns", "sequences"], ["flat"]), make("Transpose", ["flat"], ["sequence"], perm=[1, 0, 2]),
        make(op, names, ["made", "last"], hidden_size=size, direction=direction),
        make("Transpose", ["made"], ["first"], perm=[2, 0, 1, 3]), make("Reshape", ["first", "rows"], ["joined"]),
        make("Reshape", ["joined", "picture"], ["again"]), make("Transpose", ["again"], ["y"], perm=[0, 2, 1, 3]),
        make("Transpose", ["last"], ["turned"], perm=[1, 0, 2]), make("Reshape", ["turned", "ends"], ["end"]),
    ]  # fmt: skip
    inputs = [("x", [batch if batch > 0 else "N", 3, high, wide])]
    return model(nodes, inputs, [("y", None), ("end", None)], constants, 14).SerializeToString()


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("batch", [1, 3, -1])
def test_columns_of_a_picture_are_sequences_beside_one_another(op, direction, batch):
    data = of_columns(op, batch, direction=direction)
    compare(data, batch=max(batch, 1) if batch > 0 else 2)
    steps = kinds(parse_onnx(data)).count("slice")
    assert steps and steps == kinds(parse_onnx(recurrent(op, direction=direction))).count("slice"), (
        "a step for all rows"
    )


@pytest.mark.parametrize("op", OPERATORS)
def test_columns_with_states_at_their_beginning(op):
    compare(of_columns(op, 1, states="constant"))


def test_columns_cross_from_the_device_to_the_file():
    """The whole model of two frames, each of which the file computes alone, and of an open batch."""
    x = np.random.default_rng(5).uniform(-1, 1, (2, 3, 4, 3)).astype(np.float32)
    for batch in (1, -1):
        data = of_columns("LSTM", batch)
        result = parse(data)
        got = WholeRun(result.whole, Executor(result.network, "native").run, "net").run({"x": x})
        frames = [session(data).run(None, {"x": frame[None]}) for frame in x]
        for name, wanted in zip(("y", "end"), zip(*frames, strict=True), strict=True):
            np.testing.assert_allclose(got[name], np.concatenate(wanted), atol=1e-5)


def test_a_sequence_without_a_batch():
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["b"]),
        helper.make_node("GRU", ["b", "W", "R"], ["y", "h"], hidden_size=4),
        helper.make_node("Squeeze", ["h", "ends"], ["z"]),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "W": rng.uniform(-1, 1, (1, 12, 3)).astype(np.float32), "R": rng.uniform(-1, 1, (1, 12, 4)).astype(np.float32),
        "one": np.int64([1]), "ends": np.int64([0]),
    }  # fmt: skip
    data = model(nodes, [("x", [5, 3])], [("z", None)], constants, 14).SerializeToString()
    network = parse_onnx(data).network
    x = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    (wanted,) = session(data).run(None, {"x": x})
    np.testing.assert_allclose(run_network(network, {"x": x})["z"].reshape(wanted.shape), wanted, atol=1e-5)


def test_a_step_of_an_lstm_has_one_product_for_the_gates_of_one_function():
    found = kinds(parse_onnx(recurrent("LSTM", steps=6)))
    assert found.count("conv") == 1 + 5 * 2  # all inputs at once; from the second step on the state
    assert len(found) < 6 * 14


def test_data_in_every_order_that_means_one_thing():
    """Frames of a sequence that has its batch in the middle: as the file has them, first, or stacked."""
    (spec,) = specs_of(parse_onnx(recurrent("LSTM", steps=4, features=3)).network)
    frames = np.random.default_rng(0).normal(size=(7, 4, 3)).astype(np.float32)
    wanted = frames.reshape(7, 1, 4, 3)
    for given in (frames, frames.transpose(1, 0, 2), frames[:, :, None], wanted):
        np.testing.assert_array_equal(arranged(spec, given), wanted)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_sequence_lengths():
    compare(recurrent("LSTM", lengths=[4]))
    assert "sequence_lens [3]" in refusal(recurrent("LSTM", lengths=[3]))


def test_states_that_differ_from_frame_to_frame():
    data = onnx.ModelProto.FromString(recurrent("RNN", batch=2, states="constant"))
    (tensor,) = [t for t in data.graph.initializer if t.name == "h0"]
    array = onnx.numpy_helper.to_array(tensor) * np.float32([[[1], [2]]])
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, "h0"))
    assert "differs from frame to frame" in refusal(data.SerializeToString())


def test_a_sequence_that_is_too_long_ends_in_a_reason_at_once():
    text = refusal(recurrent("LSTM", steps=2000))
    assert "2000 steps" in text
    assert "layers" in text


def test_many_sequences_that_are_too_long_together_end_in_a_reason(monkeypatch):
    """Each is as long as it may be; together they would be a network that nobody waits for."""
    monkeypatch.setattr(fold, "MAX_REPEATED_LAYERS", 4 * 40 * 8)
    rng = np.random.default_rng(0)
    constants = {"W": rng.normal(size=(1, 4, 4)).astype(np.float32), "R": rng.normal(size=(1, 4, 4)).astype(np.float32)}
    nodes, last = [], "x"
    for i in range(9):
        nodes.append(helper.make_node("RNN", [last, "W", "R"], [f"m{i}"], f"r{i}", hidden_size=4))
        nodes.append(helper.make_node("Squeeze", [f"m{i}", "one"], [f"s{i}"]))
        last = f"s{i}"
    constants["one"] = np.int64([1])
    data = model(nodes, [("x", [40, 1, 4])], [(last, None)], constants, 14).SerializeToString()
    assert "for all such operators of the file" in refusal(data)
    monkeypatch.setattr(fold, "MAX_REPEATED_LAYERS", 4 * 40 * 9)
    compare(data)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"direction": "sideways"}, "sideways"), ({"activations": ["Tanh"]}, "activations"), ({"clip": -1.0}, "clip"),
        ({"activations": ["Sigmoid", "Tanh", "Softmax"]}, "Softmax"), ({"layout": 2}, "layout"),
    ],
)  # fmt: skip
def test_attributes_that_mean_nothing(change, word):
    data = onnx.ModelProto.FromString(recurrent("LSTM"))
    (node,) = data.graph.node
    for name, value in change.items():
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])
    assert word in refusal(data.SerializeToString())


@pytest.mark.parametrize("name", ["W", "R", "B", "P", "h0"])
@pytest.mark.parametrize("shape", [(), (1, 1), (1, 7, 3), (0, 20, 5), (1, 20, 5, 1)])
def test_weights_of_another_shape(name, shape):
    data = onnx.ModelProto.FromString(recurrent("LSTM", peephole=True, states="constant"))
    (tensor,) = [t for t in data.graph.initializer if t.name == name]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    with pytest.raises(UnsupportedNodesError) as caught:
        parse_onnx(data.SerializeToString())
    assert caught.value.code == "E-ONNX-UNSUPPORTED"
