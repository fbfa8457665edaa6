# SPDX-License-Identifier: Apache-2.0
"""The network of values: who reads what is known to the value, and every change of an edge keeps it so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.emulator import Executor
from headrace.errors import InputFileError, InternalError, NotBuiltYetError
from headrace.hn import Layer, Network, check_network, json_format
from headrace.hn.value import Use, Value, Wish
from headrace.layers import Activation, Add, Convolution, InputLayer, Operation, OutputLayer
from headrace.layers.operation import _REGISTRY, register  # pyright: ignore[reportPrivateUsage]
from headrace.numerics.ops import AnyTensor, FloatOps
from headrace.optimize import OptimizeOptions, optimize
from random_graphs import random_frames

SHAPE = (-1, 4, 4, 6)


def network() -> Network:
    net = Network("n")
    net.add(Layer("n/x", InputLayer(shape=SHAPE), (), SHAPE))
    net.add(Layer("n/a", Activation("relu"), ["n/x"], SHAPE))
    net.add(Layer("n/b", Add(), ["n/x", "n/a"], SHAPE))
    net.add(Layer("n/c", Add(), ["n/a", "n/a"], SHAPE))
    net.add(Layer("n/d", Add(), ["n/b", "n/c"], SHAPE))
    net.add(Layer("n/y", OutputLayer(), ["n/d"], SHAPE))
    return net


def assert_uses_are_the_operands(net: Network) -> None:
    """What values say of their readers is what layers say of their operands, and nothing else."""
    want = {(v, layer, i) for layer in net for i, v in enumerate(layer.operands or ())}
    have = [(v, use.layer, use.operand) for layer in net for v in layer.results for use in v.uses]
    assert set(have) == want
    assert len(have) == len(want)
    order = list(net.layers)
    assert all(order.index(name) < order.index(layer.name) for layer in net for name in layer.inputs)
    for layer in net:
        readers = [x.name for x in net if layer.name in x.inputs]
        assert [x.name for x in net.users(layer.name)] == readers


def test_values_know_their_readers() -> None:
    net = network()
    assert_uses_are_the_operands(net)
    a = net["n/a"].output
    assert a.uses == [Use(net["n/b"], 1), Use(net["n/c"], 0), Use(net["n/c"], 1)]
    assert (a.name, a.axes, a.producer) == ("n/a", ("batch", "height", "width", "channels"), net["n/a"])


def test_replacing_a_value_moves_all_its_uses_and_no_others() -> None:
    net = network()
    net.replace(net["n/a"].output, net["n/x"].output)
    assert_uses_are_the_operands(net)
    assert [net[x].inputs for x in ("n/b", "n/c")] == [("n/x", "n/x"), ("n/x", "n/x")]
    net.remove("n/a")
    assert_uses_are_the_operands(net)


def test_a_layer_put_behind_a_value_goes_on_reading_it() -> None:
    net = network()
    made = net.insert_after("n/a", Layer("n/e", Activation("tanh"), ["n/a"], SHAPE))
    net.replace(net["n/a"].output, made.output)
    assert made.inputs == ("n/a",)
    assert net["n/c"].inputs == ("n/e", "n/e")
    assert_uses_are_the_operands(net)


def test_replacing_for_some_readers() -> None:
    net = network()
    net.replace(net["n/a"].output, net["n/x"].output, [net["n/b"]])
    assert (net["n/b"].inputs, net["n/c"].inputs) == (("n/x", "n/x"), ("n/a", "n/a"))
    assert_uses_are_the_operands(net)


def test_what_is_read_cannot_be_removed_and_names_cannot_be_written() -> None:
    net = network()
    with pytest.raises(InternalError, match="is read"):
        net.remove("n/a")
    with pytest.raises((TypeError, AttributeError)):
        net["n/a"].inputs[0] = "n/b"  # type: ignore[index]
    assert_uses_are_the_operands(net)
    net.remove("n/y", "n/d")  # together: only they read what goes
    assert_uses_are_the_operands(net)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["replace", "insert", "bypass", "clone"]), st.integers(0, 5)), max_size=8))
def test_any_sequence_of_changes_keeps_uses_and_operands_together(steps: list[tuple[str, int]]) -> None:
    net = network()
    for n, (what, at) in enumerate(steps):
        layers = [layer for layer in net if not layer.operation.is_boundary]
        if not layers:
            break
        layer = layers[at % len(layers)]
        if what == "replace":
            net.replace(layer.output, net["n/x"].output)
        elif what == "insert":
            made = net.insert_after(layer.name, Layer(f"n/new{n}", Activation("relu"), [layer.name], SHAPE))
            net.replace(layer.output, made.output)
        elif what == "bypass" and len(layer.inputs) == 1:
            net.bypass(layer.name)
        elif what == "clone":
            net = net.clone()
        assert_uses_are_the_operands(net)
    check_network(net)


def test_a_clone_shares_nothing_that_can_be_changed() -> None:
    net = network()
    net["n/a"].params["slope"] = np.ones(6, np.float32)
    other = net.clone()
    other["n/a"].operation = Activation("tanh")
    other["n/a"].output.wish = Wish(bits=16)
    other["n/a"].params["slope"] = np.zeros(6, np.float32)
    other.replace(other["n/a"].output, other["n/x"].output)
    assert net["n/a"].operation == Activation("relu")
    assert net["n/a"].output.wish is None
    assert net["n/a"].params["slope"].all()
    assert_uses_are_the_operands(net)


def test_parameters_belong_to_their_layer() -> None:
    net = network()
    net.params["n/a/slope"] = np.ones(6)
    assert list(net["n/a"].params) == ["slope"]
    net.rename({"n/a": "n/renamed"})
    assert list(net.params) == ["n/renamed/slope"]
    assert net["n/c"].inputs == ("n/renamed", "n/renamed")
    with pytest.raises(KeyError):
        net.params["n/nowhere/slope"] = np.ones(6)


def test_a_wish_and_what_is_frozen_are_apart() -> None:
    net = network()
    net["n/a"].output.wish = Wish(bits=16, range=(0.0, 1.0))
    text = json_format.dumps(net)
    assert json.loads(text)["layers"]["n/a"]["quantization"] == {"precision": {"bits": 16, "range": [0.0, 1.0]}}
    again = json_format.loads(text, "x")
    assert again["n/a"].wish == Wish(bits=16, range=(0.0, 1.0))
    frozen = optimize(again, random_frames(again, 4, 0), OptimizeOptions(min_snr=0)).network
    assert all(layer.output.wish is None for layer in frozen)
    assert all(layer.output.quantization is not None for layer in frozen if layer.name != "n/y")


@pytest.mark.parametrize("quantization", [[], 0, "", False])
def test_quantization_that_is_no_object_is_refused(quantization: object) -> None:
    raw = json_format.to_dict(network())
    raw["layers"]["n/a"]["quantization"] = quantization
    with pytest.raises(InputFileError, match="quantization"):
        json_format.from_dict(raw, "file")


@pytest.mark.parametrize(
    "quantization",
    [
        {"precision": {"bits": 12}},
        {"precision": {"range": [1.0, 0.0]}},
        {"precision": {"reach": [0.0]}},
        {"precision": [16]},
        {"output": {"scale": -1.0, "zero_point": 0, "bits": 8}},
        {"requantize": {"zero": 0, "low": 0}},
        {"requantize": {"zero": 0, "low": 0, "high": 1 << 40}},
        {"calibrated": [1.0, 0.0]},
        {"accumulator_bits": "32"},
    ],
)
def test_quantization_that_breaks_a_rule_is_refused_when_it_is_read(quantization: dict[str, Any]) -> None:
    raw = json_format.to_dict(network())
    raw["layers"]["n/a"]["quantization"] = quantization
    with pytest.raises(InputFileError) as caught:
        json_format.from_dict(raw, "file")
    assert [d.code for d in caught.value.diagnostics] == ["E-HN-QUANTIZATION"]
    assert caught.value.diagnostics[0].where == "n/a"


def test_facts_of_a_newer_version_are_kept() -> None:
    raw = json_format.to_dict(network())
    raw["layers"]["n/a"]["quantization"] = {"sparsity": {"pattern": [2, 4]}}
    raw["layers"]["n/b"] |= {"type": "kind_of_2031", "params": {"sides": [1, 2]}, "quantization": {"output": "other"}}
    again = json_format.from_dict(raw, "file")
    assert json_format.to_dict(again) == raw


def test_a_global_pool_of_an_older_file_is_a_pool_with_that_window() -> None:
    net = Network("n")
    net.add(Layer("n/x", InputLayer(shape=(-1, 5, 7, 3)), (), (-1, 5, 7, 3)))
    raw = json_format.to_dict(net)
    raw["layers"]["n/avgpool1"] = {"type": "global_avgpool", "input": ["n/x"], "output_shapes": [[-1, 1, 1, 3]],
                                   "params": {}}  # fmt: skip
    pool = json_format.from_dict(raw, "file")["n/avgpool1"]
    assert (pool.kind, pool.operation.json_attributes) == ("avgpool", {"kernel_shape": [5, 7]})


# --- layers with several results -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halves(Operation):
    """The first and the last half of the channels."""

    kind = "test_halves"
    prefix = "halves"
    description = "for tests"

    def output_shape(self, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
        return (*shapes[0][:-1], shapes[0][-1] // 2)

    def output_shapes(self, shapes: Sequence[tuple[int, ...]], where: str) -> tuple[tuple[int, ...], ...]:
        return (self.output_shape(shapes, where),) * 2

    def float_results(
        self, ops: FloatOps[AnyTensor], params: Mapping[str, Any], inputs: Sequence[AnyTensor]
    ) -> tuple[AnyTensor, ...]:
        height, width, channels = (int(v) for v in inputs[0].shape[1:])  # type: ignore[attr-defined]
        half, ones = channels // 2, (1, 1, 1)
        return tuple(ops.slice(inputs[0], (0, 0, k * half), ones, (height, width, half)) for k in (0, 1))


@pytest.fixture
def halves() -> Iterator[Network]:
    register(Halves)
    net = Network("n")
    net.add(Layer("n/x", InputLayer(shape=SHAPE), (), SHAPE))
    both = Layer("n/h", Halves(), ["n/x"], (-1, 4, 4, 3))
    both.results += (Value(both, 1, (-1, 4, 4, 3)),)
    net.add(both)
    net.add(Layer("n/d", Add("relu"), ["n/h:1", "n/h"], (-1, 4, 4, 3)))
    net.add(Layer("n/y", OutputLayer(), ["n/d"], (-1, 4, 4, 3)))
    yield net
    del _REGISTRY[Halves.kind]


def test_a_layer_has_several_results(halves: Network) -> None:
    check_network(halves)
    assert_first = [use.layer.name for use in halves.value("n/h").uses]
    assert assert_first == [use.layer.name for use in halves.value("n/h:1").uses] == ["n/d"]
    for net in (halves, halves.clone(), json_format.loads(json_format.dumps(halves), "x")):
        check_network(net)
        x = np.arange(96, dtype=np.float32).reshape(1, 4, 4, 6) - 40
        got = Executor(net).run({"n/x": x})["n/y"]
        np.testing.assert_array_equal(got, np.maximum(x[..., :3] + x[..., 3:], 0))
    with pytest.raises(NotBuiltYetError, match="several results"):
        optimize(halves, {"n/x": x}, OptimizeOptions(min_snr=0))


def test_a_result_that_is_not_there_is_refused(halves: Network) -> None:
    raw = json_format.to_dict(halves)
    for name in ("n/h:2", "n/h:", "n/h:x", "n/h:" + "9" * 5000, ":1"):
        raw["layers"]["n/d"]["input"] = [name, "n/h"]
        with pytest.raises(InputFileError, match="does not exist"):
            json_format.from_dict(raw, "file")


def test_operations_are_values() -> None:
    a = Convolution(kernel_shape=(3, 3, 4, 8), padding=(1, 1, 1, 1))
    assert a == Convolution(kernel_shape=(3, 3, 4, 8), padding=(1, 1, 1, 1))
    with pytest.raises(AttributeError):
        a.groups = 2  # type: ignore[misc]
