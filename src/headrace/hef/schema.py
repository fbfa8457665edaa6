# SPDX-License-Identifier: Apache-2.0
"""The protobuf description inside a HEF, as message classes built at import.

Names are ours; field numbers and wire types are those of the public container (docs/formats/hef.md), so the bytes are
wire-compatible. There are no map fields, hence one serialization per message. Messages that a Headrace file never
contains (operations, post-processing ops, mux and plane layers) are left out: a reader keeps them as unknown fields
and :mod:`headrace.hef.container` refuses the files that have them where they would matter.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "headrace.hef"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[str, Any] = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,  # also every enum: same varint on the wire, unknown values are kept
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}

# message -> ((field, number, type), ...); type is a scalar or a message name, with "[]" behind it when repeated and
# "?" when absence differs from zero.
MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Hef": (
        ("header", 1, "Header"),
        ("network_groups", 2, "NetworkGroup[]"),
        ("mapping", 3, "bytes"),
        ("extensions", 5, "Extension[]"),
        ("optional_extensions", 6, "Extension[]"),
        ("external_resources", 7, "ExternalResource[]"),
    ),
    "Header": (
        ("hw_arch", 1, "int32"),
        ("timestamp", 2, "uint64"),
        ("sdk_version", 3, "string"),
        ("version", 4, "uint64"),
    ),
    "Extension": (("type_index", 1, "uint32"), ("name", 2, "string")),
    "ExternalResource": (("offset", 1, "uint64"), ("size", 2, "uint64"), ("name", 3, "string")),
    "NetworkGroup": (
        ("metadata", 1, "NetworkGroupMetadata"),
        ("preliminary_config", 2, "Opaque"),
        ("contexts", 3, "Context[]"),
        ("sorted_outputs_order", 4, "string[]"),
        ("fused_layers_metadata", 5, "Opaque"),
        ("networks_names", 6, "string[]"),
        ("partial_network_groups", 7, "Opaque[]"),
        ("ops", 8, "Opaque[]"),
        ("pad_edges", 9, "Opaque[]"),
        ("network_group_name", 10, "string"),
    ),
    "NetworkGroupMetadata": (
        ("network_group_name", 1, "string"),
        ("network_group_index", 2, "uint32"),
        ("transposed_net", 3, "bool"),
        ("bottleneck_fps", 4, "double"),
        ("cfg_channels_count", 5, "uint32"),
        ("latency", 6, "double"),
    ),
    "Context": (("context_index", 1, "uint32"), ("operations", 2, "Opaque[]"), ("metadata", 3, "ContextMetadata")),
    "ContextMetadata": (
        ("name", 1, "string"),
        ("edge_layers", 2, "EdgeLayer[]"),
        ("sorted_outputs_order", 5, "string[]"),
    ),
    "EdgeLayer": (
        ("direction", 1, "int32"),
        ("edge_layer_type", 2, "int32"),
        ("layer_info", 3, "EdgeLayerInfo"),
        ("context_switch_info", 5, "ContextSwitchInfo"),
        ("network_index", 6, "uint32"),
        ("pad_index", 7, "uint32?"),
    ),
    "ContextSwitchInfo": (("edge_connection_type", 3, "int32"),),
    "EdgeLayerInfo": (
        ("name", 1, "string"),
        ("edge_layer_base", 2, "EdgeLayerBase"),
        ("numeric_info", 3, "NumericInfo"),
        ("hn_output_layer_name", 4, "string"),
        ("original_names", 5, "string[]"),
        ("transposed", 6, "bool"),
    ),
    "EdgeLayerBase": (
        ("height", 1, "uint32"),
        ("padded_height", 2, "uint32"),
        ("width", 3, "uint32"),
        ("padded_width", 4, "uint32"),
        ("features", 5, "uint32"),
        ("padded_features", 6, "uint32"),
        ("format", 7, "int32"),
        ("sys_index", 8, "uint32"),
        ("core_bytes_per_buffer", 9, "uint32"),
        ("core_buffers_per_frame", 10, "uint32"),
        ("data_bytes", 12, "uint32"),
        ("buffer_indices", 13, "BufferIndex[]"),
        ("host_argmax", 14, "bool"),
        ("engine_id", 16, "uint32"),
    ),
    "BufferIndex": (("index", 1, "uint32"), ("cluster_index", 2, "uint32")),
    "NumericInfo": (
        ("qp_zp", 1, "float"),
        ("qp_scale", 2, "float"),
        ("limvals_min", 3, "float"),
        ("limvals_max", 4, "float"),
        ("qp_zps", 5, "double[]"),
        ("qp_scales", 6, "double[]"),
    ),
    "Opaque": (),  # contents are never looked at, only whether the field is there
}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    entry = message.field.add(name=name, number=number)
    base = kind.rstrip("[]?")
    entry.label = _Field.LABEL_REPEATED if kind.endswith("[]") else _Field.LABEL_OPTIONAL
    if base in _SCALARS:
        entry.type = _SCALARS[base]
    else:
        entry.type = _Field.TYPE_MESSAGE
        entry.type_name = f".{_PACKAGE}.{base}"
    if kind.endswith("?"):
        entry.proto3_optional = True
        entry.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _build() -> Any:
    """The class of the outermost message, from a pool of our own so that nothing leaks into the process-wide one."""
    file = descriptor_pb2.FileDescriptorProto(name="headrace/hef.proto", package=_PACKAGE, syntax="proto3")
    for message_name, rows in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, number, kind in rows:
            _add_field(message, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Hef"))


HefMessage: Any = _build()
