# SPDX-License-Identifier: Apache-2.0
"""The search as a loop over algorithms: what one has to do to be one, and what the loop does with its proposals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from headrace.errors import UsageError
from headrace.hn import Network
from headrace.optimize import OptimizeOptions, OptimizeResult, optimize
from headrace.optimize.algorithms.algorithm import Algorithm, Proposals, Role, State
from headrace.optimize.algorithms.order import ALGORITHMS, switches
from headrace.optimize.preparation import request as fitting_request
from headrace.optimize.requests import Requests
from headrace.optimize.search import switched_on, wanted
from headrace.optimize.statistics.collect import Request
from headrace.optimize.trial import Outcome, Proposal, Rewrite
from headrace.reports.optimize import Decision
from random_graphs import GraphBuilder, random_frames, weighted
from same_bytes import params_digest

BEFORE = OptimizeOptions(min_snr=0, threads=1, output_bits=8, equalization=False, weight_rounding=False)


def network() -> Network:
    b = GraphBuilder(4)
    x = weighted(b, b.input((8, 8, 3)), 6, 3, "relu")
    x = weighted(b, x, 6, 3, "relu", dw=True)
    b.output(weighted(b, x, 4, 1))
    return b.net


@dataclass
class Toy(Algorithm):
    """Proposes what its test makes of the trial that stands, and notes what it saw."""

    name = "toy"
    switch = "toy"

    make: Callable[[State], Proposal | Rewrite]
    histograms: tuple[str, ...] = ()
    turns: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    alone: frozenset[str] = frozenset()

    def wants(self, network: Network, requests: Requests, options: OptimizeOptions) -> Request:
        return Request(histograms=frozenset(self.histograms))

    def proposals(self, state: State) -> Proposals:
        self.alone = state.bench.requests.alone(self.switch)
        self.turns.append(self.name)
        outcome = yield self.make(state)
        self.outcomes.append(outcome)
        self.states.append(state)
        return [outcome.decision(self.name, "tried", ", in vain")]


def coarser(state: State, factor: float = 16.0, wanted: bool = False) -> Proposal:
    """The trial that stands with far coarser steps: never better."""
    tensors = {name: replace(q, scale=q.scale * factor) for name, q in state.best.tensors.items()}
    return state.best.again("coarser", tensors, wanted=wanted)


def same_network(state: State) -> Rewrite:
    return Rewrite(state.prepared.clone(), state.statistics.copy(), "a copy is the same")


def run(*added: Algorithm, at: int | None = None, options: OptimizeOptions = BEFORE) -> OptimizeResult:
    """Optimize with further algorithms at a place of the public list (behind all others by default)."""
    net, at = network(), len(ALGORITHMS) if at is None else at
    listed = (*ALGORITHMS[:at], *added, *ALGORITHMS[at:])
    return optimize(net, random_frames(net, 24, 0), options, algorithms=listed)


def names(result: OptimizeResult) -> list[str]:
    return list(dict.fromkeys(decision.name for decision in result.report.algorithms))


def test_an_algorithm_is_its_object_in_the_list() -> None:
    """Nothing else of the product has to know it: switch, layers left alone, statistics, report."""
    toy = Toy(coarser, histograms=("net/conv1",))
    result = run(toy, options=replace(BEFORE, no_toy=["conv1"]))
    assert toy.alone == {"net/conv1"}
    assert "net/conv1" in toy.states[0].statistics.histograms
    assert "toy" in names(result)
    data = result.report.as_dict()
    assert data["options"]["toy"] is True
    assert data["options"]["left_alone"]["toy"] == ["conv1"]
    off = Toy(coarser)
    assert "toy" not in names(run(off, options=replace(BEFORE, toy=False)))
    assert not off.turns


def test_turns_are_in_the_order_of_the_list() -> None:
    turns: list[str] = []
    first, second = Toy(coarser, turns=turns), Toy(coarser, turns=turns)
    first.name, second.name = "first", "second"  # type: ignore[misc]
    result = run(first, second)
    assert turns == ["first", "second"]
    assert names(result)[-2:] == ["first", "second"]
    turns.clear()
    run(second, first)
    assert turns == ["second", "first"]
    assert names(result)[0] == ALGORITHMS[0].name


def test_a_rejected_proposal_leaves_the_state_untouched() -> None:
    plain = run()
    for make in (coarser, same_network):  # the same network again gains nothing either
        toy = Toy(make)
        result = run(toy)
        (outcome,), (state,) = toy.outcomes, toy.states
        assert not outcome.taken
        assert state.best is outcome.before
        assert state.prepared is outcome.before.prepared and state.statistics is outcome.before.statistics
        assert params_digest(result.network) == params_digest(plain.network)
        assert [d for d in result.report.algorithms if d.name != "toy"] == list(plain.report.algorithms)
        assert not next(d for d in result.report.algorithms if d.name == "toy").accepted


def test_what_the_user_asks_for_is_taken_whatever_it_brings() -> None:
    toy = Toy(lambda state: coarser(state, wanted=True))
    result = run(toy)
    (outcome,) = toy.outcomes
    assert outcome.taken and outcome.trial.score < outcome.before.score
    assert result.report.layers["net/conv1"].scale.scale == pytest.approx(
        16 * outcome.before.tensors["net/conv1"].scale
    )


def test_a_trial_is_frozen_again_with_its_corrections() -> None:
    toy = Toy(lambda state: state.best.again("the same"))
    run(toy)
    (outcome,) = toy.outcomes
    assert [correction.name for correction in outcome.before.proposal.corrections] == ["bias-correction"]
    assert params_digest(outcome.trial.quantized) == params_digest(outcome.before.quantized)


class Better(Toy):
    """Makes room for what is better: it coarsens first, as the user would have asked."""

    role = Role.CHANGE

    def proposals(self, state: State) -> Proposals:
        self.outcomes.append((yield coarser(state, wanted=True)))
        finer = {name: replace(q, scale=q.scale / 16) for name, q in state.best.tensors.items()}
        self.outcomes.append((yield Rewrite(state.prepared.clone(), state.statistics.copy(), "a copy", "fine", finer)))
        return []


def test_a_rewritten_network_brings_corrections_of_its_own() -> None:
    """Those before it are tried again, and their decisions take the place of the earlier ones."""
    plain, toy = run(), Better(coarser)
    result = run(toy)
    assert [outcome.taken for outcome in toy.outcomes] == [True, True]
    rewritten = toy.outcomes[1].trial
    assert [correction.name for correction in rewritten.proposal.corrections] == ["bias-correction"]
    assert rewritten.prepared is not toy.outcomes[0].trial.prepared
    assert params_digest(result.network) == params_digest(plain.network)  # the same scales, the same corrections
    biases = [d for d in result.report.algorithms if d.name == "bias-correction"]
    assert biases == [d for d in plain.report.algorithms if d.name == "bias-correction"]
    # Before biases are corrected there is nothing to try again.
    early = Better(coarser)
    run(early, at=1)
    assert early.outcomes[1].trial.proposal.corrections == ()


def test_statistics_are_the_union_of_what_algorithms_want() -> None:
    net, options = network(), OptimizeOptions(calibrator="mse")
    requests = Requests({}, {}, {})
    used = switched_on(ALGORITHMS, options)
    every = [one.wants(net, requests, options) for one in used]
    union = wanted(used, net, requests, options)
    for what in ("histograms", "spans", "moments", "row_tops"):
        assert getattr(union, what) == frozenset().union(*(getattr(one, what) for one in every))
    assert union.histograms == frozenset(net.layers)
    assert union.spans
    off = replace(options, calibrator="minmax", equalization=False)
    assert wanted(switched_on(ALGORITHMS, off), net, requests, off) == Request()
    assert fitting_request(net).spans  # what ranges are fitted by is wanted in any case


def test_switches_are_those_of_the_algorithms() -> None:
    assert set(switches(ALGORITHMS)) == {"equalization", "bias_correction", "weight_rounding"}
    assert [one.name for one in switched_on(ALGORITHMS, OptimizeOptions(equalization=False))] == [
        "activation-ranges",
        "bias-correction",
        "output-precision",
        "weight-rounding",
    ]


@pytest.mark.parametrize("named", [{"toy": False}, {"no_toy": ["conv1"]}, {"bias_corection": False}])
def test_a_switch_that_no_algorithm_has_is_refused(named: dict[str, bool | list[str]]) -> None:
    with pytest.raises(UsageError, match=next(iter(named)).removeprefix("no_")):
        run(options=OptimizeOptions(**named))


@pytest.mark.parametrize("named", [{"toy": "yes"}, {"no_toy": "conv1"}, {"toy": ["conv1"]}])
def test_what_is_no_setting_of_a_switch_is_refused(named: dict[str, str | list[str]]) -> None:
    with pytest.raises(UsageError, match="no setting of a switch"):
        OptimizeOptions(**named)


def test_options_are_replaced_one_by_one() -> None:
    options = OptimizeOptions(equalization=False, no_bias_correction=["a"])
    changed = replace(options, batch=4, weight_rounding=False, no_equalization=("b",))
    assert changed.batch == 4
    assert [changed.enabled(name) for name in ("equalization", "weight_rounding", "bias_correction")] == [
        False,
        False,
        True,
    ]
    assert changed.left_alone == {"bias_correction": ("a",), "equalization": ("b",)}
    assert options.enabled("weight_rounding")


def test_decisions_of_the_loop_are_records() -> None:
    report = run().report
    assert all(isinstance(decision, Decision) for decision in report.algorithms)
    whole = [d for d in report.algorithms if d.layer is None]
    assert all(d.worst_before is not None and np.isfinite(d.before) for d in whole)
