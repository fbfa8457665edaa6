# SPDX-License-Identifier: Apache-2.0
"""The messages of TensorFlow's files, as far as inference needs them.

Names are ours where they may be; field numbers and wire types are those of the public definitions (``graph.proto``,
``node_def.proto``, ``attr_value.proto``, ``tensor.proto``, ``function.proto``, ``meta_graph.proto``,
``saved_model.proto``, ``tensor_bundle.proto``). What is not listed is skipped by the parser. Maps are repeated entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.hn.message_schema import Messages, message_classes

MESSAGES: Messages = {
    "SavedModel": (("schema_version", 1, "int64"), ("meta_graphs", 2, "MetaGraph[]")),
    "MetaGraph": (
        ("info", 1, "MetaInfo"),
        ("graph", 2, "Graph"),
        ("saver", 3, "Saver"),
        ("signatures", 5, "SignatureEntry[]"),
    ),
    "MetaInfo": (("tags", 4, "string[]"), ("version", 5, "string")),
    "Saver": (("filename", 1, "string"), ("restore", 3, "string"), ("version", 7, "int32")),
    "SignatureEntry": (("key", 1, "string"), ("value", 2, "Signature")),
    "Signature": (("inputs", 1, "TensorEntry[]"), ("outputs", 2, "TensorEntry[]"), ("method", 3, "string")),
    "TensorEntry": (("key", 1, "string"), ("value", 2, "TensorInfo")),
    "TensorInfo": (("name", 1, "string"), ("dtype", 2, "int32"), ("shape", 3, "Shape?")),
    "Graph": (("nodes", 1, "Node[]"), ("library", 2, "Library"), ("versions", 4, "Versions")),
    "Versions": (("producer", 1, "int32"),),
    "Library": (("functions", 1, "Function[]"),),
    "Function": (
        ("signature", 1, "FunctionSignature"),
        ("nodes", 3, "Node[]"),
        ("results", 4, "WordEntry[]"),
    ),
    "WordEntry": (("key", 1, "string"), ("value", 2, "string")),
    "FunctionSignature": (("name", 1, "string"), ("inputs", 2, "Argument[]"), ("outputs", 3, "Argument[]")),
    "Argument": (("name", 1, "string"), ("dtype", 3, "int32")),
    "Node": (("name", 1, "string"), ("op", 2, "string"), ("inputs", 3, "string[]"), ("attributes", 5, "Entry[]")),
    "Entry": (("key", 1, "string"), ("value", 2, "Value")),
    "Value": (
        ("list", 1, "List?"),
        ("s", 2, "bytes?"),
        ("i", 3, "int64?"),
        ("f", 4, "float?"),
        ("b", 5, "bool?"),
        ("type", 6, "int32?"),
        ("shape", 7, "Shape?"),
        ("tensor", 8, "Tensor?"),
        ("function", 10, "Callee?"),
    ),
    "Callee": (("name", 1, "string"),),
    "List": (
        ("s", 2, "bytes[]"),
        ("i", 3, "int64[]"),
        ("f", 4, "float[]"),
        ("type", 6, "int32[]"),
        ("shapes", 7, "Shape[]"),
    ),
    "Shape": (("dims", 2, "Dimension[]"), ("unknown", 3, "bool")),
    "Dimension": (("size", 1, "int64"),),
    "Tensor": (
        ("dtype", 1, "int32"),
        ("shape", 2, "Shape"),
        ("content", 4, "bytes"),
        ("floats", 5, "float[]"),
        ("doubles", 6, "double[]"),
        ("ints", 7, "int32[]"),
        ("strings", 8, "bytes[]"),
        ("complexes", 9, "float[]"),
        ("int64s", 10, "int64[]"),
        ("bools", 11, "bool[]"),
        ("halves", 13, "int32[]"),
        ("uint32s", 16, "uint32[]"),
        ("uint64s", 17, "uint64[]"),
    ),
    "BundleHeader": (("shards", 1, "int32"), ("endianness", 2, "int32")),
    "BundleEntry": (
        ("dtype", 1, "int32"),
        ("shape", 2, "Shape"),
        ("shard", 3, "int32"),
        ("offset", 4, "int64"),
        ("size", 5, "int64"),
        ("crc", 6, "fixed32"),
        ("slices", 7, "Slice[]"),
    ),
    "Slice": (("extents", 1, "Extent[]"),),
    "Extent": (("start", 1, "int64"), ("length", 2, "int64?")),
}


_CLASSES = message_classes("headrace.tensorflow", MESSAGES)
GraphMessage: Any = _CLASSES["Graph"]
MetaGraphMessage: Any = _CLASSES["MetaGraph"]
SavedModelMessage: Any = _CLASSES["SavedModel"]
BundleHeaderMessage: Any = _CLASSES["BundleHeader"]
BundleEntryMessage: Any = _CLASSES["BundleEntry"]

#: Names of element types by their number; 100 and more are references to variables of the type.
TYPES: dict[int, str] = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16", 16: "quint16",
    17: "uint16", 18: "complex128", 19: "float16", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64",
}  # fmt: skip
#: Types that are read as constants, little-endian; bfloat16 by its bits.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"), "float64": np.dtype("<f8"), "int32": np.dtype("<i4"), "uint8": np.dtype("u1"),
    "int16": np.dtype("<i2"), "int8": np.dtype("i1"), "int64": np.dtype("<i8"), "bool": np.dtype("?"),
    "uint16": np.dtype("<u2"), "float16": np.dtype("<f2"), "uint32": np.dtype("<u4"), "uint64": np.dtype("<u8"),
    "bfloat16": np.dtype("<u2"), "qint8": np.dtype("i1"), "quint8": np.dtype("u1"), "qint32": np.dtype("<i4"),
}  # fmt: skip


def type_name(number: int) -> str:
    """The name of an element type; a reference to a variable is the type of what it refers to."""
    number = number - 100 if number > 100 else number
    return TYPES.get(number, f"type{number}")


__all__ = [
    "NUMPY_TYPES",
    "BundleEntryMessage",
    "BundleHeaderMessage",
    "GraphMessage",
    "MetaGraphMessage",
    "SavedModelMessage",
    "type_name",
]
