# SPDX-License-Identifier: Apache-2.0
"""What a HEF carries beside its program, for our own run time: all that a file's outputs take beyond the device."""

from __future__ import annotations

from headrace.compiler.graph import output_tensors
from headrace.hef.container import NMS_RESOURCE, WHOLE_PREFIX
from headrace.hn import Network, nms, whole
from headrace.hn.archive import Archive


def carried(archive: Archive, network: Network) -> dict[str, bytes]:
    """Contents by name, layers called as the streams of the HEF are.

    Args:
        archive: with what makes boxes, and the steps of the whole model.
        network: quantized.
    """
    streams = {layer.name: tensor for layer, tensor in output_tensors(network)}
    found: dict[str, bytes] = {}
    if archive.nms is not None:
        found[NMS_RESOURCE] = nms.dumps(archive.nms.renamed(streams))
    if archive.whole is not None:
        found |= whole.to_files(archive.whole.with_layers(streams), WHOLE_PREFIX)
    return found
