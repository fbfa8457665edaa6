# SPDX-License-Identifier: Apache-2.0
"""Bring nodes of operator sets 7 and later to one vocabulary: operands that later sets made inputs become inputs.

After this, Slice, Pad, Clip, Squeeze, Unsqueeze, Split, ReduceMean and ReduceSum take their operands as inputs, and
Softmax of the flattening kind (before 13) carries ``flatten`` = 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from headrace.errors import Diagnostic, UnsupportedModelError
from headrace.frontends.graph import SourceGraph, Unsupported, integer, integers, label, real, reals, set_constant
from headrace.hn import Array

OLDEST = 7
NEWEST = onnx.defs.onnx_opset_version()
Rule = Callable[[ir.Node, int], None]


def _constant_value(name: str, array: Array) -> ir.Value:
    value = ir.Value(name=name)
    set_constant(value, array)
    return value


def _set_inputs(node: ir.Node, arrays: dict[int, Array]) -> None:
    node.resize_inputs(max(len(node.inputs), max(arrays) + 1))
    for index, array in arrays.items():
        node.replace_input_with(index, _constant_value(f"{label(node)}#{index}", array))


def _integers_to_input(attribute: str, index: int) -> Rule:
    def rule(node: ir.Node, opset: int) -> None:
        found = integers(node, attribute, None)
        if found is not None:
            _set_inputs(node, {index: np.array(found, np.int64)})

    return rule


def _slice(node: ir.Node, opset: int) -> None:
    starts, ends, axes = (integers(node, key, None) for key in ("starts", "ends", "axes"))
    if starts is None or ends is None:
        raise Unsupported("Slice has no starts or ends")
    axes = list(range(len(starts))) if axes is None else axes
    _set_inputs(node, {1: np.array(starts, np.int64), 2: np.array(ends, np.int64), 3: np.array(axes, np.int64)})


def _pad(node: ir.Node, opset: int) -> None:
    pads = integers(node, "pads", None)
    if pads is None:
        raise Unsupported("Pad has no pads")
    _set_inputs(node, {1: np.array(pads, np.int64), 2: np.array(real(node, "value", 0.0), np.float32)})


def _clip(node: ir.Node, opset: int) -> None:
    bounds = {i: real(node, key, np.nan) for i, key in ((1, "min"), (2, "max")) if key in node.attributes}
    if bounds:
        _set_inputs(node, {i: np.array(v, np.float32) for i, v in bounds.items()})


def _softmax(node: ir.Node, opset: int) -> None:
    axis = integer(node, "axis", 1)
    node.attributes["axis"] = ir.AttrInt64("axis", axis)
    node.attributes["flatten"] = ir.AttrInt64("flatten", 1)


def _batch_norm(node: ir.Node, opset: int) -> None:
    if integer(node, "spatial", 1) != 1:
        raise Unsupported("BatchNormalization with spatial = 0 normalizes each position by itself", "spatial = 1")


def _resize(node: ir.Node, opset: int) -> None:
    """Operator set 10: scales are input 1, and coordinates and rounding have one rule."""
    scales = node.inputs[1] if len(node.inputs) > 1 else None
    node.resize_inputs(3)
    node.replace_input_with(1, None)
    node.replace_input_with(2, scales)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "simple")


def _upsample(node: ir.Node, opset: int) -> None:
    """Before operator set 10: Upsample with scales as an attribute (7) or as input 1 (9)."""
    scales = reals(node, "scales")
    if scales is not None:
        _set_inputs(node, {1: np.array(scales, np.float32)})
    _resize(node, opset)
    node.op_type = "Resize"


#: operator → (first operator set that needs no change, rule for those before)
RULES: dict[str, tuple[int, Rule]] = {
    "Slice": (10, _slice),
    "Pad": (11, _pad),
    "Clip": (11, _clip),
    "Squeeze": (13, _integers_to_input("axes", 1)),
    "Unsqueeze": (13, _integers_to_input("axes", 1)),
    "Split": (13, _integers_to_input("split", 1)),
    "ReduceMean": (18, _integers_to_input("axes", 1)),
    "ReduceMax": (18, _integers_to_input("axes", 1)),
    "ReduceMin": (18, _integers_to_input("axes", 1)),
    "ReduceL1": (18, _integers_to_input("axes", 1)),
    "ReduceL2": (18, _integers_to_input("axes", 1)),
    "ReduceSumSquare": (18, _integers_to_input("axes", 1)),
    "ReduceProd": (18, _integers_to_input("axes", 1)),
    "ReduceSum": (13, _integers_to_input("axes", 1)),
    "Softmax": (13, _softmax),
    "LogSoftmax": (13, _softmax),
    "Hardmax": (13, _softmax),
    "BatchNormalization": (9, _batch_norm),
    "Resize": (11, _resize),
    "Upsample": (10, _upsample),
}


def normalize(source: SourceGraph) -> dict[ir.Node, Unsupported]:
    """Apply the rules of the file's operator set; returns the nodes that break one.

    Raises:
        UnsupportedModelError: the operator set is older or newer than those known.
    """
    opset = int(source.facts["opset"])
    if not OLDEST <= opset <= NEWEST:
        lever = (
            "convert with onnx.version_converter" if opset < OLDEST else f"export with operator set {NEWEST} or lower"
        )
        raise UnsupportedModelError(
            Diagnostic(
                "E-ONNX-OPSET",
                source.where,
                "the ONNX operator set is not supported",
                str(opset),
                f"{OLDEST} to {NEWEST}",
                (lever,),
            )
        )
    broken: dict[ir.Node, Unsupported] = {}
    for node in source.graph:
        rule = RULES.get(node.op_type) if node.domain == "" else None
        if rule is None or opset >= rule[0]:
            continue
        try:
            rule[1](node, opset)
        except Unsupported as problem:
            broken[node] = problem
    return broken
