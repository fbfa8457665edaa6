# SPDX-License-Identifier: Apache-2.0
"""The commands that steer ``optimize``: what they ask for, as data.

``model_optimization_flavor``, ``model_optimization_config(calibration, …)``, ``pre_quantization_optimization`` of
``equalization`` and ``activation_clipping``, ``post_quantization_optimization(bias_correction, …)``. A later command
wins over an earlier one; a policy that is written out wins over ``optimization_level``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from headrace.errors import Diagnostic, unknown_name
from headrace.script.parser import Command, Name, Patterns, Value

POLICIES = ("enabled", "disabled", "allowed")
CLIPPING_MODES = ("percentile", "percentile_force", "manual", "disabled")
NO_ALGORITHMS = -100
LEVELS = (NO_ALGORITHMS, 0, 1, 2, 3, 4)
BUILT_LEVEL = 1
MAX_FRAMES = 1 << 24
Problem = Callable[[Diagnostic], None]
Place = Callable[[Command, str, str], Diagnostic]


@dataclass(frozen=True)
class ClippingRequest:
    """``activation_clipping``: the range of some layers' outputs.

    Attributes:
        layers: names or patterns.
        mode: one of :data:`CLIPPING_MODES`.
        values: (low, high): per cent, or reals for ``manual``.
    """

    layers: tuple[str, ...]
    mode: str
    values: tuple[float, float]


@dataclass(frozen=True)
class OptimizationRequest:
    """What a script asks of ``optimize``; ``None`` where it says nothing.

    Attributes:
        level: ``optimization_level``.
        equalization: its policy.
        bias_correction: its policy.
        batch_size: frames in flight.
        calibset_size: frames used.
        clippings: in the script's order.
    """

    level: int | None = None
    equalization: bool | None = None
    bias_correction: bool | None = None
    batch_size: int | None = None
    calibset_size: int | None = None
    clippings: tuple[ClippingRequest, ...] = ()

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``OptimizeOptions``, without ``clippings``; only what the script decides."""
        found: dict[str, Any] = {}
        equalization, bias_correction = self.equalization, self.bias_correction
        if self.level is not None:
            equalization = self.level >= 0 if equalization is None else equalization
            bias_correction = self.level >= 1 if bias_correction is None else bias_correction
            if self.level == NO_ALGORITHMS:
                found["calibrator"] = "minmax"
        wanted: dict[str, Any] = {
            "equalization": equalization,
            "bias_correction": bias_correction,
            "batch": self.batch_size,
            "calibration_size": self.calibset_size,
        }
        return found | {key: value for key, value in wanted.items() if value is not None}


@dataclass(frozen=True)
class Taken:
    """What became of one command: the request after it, and what of it is not built."""

    request: OptimizationRequest
    left_out: tuple[str, ...] = ()


class OptimizationReader:
    """Reads the commands of one script.

    Args:
        report: takes a problem.
        place: (command, rule, need) → a diagnostic at the command.
        where: command → its place as text, for misspelt words.
    """

    def __init__(self, report: Problem, place: Place, where: Callable[[Command], str]) -> None:
        self._report, self._place, self._where = report, place, where
        self._readers: dict[str, Callable[[Command, OptimizationRequest], Taken]] = {
            "model_optimization_flavor": self._flavor,
            "model_optimization_config(calibration)": self._calibration,
            "pre_quantization_optimization(equalization)": self._equalization,
            "pre_quantization_optimization(activation_clipping)": self._clipping,
            "post_quantization_optimization(bias_correction)": self._bias_correction,
        }

    def reads(self, row: str) -> bool:
        return row in self._readers

    def take(self, row: str, command: Command, request: OptimizationRequest) -> Taken:
        """The request with one more command; problems go to ``report``."""
        return self._readers[row](command, request)

    # --- one command each ----------------------------------------------------------------------------------------

    def _flavor(self, command: Command, request: OptimizationRequest) -> Taken:
        left_out: list[str] = []
        level = self._whole(command, "optimization_level", NO_ALGORITHMS, LEVELS[-1])
        if level is not None and level not in LEVELS:
            self._bad(command, "there is no such optimization_level", ", ".join(map(str, LEVELS)))
        elif level is not None and level > BUILT_LEVEL:
            left_out.append(f"optimization_level={level} is not built yet; level {BUILT_LEVEL} is carried out")
            level = BUILT_LEVEL
        compression = self._whole(command, "compression_level", 0, 5)
        if compression:
            left_out.append(f"compression_level={compression} (4-bit weights) is not built yet; weights stay at 8 bit")
        batch = self._whole(command, "batch_size", 1, MAX_FRAMES)
        changed = replace(
            request,
            level=request.level if level is None else level,
            batch_size=batch or request.batch_size,
        )
        return Taken(changed, tuple(left_out))

    def _calibration(self, command: Command, request: OptimizationRequest) -> Taken:
        batch = self._whole(command, "batch_size", 1, MAX_FRAMES)
        size = self._whole(command, "calibset_size", 1, MAX_FRAMES)
        self._policy(command, "use_acceleras")
        return Taken(
            replace(request, batch_size=batch or request.batch_size, calibset_size=size or request.calibset_size)
        )

    def _equalization(self, command: Command, request: OptimizationRequest) -> Taken:
        policy = self._policy(command, "policy")
        extra = [key for key in ("mode", "layers", "equalization_target") if key in command.keyword]
        if "layers" in extra:
            return Taken(request, ("equalization of chosen layers is not built yet, and the line is left out",))
        left_out = [f"{key} of equalization is not built yet and is left out" for key in extra]
        return Taken(replace(request, equalization=True if policy is None else policy), tuple(left_out))

    def _bias_correction(self, command: Command, request: OptimizationRequest) -> Taken:
        policy = self._policy(command, "policy")
        if "layers" in command.keyword:
            return Taken(request, ("bias correction of chosen layers is not built yet, and the line is left out",))
        return Taken(replace(request, bias_correction=True if policy is None else policy))

    def _clipping(self, command: Command, request: OptimizationRequest) -> Taken:
        mode = self._word(command, "mode", CLIPPING_MODES) or "percentile"
        if self._policy(command, "policy") is False:
            mode = "disabled"
        layers = self._layers(command)
        values = self._values(command, mode)
        if not layers or values is None:
            return Taken(request)
        return Taken(replace(request, clippings=(*request.clippings, ClippingRequest(layers, mode, values))))

    # --- values --------------------------------------------------------------------------------------------------

    def _bad(self, command: Command, rule: str, need: str) -> None:
        self._report(self._place(command, rule, need))

    def _whole(self, command: Command, key: str, low: int, high: int) -> int | None:
        value = command.keyword.get(key)
        if key not in command.keyword or value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._bad(command, f"{key} is not a whole number in its range", f"{low} … {high}")
            return None
        return value

    def _word(self, command: Command, key: str, known: tuple[str, ...]) -> str | None:
        if key not in command.keyword:
            return None
        value = command.keyword[key]
        word = str(value).lower() if isinstance(value, bool | str) else ""
        word = {"true": "enabled", "false": "disabled"}.get(word, word)
        if word not in known:
            shown = str(value)[:40]
            self._report(unknown_name("E-SCRIPT-VALUE", f"value of {key}", shown, known, self._where(command)))
            return None
        return word

    def _policy(self, command: Command, key: str) -> bool | None:
        word = self._word(command, key, POLICIES)
        return None if word is None else word != "disabled"

    def _layers(self, command: Command) -> tuple[str, ...]:
        value: Value = command.keyword.get("layers", Patterns(("*",)))
        names: tuple[Any, ...] = ()
        if isinstance(value, Patterns):
            names = value.items
        elif isinstance(value, tuple):
            names = tuple(n for item in value for n in (item.items if isinstance(item, Patterns) else (item,)))
        elif isinstance(value, Name | str):
            names = (value,)
        if not names or not all(isinstance(name, str) for name in names):
            self._bad(command, "layers is not a list of layer names", "[conv1, conv2] or {conv*}")
            return ()
        return tuple(str(name) for name in names)

    def _values(self, command: Command, mode: str) -> tuple[float, float] | None:
        if mode == "disabled":
            return (0.0, 100.0)
        value = command.keyword.get("clipping_values")
        if value is None and mode != "manual":
            return (0.01, 99.99)
        numbers = (
            [float(v) for v in value if isinstance(v, int | float) and not isinstance(v, bool)]
            if isinstance(value, tuple)
            else []
        )
        fits = isinstance(value, tuple) and len(value) == len(numbers) == 2
        fits = fits and all(map(math.isfinite, numbers)) and numbers[0] < numbers[1]
        need = "[low, high] with low < high"
        if mode != "manual":
            fits, need = fits and numbers[0] >= 0 and numbers[1] <= 100, "[low, high] per cent, 0 ≤ low < high ≤ 100"
        if not fits:
            self._bad(command, f"the clipping_values do not make a range for mode={mode}", need)
            return None
        return (numbers[0], numbers[1])
