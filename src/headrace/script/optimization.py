# SPDX-License-Identifier: Apache-2.0
"""The commands that steer ``optimize``: what they ask for, as data.

A later command wins over an earlier one; a policy that is written out wins over ``optimization_level``. A policy with
``layers`` holds for these alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import Diagnostic, unknown_name
from headrace.script.parser import Command, Name, Value
from headrace.script.vocabulary import POLICIES

CLIPPING_MODES = ("percentile", "percentile_force", "manual", "disabled")
NO_ALGORITHMS = -100
LEVELS = (NO_ALGORITHMS, 0, 1, 2, 3, 4)
BUILT_LEVEL = 1
MAX_FRAMES = 1 << 24
WIDE = 16
Problem = Callable[[Diagnostic], None]
#: Key, or number of the value, → the layers named there.
Named = Mapping[str | int, tuple[str, ...]]


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
class BitsRequest:
    """``precision_mode``: the bits of some layers' outputs.

    Attributes:
        layers: names, or patterns where the network is not known.
        bits: 8 or 16.
        where: place in the script, for errors.
    """

    layers: tuple[str, ...]
    bits: int
    where: str = field(compare=False)


@dataclass(frozen=True)
class Policy:
    """Whether an algorithm is used.

    Attributes:
        everywhere: None: the script does not say.
        layers: (name, whether), for layers named after that, in the script's order.
    """

    everywhere: bool | None = None
    layers: tuple[tuple[str, bool], ...] = ()

    def then(self, on: bool, layers: tuple[str, ...] | None) -> Policy:
        """After one more command; ``None``: it names no layers, so it is for all."""
        if layers is None:
            return Policy(on)
        return Policy(self.everywhere, (*self.layers, *((name, on) for name in layers)))

    def settled(self, by_level: bool, known: Sequence[str]) -> tuple[bool, tuple[str, ...]]:
        """(whether it is used at all, the layers for which it is not, in network order)."""
        everywhere = by_level if self.everywhere is None else self.everywhere
        chosen = dict(self.layers)
        off = tuple(name for name in known if not chosen.get(name, everywhere))
        return (False, ()) if len(off) == len(known) > 0 or not (everywhere or known) else (True, off)


@dataclass(frozen=True)
class OptimizationRequest:
    """What a script asks of ``optimize``; ``None`` where it says nothing.

    Attributes:
        level: ``optimization_level``.
        equalization, bias_correction, weight_rounding, addition_fusing: policies.
        wide_outputs: whether outputs may get 16 bits by measurement.
        batch_size: frames in flight.
        calibset_size: frames used.
        noise_frames: frames on which noise is measured.
        clippings, bits: in the script's order.
        known: every layer of the network, in its order; empty where no network is known.
    """

    level: int | None = None
    equalization: Policy = field(default_factory=Policy)
    bias_correction: Policy = field(default_factory=Policy)
    weight_rounding: Policy = field(default_factory=Policy)
    addition_fusing: Policy = field(default_factory=Policy)
    wide_outputs: bool | None = None
    batch_size: int | None = None
    calibset_size: int | None = None
    noise_frames: int | None = None
    clippings: tuple[ClippingRequest, ...] = ()
    bits: tuple[BitsRequest, ...] = ()
    known: tuple[str, ...] = field(default=(), compare=False)

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == OptimizationRequest()

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``OptimizeOptions``, without ``clippings`` and ``bits``: what the script decides."""
        found: dict[str, Any] = {}
        level = self.level
        least_level = {"equalization": 0, "bias_correction": 1, "weight_rounding": 1, "addition_fusing": None}
        for name, least in least_level.items():
            policy: Policy = getattr(self, name)
            if policy == Policy() and (level is None or least is None):
                continue
            used, off = policy.settled(level is None or least is None or level >= least, self.known)
            found[name] = used
            if off:
                found[f"no_{name}"] = off
        wide = self.wide_outputs
        if level == NO_ALGORITHMS:
            found["calibrator"] = "minmax"
            wide = False if wide is None else wide
        if wide is False:
            found["output_bits"] = 8
        numbers = {
            "batch": self.batch_size,
            "calibration_size": self.calibset_size,
            "snr_frames": self.noise_frames,
        }
        return found | {key: value for key, value in numbers.items() if value is not None}


class OptimizationReader:
    """Reads the commands of one script; every method takes the request and gives it with one more command.

    Args:
        report: takes a problem.
    """

    def __init__(self, report: Problem) -> None:
        self._report = report
        self._readers: dict[str, Callable[[Command, Named, OptimizationRequest], OptimizationRequest]] = {
            "quantization_param": self._layer_parameters,
            "model_optimization_flavor": self._flavor,
            "model_optimization_config(calibration)": self._calibration,
            "model_optimization_config(checker_cfg)": self._checker,
            "model_optimization_config(globals)": self._globals,
            "pre_quantization_optimization(equalization)": self._policy_of("equalization"),
            "pre_quantization_optimization(ew_add_fusing)": self._policy_of("addition_fusing"),
            "pre_quantization_optimization(activation_clipping)": self._clipping,
            "post_quantization_optimization(bias_correction)": self._policy_of("bias_correction"),
            "post_quantization_optimization(adaround)": self._policy_of("weight_rounding"),
            "post_quantization_optimization(mix_precision_search)": self._mixed_precision,
        }

    def take(self, row: str, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        """The request with one more command; problems go to ``report``. Other commands change nothing."""
        reader = self._readers.get(row)
        return request if reader is None else reader(command, named, request)

    # --- one command each ----------------------------------------------------------------------------------------

    def _policy_of(self, name: str) -> Callable[[Command, Named, OptimizationRequest], OptimizationRequest]:
        def read(command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
            on = self._policy(command, "policy") is not False
            policy: Policy = getattr(request, name)
            return replace(request, **{name: policy.then(on, named.get("layers"))})

        return read

    def _flavor(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        del named
        level = self._whole(command, "optimization_level", NO_ALGORITHMS, LEVELS[-1])
        if level is not None and level not in LEVELS:
            self._bad(command, "there is no such optimization_level", ", ".join(map(str, LEVELS)))
        elif level is not None:
            level = min(level, BUILT_LEVEL)
        self._whole(command, "compression_level", 0, 5)
        batch = self._whole(command, "batch_size", 1, MAX_FRAMES)
        return replace(
            request,
            level=request.level if level is None else level,
            batch_size=batch or request.batch_size,
        )

    def _calibration(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        del named
        batch = self._whole(command, "batch_size", 1, MAX_FRAMES)
        size = self._whole(command, "calibset_size", 1, MAX_FRAMES)
        self._policy(command, "use_acceleras")
        return replace(request, batch_size=batch or request.batch_size, calibset_size=size or request.calibset_size)

    def _checker(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        del named
        self._whole(command, "batch_size", 1, MAX_FRAMES)
        frames = self._whole(command, "dataset_size", 1, MAX_FRAMES)
        return replace(request, noise_frames=frames or request.noise_frames)

    def _globals(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        wide = self._policy(command, "output_16bit")
        if wide is None:
            return request
        outputs = named.get("output_16bit", ("output_layer*",))
        asked = BitsRequest(outputs, WIDE if wide else 8, command.where("output_16bit"))
        return replace(request, bits=(*request.bits, asked))

    def _mixed_precision(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        del named
        on = self._policy(command, "policy") is not False
        return replace(request, wide_outputs=on)

    def _clipping(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        mode = self._word(command, "mode", CLIPPING_MODES) or "percentile"
        if self._policy(command, "policy") is False:
            mode = "disabled"
        layers = named.get("layers", ("*",) if "layers" not in command.keyword else ())
        return self._clipped(command, layers, mode, "clipping_values", request)

    def _layer_parameters(self, command: Command, named: Named, request: OptimizationRequest) -> OptimizationRequest:
        layers = named.get(0, ())
        if not layers:
            return request
        mode = command.keyword.get("precision_mode")
        if isinstance(mode, str):
            bits = 8 if mode.lower() in ("a8_w8", "a8_w8_a8") else WIDE
            asked = BitsRequest(layers, bits, command.where("precision_mode"))
            request = replace(request, bits=(*request.bits, asked))
        if "activation_clipping_mode" in command.keyword:
            clipping = self._word(command, "activation_clipping_mode", CLIPPING_MODES) or "disabled"
            request = self._clipped(command, layers, clipping, "activation_clipping_values", request)
        elif "activation_clipping_values" in command.keyword:
            self._bad(command, "activation_clipping_values without a mode", "activation_clipping_mode=manual, say")
        if "force_range_out" in command.keyword:
            request = self._clipped(command, layers, "manual", "force_range_out", request)
        return request

    def _clipped(
        self, command: Command, layers: tuple[str, ...], mode: str, key: str, request: OptimizationRequest
    ) -> OptimizationRequest:
        values = self._range(command, mode, key)
        if not layers or values is None:
            return request
        return replace(request, clippings=(*request.clippings, ClippingRequest(layers, mode, values)))

    # --- values --------------------------------------------------------------------------------------------------

    def _bad(self, command: Command, rule: str, need: str) -> None:
        self._report(command.diagnostic(rule, need))

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
        word = word_of(command.keyword[key])
        if word not in known:
            shown = str(command.keyword[key])[:40]
            self._report(unknown_name("E-SCRIPT-VALUE", f"value of {key}", shown, known, command.where(key)))
            return None
        return word

    def _policy(self, command: Command, key: str) -> bool | None:
        word = self._word(command, key, POLICIES)
        return None if word is None else word != "disabled"

    def _range(self, command: Command, mode: str, key: str) -> tuple[float, float] | None:
        if mode == "disabled":
            return (0.0, 100.0)
        value = command.keyword.get(key)
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
            self._bad(command, f"the {key} do not make a range for mode={mode}", need)
            return None
        return (numbers[0], numbers[1])


def word_of(value: Value) -> str:
    """A value as one word: true and false as ``enabled`` and ``disabled``; "" for lists, sets and long texts."""
    if isinstance(value, bool):
        return POLICIES[0] if value else POLICIES[1]
    if value is None:
        return "none"
    if isinstance(value, int | float):
        return f"{value:g}" if abs(value) < 1e6 else ""
    return value.lower() if isinstance(value, Name) or (isinstance(value, str) and len(value) < 64) else ""
