# SPDX-License-Identifier: Apache-2.0
"""Files that are damaged, absurd or malicious end in coded errors, quickly and in little memory."""

from __future__ import annotations

import os
import resource

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
from onnx import TensorProto, helper  # noqa: E402

from frontend_oracle import model  # noqa: E402
from headrace.errors import HeadraceError, InputFileError, UnsupportedModelError, UsageError  # noqa: E402
from parsing import parse_onnx  # noqa: E402


def error_of(data, cls=HeadraceError, **options):
    with pytest.raises(cls) as caught:
        parse_onnx(data.SerializeToString() if hasattr(data, "SerializeToString") else data, **options)
    assert all(d.code and d.rule for d in caught.value.diagnostics)
    return caught.value


def relu(**kwargs):
    return model([helper.make_node("Relu", ["x"], ["y"])], [("x", [1, 3, 4, 4])], [("y", None)], **kwargs)


def conv(weight, shape=(1, 3, 4, 4), **attributes):
    return model(
        [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], [("x", list(shape))], [("y", None)], {"w": weight}
    )


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 64, b"hello", b"version https://git-lfs.github.com/spec/v1\n", b"\x08\x08", b"\xff" * 200]
)
def test_not_a_model(data):
    assert error_of(data, InputFileError).code == "E-ONNX-CORRUPT"


def test_missing_file_and_folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(relu().SerializeToString())
    assert "did you mean" in str(error_of(tmp_path / "modle.onnx", InputFileError))
    error_of(tmp_path, InputFileError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value):
    weight = np.ones((4, 3, 1, 1), np.float32)
    weight[2, 1] = value
    assert "'w'" in str(error_of(conv(weight), UnsupportedModelError))


def test_double_weights_beyond_float32():
    error_of(conv(np.full((4, 3, 1, 1), 1e300)), UnsupportedModelError)


def test_negative_variance_and_folding_out_of_range():
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "k"], ["y"])]
    constants = {"w": np.full((2, 3, 1, 1), 1e30, np.float32), "k": np.float32(1e30)}
    assert error_of(model(nodes, [("x", [1, 3, 4, 4])], [("y", None)], constants)).code == "E-PARSE-RANGE"
    bn = [helper.make_node("BatchNormalization", ["x", "a", "a", "a", "v"], ["y"])]
    constants = {"a": np.ones(3, np.float32), "v": -np.ones(3, np.float32)}
    assert "variance" in str(error_of(model(bn, [("x", [1, 3, 4, 4])], [("y", None)], constants)))


def test_cycle_dangling_duplicate_are_listed_together():
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["nowhere"], ["z"]),
        helper.make_node("Relu", ["x"], ["z"]),
    ]
    text = str(error_of(model(nodes, [("x", [1, 3])], [("b", None), ("ghost", None)]), InputFileError))
    for word in ("cycle", "nowhere", "one name", "ghost"):
        assert word in text


def test_self_loop():
    assert "cycle" in str(
        error_of(model([helper.make_node("Relu", ["y"], ["y"])], [("x", [1, 3])], [("y", None)]), InputFileError)
    )


@pytest.mark.parametrize("dims", [[2**31, 2**31], [-1, 4], [2**40], [1] * 20, [2**62, 2**62, 2**62]])
def test_absurd_initializer_dims(dims):
    built = conv(np.ones((4, 3, 1, 1), np.float32))
    del built.graph.initializer[0].dims[:]
    built.graph.initializer[0].dims.extend(dims)
    error_of(built, InputFileError)


@pytest.mark.parametrize("shape", [[2**40], [2**20, 2**20], [-5], [2**62, 2**62], [1] * 65])
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile", "Range"])
def test_huge_constants_are_refused_without_allocating(op, shape):
    one = np.float32(1)
    constants = {"s": np.array(shape, np.int64), "one": one, "k": np.ones([1] * min(len(shape), 16), np.float32)}
    inputs = {"ConstantOfShape": ["s"], "Expand": ["one", "s"], "Tile": ["k", "s"], "Range": ["zero", "limit", "one"]}[
        op
    ]
    constants |= {"zero": np.float32(0), "limit": np.float32(1e30)}
    nodes = [helper.make_node(op, inputs, ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error_of(model(nodes, [("x", [1, 3, 4, 4])], [("y", None)], constants), UnsupportedModelError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_many_growing_constants_share_one_budget():
    nodes = [helper.make_node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(64)]
    nodes += [helper.make_node("Add", ["x" if i == 0 else f"a{i - 1}", f"c{i}"], [f"a{i}"]) for i in range(64)]
    built = model(nodes, [("x", [1, 3, 4, 4])], [("a63", None)], {"s": np.array([1 << 24], np.int64)})
    error_of(built, UnsupportedModelError)


def test_doubling_concat_is_stopped():
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)]
    nodes.append(helper.make_node("Add", ["x", "c60"], ["y"]))
    error_of(model(nodes, [("x", [1, 3, 4, 4])], [("y", None)], {"c0": np.ones(16, np.float32)}), UnsupportedModelError)


def test_huge_activations_are_refused():
    error_of(model([helper.make_node("Relu", ["x"], ["y"])], [("x", [1, 2**20, 2**20])], [("y", None)]), UsageError)
    error_of(conv(np.ones((1, 3, 1, 1), np.float32), pads=[2**19] * 4), UnsupportedModelError)
    error_of(conv(np.ones((1, 3, 1, 1), np.float32), pads=[2**40] * 4), UnsupportedModelError)
    pads = np.array([0, 0, 2**40, 0, 0, 0, 0, 0], np.int64)
    error_of(
        model([helper.make_node("Pad", ["x", "p"], ["y"])], [("x", [1, 3, 4, 4])], [("y", None)], {"p": pads}),
        UnsupportedModelError,
    )
    constant = model(
        [helper.make_node("Add", ["x", "k"], ["y"])], [("x", [1, 2**27, 1, 1])], [("y", None)], {"k": np.float32(1)}
    )
    error_of(constant, UnsupportedModelError)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [0, 1]},
        {"strides": [2**40, 1]},
        {"strides": [1]},
        {"dilations": [-1, 1]},
        {"pads": [-1, 0, 0, 0]},
        {"pads": [1]},
        {"group": 0},
        {"group": -3},
        {"group": 2},
        {"auto_pad": "SIDEWAYS"},
        {"kernel_shape": [9, 9]},
        {"strides": "12"},
        {"group": 1.5},
        {"dilations": [9, 9]},
        {"strides": [1.0, 2.0]},
    ],
    ids=str,
)
def test_absurd_attributes(attributes):
    error_of(conv(np.ones((4, 3, 2, 2), np.float32), **attributes), UnsupportedModelError)


def test_empty_and_misshapen_operands():
    error_of(conv(np.ones((0, 3, 1, 1), np.float32)), UnsupportedModelError)
    error_of(conv(np.ones((4, 3), np.float32)), UnsupportedModelError)
    error_of(conv(np.ones((4, 3, 1, 1), np.complex64)), UnsupportedModelError)
    for op, names in (
        ("Conv", ["x"]),
        ("Add", ["x"]),
        ("Clip", []),
        ("Gemm", ["x"]),
        ("Concat", []),
        ("Reshape", ["x"]),
        ("Slice", ["x"]),
    ):
        error_of(model([helper.make_node(op, names, ["y"])], [("x", [1, 3, 4, 4])], [("y", None)]), HeadraceError)


def test_no_opset_and_no_graph():
    built = relu()
    del built.opset_import[:]
    error_of(built, InputFileError)
    built = relu()
    built.ClearField("graph")
    error_of(built, InputFileError)


def test_external_data(tmp_path):
    weight = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)
    outside = tmp_path / "secret.bin"
    outside.write_bytes(weight.tobytes())
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "w.bin").write_bytes(weight.tobytes())
    (folder / "short.bin").write_bytes(weight.tobytes()[:-1])
    (folder / "link.bin").symlink_to(outside)
    (folder / "circle.bin").symlink_to(folder / "circle.bin")
    (folder / "empty.bin").write_bytes(b"")
    os.mkfifo(folder / "pipe.bin")

    def write(location, **entries):
        built = conv(weight)
        tensor = built.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))
        (folder / "m.onnx").write_bytes(built.SerializeToString())
        return folder / "m.onnx"

    result = parse_onnx(write("w.bin", offset=0, length=48))
    assert result.network["m/conv1"].params["kernel"].reshape(3, 4).T.reshape(-1).tolist() == list(range(12))
    bad = [
        ("../secret.bin", {}),
        (str(outside), {}),
        ("link.bin", {}),
        ("circle.bin", {}),
        ("pipe.bin", {}),
        ("empty.bin", {}),
        (".", {}),
        ("none.bin", {}),
        ("short.bin", {}),
        ("w.bin", {"offset": 4}),
        ("w.bin", {"offset": -4}),
        ("w.bin", {"length": 10**18}),
        ("w.bin", {"offset": "x"}),
        ("w.bin", {"offset": "9" * 5000}),
        ("", {}),
        ("a\0b", {}),
    ]
    for location, entries in bad:
        error_of(write(location, **entries), InputFileError)
    error_of(write("w.bin").read_bytes(), InputFileError)


def test_things_that_are_not_tensors():
    built = relu()
    built.graph.input[0].type.Clear()
    built.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    error_of(built, UnsupportedModelError)
    built = relu()
    built.graph.input[0].type.tensor_type.elem_type = TensorProto.COMPLEX64
    assert "complex64" in str(error_of(built, UnsupportedModelError))
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["q"])], "b", [], [helper.make_tensor_value_info("q", 1, None)]
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body),
    ]
    built = model(nodes, [("x", [1, 3])], [("y", None)], {"zero": np.float32(0)})
    assert "control flow" in str(error_of(built, UnsupportedModelError))
    built = conv(np.ones((4, 3, 1, 1), np.float32))
    sparse = built.graph.sparse_initializer.add()
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), "sp"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "si"))
    sparse.dims.extend([4, 3, 1, 1])
    built.graph.node[0].input[1] = "sp"
    assert "sparse" in str(error_of(built, UnsupportedModelError))


def test_an_output_that_is_a_constant_or_an_input():
    nodes = [helper.make_node("Add", ["k", "k"], ["y"])]
    error_of(model(nodes, [("x", [1, 3])], [("y", None)], {"k": np.ones(3, np.float32)}), UnsupportedModelError)
    result = parse_onnx(model([], [("x", [1, 3])], [("x", [1, 3])]).SerializeToString())
    assert [layer.kind for layer in result.network] == ["input_layer", "output_layer"]


def with_attribute(built, **attributes):
    built.graph.node[0].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return built


def test_an_attribute_that_refers_to_a_function_outside_of_one():
    built = conv(np.ones((4, 3, 2, 2), np.float32), strides=[2, 2])
    built.graph.node[0].attribute[0].ref_attr_name = "steps"
    built.graph.node[0].name = "body"
    error = error_of(built, InputFileError)
    assert "'body'" in error.diagnostics[0].where
    assert "'strides'" in error.diagnostics[0].where


def test_attributes_that_the_operator_does_not_have_or_has_with_another_type():
    weight = np.ones((4, 3, 2, 2), np.float32)
    text = str(error_of(with_attribute(conv(weight), stride=[2, 2]), UnsupportedModelError))
    assert "'stride'" in text
    assert "did you mean 'strides'" in text
    assert "is FLOATS" in str(error_of(with_attribute(conv(weight), strides=[2.0, 2.0]), UnsupportedModelError))
    twice = with_attribute(with_attribute(conv(weight), strides=[2, 2]), strides=[1, 1])
    assert "given twice" in str(error_of(twice, InputFileError))


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "word"),
    [
        ("Sigmoid", [], ["y"], "0 inputs"),
        ("Relu", ["x", "x"], ["y"], "2 inputs"),
        ("Relu", ["x"], ["y", "z"], "2 outputs"),
        ("Concat", ["x"], ["y"], "'axis' is missing"),
        ("Clip", ["x", "x", "x", "x"], ["y"], "4 inputs"),
    ],
)
def test_numbers_of_operands_are_those_of_the_standard(op, inputs, outputs, word):
    text = str(error_of(model([helper.make_node(op, inputs, outputs)], [("x", [1, 3, 4, 4])], [("y", None)])))
    assert word in text


def test_every_attribute_that_an_operator_may_have_is_read_or_refused():
    """Each attribute of each operator with a handler, set to another value: another network, or an error."""
    from headrace.frontends.to_hn import HANDLERS

    changed = 0
    for op in sorted(HANDLERS):
        try:
            schema = onnx.defs.get_schema(op, 20, "")
        except onnx.defs.SchemaError:
            continue
        for name, attribute in sorted(schema.attributes.items()):
            kind = onnx.AttributeProto
            value = {kind.INT: 7, kind.FLOAT: 0.3125, kind.STRING: "other", kind.INTS: [3, 3], kind.FLOATS: [0.5]}
            if int(attribute.type.value) not in value:
                continue
            inputs = ["x", *["k"] * (schema.min_input - 1)]
            constants = {"k": np.ones(4 if "Normalization" in op else (4, 4, 2, 2), np.float32)}
            x = [("x", [1, 4, 8, 8])]
            stated = {name: value[int(attribute.type.value)]}
            plain, built = (
                model([helper.make_node(op, inputs, ["y"], **given)], x, [("y", None)], constants, 20)
                for given in ({}, stated)
            )
            before, after = (outcome(m) for m in (plain, built))
            if before is not None and before == after and name != "keepdims":  # 7 keeps them as 1 does
                assert (op, name) in NEUTRAL, f"{op}: {name} has no effect"
            changed += before != after
    assert changed > 20


#: Attributes that mean nothing where nothing else in the node calls on them.
NEUTRAL = {
    ("Cast", "saturate"), ("CastLike", "saturate"), ("Dropout", "seed"),
    ("LayerNormalization", "stash_type"), ("Resize", "cubic_coeff_a"),
    ("Resize", "exclude_outside"), ("Resize", "extrapolation_value"), ("Concat", "axis"), ("Gemm", "beta"),
    ("Reshape", "allowzero"), ("BatchNormalization", "momentum"), ("GroupNormalization", "stash_type"),
    ("ReduceMax", "noop_with_empty_axes"), ("IsInf", "detect_negative"), ("IsInf", "detect_positive"),
    ("Shape", "end"), ("Trilu", "upper"),
}  # fmt: skip


def outcome(built):
    """Layers and parameters of the network, or None where it is refused."""
    try:
        network = parse_onnx(built.SerializeToString()).network
    except HeadraceError as error:
        assert error.code != "E-INTERNAL", error
        return None
    layers = [(x.kind, x.inputs, x.attributes, x.output_shape) for x in network]
    return repr(layers), [a.tobytes() for a in network.params.values()]


def test_a_fault_of_ours_is_named_as_one(monkeypatch):
    from headrace.errors import InternalError
    from headrace.frontends.to_hn import HANDLERS

    def faulty(builder, node):
        return [].pop()

    monkeypatch.setitem(HANDLERS, "Relu", faulty)
    error = error_of(relu(), InternalError)
    assert error.code == "E-INTERNAL"
    assert "'y' (Relu)" in error.diagnostics[0].where


def test_repeats_beyond_all_memory():
    repeats = np.array([1, 1, 72198331526283265, 1], np.int64)
    built = model([helper.make_node("Tile", ["x", "r"], ["y"])], [("x", [1, 3, 4, 4])], [("y", None)], {"r": repeats})
    assert "copies" in str(error_of(built, UnsupportedModelError))


def test_a_list_that_doubles_beside_a_function_does_not_hang():
    """onnx's data propagation has no limit; the types that a definition asks for are inferred without it."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)]
    nodes += [helper.make_node("Attention", ["x", "x", "x"], ["a"]), helper.make_node("Reshape", ["a", "c60"], ["y"])]
    built = model(nodes, [("x", [1, 2, 4, 4])], [("y", None)], {"c0": np.ones(2, np.int64)}, 23, ir_version=11)
    error_of(built, UnsupportedModelError)
    error_of(built, HeadraceError, start_node_names=["a"])


def test_an_operand_without_a_name_does_not_end_the_process():
    """onnx's inference of RegexFullMatch reads its operand without looking whether there is one."""
    nodes = [helper.make_node("RegexFullMatch", [""], ["m"], pattern="a"), helper.make_node("Relu", ["x"], ["y"])]
    nodes.append(helper.make_node("Where", ["m", "x", "y"], ["z"]))
    built = model(nodes, [("x", [1, 3, 4, 4])], [("z", None)], opset=20)
    error_of(built, UnsupportedModelError)


INTEGERS = [0, 1, -1, 2, 3, -2, 8, 64, 1 << 20, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63)]


def mutated(built, rng):
    """A copy with one to three things changed: operators, attributes, operands, constants, shapes, operator set."""
    from headrace.frontends.fold import EVALUATORS
    from headrace.frontends.fold_reference import KNOWN
    from headrace.frontends.to_hn import HANDLERS

    copy = onnx.ModelProto.FromString(built.SerializeToString())
    graph, operators = copy.graph, sorted({*HANDLERS, *KNOWN, *EVALUATORS})

    def one(things):
        return things[int(rng.integers(len(things)))]

    for _ in range(int(rng.integers(1, 4))):
        node, kind = one(graph.node), int(rng.integers(9))
        values = [*(i.name for i in graph.initializer), *(o for n in graph.node for o in n.output), "x", ""]
        if kind == 0:
            node.op_type = one(operators)
        elif kind == 1 and node.attribute:
            attribute = one(node.attribute)
            if attribute.ints:
                attribute.ints[0] = one(INTEGERS)
            attribute.i, attribute.f = one(INTEGERS), one([0.0, -1.0, float("nan"), 1e38])
        elif kind == 2 and node.input:
            node.input[int(rng.integers(len(node.input)))] = one(values)
        elif kind == 3:
            node.input.append(one(values))
        elif kind == 4 and graph.initializer:
            tensor = one(graph.initializer)
            array = np.array(onnx.numpy_helper.to_array(tensor))
            if array.dtype.kind == "i" and array.size:
                array.reshape(-1)[0] = one(INTEGERS) % (1 << 62)
            shapes = [array, array.reshape(-1), array[..., None], array.reshape(-1)[:0], array.astype(np.float32)]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(one(shapes)), tensor.name))
        elif kind == 5 and graph.input[0].type.tensor_type.shape.dim:
            one(graph.input[0].type.tensor_type.shape.dim).dim_value = one([0, 1, 2, 5, 8, 1 << 20])
        elif kind == 6 and node.input:
            del node.input[-1]
        elif kind == 7:
            copy.opset_import[0].version = one([7, 9, 11, 13, 18, 21, 23])
        else:
            name, value = one(["axis", "axes", "keepdims", "group", "mode", "perm", "alpha"]), one([1, [0], "x", 1.5])
            if all(a.name != name for a in node.attribute):
                node.attribute.append(helper.make_attribute(name, value))
    return copy


@pytest.mark.parametrize("seed", range(3))
def test_files_that_were_changed_at_random_end_in_errors_of_the_file(seed):
    """Never an internal error: whatever a file asks for, the answer is about the file."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "v": rng.normal(size=(64, 5)).astype(np.float32),
        "s": np.array([8, 64], np.int64), "k": np.ones((1, 4, 1, 1), np.float32), "q": np.arange(4, dtype=np.uint8),
        "z": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Mul", ["a", "k"], ["b"]),
        helper.make_node("DequantizeLinear", ["q", "z"], ["d"], axis=0),
        helper.make_node("Reshape", ["b", "s"], ["c"]), helper.make_node("Gemm", ["c", "v"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"], axis=1),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["t", "d"], ["u"]),
    ]  # fmt: skip
    built = model(nodes, [("x", [8, 3, 4, 4])], [("y", None), ("u", None)], weights, 18)
    parsed = 0
    for _ in range(60):
        parsed += outcome(mutated(built, rng)) is not None
    assert parsed
