# SPDX-License-Identifier: Apache-2.0
"""Model files into networks: one source graph, one way to HN, whatever the format."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from headrace.errors import missing_extra
from headrace.frontends.options import ParseOptions
from headrace.frontends.reader import Given, Source

if TYPE_CHECKING:
    from headrace.frontends.parsing import ParseResult


def parse(model: Given, options: ParseOptions | None = None) -> ParseResult:
    """Translate a model into a network (HN) with float32 parameters.

    Its format is told by its content (:data:`headrace.frontends.formats.READERS`).

    Args:
        model: a path, or the bytes of a file.
        options: names, cuts and shapes; none by default.

    Raises:
        InputFileError: the file is missing, damaged, inconsistent or hostile, or of a format that is not expected.
        NotBuiltYetError: the file is of a format that is not read yet.
        UsageError: an unknown node or input name, or sizes that nobody gave.
        UnsupportedModelError: lists every node that cannot be translated; has ``recommended_end_nodes``.
        MissingExtraError: onnx or onnx-ir is not installed.
    """
    for module, package in (("onnx", "onnx"), ("onnx_ir", "onnx-ir")):  # containers of the source graph
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "sdk")
    from headrace.frontends.formats import reader_of
    from headrace.frontends.parsing import parse_source

    options = ParseOptions() if options is None else options
    source = Source.of(model)
    return parse_source(source, reader_of(source, options.framework), options)


__all__ = ["ParseOptions", "parse"]
