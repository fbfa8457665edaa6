# SPDX-License-Identifier: Apache-2.0
"""From a quantised network to a HEF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace.compiler.codegen import describe, generate
from headrace.compiler.graph import lower_network
from headrace.compiler.place import place
from headrace.compiler.report import capacity_error, schedule_of, summary_of
from headrace.compiler.verify import verify
from headrace.errors import Diagnostic, UsageError
from headrace.hef.container import write_hef
from headrace.hn import Network
from headrace.targets import Target
from headrace.timing import Allocation, Flow, Shortage, allocate, limits_of

Progress = Callable[[int, int, str], None]  # done, total, what


@dataclass(frozen=True)
class CompileOptions:
    """Ceilings of one context as shares of the whole device (0 … 1]; the target's own shares hold too.

    Attributes:
        max_control_utilization: of the layer controllers.
        max_compute_utilization: of the sub-clusters.
        max_memory_utilization: of the memory units.
    """

    max_control_utilization: float = 1.0
    max_compute_utilization: float = 1.0
    max_memory_utilization: float = 1.0

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.max_control_utilization, self.max_compute_utilization, self.max_memory_utilization

    def check(self) -> None:
        """Raises UsageError when a share is not in (0, 1]."""
        bad = [name for name, value in vars(self).items() if not (isinstance(value, (int, float)) and 0 < value <= 1)]
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
    schedule: dict[str, Any]
    report: dict[str, Any]


def compile_network(
    network: Network, target: Target, options: CompileOptions | None = None, progress: Progress | None = None
) -> CompileResult:
    """Compile a quantised network for one context of a target. The same input gives the same bytes.

    Args:
        network: result of optimize.
        target: the device.
        options: ceilings.
        progress: called with steps done, steps in all, and what comes next.

    Raises:
        CapacityError: it does not fit; ``report`` has resource, need, have, terms and levers.
        UsageError: the network is not quantised, or an option is out of range.
        InputFileError, UnsupportedModelError: layers that cannot be compiled, all of them.
    """
    options = options or CompileOptions()
    options.check()
    tell = progress or (lambda done, total, what: None)
    tell(0, 4, "lower")
    lowered = lower_network(network)
    tell(1, 4, "allocate")
    allocation = fit(lowered.flow, target, options, network.name)
    tell(2, 4, "generate")
    program = generate(lowered, allocation, target)
    microcode = verify(program)
    tell(3, 4, "write")
    hef = write_hef(describe(lowered, target.clock_hz / allocation.period), microcode)
    schedule = schedule_of(allocation, target)
    report = summary_of(allocation, target) | {
        "network": network.name,
        "kernels": len(program.kernels),
        "hef_bytes": len(hef),
        "microcode_bytes": len(microcode),
        "constant_bytes": len(program.constants),
    }
    tell(4, 4, "done")
    return CompileResult(hef, microcode, schedule, report)


def fit(flow: Flow, target: Target, options: CompileOptions, name: str) -> Allocation:
    """Allocate and place, or raise the capacity report."""
    limits = limits_of(target, flow, options.shares)
    result = allocate(flow, target, limits, lambda uses: place(uses, flow, target))
    if isinstance(result, Shortage):
        raise capacity_error(result, flow, target, name)
    return result
