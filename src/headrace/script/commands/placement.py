# SPDX-License-Identifier: Apache-2.0
"""Lines for another compiler: placement, splits, buffers; and which of their values are layers."""

from __future__ import annotations

from headrace.script.forms import Form, hint

_PLAIN = "allocator_param buffer_calc_param hef_param optimize_buffers platform_param spatial_reshape_flow_params"
_EVERY_WORD_A_LAYER = (
    "bucket concat context ddr defuse_block feature_splitter join l4_portal merge mux_demux output_layer output_mux "
    "portal shortcut transpose_concat"
)

FORMS: tuple[Form, ...] = (
    *(hint(name) for name in _PLAIN.split()),
    *(hint(name, "0", (1, 64)) for name in ("compilation_param", "defuse")),
    hint("buffers", "0 1", (2, 64)),
    hint("format_conversion", "*-", (2, 64)),
    hint("shape_splitter", "1 2", (3, 3)),
    hint("place", "1", (2, 2)),
    *(hint(name, "*", (1, 64)) for name in _EVERY_WORD_A_LAYER.split()),
)

#: Commands of a handle: `context_0.place(...)`.
METHODS: tuple[Form, ...] = (hint("compilation_param"), hint("place", "1", (2, 2)))
