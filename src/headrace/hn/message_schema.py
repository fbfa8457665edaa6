# SPDX-License-Identifier: Apache-2.0
"""Message classes of Protocol Buffers from a table of fields, built at import: no generated code, no .proto file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[str, Any] = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "fixed32": _Field.TYPE_FIXED32,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,  # also every enum: same varint on the wire, unknown values are kept
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
#: message → ((field, number, type), …); type is a scalar or a message name, with "[]" behind it when repeated and "?"
#: when absence differs from zero. A map is a repeated message of a key and a value.
Messages = Mapping[str, tuple[tuple[str, int, str], ...]]


def _add_field(message: descriptor_pb2.DescriptorProto, package: str, name: str, number: int, kind: str) -> None:
    entry = message.field.add(name=name, number=number)
    base = kind.rstrip("[]?")
    entry.label = _Field.LABEL_REPEATED if kind.endswith("[]") else _Field.LABEL_OPTIONAL
    if base in _SCALARS:
        entry.type = _SCALARS[base]
    else:
        entry.type = _Field.TYPE_MESSAGE
        entry.type_name = f".{package}.{base}"
    if kind.endswith("?"):
        entry.proto3_optional = True
        entry.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def message_classes(package: str, messages: Messages) -> dict[str, Any]:
    """The classes of these messages by name, from a pool of their own: nothing leaks into the process-wide one."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for message_name, rows in messages.items():
        message = file.message_type.add(name=message_name)
        for field_name, number, kind in rows:
            _add_field(message, package, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{n}")) for n in messages}


__all__ = ["Messages", "message_classes"]
