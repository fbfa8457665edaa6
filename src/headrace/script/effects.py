# SPDX-License-Identifier: Apache-2.0
"""What commands change: values that the options of a stage take.

A command for the float network gives passes. One for ``optimize`` or ``compile`` gives effects, each of which changes
the options of its stage: :meth:`OptimizeEffect.apply`, :meth:`CompileEffect.apply`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

if TYPE_CHECKING:
    from headrace.compiler import CompileOptions
    from headrace.hn.nms_request import NmsRequest
    from headrace.optimize.options import OptimizeOptions


class Effect:
    """One thing that a script decides."""

    #: Effects of a lower rank are applied first, wherever their lines stand.
    rank: ClassVar[int] = 1

    @property
    def slot(self) -> Hashable:
        """What it decides."""
        return type(self).__name__

    @property
    def settles(self) -> bool:
        """Whether nothing of what earlier lines say of the same slot counts beside it."""
        return True

    @property
    def neutral(self) -> bool:
        """Whether it asks for what is done without it, and only takes back what earlier lines say."""
        return False


class OptimizeEffect(Effect, ABC):
    """Something that a script decides about ``optimize``."""

    @abstractmethod
    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        """The options with it.

        Args:
            options: before.
            layers: every layer of the network, in its order; none where no network is known.
        """


class CompileEffect(Effect, ABC):
    """Something that a script decides about ``compile``."""

    @abstractmethod
    def apply(self, options: CompileOptions) -> CompileOptions:
        """The options with it."""


E = TypeVar("E", bound=Effect)


def settled(effects: Iterable[E]) -> tuple[E, ...]:
    """The effects that count, in the order in which they are applied: two scripts that ask for the same are equal."""
    seen: set[Hashable] = set()
    kept: list[E] = []
    for effect in reversed(list(effects)):
        if effect.slot in seen:
            continue
        if effect.settles:
            seen.add(effect.slot)
        kept.append(effect)
    # Sorting is stable: of one kind they stay in the script's order.
    counting = [effect for effect in reversed(kept) if not effect.neutral]
    return tuple(sorted(counting, key=lambda effect: (effect.rank, str(effect.slot))))


# --- optimize --------------------------------------------------------------------------------------------------------

NO_ALGORITHMS = -100
LEVELS = (NO_ALGORITHMS, 0, 1, 2, 3, 4)
BUILT_LEVEL = 1
WIDE = 16


@dataclass(frozen=True)
class Level(OptimizeEffect):
    """``optimization_level``: which algorithms run. A policy that is written out wins over it, wherever it stands."""

    rank: ClassVar[int] = 0
    level: int

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        options = options.switched("equalization", self.level >= 0)
        options = options.switched("bias_correction", self.level >= 1)
        options = options.switched("weight_rounding", self.level >= 1)
        return replace(options, calibrator="minmax", output_bits=8) if self.level == NO_ALGORITHMS else options


@dataclass(frozen=True)
class Use(OptimizeEffect):
    """Whether an algorithm is used: everywhere, or for some layers.

    Attributes:
        algorithm: name of its switch (:attr:`headrace.optimize.algorithms.algorithm.Algorithm.switch`).
        on: whether.
        layers: these alone, or everywhere.
    """

    algorithm: str
    on: bool
    layers: tuple[str, ...] | None

    @property
    def slot(self) -> Hashable:
        return (type(self).__name__, self.algorithm)

    @property
    def settles(self) -> bool:
        return self.layers is None

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        if self.layers is None:
            return options.switched(self.algorithm, self.on)
        on = options.enabled(self.algorithm)
        off = set(options.left_alone.get(self.algorithm, ()) if on else layers)
        off = off - set(self.layers) if self.on else off | set(self.layers)
        left = tuple(name for name in layers if name in off)
        on = len(left) < len(layers) if layers else on
        return options.switched(self.algorithm, on, left if on else ())


@dataclass(frozen=True)
class WideOutputs(OptimizeEffect):
    """Whether outputs may get 16 bits where that is measured to help."""

    allowed: bool

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        return replace(options, output_bits=None if self.allowed else 8)


@dataclass(frozen=True)
class FramesInFlight(OptimizeEffect):
    """Frames computed at a time; no number depends on it."""

    frames: int

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        return replace(options, batch=self.frames)


@dataclass(frozen=True)
class CalibrationFrames(OptimizeEffect):
    """How many frames are used."""

    frames: int

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        return replace(options, calibration_size=self.frames)


@dataclass(frozen=True)
class NoiseFrames(OptimizeEffect):
    """On how many frames the noise is measured."""

    frames: int

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        return replace(options, snr_frames=self.frames)


@dataclass(frozen=True)
class Clip(OptimizeEffect):
    """The range of some layers' outputs: (low, high) as reals for ``manual``, else per cent."""

    layers: tuple[str, ...]
    mode: str
    values: tuple[float, float]

    @property
    def settles(self) -> bool:
        return False

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        from headrace.optimize.options import Clipping

        return replace(options, clippings=(*options.clippings, Clipping(self.layers, self.mode, self.values)))


@dataclass(frozen=True)
class Bits(OptimizeEffect):
    """The bits, 8 or 16, of some layers' outputs, and the place in the script, for errors."""

    layers: tuple[str, ...]
    bits: int
    where: str = field(compare=False)

    @property
    def settles(self) -> bool:
        return False

    def apply(self, options: OptimizeOptions, layers: Sequence[str]) -> OptimizeOptions:
        from headrace.optimize.options import OutputBits

        return replace(options, bits=(*options.bits, OutputBits(self.layers, self.bits, self.where)))


# --- compile ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch(CompileEffect):
    """Frames between two switches of context."""

    frames: int

    def apply(self, options: CompileOptions) -> CompileOptions:
        return replace(options, batch=self.frames)


@dataclass(frozen=True)
class Contexts(CompileEffect):
    """``"one"``, ``"several"``, or None: as few as it takes; and the place in the script, for errors."""

    contexts: Literal["one", "several"] | None
    where: str = field(compare=False)

    @property
    def neutral(self) -> bool:
        return self.contexts is None

    def apply(self, options: CompileOptions) -> CompileOptions:
        return replace(options, contexts=self.contexts, contexts_where=self.where)


@dataclass(frozen=True)
class Ceiling(CompileEffect):
    """The share of one resource of the device that a context may take."""

    resource: Literal["control", "compute", "memory"]
    share: float

    @property
    def slot(self) -> Hashable:
        return (type(self).__name__, self.resource)

    def apply(self, options: CompileOptions) -> CompileOptions:
        if self.resource == "control":
            return replace(options, max_control_utilization=self.share)
        if self.resource == "compute":
            return replace(options, max_compute_utilization=self.share)
        return replace(options, max_memory_utilization=self.share)


@dataclass(frozen=True)
class Boxes(CompileEffect):
    """What makes boxes of the outputs: the line, for the runner, which knows the network's head."""

    request: NmsRequest

    def apply(self, options: CompileOptions) -> CompileOptions:
        return options
