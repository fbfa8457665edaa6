# SPDX-License-Identifier: Apache-2.0
"""The network (HN), its JSON form and the archive (HAR) that carries it."""

from headrace.hn.network import Array, Layer, Network

__all__ = ["Array", "Layer", "Network"]
