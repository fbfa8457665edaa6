# SPDX-License-Identifier: Apache-2.0
"""The stages of a network's way as a table: what each requires, produces and drops.

The archive drops by it what later stages made, the runner asks by it for what a stage requires, and a command of a
model script says by it which stage it steers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class State(str, Enum):
    """How far a network has come; the order is that of the stages."""

    HAILO_MODEL = "hailo_model"
    FP_OPTIMIZED_MODEL = "fp_optimized_model"
    QUANTIZED_MODEL = "quantized_model"
    COMPILED_MODEL = "compiled_model"

    @property
    def rank(self) -> int:
        return list(State).index(self)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: in the history of an archive.
        state: of an archive whose latest stage this is.
        product: the field of :class:`headrace.hn.archive.Archive` that holds its result.
        member: what the members of a HAR that hold it are called behind the network's name.
        reports: reports that it writes, which are dropped with its result.
        adjective: of a network that has been through it, for messages.
        call: what to call in Python for it to run.
    """

    name: str
    state: State
    product: Literal["native", "fp_optimized", "quantized", "hef"]
    member: str
    reports: tuple[str, ...]
    adjective: str
    call: str

    @property
    def before(self) -> Stage | None:
        """The stage whose result this one requires; None: it begins with a file."""
        index = STAGES.index(self)
        return STAGES[index - 1] if index else None

    @property
    def drops(self) -> tuple[Stage, ...]:
        """The stages whose results are no longer of this network once this one runs again: itself and those after."""
        return STAGES[STAGES.index(self) :]


PARSE = Stage(
    name="parse",
    state=State.HAILO_MODEL,
    product="native",
    member="native",
    reports=("parse",),
    adjective="parsed",
    call="translate_onnx_model(...) or load_har(...)",
)
OPTIMIZE_FULL_PRECISION = Stage(
    name="optimize_full_precision",
    state=State.FP_OPTIMIZED_MODEL,
    product="fp_optimized",
    member="fp",
    reports=(),
    adjective="fp optimized",
    call="optimize_full_precision()",
)
OPTIMIZE = Stage(
    name="optimize",
    state=State.QUANTIZED_MODEL,
    product="quantized",
    member="quantized",
    reports=("optimize",),
    adjective="quantized",
    call="optimize(calib_data)",
)
COMPILE = Stage(
    name="compile",
    state=State.COMPILED_MODEL,
    product="hef",
    member="hef",
    reports=("compile", "schedule", "timing"),
    adjective="compiled",
    call="compile()",
)

#: In the order in which a network goes through them.
STAGES = (PARSE, OPTIMIZE_FULL_PRECISION, OPTIMIZE, COMPILE)
