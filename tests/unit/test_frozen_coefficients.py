# SPDX-License-Identifier: Apache-2.0
"""Coefficients of bilinear resizing are integers of the quantized network: stored, read by everyone, checked."""

from __future__ import annotations

import numpy as np
import pytest

from compiler_support import freeze, random_codes
from headrace.compiler import compile_network
from headrace.errors import InputFileError
from headrace.hef.microcode import decode
from headrace.hn import Network, archive
from headrace.hn.parameters import check_archive
from headrace.hn.stages import State
from headrace.layers.resize import COEFFICIENTS
from headrace.optimize import OptimizeOptions, optimize
from headrace.targets import load_target
from interpreters import layer_codes, program_codes
from random_graphs import GraphBuilder

HAILO8L = load_target("hailo8l")
RESIZE = {"sizes": [7, 9], "coordinates": "half_pixel"}


def network(frozen: bool = True) -> Network:
    b = GraphBuilder(2, "net")
    b.output(b.add("resize_bilinear", [b.input((4, 5, 3))], RESIZE))
    return freeze(b.net) if frozen else b.net


def bilinear(net: Network) -> str:
    return next(layer.name for layer in net if layer.kind == "resize_bilinear")


def reopened(net: Network) -> Network:
    again = archive.loads(archive.dump(archive.Archive("net", State.QUANTIZED_MODEL, quantized=net)), "net.har")
    check_archive(again)
    assert again.quantized is not None
    return again.quantized


def same(net: Network, other: Network) -> None:
    """Layers and program of both give the same codes, and codes that differ among themselves."""
    frames = random_codes(net, 2)
    want = layer_codes(net, frames)[bilinear(net)]
    assert np.unique(want).size > 10
    for codes in (layer_codes(other, frames), program_codes(decode(compile_network(other, HAILO8L).microcode), frames)):
        np.testing.assert_array_equal(codes[bilinear(net)], want)


def test_optimize_stores_them() -> None:
    data = np.random.default_rng(0).uniform(-1, 1, (8, 4, 5, 3)).astype(np.float32)
    made = optimize(network(frozen=False), {"net/input_layer1": data}, OptimizeOptions()).network
    params = made[bilinear(made)].params
    assert [(params[n].dtype, params[n].shape) for n in COEFFICIENTS] == [(np.uint16, (7,)), (np.uint16, (9,))]
    # Rows 4/7 (i + 1/2) - 1/2: 0, 0.357, 0.929, 1.5, 2.071, 2.643, 3 (clipped).
    assert params["row_coefficients"].tolist() == [0, 731, 1902, 1024, 146, 1317, 0]
    same(made, reopened(made))


def test_an_archive_without_them_gets_them_when_it_is_opened() -> None:
    net, older = network(), network()
    for name in COEFFICIENTS:
        del older[bilinear(older)].params[name]
    again = reopened(older)
    for name in COEFFICIENTS:
        np.testing.assert_array_equal(again[bilinear(net)].params[name], net[bilinear(net)].params[name])
    same(net, again)


def test_they_are_read_and_not_made_again() -> None:
    """Other coefficients give other codes, the same in the layers' meaning and on the device's records."""
    net, other = network(), network()
    params = other[bilinear(other)].params
    params["row_coefficients"] = np.uint16(2048) - params["row_coefficients"]
    same(other, reopened(other))
    frames = random_codes(net, 2)
    assert (layer_codes(net, frames)[bilinear(net)] != layer_codes(other, frames)[bilinear(other)]).any()


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (np.full(7, 2049, np.uint16), "out of range"),
        (np.zeros(6, np.uint16), "wrong type or shape"),
        (np.zeros(7, np.uint32), "wrong type or shape"),
    ],
    ids=["too large", "too few", "another type"],
)
def test_damaged_ones_are_refused(value: np.ndarray, rule: str) -> None:
    net = network()
    net[bilinear(net)].params["row_coefficients"] = value
    with pytest.raises(InputFileError, match=rule):
        reopened(net)
