# SPDX-License-Identifier: Apache-2.0
"""Normalizations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts
from headrace.frontends.graph import Unsupported


@converts("BatchNormalization", "SyncBatchNormalization")
def batch_normalization(call: LayerCall) -> Tensor:
    x = call.x
    axis = call.axis("axis", x.rank)
    if call.flag("renorm"):
        call.option("renorm_clipping")
    channels = x.size(axis)
    gamma, beta = call.flag("scale", True), call.flag("center", True)
    arrays = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
    index = 0
    for place, present, what in ((0, gamma, "scale"), (1, beta, "offset")):
        if present:
            arrays[place], index = call.weight(index, [channels], what), index + 1
    arrays += [call.weight(index, [channels], "mean"), call.weight(index + 1, [channels], "variance")]
    constants = [call.make(a) for a in arrays]
    attributes = {"epsilon": call.real("epsilon", 1e-3)}
    if axis == 1:
        return Tensor(call.emit("BatchNormalization", [x.value, *constants], attributes), x.shape)
    order = [0, axis, *(i for i in range(1, x.rank) if i != axis)]
    image = call.channels_second(x) if axis == x.rank - 1 else call.transposed(x.value, order)
    value = call.emit("BatchNormalization", [image, *constants], attributes)
    return Tensor(call.transposed(value, np.argsort(order).tolist()), x.shape)


@converts("LayerNormalization")
def layer_normalization(call: LayerCall) -> Tensor:
    x = call.x
    axes = call.axes("axis", x.rank)
    if not axes or axes != list(range(axes[0], x.rank)) or axes[0] == 0:
        raise Unsupported(f"dimensions {axes} of a tensor of rank {x.rank}", "the last dimensions")
    shape = [x.size(a) for a in axes]
    scaled = call.flag("rms_scaling")
    gamma, beta = call.flag("scale", True) or scaled, call.flag("center", True) and not scaled
    scale = call.weight(0, shape, "scale") if gamma else np.ones(shape, np.float32)
    offset = call.weight(int(gamma), shape, "offset") if beta else None
    attributes = {"axis": axes[0], "epsilon": call.real("epsilon", 1e-3)}
    if scaled:
        raise Unsupported("rms_scaling, which takes the variance about the mean", "layers.RMSNormalization")
    inputs = [x.value, call.make(scale), *([call.make(offset)] if offset is not None else [])]
    return Tensor(call.emit("LayerNormalization", inputs, attributes), x.shape)


@converts("RMSNormalization")
def root_mean_square(call: LayerCall) -> Tensor:
    x = call.x
    axes = call.axes("axis", x.rank)
    if not axes or axes != list(range(axes[0], x.rank)) or axes[0] == 0:
        raise Unsupported(f"dimensions {axes} of a tensor of rank {x.rank}", "the last dimensions")
    scale = call.weight(0, [x.size(a) for a in axes], "scale")
    attributes = {"axis": axes[0], "epsilon": call.real("epsilon", 1e-6)}
    return Tensor(call.emit("RMSNormalization", [x.value, call.make(scale)], attributes), x.shape)


@converts("GroupNormalization")
def group_normalization(call: LayerCall) -> Tensor:
    x = call.x
    axis = call.axis("axis", x.rank)
    channels, groups = x.size(axis), call.integer("groups", 32, least=-1)
    groups = channels if groups == -1 else groups
    if groups < 1 or channels % groups or axis not in (1, x.rank - 1):
        raise Unsupported(f"{groups} groups of {channels} channels on axis {axis}", "groups that divide the channels")
    gamma, beta = call.flag("scale", True), call.flag("center", True)
    scale = call.weight(0, [channels], "scale") if gamma else np.ones(channels, np.float32)
    offset = call.weight(int(gamma), [channels], "offset") if beta else np.zeros(channels, np.float32)
    image = x.value if axis == 1 else call.channels_second(x)
    attributes = {"num_groups": groups, "epsilon": call.real("epsilon", 1e-3)}
    value = call.emit("GroupNormalization", [image, call.make(scale), call.make(offset)], attributes)
    return Tensor(value if axis == 1 else call.channels_last(value, x.rank), x.shape)


def unit_length(call: LayerCall, value: ir.Value, axis: int) -> ir.Value:
    return call.emit("LpNormalization", [value], {"axis": axis, "p": 2})


@converts("UnitNormalization")
def unit_normalization(call: LayerCall) -> Tensor:
    return Tensor(unit_length(call, call.x.value, call.axis("axis", call.x.rank)), call.x.shape)


@converts("LayerScale")
def layer_scale(call: LayerCall) -> Tensor:
    """A factor per channel, as ConvNeXt of keras.applications has it."""
    scale = call.weight(0, [call.integer("projection_dim")], "scale")
    call.ignore("init_values")
    return Tensor(call.emit("Mul", [call.x.value, call.make(scale)]), call.x.shape)
