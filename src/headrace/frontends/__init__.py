# SPDX-License-Identifier: Apache-2.0
"""Model files into networks: one source graph, one way to HN, whatever the format."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from headrace.errors import missing_extra
from headrace.frontends.options import ParseOptions
from headrace.frontends.reader import Given, Source, check_takes_signature

if TYPE_CHECKING:
    from headrace.frontends.parsing import ParseResult
    from headrace.frontends.reader import Reader
    from headrace.frontends.tracing import Trace


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
    from headrace.frontends.parsing import parse_source

    return parse_source(*_opened(model, options))


def trace(model: Given, options: ParseOptions | None = None) -> Trace:
    """As :func:`parse`, and where each tensor of the file lies in the network before passes change it."""
    from headrace.frontends.tracing import trace_source

    return trace_source(*_opened(model, options))


def _opened(model: Given, options: ParseOptions | None) -> tuple[Source, Reader, ParseOptions]:
    for module, package in (("onnx", "onnx"), ("onnx_ir", "onnx-ir")):  # containers of the source graph
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "sdk")
    from headrace.frontends.formats import reader_of

    options = ParseOptions() if options is None else options
    source = Source.of(model)
    reader = reader_of(source, options.framework)
    check_takes_signature(reader, options.signature)
    return source, reader, options


__all__ = ["Given", "ParseOptions", "parse", "trace"]
