# SPDX-License-Identifier: Apache-2.0
"""Keras files into networks, judged by what Keras itself computed; and what is refused, with its reason."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

pytest.importorskip("onnx_ir")

from frontend_oracle import run_network
from headrace.errors import InputFileError, UnsupportedModelError
from headrace.frontends import ParseOptions, parse
from headrace.frontends.formats.keras.weights import snake_case
from headrace.runner import ClientRunner, InferenceContext
from keras_samples import sample, sample_arrays, sample_files

#: Samples parts of which the host may run.
WITH_HOST = ("embedding",)


@pytest.mark.parametrize("file", sample_files())
def test_native_results_are_those_of_keras(file):
    inputs, outputs = sample_arrays(file)
    if file.startswith(WITH_HOST):
        runner = ClientRunner()
        runner.translate_tf_model(sample(file), "net")
        names = [tensor.name for tensor in runner.archive.whole.inputs]
        feeds = dict(zip(names, inputs, strict=True))
        made = runner.infer(InferenceContext.SDK_NATIVE, feeds, whole=True)
        got = made if isinstance(made, list) else [made]
    else:
        network = parse(sample(file), ParseOptions(device_only=True)).network
        names = [layer.attributes["source_name"] for layer in network.input_layers]
        got = list(run_network(network, dict(zip(names, inputs, strict=True))).values())
    assert len(got) == len(outputs)
    for mine, keras in zip(got, outputs, strict=True):
        assert np.abs(mine.reshape(keras.shape) - keras).max() <= 1e-5 * np.ptp(keras) + 2e-7 * np.abs(keras).max()


def test_both_containers_give_one_network():
    for name in ("conv2d", "nested", "operations", "bidirectional"):
        a, b = (parse(sample(f"{name}.{kind}"), ParseOptions(net_name="net")).network for kind in ("keras", "h5"))
        assert [(x.name, x.operation, x.inputs) for x in a] == [(x.name, x.operation, x.inputs) for x in b]
        assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params) and a.params.keys() == b.params.keys()


def test_layers_keep_their_names():
    report = parse(sample("several.keras")).report
    assert {"conv", "both", "mean", "most"} <= set(report.nodes)
    assert [s.source_name for s in report.inputs] == ["left", "right"]
    nested = parse(sample("nested.keras")).report
    assert "middle/inner/conv" in nested.nodes and "middle#2/inner/conv" in nested.nodes
    assert report.source.facts["keras_version"].startswith("3.")


def test_the_runner_takes_keras_files_and_cuts_by_layer_name(tmp_path):
    path = tmp_path / "several.h5"
    path.write_bytes(sample("several.h5"))
    runner = ClientRunner()
    runner.translate_tf_model(path, "net", end_node_names=["conv"])
    assert [layer.boundary.source_name for layer in runner.archive.native.output_layers] == ["conv"]


def test_snake_case_is_that_of_keras():
    names = {"Conv2D": "conv2d", "PReLU": "p_re_lu", "LSTM": "lstm", "ELU": "elu",
             "GlobalMaxPooling2D": "global_max_pooling2d", "Conv2DTranspose": "conv2d_transpose"}  # fmt: skip
    assert {name: snake_case(name) for name in names} == names


# --- files that are changed -------------------------------------------------------------------------------------------


def changed(file, edit):
    """A .keras sample with its configuration edited."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sample(file))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                edit(config)
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return out.getvalue()


def layer_of(config, name):
    return next(x for x in config["config"]["layers"] if x.get("name", x["config"].get("name")) == name)


def problem(data, kind=UnsupportedModelError):
    with pytest.raises(kind) as caught:
        parse(data)
    return caught.value.diagnostics


def test_code_in_a_file_is_never_run():
    def edit(config):
        layer = layer_of(config, "conv")
        layer["class_name"], layer["config"] = "Lambda", {"name": "conv", "function": ["4wEA", None, None]}

    found = problem(changed("several.keras", edit))
    assert len(found) == 1 and found[0].place.endswith("node 'conv'") if hasattr(found[0], "place") else found
    assert "Python code" in str(found[0]) and "keras.ops" in str(found[0])


def test_custom_layers_are_named_and_nothing_behind_them_complains():
    def edit(config):
        layer_of(config, "conv").update(class_name="Magic", module="my.own.layers", registered_name="Mine>Magic")

    found = problem(changed("several.keras", edit))
    refused = [one for one in found if one.code == "E-KERAS-UNSUPPORTED"]
    assert len(refused) == 1 and "Magic" in str(refused[0]) and "my.own.layers" in str(refused[0])


def test_an_option_that_nothing_acts_on_is_refused():
    def edit(config):
        layer_of(config, "conv")["config"]["curvature"] = 3

    assert "curvature" in str(problem(changed("several.keras", edit))[0])


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("strides", "two", "strides"), ("strides", [1], "strides"), ("filters", 5, "kernel"),
        ("filters", -1, "filters"), ("kernel_size", [10**9, 3], "kernel"),
        ("padding", "sideways", "sideways"), ("groups", 0, "groups"),
        ("data_format", 7, "data_format"), ("activation", "tan", "tan"), ("activation", {"a": 1}, "activation"),
        ("use_bias", "maybe", "use_bias"), ("dilation_rate", [1, 1, 1], "dilation_rate"), ("dtype", "int8", "int8"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_with_the_layer(option, value, said):
    def edit(config):
        layer_of(config, "conv")["config"][option] = value

    found = problem(changed("several.keras", edit))
    assert any(said in str(p) and "'conv'" in str(p) for p in found)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["config"].update(layers=7),
        lambda c: c["config"].update(layers=[1, 2]),
        lambda c: c["config"].update(output_layers=[]),
        lambda c: c["config"].update(output_layers=[["nobody", 0, 0]]),
        lambda c: c["config"].update(output_layers=[["conv", 0, 9]]),
        lambda c: c["config"].update(output_layers=[["conv", 10**30, 0]]),
        lambda c: c["config"].update(output_layers=["conv"]),
        lambda c: c["config"].update(input_layers=[["conv", 0, 0]]),
        lambda c: layer_of(c, "conv").update(inbound_nodes=[3]),
        lambda c: layer_of(c, "conv").update(inbound_nodes=[[["conv", 0, 0]]]),
        lambda c: layer_of(c, "conv").update(inbound_nodes="x"),
        lambda c: layer_of(c, "conv").update(name="both"),
        lambda c: layer_of(c, "conv").update(config=None),
        lambda c: layer_of(c, "conv").update(class_name=None),
        lambda c: layer_of(c, "left")["config"].update(batch_shape=[None, 6, 6, -2]),
        lambda c: layer_of(c, "left")["config"].update(batch_shape="wide"),
        lambda c: layer_of(c, "both").update(
            inbound_nodes=[{"args": [{"class_name": "__keras_tensor__", "config": {}}]}]
        ),
    ],
)  # fmt: skip
def test_configurations_that_no_keras_wrote(edit):
    with pytest.raises((InputFileError, UnsupportedModelError)) as caught:
        parse(changed("several.keras", edit))
    assert caught.value.code.startswith("E-KERAS-")


def test_a_model_of_a_class_of_its_own_is_refused_with_a_way_out():
    def edit(config):
        config.update(class_name="MyNet", module="nets", config={"width": 3})

    found = problem(changed("several.keras", edit))
    assert "nets.MyNet" in str(found[0]) and "model.export" in str(found[0])


def test_models_in_models_cannot_be_called_without_end():
    """16 levels of a model that calls the next ten times: 10^16 calls of a few kilobytes."""
    inner = {"class_name": "ReLU", "config": {"name": "end"}}
    for level in range(16):
        ref = {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": ["in", 0, 0]}}
        nodes = [{"args": [ref], "kwargs": {}}] * 10
        entry = {"class_name": "InputLayer", "name": "in", "config": {"name": "in", "batch_shape": [None, 4]},
                 "inbound_nodes": []}  # fmt: skip
        layer = dict(inner, name=f"m{level}", inbound_nodes=nodes)
        inner = {"class_name": "Functional", "module": "keras", "config": {
            "name": f"f{level}", "layers": [entry, layer], "input_layers": [["in", 0, 0]],
            "output_layers": [[f"m{level}", 1 if level else 9, 0]]}}  # fmt: skip

    def edit(config):
        config.clear()
        config.update(inner)

    found = problem(changed("several.keras", edit), InputFileError)
    assert "called too often" in str(found[0]) or "nested" in str(found[0])


def test_sizes_that_a_file_leaves_open_are_asked_for():
    def edit(config):
        layer_of(config, "left")["config"]["batch_shape"] = [None, None, None, 2]
        layer_of(config, "right")["config"]["batch_shape"] = [None, None, None, 2]

    data = changed("several.keras", edit)
    with pytest.raises(UnsupportedModelError.__base__) as caught:
        parse(data)
    assert caught.value.code == "E-PARSE-SHAPES"
    shapes = {name: [1, 6, 6, 2] for name in ("left", "right")}
    assert parse(data, ParseOptions(input_shapes=shapes)).network.output_layers
