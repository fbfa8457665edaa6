# SPDX-License-Identifier: Apache-2.0
"""Keras files into the source graph, without Keras: each layer said in ONNX words, under its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.frontends.reader import Reader, Source

if TYPE_CHECKING:
    from headrace.frontends.graph import SourceGraph
    from headrace.frontends.options import ParseOptions

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"


class KerasReader(Reader):
    """Models as Keras 3 saves them (``.keras``, a zip file) and as Keras 2 and 3 save them (``.h5``, HDF5)."""

    name = "keras"
    title = "a Keras model"
    framework = "tensorflow"
    suffixes = (".keras", ".h5", ".hdf5")

    def sniff(self, source: Source) -> bool:
        if source.head.startswith(_HDF5):
            return True
        if not source.head.startswith(_ZIP):
            return False
        from headrace.frontends.formats.keras.archive import CONFIG, members

        return CONFIG in members(source)

    def read(self, source: Source, options: ParseOptions) -> SourceGraph:
        from headrace.frontends.formats.keras.graph import read_keras

        return read_keras(source, options)
