# SPDX-License-Identifier: Apache-2.0
"""Linear convolutions of one tensor whose results are added become one convolution (RepVGG, MobileOne, RepConv).

Networks with parallel branches are trained so and meant to be merged before they are used; files exported without that
have three convolutions where one gives the same sums. A plain residual, one convolution and the tensor itself, is not
touched: it has a fused form of its own, and in the kernel its one would set the scale of every weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import Add, BatchNorm, Convolving, DepthwiseConvolution
from headrace.passes.fold_batch_norm import scale_offset
from headrace.passes.fuse_activation import take_activation
from headrace.passes.rewriting import Facts, Pass

_MAX_LEAVES = 64


@dataclass(frozen=True, eq=False)
class Branch:
    """One operand of a sum as a convolution of ``source``: its kernel [h, w, inputs of a group, outputs]."""

    source: str
    layer: Layer | None  # None: the source itself
    attributes: Convolving
    kernel: Array
    bias: Array

    @property
    def taps(self) -> list[list[int]]:
        """Per axis how far from an output's place each tap of the kernel reads."""
        a = self.attributes
        return [[i * a.dilations[k] - a.padding[k] for i in range(a.kernel_shape[k])] for k in (0, 1)]

    def inputs_of(self, output: int) -> int:
        """The first input channel that an output channel reads."""
        a = self.attributes
        return output * a.groups // a.kernel_shape[3] * a.kernel_shape[2]


def _pointwise(source: str, layer: Layer | None, scale: Array, offset: Array) -> Branch:
    channels = len(scale)
    attributes = DepthwiseConvolution(kernel_shape=(1, 1, 1, channels), groups=channels)
    return Branch(source, layer, attributes, scale.reshape(1, 1, 1, channels).astype(np.float64), offset)


class _Sum:
    """A tree of additions that nobody else reads: its root, its additions, and its operands.

    Layers that become needless are noted in ``gone`` and taken out of the network at the end, all at once.
    """

    def __init__(self, network: Network, root: Layer, users: dict[str, list[Layer]], gone: set[str]) -> None:
        self.network, self.root, self.users, self.gone = network, root, users, gone
        self.parents: dict[str, Layer] = {}  # operand → the addition that reads it
        self.leaves: list[str] = []
        self._collect(root)

    def _alone(self, name: str) -> bool:
        readers = self.users.get(name, [])
        return len(readers) == 1 and readers[0].inputs.count(name) == 1

    def is_inner(self, name: str) -> bool:
        layer = self.network[name]
        return isinstance(layer.operation, Add) and layer.operation.is_linear and self._alone(name)

    def _collect(self, root: Layer) -> None:
        waiting = [root]
        while waiting and len(self.leaves) <= _MAX_LEAVES:
            layer = waiting.pop()
            for name in layer.inputs:
                self.parents[name] = layer
                if self.is_inner(name):
                    waiting.append(self.network[name])
                else:
                    self.leaves.append(name)

    def branches(self) -> dict[str, list[Branch]]:
        """The operands that are convolutions of a tensor, and that tensor itself, by its name."""
        found: dict[str, list[Branch]] = {}
        for name in self.leaves:
            layer = self.network[name]
            if layer.output_shape != self.root.output_shape or not layer.operation.is_linear or not self._alone(name):
                continue
            a = layer.operation
            if isinstance(a, Convolving):
                kernel = self.network.param(layer, "kernel").astype(np.float64)
                bias = self.network.params.get(f"{name}/bias", np.zeros(kernel.shape[-1])).astype(np.float64)
                found.setdefault(layer.inputs[0], []).append(Branch(layer.inputs[0], layer, a, kernel, bias))
            elif isinstance(a, BatchNorm) and len(layer.output_shape) == 4:
                made = _pointwise(layer.inputs[0], layer, *scale_offset(self.network, layer))
                found.setdefault(layer.inputs[0], []).append(made)
        for name in dict.fromkeys(self.leaves):
            if name in found and self.leaves.count(name) == 1:
                channels = self.network[name].output_shape[-1]
                if self.network[name].output_shape == self.root.output_shape:
                    found[name].append(_pointwise(name, None, np.ones(channels), np.zeros(channels)))
        return found

    def drop(self, name: str) -> None:
        """Take an operand out of the sum; the addition that read it goes."""
        parent = self.parents.pop(name)
        other = next(n for n in parent.inputs if n != name)
        if parent is self.root:
            take_activation(self.network, self.network[other], parent)
            self.root = self.network[other]
        for reader in self.users.get(parent.name, []):
            self.network.replace(parent.output, self.network.value(other), [reader])
        self.users[other] = [u for u in self.users[other] if u is not parent] + self.users.pop(parent.name, [])
        self.users[name] = [u for u in self.users[name] if u is not parent]
        if parent.name in self.parents:
            self.parents[other] = self.parents.pop(parent.name)
        else:
            self.parents.pop(other, None)
        target = self.network[other]
        target.original_names += [n for n in parent.original_names if n not in target.original_names]
        self.gone.add(parent.name)


def _places(inner: Sequence[int], outer: Sequence[int]) -> list[int] | None:
    """Where each tap of ``inner`` is among ``outer``; None if one is not."""
    return [outer.index(t) for t in inner] if all(t in outer for t in inner) else None


def _added(host: Branch, other: Branch, kernel: Array) -> bool:
    """Add ``other`` to ``kernel``, which is that of ``host``, if every product of it has a place there."""
    if host.attributes.strides != other.attributes.strides:
        return False
    rows, columns = (_places(i, o) for i, o in zip(other.taps, host.taps, strict=True))
    if rows is None or columns is None:
        return False
    wide, narrow, outputs = host.kernel.shape[2], other.kernel.shape[2], host.kernel.shape[3]
    starts = [other.inputs_of(o) - host.inputs_of(o) for o in range(outputs)]
    if min(starts) < 0 or max(starts) + narrow > wide:
        return False
    made = np.zeros(kernel.shape)
    for output, start in enumerate(starts):
        made[np.ix_(rows, columns, range(start, start + narrow), [output])] = other.kernel[..., output : output + 1]
    kernel += made
    return True


@dataclass(frozen=True)
class MergeBranches(Pass):
    """Merge two or more convolutions of one tensor whose results are added, with the tensor itself and its multiples.

    Computed in float64. The one with the largest kernel takes the others; a branch with a tap or a channel that it does
    not have stays, so that no products are added.
    """

    name: ClassVar[str] = "merge-branches"

    def run(self, network: Network) -> list[Facts]:
        records: list[Facts] = []
        users: dict[str, list[Layer]] = {}
        for layer in network:
            for name in dict.fromkeys(layer.inputs):
                users.setdefault(name, []).append(layer)
        inner: set[str] = set()
        gone: set[str] = set()
        for root in reversed(network.of(Add)):
            if root.name in inner or root.name in gone:
                continue
            tree = _Sum(network, root, users, gone)
            inner.update(name for name in tree.parents if name not in tree.leaves)
            for branches in tree.branches().values():
                record = self._merge(network, tree, branches)
                if record is not None:
                    records.append(record)
        if gone:
            network.remove(*gone)
        return records[::-1]

    @staticmethod
    def _merge(network: Network, tree: _Sum, branches: list[Branch]) -> Facts | None:
        convolutions = [b for b in branches if b.layer is not None and isinstance(b.layer.operation, Convolving)]
        if len(convolutions) < 2:
            return None
        host = max(convolutions, key=lambda b: b.kernel.size)
        kernel, bias = host.kernel.copy(), host.bias.copy()
        merged: list[Branch] = []
        for branch in (*convolutions, *(b for b in branches if b not in convolutions)):
            multiple = branch not in convolutions
            if branch is host or (multiple and not merged) or not _added(host, branch, kernel):
                continue
            bias += branch.bias
            merged.append(branch)
        if not merged:
            return None
        assert host.layer is not None
        for branch in merged:
            name = branch.source if branch.layer is None else branch.layer.name
            tree.drop(name)
            if branch.layer is not None:
                host.layer.original_names += branch.layer.original_names
                tree.gone.add(name)
                tree.users[branch.source] = [u for u in tree.users[branch.source] if u is not branch.layer]
        network.params[f"{host.layer.name}/kernel"], network.params[f"{host.layer.name}/bias"] = kernel, bias
        return {"layer": host.layer.name, "merged": len(merged)}
