# SPDX-License-Identifier: Apache-2.0
"""From a quantised network to a HEF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from headrace.compiler.capacity import RESOURCE_NAMES, capacity_error, shortage_report
from headrace.compiler.codegen import constant_bytes, describe, generate
from headrace.compiler.graph import Lowered, lower_network
from headrace.compiler.join import narrow_joins
from headrace.compiler.schedule import schedule_of
from headrace.compiler.split import split_oversized
from headrace.compiler.verify import verify
from headrace.errors import CapacityError, Diagnostic, UsageError
from headrace.hef.container import write_hef
from headrace.hef.microcode import MAX_BATCH
from headrace.hn import Network
from headrace.mapping import (
    Allocation,
    ContextPlan,
    Partition,
    Shortage,
    allocate_alone,
    allocate_one_context,
    cut_into_contexts,
    limits_of,
    options_of,
)
from headrace.mapping.allocate import OptionTable, Placer
from headrace.mapping.partition import FlowPlacer
from headrace.mapping.place import place
from headrace.reports.schedule import CompileDecision, CompileReport, ScheduleReport
from headrace.targets import Target, list_targets, load_target
from headrace.timing import Flow

Progress = Callable[[int, int, str], None]  # done, total, what
CONTEXTS = (None, "one", "several")
CROWDED = 2  # times its lower bound: a context so slow is compared with several


@dataclass(frozen=True)
class CompileOptions:
    """Ceilings of one context as shares of the whole device (0 … 1]; the target's own shares hold too.

    Attributes:
        max_control_utilization: of the layer controllers.
        max_compute_utilization: of the sub-clusters.
        max_memory_utilization: of the memory units.
        batch: frames between two switches of context, for a network that needs several; more frames make reloading
            weights cheaper per frame and a single frame's answer later.
        contexts: ``"one"``: a network that needs several is refused; ``"several"``: at least two, even where one would
            do; None: as few as it takes, or several where these are faster.
        contexts_where: what asked for that, for errors.
    """

    max_control_utilization: float = 1.0
    max_compute_utilization: float = 1.0
    max_memory_utilization: float = 1.0
    batch: int = 1
    contexts: str | None = None
    contexts_where: str = "compile options"

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.max_control_utilization, self.max_compute_utilization, self.max_memory_utilization

    def check(self) -> None:
        """Raises UsageError when a share is not in (0, 1] or the batch is out of range."""
        names = ("max_control_utilization", "max_compute_utilization", "max_memory_utilization")
        bad = [n for n, v in zip(names, self.shares, strict=True) if not (isinstance(v, (int, float)) and 0 < v <= 1)]
        if type(self.batch) is not int or not 1 <= self.batch <= MAX_BATCH:
            rule, need = "the batch is out of range", f"a whole number, 1 … {MAX_BATCH}"
            raise UsageError(Diagnostic("E-COMPILE-OPTION", "compile options", rule, repr(self.batch)[:60], need))
        if self.contexts not in CONTEXTS:
            rule, need = "there is no such choice of contexts", ", ".join(map(repr, CONTEXTS))
            raise UsageError(Diagnostic("E-COMPILE-OPTION", "compile options", rule, repr(self.contexts)[:60], need))
        if bad:
            got = ", ".join(f"{name} = {getattr(self, name)!r}" for name in bad)
            raise UsageError(
                Diagnostic(
                    "E-COMPILE-OPTION",
                    "compile options",
                    "a utilisation ceiling is out of range",
                    got,
                    "above 0, at most 1",
                )
            )


@dataclass(frozen=True)
class CompileResult:
    """What compiling gives.

    Attributes:
        hef: the executable's bytes.
        microcode: the program inside it.
        schedule: every decision, per layer and cluster (closed form).
        report: figures of the whole network (closed form).
    """

    hef: bytes
    microcode: bytes
    schedule: ScheduleReport
    report: CompileReport


def compile_network(
    network: Network, target: Target, options: CompileOptions | None = None, progress: Progress | None = None
) -> CompileResult:
    """Compile a quantised network for a target. The same input gives the same bytes.

    A network that fits one context stays on the device; a larger one becomes several, loaded in turn.

    Args:
        network: result of optimize.
        target: the device.
        options: ceilings.
        progress: called with steps done, steps in all, and what comes next.

    Raises:
        CapacityError: a layer fits no context; ``report`` has resource, need, have, terms and levers.
        UsageError: the network is not quantised, or an option is out of range.
        InputFileError, UnsupportedModelError: layers that cannot be compiled, all of them.
    """
    options = options or CompileOptions()
    options.check()
    tell = progress or (lambda done, total, what: None)
    tell(0, 4, "lower")
    lowered = lower_network(network)
    tell(1, 4, "allocate")
    lowered, plan, decisions = fit(lowered, target, options)
    tell(2, 4, "generate")
    program = generate(lowered, plan, target)
    microcode = verify(program)
    tell(3, 4, "write")
    schedule = schedule_of(plan, target, decisions)
    whole = schedule.figures.whole
    noise = network.net_params.get("random_calibration") or 0
    described = describe(lowered, len(plan.contexts), whole.fps, whole.latency_ms, noise)
    hef = write_hef(described, microcode)
    report = CompileReport(
        figures=schedule.figures,
        network=network.name,
        kernels=len(program.kernels),
        hef_bytes=len(hef),
        microcode_bytes=len(microcode),
        constant_bytes=len(program.constants),
        decisions=schedule.decisions,
    )
    tell(4, 4, "done")
    return CompileResult(hef, microcode, schedule, report)


def fit(lowered: Lowered, target: Target, options: CompileOptions) -> tuple[Lowered, Partition, list[CompileDecision]]:
    """Allocate and place in as few contexts as it takes, or raise the capacity report.

    Returns:
        The network (with layers split where one exceeded a context), its contexts, and what was decided.
    """

    def placer(flow: Flow) -> Placer | None:
        return lambda uses, roots: place(uses, flow, target, roots)

    shares = options.shares
    lowered, decisions = narrow_joins(lowered, target)
    flow = lowered.flow
    table = OptionTable([options_of(w, target) for w in flow.works])
    if options.contexts == "several":
        return _several(lowered, target, options, placer, table, decisions)
    result = allocate_one_context(flow, target, limits_of(target, flow, shares), placer(flow), table)
    if isinstance(result, Allocation):
        if options.contexts == "one":
            return lowered, _alone(lowered, result, options), decisions
        return lowered, _faster(lowered, result, target, options, placer), decisions
    whole = result
    lowered, splits = split_oversized(lowered, target, shares, table)
    lowered, joins = narrow_joins(lowered, target)  # of more parts than one concatenation takes
    decisions += splits + joins
    known = None if splits else table
    weights_of = [constant_bytes(k) for k in lowered.kernels]
    plan = cut_into_contexts(
        lowered.flow, target, batch=options.batch, shares=shares, weights=weights_of, place=placer, table=known
    )
    if plan is None:
        failing: dict[str, Shortage] = {}
        for i, work in enumerate(lowered.flow.works):
            single = allocate_alone(lowered.flow, i, target, shares, placer)
            if isinstance(single, Shortage):
                failing[work.name] = single
        raise capacity_error(whole, failing, lowered.flow, target, lowered.name, shares)
    if options.contexts == "one":
        raise _one_alone(whole, flow, target, lowered.name, options, len(plan.contexts))
    return lowered, plan, decisions


def _faster(
    lowered: Lowered, single: Allocation, target: Target, options: CompileOptions, placer: FlowPlacer
) -> Partition:
    """One context, unless it has to share controllers, or to save memory, so much that several are faster."""
    flow = lowered.flow
    weights = [constant_bytes(k) for k in lowered.kernels]
    one = _alone(lowered, single, options)
    if single.period <= CROWDED * single.lower_bound:
        return one
    several = cut_into_contexts(flow, target, batch=options.batch, shares=options.shares, weights=weights, place=placer)
    return one if several is None or several.cycles >= options.batch * single.period else several


def _alone(lowered: Lowered, single: Allocation, options: CompileOptions) -> Partition:
    """One context as a sequence."""
    size = sum(constant_bytes(kernel) for kernel in lowered.kernels)
    only = ContextPlan(0, len(lowered.flow.works), single, size, 0, 0, 0, 0)
    return Partition((only,), options.batch, single.lower_bound, 0, 1, False)


def _several(
    lowered: Lowered,
    target: Target,
    options: CompileOptions,
    placer: FlowPlacer,
    table: OptionTable,
    decisions: list[CompileDecision],
) -> tuple[Lowered, Partition, list[CompileDecision]]:
    """The fastest sequence of two contexts or more, whether or not one would do."""
    lowered, splits = split_oversized(lowered, target, options.shares, table)
    lowered, joins = narrow_joins(lowered, target)
    plan = cut_into_contexts(
        lowered.flow,
        target,
        batch=options.batch,
        shares=options.shares,
        weights=[constant_bytes(k) for k in lowered.kernels],
        place=placer,
        table=None if splits else table,
        least=2,
    )
    if plan is None:
        rule, got = "the network cannot be cut into several contexts", f"{len(lowered.flow.works)} layers on the device"
        levers = ("leave the line out: as few contexts as it takes",)
        where = options.contexts_where
        raise UsageError(Diagnostic("E-COMPILE-CONTEXTS", where, rule, got, "at least two layers that fit", levers))
    return lowered, plan, decisions + splits + joins


def _one_alone(
    whole: Shortage, flow: Flow, target: Target, name: str, options: CompileOptions, needed: int
) -> CapacityError:
    """The capacity report of a network that may have one context, and has ``needed`` where that is left open."""
    report = shortage_report(whole, flow, target, name)
    levers = (f"leave that out, or write mode=allowed: the network is then cut into {needed} contexts",)
    larger = [other for other in map(load_target, list_targets()) if other.clusters > target.clusters]
    levers += tuple(f"--hw-arch {t.name}: there it fits one context" for t in larger if _fits_one(flow, t, options))
    rule = f"one context is asked for ({options.contexts_where}), and the network needs more"
    lacking = [
        Diagnostic(
            "E-COMPILE-CAPACITY",
            f"{name} on {target.name}",
            f"{rule} {RESOURCE_NAMES[row.resource]} than one has",
            str(row.need),
            f"at most {row.have}",
            levers,
        )
        for row in report.resources
        if row.exceeded
    ]
    if not lacking:
        rule = f"one context is asked for ({options.contexts_where}); all sums fit, but the layers do not divide"
        where, need = f"{name} on {target.name}", "resources side by side in each cluster"
        lacking = [Diagnostic("E-COMPILE-PLACE", where, rule, f"{len(flow.works)} layers", need, levers)]
    return CapacityError(lacking, replace(report, levers=levers).as_dict())


def _fits_one(flow: Flow, target: Target, options: CompileOptions) -> bool:
    """Whether a target takes the whole flow in one context."""
    limits = limits_of(target, flow, options.shares)
    found = allocate_one_context(flow, target, limits, lambda uses, roots: place(uses, flow, target, roots))
    return isinstance(found, Allocation)
