# SPDX-License-Identifier: Apache-2.0
"""The protobuf description inside a HEF, as message classes built at import.

Names are ours; field numbers and wire types are those of the public container (docs/formats/hef.md), so the bytes are
wire-compatible. There are no map fields, hence one serialization per message. Messages that a Headrace file never
contains (operations, post-processing ops, mux and plane layers) are left out: a reader keeps them as unknown fields
and :mod:`headrace.hef.container` refuses the files that have them where they would matter.
"""

from __future__ import annotations

from typing import Any

from headrace.hn.message_schema import message_classes

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


HefMessage: Any = message_classes("headrace.hef", MESSAGES)["Hef"]
