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
        reports: reports that it writes, which are dropped with its result.
        adjective: of a network that has been through it, for messages.
        call: what to call in Python for it to run.
    """

    name: str
    state: State
    product: Literal["native", "fp_optimized", "quantized", "hef"]
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


PARSE = Stage("parse", State.HAILO_MODEL, "native", ("parse",), "parsed", "translate_onnx_model(...) or load_har(...)")
OPTIMIZE_FULL_PRECISION = Stage(
    "optimize_full_precision",
    State.FP_OPTIMIZED_MODEL,
    "fp_optimized",
    (),
    "fp optimized",
    "optimize_full_precision()",
)
OPTIMIZE = Stage("optimize", State.QUANTIZED_MODEL, "quantized", ("optimize",), "quantized", "optimize(calib_data)")
COMPILE = Stage("compile", State.COMPILED_MODEL, "hef", ("compile", "schedule", "timing"), "compiled", "compile()")

#: In the order in which a network goes through them.
STAGES = (PARSE, OPTIMIZE_FULL_PRECISION, OPTIMIZE, COMPILE)
