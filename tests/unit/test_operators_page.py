# SPDX-License-Identifier: Apache-2.0
"""The page of supported operators is current, and the backend node tests give what it says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("onnx")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

#: Operators that inference networks use: no float test of theirs may be refused, but those named.
USED = (
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Conv",
    "ConvTranspose", "CumSum", "DepthToSpace", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN",
    "LayerNormalization", "LeakyRelu", "Less", "Log", "LogSoftmax", "MatMul", "Max", "Mean",
    "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "PRelu", "Pad", "Pow", "RMSNormalization",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "Selu", "Sigmoid",
    "Sign", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
    "Tile", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
#: Forms of these that no network has: dilated pools over volumes, clips whose bounds are in the wrong order, …
MOST_REFUSED = 8


def test_the_page_is_current() -> None:
    from operators_page import PAGE, page

    assert PAGE.read_text() == page(), "run tools/operators_page.py"


def test_the_share_of_float_operators() -> None:
    from operators_page import COUNTS

    passed, floats = json.loads(COUNTS.read_text())["floats"]
    assert passed >= 0.9 * floats


@pytest.mark.slow
def test_node_tests_on_the_host() -> None:
    """Some that are not on the device are what the test states, and a constant of several rows keeps its shape."""
    from backend_nodes import HOST, all_cases, host_verdict
    from operators_page import COUNTS

    names = {"test_constant", "test_nonzero_example", "test_top_k", "test_det_2d", "test_bitwise_not_2d"}
    found = {case.name: host_verdict(case) for case in all_cases() if case.name in names}
    assert {v.result for v in found.values()} == {HOST} and len(found) == len(names), found
    assert not any("wrong" in counts for counts in json.loads(COUNTS.read_text())["host"].values())


@pytest.mark.parametrize("part", range(4))
def test_every_node_test_passes_or_is_refused_with_a_reason(part: int) -> None:
    """The verdicts are those of the page; it is written anew with ``tools/operators_page.py --measure``."""
    from backend_nodes import PASSES, REASONS, WRONG, all_cases, verdict
    from operators_page import COUNTS

    stated = json.loads(COUNTS.read_text())["operators"]
    counts: dict[str, Counter[str]] = {}
    names = sorted(stated)
    mine = set(names[part::4])
    refused = []
    for case in all_cases():
        if case.operator not in mine:
            continue
        result = verdict(case)
        assert result.result != WRONG, (case.name, result.said)
        assert result.result == PASSES or result.result in REASONS
        counts.setdefault(case.operator, Counter())[result.result] += 1
        if case.operator in USED and case.is_float and result.result != PASSES:
            refused.append((case.name, result.said))
    assert {k: dict(v) for k, v in counts.items()} == {k: stated[k] for k in mine}
    assert len(refused) <= MOST_REFUSED, refused
