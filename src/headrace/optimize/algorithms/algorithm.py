# SPDX-License-Identifier: Apache-2.0
"""What an optimization algorithm is: an object that proposes other ways to quantize (decision 31).

To add one, write its file here and put it into the list of :mod:`headrace.optimize.algorithms.order`. The search
(:mod:`headrace.optimize.search`) does the rest: it measures the statistics that the algorithm wants, freezes and
measures every proposal, and keeps it where the outputs come nearer to float.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from enum import Enum
from typing import ClassVar, TypeAlias

from headrace.hn import Network
from headrace.optimize.bench import Bench
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.requests import Requests
from headrace.optimize.statistics.collect import Request, Statistics
from headrace.optimize.trial import LEAST_GAIN_DB, Outcome, Proposal, Rewrite, Trial
from headrace.reports.optimize import Decision


class Role(Enum):
    """When the search turns to an algorithm."""

    RANGES = "ranges"  # gives the first trial, and that of every rewritten network whose ranges are chosen anew
    CHANGE = "change"  # in its turn
    CORRECTION = "correction"  # in its turn, and again for every network that a later algorithm rewrites


class State:
    """What an algorithm sees of the search so far.

    Attributes:
        bench: data, what was asked, the means to measure.
        prepared: the float network as it stands.
        statistics: of it.
    """

    def __init__(self, bench: Bench, prepared: Network, statistics: Statistics) -> None:
        self.bench = bench
        self.prepared = prepared
        self.statistics = statistics
        self._trial: Trial | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a trial yet."""
        return self._trial is not None

    @property
    def best(self) -> Trial:
        """The trial that stands."""
        assert self._trial is not None, "the first algorithm gives a trial"
        return self._trial

    def take(self, trial: Trial) -> None:
        """Let a trial stand."""
        self._trial, self.prepared, self.statistics = trial, trial.prepared, trial.statistics


#: What an algorithm yields, what it is sent back for each, and the decisions that it returns, in the report's order.
Proposals: TypeAlias = Generator[Proposal | Rewrite, Outcome, list[Decision]]


class Algorithm(ABC):
    """A way to come nearer to float. Objects hold no state: everything is in the :class:`State`.

    Attributes:
        name: in reports.
        role: when it has its turn.
        switch: name of the option that turns it off (``NAME=False``) and lets layers be left alone (``no_NAME``);
            empty: it has none. Several may share one.
        least_gain: dB that the outputs must gain for a proposal to be taken.
    """

    name: ClassVar[str]
    role: ClassVar[Role] = Role.CHANGE
    switch: ClassVar[str] = ""
    least_gain: ClassVar[float] = LEAST_GAIN_DB

    def wants(self, network: Network, requests: Requests, options: OptimizeOptions) -> Request:
        """The statistics of the prepared network that it reads."""
        del network, requests, options
        return Request()

    @abstractmethod
    def proposals(self, state: State) -> Proposals:
        """Propose other ways than the trial that stands, one at a time.

        Each is tried as soon as it is yielded; the generator is sent what became of it, and ``state`` is as it is then.
        It returns its decisions for the report.
        """


__all__ = ["Algorithm", "Proposals", "Role", "State"]
