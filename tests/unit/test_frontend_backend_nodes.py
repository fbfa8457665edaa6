# SPDX-License-Identifier: Apache-2.0
"""ONNX's own converted models: each either gives the stated outputs or ends in a coded error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
from onnx import numpy_helper  # noqa: E402

from frontend_oracle import run_network  # noqa: E402
from headrace.errors import HeadraceError, InternalError  # noqa: E402
from parsing import parse_onnx  # noqa: E402

# So many models parse and compute correctly; a fall is a regression. (The node tests: test_operators_page.py.)
LEAST_CONVERTED = 75


def _run(model, inputs, wanted):
    """None when the model is refused, else whether every output is right.

    The first input is a tensor; the others are weights or, where that is refused, tensors too.
    """
    result = _run_with(model, inputs, wanted, 1)
    real = len(inputs) > 1 and all(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in inputs)
    return _run_with(model, inputs, wanted, len(inputs)) if result is None and real else result


def _run_with(model, inputs, wanted, tensors):
    if not all(isinstance(a, np.ndarray) for a in (*inputs, *wanted)):
        return None
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if model.opset_import and model.opset_import[0].version == 6:  # the same operators, but for explicit broadcasting
        if any(
            a.name in ("broadcast", "axis") and n.op_type in ("Add", "Mul", "Sub", "Div", "Gemm")
            for n in model.graph.node
            for a in n.attribute
        ):
            return None
        model.opset_import[0].version = 7
    initializers = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in initializers]
    for name, array in list(zip(names, inputs, strict=False))[tensors:]:  # weights come as inputs in these tests
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    try:
        network = parse_onnx(model.SerializeToString()).network
    except HeadraceError as error:
        assert not isinstance(error, InternalError), error
        assert all(d.code and d.rule for d in error.diagnostics)
        return None
    got = run_network(network, {name: np.asarray(a) for name, a in zip(names[:tensors], inputs, strict=False)})
    expected = dict(zip([o.name for o in model.graph.output], wanted, strict=False))
    for name, value in got.items():
        reference = np.asarray(expected[name], np.float64)
        coarse = str(np.asarray(expected[name]).dtype) == "bfloat16"
        near = {"rtol": 1e-2 if coarse else 1e-3, "atol": 1e-2 if coarse else 1e-5}
        if value.shape != reference.shape or not np.allclose(value, reference, **near, equal_nan=True):
            return False
    return True


def test_converted_models():
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    wrong, right = [], []

    def tensors(folder, kind):
        paths = sorted(folder.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
        return [numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in paths]

    for path in sorted((*root.glob("pytorch-converted/*/model.onnx"), *root.glob("pytorch-operator/*/model.onnx"))):
        data = path.parent / "test_data_set_0"
        result = _run(onnx.ModelProto.FromString(path.read_bytes()), tensors(data, "input"), tensors(data, "output"))
        if result is not None:
            (right if result else wrong).append(path.parent.name)
    if not right:
        pytest.skip("this onnx package has no converted models")
    assert not wrong
    assert len(right) >= LEAST_CONVERTED, right
