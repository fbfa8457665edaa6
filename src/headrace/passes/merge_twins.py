# SPDX-License-Identifier: Apache-2.0
"""Layers that compute the same of the same: files write a part twice where a program called a function twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.passes.rewriting import Facts, Pass


def _equal(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    if first.keys() != second.keys():
        return False
    return all(a.dtype == second[key].dtype and np.array_equal(a, second[key]) for key, a in first.items())


@dataclass(frozen=True)
class MergeTwins(Pass):
    """Keep the first of layers with one operation, the same inputs, equal parameters and one wish of precision."""

    name: ClassVar[str] = "merge-twins"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        seen: dict[tuple[str, tuple[str, ...]], list[Layer]] = {}
        for layer in list(network):
            if layer.operation.is_boundary or not layer.inputs:
                continue
            alike = seen.setdefault((repr(layer.operation), layer.inputs), [])
            twin = next((t for t in alike if t.wish == layer.wish and _equal(t.params, layer.params)), None)
            if twin is None:
                alike.append(layer)
                continue
            network.redirect(layer.name, twin.name)  # layers behind it come later, and find their twins in turn
            twin.original_names += [o for o in layer.original_names if o not in twin.original_names]
            records.append({"layer": twin.name, "merged": layer.name})
        network.remove(*(str(record["merged"]) for record in records))
        return records
