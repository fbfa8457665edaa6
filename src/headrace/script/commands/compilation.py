# SPDX-License-Identifier: Apache-2.0
"""Commands that steer ``compile``. None of them changes a number of the result."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.hn.stages import COMPILE
from headrace.script.arguments import Share, Whole, Word, argument, keys, values
from headrace.script.effects import Batch, Ceiling, CompileEffect, Contexts
from headrace.script.fates import ACTS, ANYWAY, HINT, LEFT_OUT
from headrace.script.forms import CompileCommand, Form, acts

MAX_BATCH = 1 << 16
CONTEXT_MODES = ("allowed", "automatic", "disabled", "enabled", "manual")
_LEFT = values(LEFT_OUT)


@acts(
    "performance_param",
    fate=LEFT_OUT,
    by_keys=True,
    positional=(0, 1),
    note="as many frames per second as fit are sought, whatever power that takes",
    instead="as many frames per second as fit are sought",
    idle=(
        *keys("compiler_optimization_level optimization_level"),
        *keys("fps", values(LEFT_OUT, none=ANYWAY)),
        *keys("optimize_for_power", values(LEFT_OUT, disabled=ANYWAY)),
    ),
)
@dataclass(frozen=True)
class PerformanceParam(CompileCommand):
    """What is sought."""

    optimize_for_batch: int | None = argument(
        Whole(1, MAX_BATCH), None, "frames between two switches of context", values(ACTS)
    )

    def effects(self) -> tuple[CompileEffect, ...]:
        """The batch."""
        return () if self.optimize_for_batch is None else (Batch(self.optimize_for_batch),)


@dataclass(frozen=True)
class _Ceilings(CompileCommand):
    """Ceilings of one context, as shares of the device."""

    max_control_utilization: float | None = argument(Share(), None, "of the layer controllers")
    max_compute_utilization: float | None = argument(Share(), None, "of the sub-clusters")
    max_memory_utilization: float | None = argument(Share(), None, "of the memory units")
    max_utilization: float | None = argument(
        Share(zero_is_none=True), None, "of all three, where they have none of their own", values(ACTS, **{"0": HINT})
    )

    def effects(self) -> tuple[CompileEffect, ...]:
        """A ceiling for each resource that is named."""
        control = self.max_control_utilization or self.max_utilization
        compute = self.max_compute_utilization or self.max_utilization
        memory = self.max_memory_utilization or self.max_utilization
        found: tuple[CompileEffect, ...] = () if control is None else (Ceiling("control", control),)
        found += () if compute is None else (Ceiling("compute", compute),)
        return found + (() if memory is None else (Ceiling("memory", memory),))


@acts(
    "resources_param",
    by_keys=True,
    note="0 sets no ceiling; 16-bit units, activation units and aligners have none",
    idle=(
        *keys("strategy", _LEFT),
        *keys("max_compute_16bit_utilization max_apu_utilization max_input_aligner_utilization", values(HINT)),
    ),
)
@dataclass(frozen=True)
class ResourcesParam(_Ceilings):
    """Ceilings of one context, as shares of the device."""


@acts(
    "context_switch_param",
    off=ACTS,
    off_keys=("mode",),
    by_keys=True,
    note="several contexts are made where one does not do; a ceiling of 0 is none",
    instead="contexts are cut where the whole takes the fewest cycles",
    idle=keys(
        "goal_network_compute_utilization goal_network_control_utilization goal_network_memory_utilization "
        "goal_network_weights_utilization toposort_mode slotter_chances auto_partition_to_buckets "
        "share_buckets_partition berkitizer_min_size berkitizer_bucket_size allow_auto_merge_in_multicontext",
        _LEFT,
    ),
)
@dataclass(frozen=True)
class ContextSwitchParam(_Ceilings):
    """How many contexts there are, and their ceilings."""

    mode: str | None = argument(
        Word(CONTEXT_MODES),
        None,
        "`disabled`: one, or the capacity report; `enabled`: at least two; else as few as it takes",
        {"enabled": ACTS, "allowed": ANYWAY, "automatic": ANYWAY, "manual": LEFT_OUT},
    )

    def effects(self) -> tuple[CompileEffect, ...]:
        """The number of contexts, and the ceilings."""
        if self.mode is None:
            return super().effects()
        contexts = "one" if self.mode == "disabled" else "several" if self.mode == "enabled" else None
        return (Contexts(contexts, self.statement.where("mode")), *super().effects())


FORMS: tuple[Form, ...] = (
    PerformanceParam.form,
    ResourcesParam.form,
    ContextSwitchParam.form,
    Form("network_group", COMPILE, ANYWAY, positional=(1, 1), note="there is one network", scopes=True),
)
