# SPDX-License-Identifier: Apache-2.0
"""Which input a name means: one answer for data, emulator, scripts, passes and the command line."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from headrace.data.inputs import find_input, specs_of
from headrace.emulator import Executor
from headrace.errors import DataError, ScriptError, UsageError
from headrace.hn import Layer, Network
from headrace.layers import Add, InputLayer, OutputLayer
from headrace.passes.insert_normalization import InsertNormalization
from headrace.script import parse_script, plan


def network() -> Network:
    """Two inputs that both stand for a source node "both" beside their own."""
    made = Network("net")
    shape = (-1, 2, 2, 3)
    for index, (tensor, nodes) in enumerate((("image_0", ["image", "both"]), ("mask_0", ["mask", "both"])), start=1):
        operation = InputLayer(shape=shape, source_name=tensor, source_shape=(-1, 3, 2, 2))
        made.add(Layer(f"net/input_layer{index}", operation, [], shape, nodes))
    made.add(Layer("net/ew_add1", Add(), ["net/input_layer1", "net/input_layer2"], shape, ["sum"]))
    made.add(Layer("net/output_layer1", OutputLayer(), ["net/ew_add1"], shape, ["y"]))
    return made


FIRST = ["net/input_layer1", "input_layer1", "image_0", "image"]
NONE = ["both", "other/input_layer1", "ew_add1", "sum", "nothing", ""]


def emulated(made: Network, name: str) -> str | None:
    """The first input's name where the emulator takes ``name`` for it."""
    x, zero = np.ones((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 3), np.float32)
    try:
        (result,) = Executor(made).run({name: x, "net/input_layer2": zero}).values()
    except DataError:
        return None
    assert np.array_equal(np.asarray(result).reshape(-1), x.reshape(-1))
    return "net/input_layer1"


def normalized(made: Network, name: str) -> str | None:
    try:
        return InsertNormalization(mean=(1.0,), std=(2.0,), input_layer=name).run(made)[0]["input"]
    except UsageError:
        return None


def scripted(made: Network, name: str) -> str | None:
    try:
        planned = plan(parse_script(f"n = normalization([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], {name})"), made)
    except ScriptError:
        return None
    (inserted,) = (p for p in planned.passes if isinstance(p, InsertNormalization))
    return inserted.input_layer


def of_data(made: Network, name: str) -> str | None:
    spec = find_input(name, specs_of(made))
    return None if spec is None else spec.name


def of_network(made: Network, name: str) -> str | None:
    layer = made.find_input(name)
    return None if layer is None else layer.name


ANSWERS = [of_network, of_data, emulated, normalized, scripted]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", FIRST)
def test_full_scope_less_source_and_original_names(answer, name):
    assert answer(network(), name) == "net/input_layer1"


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", NONE)
def test_names_that_mean_no_input_or_two(answer, name):
    assert answer(network(), name) is None


def test_the_full_name_wins_over_another_input_s_other_name():
    made = network()
    made["net/input_layer2"].original_names.append("net/input_layer1")
    for answer in (of_network, of_data, normalized):
        assert answer(made, "net/input_layer1") == "net/input_layer1"
