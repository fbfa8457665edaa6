# SPDX-License-Identifier: Apache-2.0
"""Layer definitions: attributes are validated, shapes are computed, and every kind has every meaning it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import InputFileError
from headrace.hn import Network, check_network
from headrace.layers import Operation, all_operations, operation_type
from headrace.layers.attributes import read_attributes, write_attributes
from headrace.layers.mac import Convolution
from layer_maker import make_layer


@pytest.mark.parametrize("definition", all_operations(), ids=lambda d: d.kind)
def test_every_kind_is_complete(definition: type[Operation]) -> None:
    assert definition.description and definition.prefix and definition.kind
    for rule in ("output_shape", "forward_float"):
        assert getattr(definition, rule) is not getattr(Operation, rule), rule
    own = definition.forward_integer is not Operation.forward_integer
    assert own == definition.has_integer_form, "an integer form, or a decomposition"


def test_names_are_unique() -> None:
    kinds = [d.kind for d in all_operations()]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(
    ("raw", "needle"),
    [
        ({"kernel_shape": [1, 1, 1]}, "wrong length"),
        ({"kernel_shape": "abcd"}, "not a list"),
        ({"kernel_shape": [1, 1, 1, True]}, "wrong type"),
        ({"kernel_shape": [1, 1, 1, 2**40]}, "too large"),
        ({"kernel_shape": [0, 1, 1, 1]}, "must be positive"),
        ({"kernel_shape": [1, 1, 1, 3], "groups": 2}, "divide"),
        ({"padding": [1, 0, 0, 0]}, "smaller than"),
        ({"activation": "rellu"}, "no activation"),
        ({"activation": "relu", "activation_params": {"alpha": 1.0}}, "no such parameter"),
        ({"activation": "clip", "activation_params": {"min": 2.0, "max": 1.0}}, "wrong order"),
        ({"activation": "clip", "activation_params": {"min": float("nan")}}, "wrong type"),
        ({"stride": [1, 1]}, "did you mean 'strides'"),
    ],
)
def test_bad_attributes_are_explained(raw: dict, needle: str) -> None:
    with pytest.raises(InputFileError, match=needle):
        read_attributes(Convolution, raw, "net/conv1")


def test_attributes_round_trip_and_defaults_are_left_out() -> None:
    a = Convolution(kernel_shape=(3, 3, 4, 8), padding=(1, 1, 1, 1), activation="relu")
    raw = write_attributes(a)
    assert raw == {"activation": "relu", "kernel_shape": [3, 3, 4, 8], "padding": [1, 1, 1, 1]}
    assert read_attributes(Convolution, raw, "x") == a


def test_all_wrong_shapes_are_reported_together() -> None:
    net = Network("n")
    net.add(make_layer("n/input_layer1", "input_layer", [], {"shape": [-1, 8, 8, 3]}, (-1, 8, 8, 3)))
    net.add(make_layer("n/conv1", "conv", ["n/input_layer1"], {"kernel_shape": [3, 3, 3, 4]}, (-1, 8, 8, 4)))
    net.add(make_layer("n/maxpool1", "maxpool", ["n/conv1"], {"kernel_shape": [9, 9]}, (-1, 1, 1, 4)))
    net.add(make_layer("n/dw1", "dw", ["n/conv1"], {"kernel_shape": [3, 3, 1, 3], "groups": 3}, (-1, 6, 6, 4)))
    with pytest.raises(InputFileError) as caught:
        check_network(net)
    places = [d.where for d in caught.value.diagnostics]
    assert places == ["n/conv1", "n/maxpool1", "n/dw1"]


def test_unknown_kind_says_the_nearest() -> None:
    with pytest.raises(InputFileError, match="did you mean 'maxpool'"):
        operation_type("max_pool")


def test_supported_layers_page_is_current() -> None:
    import sys

    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "tools"))
    from layers_page import page

    assert (root / "docs" / "reference" / "layers.md").read_text() == page(), "run tools/layers_page.py"
