# SPDX-License-Identifier: Apache-2.0
"""What a sequence of contexts costs: weights load over the link, in part while the context before still runs.

A context's turn takes, for a batch of B frames,

    max(run, streams + preload) + rest + switch

with run = latency + (B − 1) · frame time of its pipeline; streams what the batch's own tensors keep the link busy;
preload the part of the *next* context's weights for which the running one leaves memory free; rest what of them has to
wait until it has ended. The last context is followed by the first of the next batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.mapping.stages import Allocation
from headrace.targets import Target
from headrace.timing.rates import ceil_div

NANOSECONDS = 1_000_000_000


def load_cycles(size: int, target: Target) -> int:
    """Cycles in which the host link brings ``size`` bytes of weights."""
    return ceil_div(size * target.clock_hz, target.link_bytes_per_second)


def switch_cycles(target: Target) -> int:
    """Fixed cycles of one change of context."""
    return ceil_div(target.context_switch_ns * target.clock_hz, NANOSECONDS)


@dataclass(frozen=True)
class ContextPlan:
    """One context.

    Attributes:
        first, last: stages ``first`` … ``last - 1`` of the whole graph.
        allocation: its pipeline.
        weight_bytes: what has to be there when it starts.
        reload_cycles: of the link, for all of them.
        free_cycles: of the link, for as many bytes as the pipeline leaves memory free.
        cut_input_bytes, cut_output_bytes: per frame, from and for other contexts.
    """

    first: int
    last: int
    allocation: Allocation
    weight_bytes: int
    reload_cycles: int
    free_cycles: int
    cut_input_bytes: int
    cut_output_bytes: int

    def run_cycles(self, batch: int) -> int:
        """Cycles from the batch's first row leaving the host to its last one being back."""
        return self.allocation.latency + (batch - 1) * self.allocation.period

    def stream_cycles(self, batch: int) -> int:
        """Cycles that the batch's inputs, outputs and cut tensors keep the link busy."""
        return batch * self.allocation.link_cycles


@dataclass(frozen=True)
class Turn:
    """What one context's turn is made of, in cycles.

    Attributes:
        run: the batch through the pipeline.
        loaded_ahead: link time of the part of this context's weights that came while the context before ran.
        waited: how long the rest of this context's weights kept everything waiting.
        overrun: how much longer than the run it took to load ahead for the context after.
        switch: the fixed time.
    """

    run: int
    loaded_ahead: int
    waited: int
    overrun: int
    switch: int

    @property
    def cycles(self) -> int:
        return self.run + self.waited + self.overrun + self.switch


@dataclass(frozen=True)
class Partition:
    """Contexts in order.

    Attributes:
        batch: frames between two switches.
        lower_bound: no sequence of the candidate cuts takes fewer cycles per batch.
        candidates: cuts that were considered.
        evaluations: exact allocations that were made.
        optimal: the search ended by itself: nothing among the candidates is cheaper with the pipelines that were made.
        switch: fixed cycles of one change of context.
    """

    contexts: tuple[ContextPlan, ...]
    batch: int
    lower_bound: int
    candidates: int
    evaluations: int
    optimal: bool
    switch: int = 0

    def turns(self, batch: int) -> list[Turn]:
        """Every context's turn in the steady state."""
        found: list[Turn] = []
        for i, context in enumerate(self.contexts):
            before, after = self.contexts[i - 1], self.contexts[(i + 1) % len(self.contexts)]
            ahead = min(context.reload_cycles, before.free_cycles)
            next_ahead = min(after.reload_cycles, context.free_cycles)
            run = context.run_cycles(batch)
            overrun = max(0, context.stream_cycles(batch) + next_ahead - run)
            found.append(Turn(run, ahead, context.reload_cycles - ahead, overrun, self.switch))
        return found

    def cycles_of(self, batch: int) -> int:
        """Cycles of one batch through all contexts; a single context stays loaded."""
        if len(self.contexts) == 1:
            return batch * self.contexts[0].allocation.period
        return sum(t.cycles for t in self.turns(batch))

    @property
    def cycles(self) -> int:
        """Cycles of one batch through all contexts."""
        return self.cycles_of(self.batch)

    @property
    def latency(self) -> int:
        """Cycles of a frame that is alone: the first context's weights come first, nothing follows the last."""
        turns = self.turns(1)
        return sum(t.cycles for t in turns) + turns[0].loaded_ahead - turns[-1].overrun
