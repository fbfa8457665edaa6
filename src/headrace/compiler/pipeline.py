# SPDX-License-Identifier: Apache-2.0
"""From a quantized network to a HEF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from headrace.compiler.capacity import RESOURCE_NAMES, capacity_error, shortage_report
from headrace.compiler.codegen import describe, generate
from headrace.compiler.graph import Lowered, lower_network
from headrace.compiler.schedule import schedule_of
from headrace.compiler.verify import verify
from headrace.errors import CapacityError, Diagnostic, UsageError
from headrace.hef.container import write_hef
from headrace.hef.microcode import MAX_BATCH
from headrace.hn import Network
from headrace.mapping.choose import (
    CONTEXTS,
    Mapped,
    MappingOptions,
    NeedsSeveral,
    NotCut,
    StagesTooLarge,
    choose_contexts,
    fits_one_context,
)
from headrace.reports.schedule import CompileReport, ScheduleReport
from headrace.targets import Target, list_targets, load_target
from headrace.typeguards import is_number

Progress = Callable[[int, int, str], None]  # done, total, what


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
        bad = [n for n, v in zip(names, self.shares, strict=True) if not (is_number(v) and 0 < v <= 1)]
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
                    "a utilization ceiling is out of range",
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


def _silent(done: int, total: int, what: str) -> None:
    """A progress that nobody wants to see."""


def compile_network(
    network: Network,
    target: Target,
    options: CompileOptions | None = None,
    progress: Progress | None = None,
    resources: Mapping[str, bytes] | None = None,
) -> CompileResult:
    """Compile a quantized network for a target. The same input gives the same bytes.

    A network that fits one context stays on the device; a larger one becomes several, loaded in turn.

    Args:
        network: result of optimize.
        target: the device.
        options: ceilings.
        progress: called with steps done, steps in all, and what comes next.
        resources: what else the HEF carries for our own run time, by name.

    Raises:
        CapacityError: a layer fits no context; ``report`` has resource, need, have, terms and levers.
        UsageError: the network is not quantized, or an option is out of range.
        InputFileError, UnsupportedModelError: layers that cannot be compiled, all of them.
    """
    options = options or CompileOptions()
    options.check()
    tell = progress or _silent
    tell(0, 4, "lower")
    lowered = lower_network(network)
    tell(1, 4, "allocate")
    mapped = map_network(lowered, target, options)
    plan = mapped.plan
    tell(2, 4, "generate")
    program = generate(lowered, plan, target)
    microcode = verify(program)
    tell(3, 4, "write")
    schedule = schedule_of(plan, target, mapped.decisions)
    whole = schedule.figures.whole
    noise = network.net_params.get("random_calibration") or 0
    described = describe(lowered, len(plan.contexts), whole.fps, whole.latency_ms, noise)
    hef = write_hef(described, microcode, resources)
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


def map_network(lowered: Lowered, target: Target, options: CompileOptions) -> Mapped:
    """The network in as few contexts as it takes.

    Raises:
        CapacityError: a layer fits no context, or one context is asked for and the network does not fit it.
        UsageError: several are asked for, and it cannot be cut.
    """
    wanted = MappingOptions(options.shares, options.batch, options.contexts)
    found = choose_contexts(lowered.graph, lowered.input_scales, target, wanted)
    match found:
        case Mapped():
            return found
        case StagesTooLarge():
            flow = found.graph.flow
            raise capacity_error(found.whole, found.failing, flow, target, lowered.name, options.shares)
        case NeedsSeveral():
            raise _one_asked_for(found, target, lowered.name, options)
        case NotCut():
            rule, got = (
                "the network cannot be cut into several contexts",
                f"{len(found.graph.stages)} layers on the device",
            )
            levers = ("leave the line out: as few contexts as it takes",)
            where, need = options.contexts_where, "at least two layers that fit"
            raise UsageError(Diagnostic("E-COMPILE-CONTEXTS", where, rule, got, need, levers))


def _one_asked_for(found: NeedsSeveral, target: Target, name: str, options: CompileOptions) -> CapacityError:
    """The capacity report of a network that may have one context and needs more."""
    report = shortage_report(found.whole, found.graph.flow, target, name)
    levers = (f"leave that out, or write mode=allowed: the network is then cut into {found.contexts} contexts",)
    larger = [other for other in map(load_target, list_targets()) if other.clusters > target.clusters]
    levers += tuple(
        f"--hw-arch {t.name}: there it fits one context"
        for t in larger
        if fits_one_context(found.graph, t, options.shares)
    )
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
        got = f"{len(found.graph.stages)} layers"
        lacking = [Diagnostic("E-COMPILE-PLACE", where, rule, got, need, levers)]
    return CapacityError(lacking, replace(report, levers=levers).as_dict())
