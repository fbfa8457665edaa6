# SPDX-License-Identifier: Apache-2.0
"""ONNX files into the source graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.frontends.reader import Reader, Source
from headrace.hn.content import ONNX, content_of

if TYPE_CHECKING:
    from headrace.frontends.graph import SourceGraph
    from headrace.frontends.options import ParseOptions


class OnnxReader(Reader):
    """ONNX, operator sets 7 and later; weights in the file or beside it."""

    name = "onnx"
    title = "an ONNX model"
    framework = "onnx"
    suffixes = (".onnx",)

    def sniff(self, source: Source) -> bool:
        return content_of(source.head) is ONNX

    def read(self, source: Source, options: ParseOptions) -> SourceGraph:
        from headrace.frontends.formats.onnx.read import read_model

        return read_model(source, options)
