# SPDX-License-Identifier: Apache-2.0
"""Nodes that nothing runs, neither the device nor the host, and what of the file is left without them.

Where the device depends on what such a node makes, that is an input of the whole model; what depends on it otherwise
is not computed, and the tensors that it reads are outputs in place of those that need it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from headrace.frontends.graph import Reason
from headrace.frontends.largest_part import Side
from headrace.frontends.partition import File, Part
from headrace.hn.whole import DeviceStep

_SHOWN = 6


@dataclass
class Lost:
    """What is not computed.

    Attributes:
        dead: nodes that nothing runs, by number.
        reasons: the same and all others that are not computed → why.
        inputs: tensors that enter the whole model since the nodes that make them are not run.
        outputs: of the whole model: those of the file that are left, then tensors that the dead nodes read.
        gone: outputs of the file that are not computed.
        unread: inputs of the file that only dead nodes need.
    """

    dead: tuple[int, ...] = ()
    reasons: dict[int, Reason] = field(default_factory=dict[int, Reason])
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def told(self, file: File) -> str:
        """A sentence for the report; empty where all is computed."""
        if not self.dead:
            return ""
        named = [f"{file.nodes[i].operator} (node {file.nodes[i].label!r})" for i in self.dead]
        runs = "runs" if len(named) == 1 else "run"
        reason = file.nodes[self.dead[0]].refusal
        text = f"{_some(named, quoted=False)} {runs} neither on the device nor on the host: {reason}"
        added = [name for name in self.outputs if name not in file.model.outputs]
        if self.gone:
            text += f"; not computed: {_plural(self.gone, 'output')} {_some(self.gone)}"
            text += f"; in place of them the whole model gives {_some(added)}" if added else ""
        if self.inputs:
            text += f"; the whole model takes {_some(self.inputs)} in place of what would make them"
        return f"{text}; --device-only refuses that"


def _plural(names: Sequence[str], word: str) -> str:
    return word if len(names) == 1 else f"{word}s"


def _some(names: Sequence[str], quoted: bool = True) -> str:
    shown = ", ".join(repr(n) if quoted else n for n in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def what_is_lost(part: Part, device: DeviceStep) -> Lost:
    """What of a file cannot be computed around the part on the device.

    Args:
        part: of the file.
        device: its step.
    """
    file = part.file
    ours = {label for operator in file.source.host_operators for label in operator.nodes}
    dead = [
        node.index
        for node in file.nodes
        if node.refusal and not file.free[node.index] and part.sides[node.index] is not Side.INSIDE
        and node.label not in ours
    ]  # fmt: skip
    if not dead:
        return Lost(outputs=tuple(file.model.outputs))
    return _lost(part, device, dead)


def _lost(part: Part, device: DeviceStep, dead: Sequence[int]) -> Lost:
    file, bad = part.file, set(dead)
    maker = {name: node.index for node in file.nodes for name in node.makes}
    entries = _above(file, maker, device.inputs, bad, ()) & bad
    read = {n for node in file.nodes if node.index not in bad for n in node.reads} | {*device.inputs}
    inputs = [n for i in sorted(entries) for n in file.nodes[i].makes if n in read]
    there = {*device.outputs, *inputs, *file.constants}
    reasons: dict[int, Reason] = {}
    cause: dict[str, str] = {}
    for node in file.nodes:
        origin = node.label
        if node.index in bad:
            reasons[node.index] = Reason(f"nothing runs it: {node.refusal}", "operators of the ONNX standard")
        else:
            origin = next((cause[n] for n in node.reads if n in cause and n not in there), "")
            if not origin or part.sides[node.index] is Side.INSIDE:
                continue
            reasons[node.index] = Reason(f"it depends on {origin!r}, which nothing runs")
        if node.index not in entries:
            cause.update((name, origin) for name in node.makes if name not in there)
    gone = [n for n in file.model.outputs if n in cause]
    made = {*maker} - {*cause}
    added = [
        name for i in reasons if i not in entries for name in file.nodes[i].reads
        if name in made and name not in file.constants and name not in inputs and not file.free[maker[name]]
    ]  # fmt: skip
    kept = [n for n in file.model.outputs if n not in cause]
    outputs = tuple(dict.fromkeys([*kept, *added]))
    needed = _above(file, maker, [*device.inputs, *outputs], bad, inputs)
    for node in file.nodes:  # what only leads to dead nodes
        i = node.index
        if i not in needed and i not in reasons and not file.free[i] and part.sides[i] is not Side.INSIDE:
            reasons[i] = Reason("only nodes need it that nothing runs")
    all_reads = {n for i in needed for n in file.nodes[i].reads} | {*device.inputs, *outputs}
    unread = [n for n in file.model.inputs if n not in all_reads] if entries else []
    return Lost(tuple(dead), reasons, tuple(inputs), outputs, tuple(gone), tuple(unread))


def _above(
    file: File, maker: dict[str, int], wanted: Iterable[str], stop: Collection[int], there: Collection[str]
) -> set[int]:
    """Nodes that tensors depend on, back to nodes at which to stop and to tensors that are there."""
    found: set[int] = set()
    waiting = [name for name in wanted if name not in there]
    while waiting:
        index = maker.get(waiting.pop())
        if index is not None and index not in found:
            found.add(index)
            if index not in stop:
                waiting += [n for n in file.nodes[index].reads if n not in file.constants and n not in there]
    return found


__all__ = ["Lost", "what_is_lost"]
