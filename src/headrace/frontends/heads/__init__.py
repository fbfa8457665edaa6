# SPDX-License-Identifier: Apache-2.0
"""Detection heads, recognized from the graph: what a file computes, never how its tensors are called.

Each file here is a family and registers itself; the first one whose formula gives the file's own boxes and scores is
the head's. The device part ends before the decoding, and the native library makes boxes of what it gives.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field

from headrace.frontends.graph import SourceGraph, label, name_of
from headrace.frontends.heads.further import with_further
from headrace.frontends.heads.head import FAMILIES, WhyNot, operands_of
from headrace.frontends.heads.selected import selected
from headrace.frontends.heads.tail import NoTail, Tail, find_tail
from headrace.hn.nms import NmsConfiguration


@dataclass(frozen=True)
class Head:
    """A recognized head.

    Attributes:
        configuration: what makes boxes; its tensors and layers are called as in the file.
        ends: tensors at which the device part ends; empty where it ends with the file's own outputs.
        nodes: labels of the nodes behind them.
    """

    configuration: NmsConfiguration
    ends: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


#: Families whose near misses are detectors for certain.
_CHOOSE = ("chosen", "detr", "priors")


@dataclass(frozen=True)
class NoHead:
    """Why none was recognized: of each family its reason."""

    reasons: dict[str, WhyNot] = field(default_factory=dict[str, WhyNot])

    @property
    def told(self) -> str:
        """A sentence for the user where the file is a detector that chooses its boxes, but of no known formula."""
        near = [found.reason for name, found in sorted(self.reasons.items()) if name in _CHOOSE and found.near]
        return f"no boxes are made of the outputs, which the file decodes itself: {near[0]}" if near else ""


def _load_families() -> None:
    for module in sorted(one.name for one in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")


def recognize(source: SourceGraph) -> Head | NoHead:
    """The detection head that a network ends in.

    Args:
        source: its constants folded and its outputs those of the file; not changed.
    """
    _load_families()
    try:
        tail = find_tail(source)
    except NoTail as reason:
        return NoHead({"": WhyNot(str(reason))})
    reasons: dict[str, WhyNot] = {}
    for name, family in sorted(FAMILIES.items()):  # whatever imports which
        found = family(tail)
        if isinstance(found, NmsConfiguration):
            return _head(tail, selected(tail, with_further(tail, found)))
        reasons[name] = found
    return NoHead(reasons)


def _head(tail: Tail, configuration: NmsConfiguration) -> Head:
    outputs = {name_of(v) for v in tail.source.graph.outputs}
    if all(one.name in outputs for one in configuration.tensors):
        return Head(configuration)
    return Head(configuration, _ends(tail, configuration), tuple(dict.fromkeys(label(n) for n in tail.nodes)))


def _ends(tail: Tail, configuration: NmsConfiguration) -> tuple[str, ...]:
    """The learned results, level by level: boxes, scores, objectness, what else a level has; then all others."""
    ends: dict[str, None] = {}
    for decoder in configuration.decoders:
        ends.update({configuration.tensors[o.tensor].name: None for o in operands_of(decoder)})
        ends.update({one.name: None for one in tail.learned if one.grid == decoder.grid})
    return (*ends, *(one.name for one in tail.learned if one.name not in ends))


__all__ = ["Head", "NoHead", "recognize"]
