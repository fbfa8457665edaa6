# SPDX-License-Identifier: Apache-2.0
"""Stages of a pipeline: what each computes, and once the pipeline is allocated, how and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor

from headrace.errors import Diagnostic, InternalError
from headrace.hef.kernel import Kernel
from headrace.hn import Network
from headrace.mapping.options import Option
from headrace.mapping.resources import Use, per_cluster, total, usable
from headrace.targets import Target
from headrace.timing.rows import Buffer
from headrace.timing.work import Flow, Plane, Work, flow_of

Shares = tuple[float, float, float]  # of control, compute and memory
ALL: Shares = (1.0, 1.0, 1.0)
UNLIMITED = 1 << 40  # more than all stages together can need


@dataclass(frozen=True)
class Stage:
    """What one stage computes: as the clock sees it and as the device does.

    Attributes:
        work: its rows and counts.
        kernel: its integers; None where a network is estimated that nothing was lowered of.
    """

    work: Work
    kernel: Kernel | None = None

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def lowered(self) -> Kernel:
        """The kernel of a stage that has to have one."""
        if self.kernel is None:
            rule = "the stage was made from counts alone"
            raise InternalError(Diagnostic("E-MAPPING-KERNEL", self.name, rule, "no kernel", "a lowered layer"))
        return self.kernel

    @property
    def loaded_bytes(self) -> int:
        """What is loaded with its context."""
        return self.work.weight_bytes if self.kernel is None else self.kernel.constant_bytes


@dataclass(frozen=True)
class StageGraph:
    """Stages in topological order, and the tensors that come from and go to the host or other contexts.

    Attributes:
        cuts: inputs and outputs that come from, or go to, other contexts.
    """

    stages: tuple[Stage, ...]
    inputs: tuple[Plane, ...]
    outputs: tuple[Plane, ...]
    cuts: tuple[str, ...] = ()

    @staticmethod
    def of_flow(flow: Flow) -> StageGraph:
        """Stages without kernels."""
        return StageGraph(tuple(Stage(work) for work in flow.works), flow.inputs, flow.outputs, flow.cuts)

    @cached_property
    def flow(self) -> Flow:
        """The graph as the clock sees it."""
        return Flow(tuple(s.work for s in self.stages), self.inputs, self.outputs, self.cuts)

    @property
    def works(self) -> tuple[Work, ...]:
        return self.flow.works

    @cached_property
    def last_readers(self) -> dict[str, int]:
        """The last stage that reads a tensor, of those that any does."""
        return {plane.tensor: index for index, work in enumerate(self.works) for plane in work.operands}

    @cached_property
    def _output_tensors(self) -> frozenset[str]:
        return frozenset(p.tensor for p in self.outputs)

    @cached_property
    def _host_tensors(self) -> frozenset[str]:
        return self._output_tensors | {p.tensor for p in self.inputs}

    def part(self, first: int, last: int) -> StageGraph:
        """Stages ``first`` … ``last - 1``; tensors that cross its ends become inputs and outputs.

        Costs what the part has, whatever the graph: a search over cuts asks for thousands.
        """
        works, readers = self.works[first:last], self.last_readers
        written = {w.output.tensor for w in works}
        ends, host = self._output_tensors, self._host_tensors
        inputs: dict[str, Plane] = {p.tensor: p for w in works for p in w.operands if p.tensor not in written}
        if first == 0:
            inputs |= {p.tensor: p for p in self.inputs if p.tensor not in readers}
        outputs = [w.output for w in works if w.output.tensor in ends or readers.get(w.output.tensor, -1) >= last]
        crossing = (*inputs.values(), *outputs)
        return StageGraph(
            self.stages[first:last],
            tuple(inputs.values()),
            tuple(outputs),
            tuple(p.tensor for p in crossing if p.tensor not in host),
        )


def stages_of(network: Network) -> StageGraph:
    """The stages of a network of any state, without kernels."""
    return StageGraph.of_flow(flow_of(network))


@dataclass(frozen=True)
class Limits:
    """What a context may use of the whole device; the host's side already taken off."""

    controllers: int
    subclusters: int
    memory_units: int
    activation_units: int = UNLIMITED
    input_aligners: int = UNLIMITED

    @property
    def values(self) -> Use:
        return self.controllers, self.subclusters, self.memory_units, self.activation_units, self.input_aligners


def limits_of(target: Target, graph: StageGraph, shares: Shares = ALL) -> Limits:
    """Limits of a device for one context; each of its inputs takes one controller.

    ``shares`` lower the ceilings of control, compute and memory.
    """
    totals = [target.clusters * n for n in per_cluster(target)]
    # The decimal that was written counts, so that 0.9 of 10 is 9.
    ceilings = [floor(t * Fraction(str(s))) for t, s in zip(totals, (*shares, 1, 1), strict=True)]
    allowed = [min(pair) for pair in zip(usable(target), ceilings, strict=True)]
    return Limits(allowed[0] - len(graph.inputs), *allowed[1:])


@dataclass(frozen=True)
class AllocatedStage:
    """How and where a stage is built.

    Attributes:
        stage: what it computes.
        option: the chosen way to build it.
        alternatives: all Pareto options, fastest first.
        buffer_units: memory units of its line buffers.
        use: what it takes, buffers included; a shared controller counts with the first of its stages.
        root: the stage whose controller it runs on, as a place in the pipeline; its own place: it has one for itself.
        cluster: where it lies; None where nothing was placed.
    """

    stage: Stage
    option: Option
    alternatives: Sequence[Option]
    buffer_units: int
    use: Use
    root: int
    cluster: int | None

    @property
    def placed_on(self) -> int:
        """The cluster of a stage that has to lie on one."""
        if self.cluster is None:
            rule = "the stage was allocated without a place"
            raise InternalError(Diagnostic("E-MAPPING-PLACE", self.name, rule, "no cluster", "one"))
        return self.cluster

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def work(self) -> Work:
        return self.stage.work


@dataclass(frozen=True)
class Allocation:
    """A pipeline that fits.

    Attributes:
        graph: what it computes.
        stages: how, in the same order.
        period: cycles per frame that it sustains (slowest stage, or the link).
        buffers: line buffers, works in order, operands in order, then the host's.
        latency: cycles of a frame that is alone in it.
        lower_bound: no choice of these options has a smaller frame time.
        limits: the device's.
        link_cycles: of the host link, per frame.
    """

    graph: StageGraph
    stages: tuple[AllocatedStage, ...]
    period: int
    buffers: tuple[Buffer, ...]
    latency: int
    lower_bound: int
    limits: Limits
    link_cycles: int

    @property
    def totals(self) -> Use:
        return total([s.use for s in self.stages])

    @property
    def options(self) -> list[Option]:
        return [s.option for s in self.stages]

    @property
    def roots(self) -> list[int]:
        return [s.root for s in self.stages]


@dataclass
class Shortage:
    """Why nothing fits: the most frugal choice and what it still needs.

    Attributes:
        need, have: per resource.
        uses: per stage, of the most frugal choice with the smallest buffers.
        unplaceable: all sums fit, but the stages do not divide over the clusters.
        impossible: names of stages of which no form fits a cluster.
    """

    need: Use
    have: Use
    uses: list[Use]
    unplaceable: bool
    impossible: list[str]
