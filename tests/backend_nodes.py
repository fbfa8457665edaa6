# SPDX-License-Identifier: Apache-2.0
"""ONNX's own backend node tests as a measure of what is translated: a verdict for each, and counts by operator.

A test names no batch. It is tried as a network whose first input is a tensor (the others are weights) and, where that
is refused, as one whose inputs are all tensors; a first dimension whose elements are not independent frames makes the
whole tensor one frame, as parsing decides by itself.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from frontend_oracle import run_network, session
from headrace.errors import HeadraceError, InternalError
from headrace.hn.whole import DeviceStep
from headrace.runner import ClientRunner, InferenceContext
from parsing import parse_onnx

PASSES, HOST, WRONG = "passes", "host", "wrong"
#: Why a test is not translated: a word for the table, and what its refusal says.
REASONS: dict[str, str] = {
    "text, sequences, optional values": r"type string|sequence|optional|not a tensor|Sequence|StringNormalizer|TfIdf",
    "chooses elements by their values": r"chooses elements|Unique|Compress|NonZero|ReverseSequence|TensorScatter",
    "bits of whole numbers": r"BitShift|Bitwise|BitCast",
    "training or losses": r"training|Loss|dagrad|Adam|Momentum|Gradient|operator set it uses",
    "random numbers": r"random",
    "control flow": r"control flow|Loop|Scan|in its branch",
    "quantized arithmetic": r"quantized|QLinear|ConvInteger|MatMulInteger|DequantizeLinear|QuantizeLinear|codes",
    "spectra and audio": r"DFT|STFT|MelWeightMatrix|Window",
    "no elements, or no input": r"empty|sizes of this input open|no input|no output depends|no elements|cannot become",
    "types without real numbers": r"complex|float8|float4|int4|int2|type (object|\[)|the input has type",
    "several frames at once": r"frames?\b.*(batch|apart)|differs? from frame|mixes",
    "preview operators": r"preview|LinearAttention|CausalConv",
    "a form outside the rules": r".",
}
#: Types of the tensors that networks compute with.
FLOATS = ("float16", "float32", "float64", "bfloat16")
#: Operators of training, and those of a preview that no exporter writes: left out of the share of float operators.
OTHER = frozenset({
    "FlexAttention", "LinearAttention", "CausalConvWithState",
    "Adagrad", "Adam", "Momentum", "Gradient", "Bernoulli", "RandomUniform", "RandomNormal", "Multinomial", "Dropout",
    "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss",
})  # fmt: skip


#: Operators of codes, which a network takes as what they mean.
CODES = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger",
})  # fmt: skip
#: Reasons of what is not run on the host either.
HOST_REASONS: dict[str, str] = {
    "random numbers": r"random|Bernoulli|Multinomial",
    "onnxruntime does not run it": r"E-HOST|onnxruntime|not implemented|NOT_IMPLEMENTED|Non-zero status|differs",
    "text, sequences, optional values": r"type string|sequence|optional|not a tensor|Sequence|text",
    "types without real numbers": r"complex|float8|float4|int4|int2|bfloat16|type (object|\[)|has type|element type",
    "no elements, or no input": r"empty|no input|no elements|sizes",
    "operators of no standard domain": r"domain|has no operator|operator set",
    "a form outside the rules": r".",
}
_BESIDE = "beside"


@dataclass(frozen=True)
class Case:
    """A test of one operator."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def is_float(self) -> bool:
        """All that it reads and gives are tensors of real, finite numbers."""
        arrays = (*self.inputs, *self.outputs)
        return bool(self.inputs) and all(
            isinstance(a, np.ndarray | np.generic) and str(a.dtype) in FLOATS and np.isfinite(np.float64(a)).all()
            for a in arrays
        )


@dataclass(frozen=True)
class Verdict:
    """What became of a test: :data:`PASSES`, :data:`WRONG`, or one of :data:`REASONS`, and what was said."""

    result: str
    said: str = ""


def all_cases(expanded: bool = False) -> Iterator[Case]:
    """The node tests of the installed onnx package; ``expanded``: also those of definitions written out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    for case in found:
        if not expanded and "_expanded" in case.name:
            continue
        nodes = case.model.graph.node
        operator = nodes[-1].op_type if nodes else ""
        for inputs, outputs in (case.data_sets or [])[:1]:
            yield Case(case.name, operator, case.model, _values(inputs), _values(outputs))


def _values(found: Iterable[Any]) -> tuple[Any, ...]:
    """Tensors of types that NumPy lacks stand in the tests as protobuf; they are read as ``ml_dtypes`` has them."""
    return tuple(numpy_helper.to_array(one) if isinstance(one, onnx.TensorProto) else one for one in found)


def verdict(case: Case) -> Verdict:
    """Parse, run by the layers' own meaning in float64, and compare with what the test states."""
    arrays = (*case.inputs, *case.outputs)
    if not all(isinstance(a, np.ndarray | np.generic) for a in arrays):
        return _refusal("not a tensor")
    if not case.inputs:
        return _refusal("no input")
    if case.operator in CODES:
        return Verdict("quantized arithmetic", "its tensors are codes: tests of quantized files measure it")
    if any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in map(np.asarray, arrays)):
        return _refusal("numbers that are not finite do not enter the device: no elements")
    first = Verdict("")
    for tensors in dict.fromkeys((1, len(case.inputs))):
        made = _tried(case, tensors)
        if made.result == PASSES:
            return made
        first = made if not first.result or made.result == WRONG else first
    return first


def _refusal(text: str) -> Verdict:
    return Verdict(next(name for name, pattern in REASONS.items() if re.search(pattern, text)), text)


def _tried(case: Case, tensors: int) -> Verdict:
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    if model.opset_import and model.opset_import[0].version == 6:  # the same operators, but for explicit broadcasting
        model.opset_import[0].version = 7
    names = [i.name for i in model.graph.input]
    inputs = [np.asarray(a) for a in case.inputs]
    for name, array in list(zip(names, inputs, strict=False))[tensors:]:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    try:
        network = parse_onnx(model.SerializeToString()).network
    except HeadraceError as error:
        assert not isinstance(error, InternalError), (case.name, error)
        assert all(d.code and d.rule for d in error.diagnostics), case.name
        return _refusal(f"{error.diagnostics[0].rule} {error.diagnostics[0].got}")
    with np.errstate(all="ignore"):
        got = run_network(network, dict(zip(names[:tensors], inputs, strict=False)))
    wanted = dict(zip([o.name for o in model.graph.output], case.outputs, strict=False))
    for name, value in got.items():
        array = np.asarray(wanted[name])
        coarse = {"float16": 2e-3, "bfloat16": 2e-2}.get(str(array.dtype), 1e-3)
        reference = array.astype(np.float64)
        if value.shape != reference.shape:
            return Verdict(WRONG, f"shape {value.shape}, not {reference.shape}")
        if not np.allclose(value, reference, rtol=coarse, atol=coarse * 0.01 if coarse < 1e-2 else coarse):
            return Verdict(WRONG, name)
    return Verdict(PASSES)


# --- whole models -----------------------------------------------------------------------------------------------------


def beside_a_convolution(case: Case) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A test's graph and a small convolution that it has nothing to do with, so that a part is worth a device."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    graph, make = model.graph, onnx.helper.make_tensor_value_info
    kernel = np.linspace(-1, 1, 2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
    graph.initializer.append(numpy_helper.from_array(kernel, f"{_BESIDE}_kernel"))
    graph.node.append(onnx.helper.make_node("Conv", [f"{_BESIDE}_x", f"{_BESIDE}_kernel"], [f"{_BESIDE}_y"]))
    given = dict(zip([i.name for i in graph.input], map(np.asarray, case.inputs), strict=False))
    graph.input.append(make(f"{_BESIDE}_x", onnx.TensorProto.FLOAT, [1, 3, 5, 5]))
    graph.output.append(make(f"{_BESIDE}_y", onnx.TensorProto.FLOAT, [1, 2, 3, 3]))
    return model, given | {f"{_BESIDE}_x": np.linspace(-1, 1, 75, dtype=np.float32).reshape(1, 3, 5, 5)}


def host_verdict(case: Case) -> Verdict:
    """Run the whole model, with the test's node on the host where it is not on the device.

    :data:`HOST`, :data:`WRONG`, or one of :data:`HOST_REASONS`.
    """
    arrays = (*case.inputs, *case.outputs)
    if not all(isinstance(a, np.ndarray | np.generic) for a in arrays):
        return _host_refusal("not a tensor")
    if case.operator in ("Bernoulli", "Multinomial", "RandomUniform", "RandomNormal"):
        return _host_refusal("random numbers differ between runs")
    model, given = beside_a_convolution(case)
    runner = ClientRunner("hailo8")
    try:
        runner.translate_onnx_model(model.SerializeToString(), "net")
        whole = runner.archive.whole
        assert whole is not None and any(isinstance(step, DeviceStep) for step in whole.steps)
        with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
            found = runner.infer(context, given, whole=True)
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        return Verdict(WRONG, f"{type(error).__name__}: {error}")
    except HeadraceError as error:
        assert not isinstance(error, InternalError), (case.name, error)
        assert all(d.code and d.rule for d in error.diagnostics), case.name
        first = error.diagnostics[0]
        return _host_refusal(f"{first.code} {first.rule} {first.got}")
    arrays = found if isinstance(found, list) else [found]
    got = dict(zip([tensor.name for tensor in whole.outputs], arrays, strict=True))
    wrong = _first_wrong(case, got)
    if not wrong:
        return Verdict(HOST)
    try:
        runtime = session(model.SerializeToString())
    except Exception as error:
        return _host_refusal(f"onnxruntime: {error}")
    own = runtime.run(list(got), {i.name: given[i.name] for i in runtime.get_inputs()})
    if _first_wrong(case, dict(zip(got, own, strict=True))):
        return _host_refusal("onnxruntime gives another result than the test states")
    return Verdict(WRONG, wrong)


def _first_wrong(case: Case, got: dict[str, Any]) -> str:
    """The first output that is not what a test states; empty where there is none."""
    for name, wanted in zip([o.name for o in case.model.graph.output], case.outputs, strict=False):
        if name not in got:
            return f"{name} is no output"
        want, value = np.asarray(wanted), np.asarray(got[name])
        coarse = {"float16": 2e-3, "bfloat16": 2e-2}.get(str(want.dtype), 1e-3)
        if value.shape != want.shape:
            return f"{name}: shape {value.shape}, not {want.shape}"
        same = value == want
        if want.dtype.kind not in "OSU":
            same = same | np.isclose(np.float64(value), np.float64(want), coarse, coarse * 0.01, equal_nan=True)
        if not np.all(same):
            return name
    return ""


def _host_refusal(text: str) -> Verdict:
    return Verdict(next(name for name, pattern in HOST_REASONS.items() if re.search(pattern, text)), text)
