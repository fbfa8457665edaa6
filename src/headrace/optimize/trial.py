# SPDX-License-Identifier: Apache-2.0
"""Ways to quantize a network: proposed, frozen and measured, and judged by their outputs on calibration frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from headrace.hn import Network
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize.freeze import Correction
from headrace.optimize.measure.noise import PartNoise, worst_of
from headrace.optimize.statistics.collect import Statistics
from headrace.reports.optimize import Decision, FreezeNotes

#: The outputs must gain this many dB; less is chance, and the simpler way stays.
LEAST_GAIN_DB = 0.1
#: dB by which the worst part of an output may fall where others gain, beside what its frames leave uncertain.
TOLERATED_DB = 0.2
#: dB by which any other part may fall for the others' gain, beside that gain itself; above ``FAIR_DB`` it may freely.
TOLERATED_PART_DB, FAIR_DB = 1.0, 30.0
#: A part this near to float is good: it may fall to here.
GOOD_DB = 40.0
#: A part counts as no worse than this: its error is ten times what it should show.
LEAST_DB = -20.0


@dataclass(frozen=True)
class Proposal:
    """A way to quantize: how to freeze which float network.

    Attributes:
        label: what it is, for progress and reports.
        prepared: float network.
        statistics: of it.
        tensors: quantization of every tensor.
        corrections: what corrects it while it is frozen.
        wanted: the user asks for it: it is taken whatever it brings.
    """

    label: str
    prepared: Network
    statistics: Statistics
    tensors: Mapping[str, TensorQuantization]
    corrections: tuple[Correction, ...] = ()
    wanted: bool = False


@dataclass(frozen=True)
class Rewrite:
    """Another float network that means the same. Corrections are those of one network: what was tried so far is tried
    again on this one, before it is judged.

    Attributes:
        prepared: float network.
        statistics: of it, as far as they follow from those before.
        rule: what was broken where its outputs are not the same.
        label: what it is, where it has tensors.
        tensors: quantization of every tensor; ``None``: ranges are chosen anew.
    """

    prepared: Network
    statistics: Statistics
    rule: str
    label: str = ""
    tensors: Mapping[str, TensorQuantization] | None = None


@dataclass
class Trial:
    """A proposal, frozen and measured.

    Attributes:
        proposal: how it was frozen.
        quantized: the frozen network.
        outputs: output layer → its parts against float on the trial frames.
        notes: of the freezing, per layer.
        decisions: of its corrections, layer by layer.
    """

    proposal: Proposal
    quantized: Network
    outputs: dict[str, list[PartNoise]]
    notes: Mapping[str, FreezeNotes] = field(default_factory=dict[str, FreezeNotes])
    decisions: list[Decision] = field(default_factory=list[Decision])

    @property
    def label(self) -> str:
        return self.proposal.label

    @property
    def prepared(self) -> Network:
        """The float network it stands for."""
        return self.proposal.prepared

    @property
    def statistics(self) -> Statistics:
        return self.proposal.statistics

    @property
    def tensors(self) -> Mapping[str, TensorQuantization]:
        return self.proposal.tensors

    def again(
        self,
        label: str,
        tensors: Mapping[str, TensorQuantization] | None = None,
        corrections: Sequence[Correction] = (),
        wanted: bool = False,
    ) -> Proposal:
        """The same network, to be frozen again with the same corrections.

        Args:
            label: what is proposed.
            tensors: other quantizations.
            corrections: further ones; one of the same name takes the place of the one before.
            wanted: see :class:`Proposal`.
        """
        own = self.proposal
        names = {correction.name for correction in corrections}
        kept = [correction for correction in own.corrections if correction.name not in names]
        chosen = own.tensors if tensors is None else tensors
        return Proposal(label, own.prepared, own.statistics, chosen, (*kept, *corrections), wanted)

    @property
    def parts(self) -> list[PartNoise]:
        return [part for parts in self.outputs.values() for part in parts]

    @cached_property
    def score(self) -> float:
        """The mean relative error, as dB: mean over outputs of the mean over their parts.

        A part at 14 dB weighs as much as twenty at 40: what is bad decides, and what is good can still gain.
        """
        errors = [
            sum(10.0 ** (-max(part.judged_db, LEAST_DB) / 20.0) for part in parts) / len(parts)
            for parts in self.outputs.values()
        ]
        return -20.0 * math.log10(sum(errors) / len(errors)) if errors else 0.0

    @property
    def worst(self) -> PartNoise:
        """The part with the least dB."""
        return worst_of(self.parts)

    def better_than(self, other: Trial, least: float = LEAST_GAIN_DB) -> bool:
        """Whether the outputs gain at least that many dB, and no part pays for it: neither the worst falls, nor any by
        much more than is gained, nor does one die.
        """
        gain = self.score - other.score
        if gain <= least:
            return False
        before = {_key(part): part for part in other.parts}
        for part in self.parts:
            was = before[_key(part)]
            # A part that was further from float than a constant would be (0 dB) has no life to lose.
            if part.dead and not was.dead and was.judged_db > 0.0:
                return False
            if min(part.judged_db, FAIR_DB) < min(was.judged_db, FAIR_DB) - gain - TOLERATED_PART_DB:
                return False
        worst = self.worst
        tolerated = TOLERATED_DB + worst.uncertainty_db
        return min(worst.judged_db, GOOD_DB) >= min(other.worst.judged_db, GOOD_DB) - tolerated


def _key(part: PartNoise) -> tuple[str, str]:
    return part.output, part.part.name


@dataclass(frozen=True)
class Outcome:
    """What became of a proposal.

    Attributes:
        before: the trial that stood; the trial itself where there was none.
        trial: the proposal, tried.
        taken: whether it stands now.
    """

    before: Trial
    trial: Trial
    taken: bool

    def decision(self, name: str, reason: str, otherwise: str) -> Decision:
        """About the whole network, judged by its outputs; ``otherwise`` ends the reason where it was not taken."""
        return whole_network(name, self.taken, self.before, self.trial, reason + ("" if self.taken else otherwise))


def whole_network(name: str, accepted: bool, before: Trial, after: Trial, reason: str) -> Decision:
    """A decision about the whole network, judged by its outputs."""
    return Decision(
        name=name,
        layer=None,
        accepted=accepted,
        measure="dB at the outputs on calibration frames, mean error of their parts",
        before=round(before.score, 3),
        after=round(after.score, 3),
        worst_before=round(before.worst.judged_db, 3),
        worst_after=round(after.worst.judged_db, 3),
        reason=reason,
    )


__all__ = ["LEAST_GAIN_DB", "Outcome", "Proposal", "Rewrite", "Trial", "whole_network"]
