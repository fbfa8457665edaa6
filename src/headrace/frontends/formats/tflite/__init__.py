# SPDX-License-Identifier: Apache-2.0
"""TFLite files into the source graph: a bounds-checked reader, and each operator said in ONNX words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.frontends.reader import Reader, Source
from headrace.hn.content import TFLITE, content_of

if TYPE_CHECKING:
    from headrace.frontends.graph import SourceGraph
    from headrace.frontends.options import ParseOptions


class TfliteReader(Reader):
    """TFLite with float32 tensors, or float16 weights.

    Operators have no names there: an operator goes by the name of the first tensor that it makes.
    """

    name = "tflite"
    title = "a TFLite model"
    framework = "tensorflow"
    suffixes = (".tflite",)

    def sniff(self, source: Source) -> bool:
        return content_of(source.head) is TFLITE

    def read(self, source: Source, options: ParseOptions) -> SourceGraph:
        from headrace.frontends.formats.tflite.graph import read_tflite

        return read_tflite(source, options)
