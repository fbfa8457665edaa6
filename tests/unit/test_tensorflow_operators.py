# SPDX-License-Identifier: Apache-2.0
"""Each TensorFlow operator against what TensorFlow itself computed (tests/tensorflow_cases.py)."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from frontend_oracle import run_network
from headrace.frontends import parse
from headrace.frontends.formats.tensorflow import operators
from headrace.frontends.formats.tensorflow.build import CONVERTERS
from headrace.frontends.formats.tensorflow.graph import read_tensorflow
from headrace.frontends.formats.tensorflow.schema import GraphMessage
from headrace.frontends.formats.tensorflow.tensors import array_of
from headrace.frontends.graph import Unsupported
from headrace.frontends.options import ParseOptions
from headrace.frontends.reader import Source
from small_tflite import run_source
from tensorflow_cases import CASES, ON_HOST, build, results

RESULTS = results()


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_what_tensorflow_computes(name):
    data, feeds = build(name)
    crc, wanted = RESULTS[name]
    assert zlib.crc32(data) == crc, "make the results anew: tests/tensorflow_cases.py"
    if name in ON_HOST:
        source = read_tensorflow(Source.of(data), ParseOptions())
        got = run_source(source, {i.name: feeds[i.name] for i in source.graph.inputs}, whole=True)["y"]
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got.astype(np.float64), wanted, atol=1e-5, rtol=1e-5)
        return
    network = parse(data).network
    used = {layer.boundary.source_name: feeds[layer.boundary.source_name] for layer in network.input_layers}
    (got,) = run_network(network, used).values()
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 1e-5 * max(float(np.ptp(wanted)), 1.0)


def test_every_operator_is_listed_once():
    assert operators.__all__
    assert len(CONVERTERS) > 150
    assert all(name[0].isupper() or name[0] == "_" for name in CONVERTERS)


def test_complex_constants_as_tensorflow_stores_them() -> None:
    """Pairs one by one, the last of them for all that are left out; or bytes."""
    message = GraphMessage().nodes.add().attributes.add().value.tensor
    message.dtype = 8
    message.complexes.extend([1.0, -2.0, 0.5, 3.0])
    message.shape.dims.add(size=4)
    spent: list[int] = []
    assert array_of(message, spent.append).tolist() == [[1, -2], [0.5, 3], [0.5, 3], [0.5, 3]] and spent == [32]
    message.complexes.append(1.0)
    with pytest.raises(Unsupported, match="half a complex number"):
        array_of(message, spent.append)
    message.content = np.array([1 + 2j, -3j, 0, 1], np.complex64).tobytes()
    assert array_of(message, spent.append).tolist() == [[1, 2], [0, -3], [0, 0], [1, 0]]
