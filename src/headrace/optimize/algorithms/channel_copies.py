# SPDX-License-Identifier: Apache-2.0
"""Channels whose rounding decides the outputs are computed more than once, each copy rounded at another place.

Where a few channels of a narrow layer make most of the noise, more bits would have to be paid for by all. Instead such
a channel gets n copies whose thresholds lie 1/n step apart: ``round(y/s + o)`` with ``o = (2i + 1 - n) / 2n``, an
addend to the bias. Their mean has n times the resolution, real zero stays an exact code
(padding), and readers divide their weights by n. A depthwise reader is copied along, and whatever reads that takes the
mean. In real numbers nothing changes; the device needs nothing new.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.hn import Array, Layer, Network
from headrace.layers import Convolution, Convolving, Dense, DepthwiseConvolution
from headrace.layers.activation import GAIN, Activated
from headrace.layers.mac import KERNEL_SCALE
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, State
from headrace.optimize.freeze.context import ROUNDING_OFFSET
from headrace.optimize.measure.sensitivity import Sensitivity, channel_noise, predicted_noise
from headrace.optimize.statistics.collect import Statistics
from headrace.optimize.trial import Rewrite
from headrace.reports.optimize import Decision

#: Most multiply-accumulates that copies may add, as a part of the network's.
MOST_WORK = 0.1
MOST_COPIES = 4
#: A copy must be predicted to take away at least this part of the noise.
LEAST_SHARE = 0.005


class ChannelCopies(Algorithm):
    """Copies of the channels whose rounding decides noisy outputs."""

    name = "channel-copies"
    switch = "equalization"
    least_gain = 1.0  # copies cost

    def proposals(self, state: State) -> Proposals:
        bench, best = state.bench, state.best
        alone = bench.requests.not_scaled
        if not sites(best.prepared, alone):
            return []
        chosen = plans(best.prepared, best.tensors, bench.sensitivities(best.prepared), alone)
        if not chosen:
            return []
        network, statistics = apply(best.prepared, best.statistics, chosen)
        rule = "copies of channels changed the network's result"
        outcome = yield Rewrite(network, statistics, rule, self.name, best.tensors)
        otherwise = ": the outputs do not gain enough for the work"
        whole = outcome.decision(self.name, f"{len(chosen)} sites together", otherwise)
        return [whole, *_decisions(chosen, outcome.taken)]


@dataclass(frozen=True)
class Site:
    """A layer whose output channels can have copies.

    Attributes:
        root: convolution or dense layer.
        along: depthwise layers behind it that are copied along, in network order.
        readers: layers that take the mean of the copies.
        work: multiply-accumulates that one more channel costs in all of them.
    """

    root: str
    along: tuple[str, ...]
    readers: tuple[str, ...]
    work: float


@dataclass(frozen=True)
class Plan:
    """Copies at one site.

    Attributes:
        site: where.
        copies: int64 ``[C]``, 1 where a channel stays alone.
        before, after: predicted noise-to-signal ratio at the outputs from rounding the site's tensors.
    """

    site: Site
    copies: Array
    before: float
    after: float


def sites(network: Network, alone: frozenset[str] = frozenset()) -> list[Site]:
    """Every place where channels can have copies, in network order, without the layers in ``alone``."""
    found = [_site(network, layer) for layer in network.of(Convolution, Dense)]
    return [s for s in found if s is not None and alone.isdisjoint((s.root, *s.along, *s.readers))]


def _site(network: Network, root: Layer) -> Site | None:
    if _groups(root) != 1 or not _copyable(network, root):
        return None
    along: list[str] = []
    readers: list[str] = []
    waiting = [root]
    while waiting:
        for user in network.users(waiting.pop(0).name):
            if isinstance(user.operation, DepthwiseConvolution) and _copyable(network, user):
                along.append(user.name)
                waiting.append(user)
            elif _takes_mean(user):
                readers.append(user.name)
            else:
                return None
    channels = root.output_shape[-1]
    work = sum(_macs(network, network[name]) for name in (root.name, *along, *readers)) / channels
    return Site(root.name, tuple(along), tuple(readers), work)


def _copyable(network: Network, layer: Layer) -> bool:
    """Whether an addend to the bias moves the thresholds of the layer's codes, and nothing else has its channels."""
    attributes = layer.operation
    if len(layer.inputs) != 1 or layer.output.wish or f"{layer.name}/{GAIN}" in network.params:
        return False
    return isinstance(attributes, Activated) and attributes.clamp is not None and not attributes.by_sign


def _takes_mean(layer: Layer) -> bool:
    return isinstance(layer.operation, (Convolution, Dense)) and len(layer.inputs) == 1 and _one_group(layer)


def _one_group(layer: Layer) -> bool:
    return _groups(layer) == 1


def _macs(network: Network, layer: Layer) -> int:
    return layer.operation.counts(network.input_shapes(layer), layer.output_shape).macs


def plans(
    network: Network,
    tensors: Mapping[str, TensorQuantization],
    found: Mapping[str, Sensitivity],
    alone: frozenset[str] = frozenset(),
) -> list[Plan]:
    """Which channels get how many copies: the most predicted noise per work first, until the work is spent.

    The mean of n copies of a root's channel has 1/n² of the rounding noise; of a channel copied along, whose copies
    differ in their input's rounding too, 1/n.
    """
    places = [site for site in sites(network, alone) if all(name in found for name in (site.root, *site.along))]
    left = MOST_WORK * sum(_macs(network, layer) for layer in network if layer.inputs)
    least = LEAST_SHARE * sum(noise for _, noise in predicted_noise(found, tensors))
    own = [channel_noise(found[site.root], tensors[site.root]) for site in places]
    more = [
        sum((channel_noise(found[n], tensors[n]) for n in s.along), np.zeros_like(own[i])) for i, s in enumerate(places)
    ]
    copies = [np.ones(len(noise), np.int64) for noise in own]

    def saved(i: int, c: int) -> float:
        n = int(copies[i][c])
        return float(own[i][c] * (n**-2 - (n + 1) ** -2) + more[i][c] * (1 / n - 1 / (n + 1)))

    queue = [(-saved(i, c) / site.work, i, c) for i, site in enumerate(places) for c in range(len(own[i]))]
    heapq.heapify(queue)
    while queue:
        _, i, c = heapq.heappop(queue)
        if places[i].work > left or saved(i, c) < least:
            continue
        left -= places[i].work
        copies[i][c] += 1
        if copies[i][c] < MOST_COPIES:
            heapq.heappush(queue, (-saved(i, c) / places[i].work, i, c))
    return [
        Plan(site, n, float((a + b).sum()), float((a / n**2 + b / n).sum()))
        for site, n, a, b in zip(places, copies, own, more, strict=True)
        if n.max() > 1
    ]


def apply(network: Network, statistics: Statistics, chosen: Sequence[Plan]) -> tuple[Network, Statistics]:
    """A network with the copies, which means the same, and its statistics."""
    changed, seen = network.clone(), statistics.copy()
    for plan in chosen:
        index = np.repeat(np.arange(len(plan.copies)), plan.copies)
        share = plan.copies[index].astype(np.float64)
        number: Array = np.concatenate([np.arange(int(n)) for n in plan.copies])
        offset = ((2 * number + 1 - share) / (2 * share)).astype(np.float32)
        for name in (plan.site.root, *plan.site.along):
            _copy_outputs(changed, changed[name], index, offset)
            if name in seen.spans:
                seen.spans[name] = seen.spans[name][:, index]
        for name in plan.site.readers:
            key = f"{name}/kernel"
            kernel = changed.params[key]
            taken = np.take(kernel, index, axis=kernel.ndim - 2)
            changed.params[key] = (taken / share[:, None]).astype(np.float32)
            _set_shape(changed[name], taken.shape)
    return changed, seen


def _copy_outputs(network: Network, layer: Layer, index: Array, offset: Array) -> None:
    key = f"{layer.name}/kernel"
    kernel = np.ascontiguousarray(network.params[key][..., index])
    network.params[key] = kernel
    for name in ("bias", KERNEL_SCALE):
        if name in layer.params:
            network.params[f"{layer.name}/{name}"] = layer.params[name][index]
    network.params[f"{layer.name}/{ROUNDING_OFFSET}"] = offset
    layer.output_shape = (*layer.output_shape[:-1], len(index))
    if isinstance(layer.operation, DepthwiseConvolution):
        layer.operation = replace(layer.operation, groups=len(index), kernel_shape=kernel.shape)
    else:
        _set_shape(layer, kernel.shape)


def _groups(layer: Layer) -> int:
    return layer.operation.groups if isinstance(layer.operation, Convolving) else 1


def _set_shape(layer: Layer, shape: tuple[int, ...]) -> None:
    assert isinstance(layer.operation, (Convolving, Dense))
    layer.operation = replace(layer.operation, kernel_shape=shape)  # pyright: ignore[reportArgumentType]


def _decisions(chosen: Sequence[Plan], taken: bool) -> list[Decision]:
    """One decision per site."""
    return [
        Decision(
            name=ChannelCopies.name,
            layer=plan.site.root,
            chain=(plan.site.root, *plan.site.along, *plan.site.readers),
            accepted=taken,
            measure="predicted noise-to-signal ratio at the outputs from rounding these tensors",
            before=plan.before,
            after=plan.after,
            reason=f"{int((plan.copies > 1).sum())} of {len(plan.copies)} channels become {int(plan.copies.sum())}",
            copies=tuple(plan.copies.tolist()),
        )
        for plan in chosen
    ]


__all__ = ["ChannelCopies", "Plan", "Site", "apply", "plans", "sites"]
