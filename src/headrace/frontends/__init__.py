# SPDX-License-Identifier: Apache-2.0
"""Model files into networks: one source graph, one way to HN, whatever the format."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.errors import missing_extra

if TYPE_CHECKING:
    from headrace.frontends.parse import ParseResult


def _need_packages() -> None:
    """The source graph of every format stands in containers of onnx-ir."""
    for module, package in (("onnx", "onnx"), ("onnx_ir", "onnx-ir")):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "sdk")


def parse_onnx(
    source: str | os.PathLike[str] | bytes,
    net_name: str | None = None,
    *,
    start_node_names: Sequence[str] | None = None,
    end_node_names: Sequence[str] | None = None,
    input_shapes: dict[str, list[int]] | list[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ParseResult:
    """Translate an ONNX model into a network (HN) with float32 parameters.

    Args:
        source: a path or the bytes of the model.
        net_name: name of the network, the scope of its layers; by default from the file's name.
        start_node_names: nodes whose data inputs become the network's inputs (tensor names are accepted too).
        end_node_names: nodes whose outputs become the network's outputs, in this order.
        input_shapes: source shapes of inputs whose sizes the file leaves open, by input name, or one for an only input.
        progress: called with source nodes done and in all.

    Raises:
        InputFileError: the file is missing, damaged, inconsistent or hostile.
        UsageError: an unknown node or input name, or sizes that nobody gave.
        UnsupportedModelError: lists every node that cannot be translated; has ``recommended_end_nodes``.
        MissingExtraError: onnx or onnx-ir is not installed.
    """
    _need_packages()
    from headrace.frontends.parse import parse_onnx as parse

    return parse(
        source, net_name, start_node_names=start_node_names, end_node_names=end_node_names, input_shapes=input_shapes,
        progress=progress,
    )  # fmt: skip


def parse_tflite(
    source: str | os.PathLike[str] | bytes,
    net_name: str | None = None,
    *,
    start_node_names: Sequence[str] | None = None,
    end_node_names: Sequence[str] | None = None,
    input_shapes: dict[str, list[int]] | list[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ParseResult:
    """Translate a float TFLite model (float32, or float16 weights) into a network (HN) with float32 parameters.

    TFLite operators have no names: an operator goes by the name of the first tensor that it makes.

    Args:
        source: a path or the bytes of the model.
        net_name: name of the network, the scope of its layers; by default from the file's name.
        start_node_names: operators whose data inputs become the network's inputs (tensor names are accepted too).
        end_node_names: operators whose outputs become the network's outputs, in this order.
        input_shapes: shapes (N, H, W, C) of inputs whose sizes the file leaves open, by input name, or one for the only
            input.
        progress: called with source nodes done and in all.

    Raises:
        InputFileError: the file is missing, damaged, inconsistent or hostile.
        UsageError: an unknown node or input name, or sizes that nobody gave.
        UnsupportedModelError: the file is quantised, or lists every operator that cannot be translated; the latter has
            ``recommended_end_nodes``.
        MissingExtraError: onnx or onnx-ir is not installed.
    """
    _need_packages()
    from headrace.frontends.parse import parse_tflite as parse

    return parse(
        source,
        net_name,
        start_node_names=start_node_names,
        end_node_names=end_node_names,
        input_shapes=input_shapes,
        progress=progress,
    )


__all__ = ["parse_onnx", "parse_tflite"]
