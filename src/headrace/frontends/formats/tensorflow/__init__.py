# SPDX-License-Identifier: Apache-2.0
"""TensorFlow files into the source graph, without TensorFlow: frozen graphs, checkpoints with their meta graph, and
SavedModels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.frontends.reader import Reader, Source

if TYPE_CHECKING:
    from headrace.frontends.graph import SourceGraph
    from headrace.frontends.options import ParseOptions


class TensorflowReader(Reader):
    """A frozen graph, a checkpoint (its folder, its prefix, or any of its files), or a SavedModel."""

    name = "tensorflow"
    title = "a TensorFlow model"
    framework = "tensorflow"
    suffixes = (".pb", ".meta", ".index")
    has_signatures = True

    def sniff(self, source: Source) -> bool:
        from headrace.frontends.formats.tensorflow.places import is_place

        return is_place(source)

    def read(self, source: Source, options: ParseOptions) -> SourceGraph:
        from headrace.frontends.formats.tensorflow.graph import read_tensorflow

        return read_tensorflow(source, options)
