# SPDX-License-Identifier: Apache-2.0
"""Nodes whose inputs are all known, whatever their operator: computed and removed.

Three ways, in this order: our own functions (:mod:`headrace.frontends.fold`, :mod:`headrace.frontends.fold_products`),
the reference implementation of the onnx package (:mod:`headrace.frontends.fold_reference`), nothing. Calls of
functions, control flow and operators whose result is random are never folded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from headrace.frontends import fold_choices, fold_codes, fold_products
from headrace.frontends.faults import faults_at
from headrace.frontends.fold import EVALUATORS, Budget, Operands, shape_of
from headrace.frontends.fold_reference import KNOWN, reference
from headrace.frontends.graph import SourceGraph, Unsupported, constant, label, marks, name_of, set_constant
from headrace.frontends.layout import MAX_RANK
from headrace.frontends.quantization import carry_grid
from headrace.frontends.standard import check_attributes_read
from headrace.hn import Array

_LOADED = (fold_choices, fold_codes, fold_products)  # imported for what it registers


def folds(node: ir.Node) -> bool:
    """Whether the node is computed where all its inputs are known."""
    return node.domain == "" and (node.op_type in EVALUATORS or node.op_type in KNOWN)


def evaluate(node: ir.Node, operands: Operands, budget: Budget) -> list[Array]:
    """The results of a node all of whose inputs are known.

    Raises:
        Unsupported: the operation is not one that folds, or its operands make no sense.
        InternalError: a function of ours met operands that it should have refused.
    """
    if not folds(node):
        raise Unsupported(f"{node.op_type} of constants is not folded")
    with faults_at(f"node {label(node)!r} ({node.op_type})"), np.errstate(all="ignore"):
        function = EVALUATORS.get(node.op_type, reference)
        results = [np.asarray(r) for r in function(node, operands, budget)]
    check_attributes_read(node)
    if any(r.dtype.kind not in "biuf" or r.ndim > MAX_RANK for r in results):
        raise Unsupported("the constant is not a numeric tensor")
    return results


def fold_shapes(source: SourceGraph, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Compute Shape of tensors whose whole shape is known, whatever it takes to compute the tensors themselves.

    Returns:
        What was computed, by name.
    """
    found: dict[str, Array] = {}
    for node in list(source.graph):
        value = node.inputs[0] if node.op_type == "Shape" and not node.domain and node.inputs else None
        shape = shapes.get(name_of(value))
        if value is not None and shape is not None and not node.outputs[0].is_graph_output():
            found[name_of(node.outputs[0])] = made = shape_of(node, shape)
            set_constant(node.outputs[0], made)
            source.graph.remove(node, safe=False)
    return found


def fold_constants(source: SourceGraph, budget: Budget) -> dict[str, Array]:
    """Compute and remove every node whose inputs are constants; those that do not fold stay and are reported later.

    Returns:
        What was computed, by name.
    """
    found: dict[str, Array] = {}
    for node in list(source.graph):
        inputs = [constant(v) for v in node.inputs]
        if any(a is None and v is not None for a, v in zip(inputs, node.inputs, strict=True)) or not folds(node):
            continue
        if any(v.is_graph_output() for v in node.outputs) or (not node.inputs and node.op_type != "Constant"):
            continue
        try:
            results = evaluate(node, inputs, budget)
        except Unsupported as refusal:
            marks(node)["unfolded"] = refusal
            continue
        for value, array in zip(node.outputs, results, strict=False):
            set_constant(value, array)
            found[name_of(value)] = array
        carry_grid(node)
        if len(results) >= len(node.outputs):
            source.folded += 1
            source.graph.remove(node, safe=False)
    return found
