# SPDX-License-Identifier: Apache-2.0
"""Commands that say how precisely the network is quantized, and with what data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.hn.stages import OPTIMIZE
from headrace.script.arguments import Interval, Layers, Policy, Whole, Word, argument, keys, required, values
from headrace.script.commands.ranges import CLIPPING_MODES, range_of
from headrace.script.effects import (
    BUILT_LEVEL,
    LEVELS,
    WIDE,
    Bits,
    CalibrationFrames,
    Clip,
    FramesInFlight,
    Level,
    NoiseFrames,
    OptimizeEffect,
)
from headrace.script.fates import ACTS, ANYWAY, HINT, LEFT_OUT, REFUSED, Fate, word_of
from headrace.script.forms import Form, Lookup, Named, OptimizeCommand, Resolving, acts, idle
from headrace.script.parser import Statement

MAX_FRAMES = 1 << 24
_CONFIG = "model_optimization_config"
_FRAMES = Whole(1, MAX_FRAMES)
_OFF_ANYWAY = values(REFUSED, disabled=ANYWAY)
_EIGHT = ("a8_w8", "a8_w8_a8")
#: Precisions with 16-bit activations: built for outputs, where there are no weights and nothing is computed.
_OUTPUTS_ONLY = ("a16_w16", "a16_w8", "a16_w8_a16")
_PRECISIONS = (*_EIGHT, "a8_w8_a16", *_OUTPUTS_ONLY)


@acts(
    "quantization_param",
    by_keys=True,
    note="biases have 32 bits, and no weight is clipped",
    idle=(
        *keys("use_16bit_bias", values(ANYWAY)),
        *keys("activation_fit", _OFF_ANYWAY),
        *keys("weights_clipping_mode", values(REFUSED, disabled=ANYWAY, mmse_if4b=ANYWAY)),
        *keys(
            "bias_mode force_range_in force_range_index max_elementwise_feed_repeat null_channels_cutoff_factor "
            "weight_group_size quantization_groups weights_clipping_values",
            values(REFUSED),
        ),
    ),
)
@dataclass(frozen=True)
class QuantizationParam(OptimizeCommand):
    """Precision and range of some layers' outputs."""

    layers: tuple[str, ...] = required(Layers(), "whose outputs", 0)
    force_range_out: tuple[float, ...] | None = argument(Interval(), None, "the range, in reals")
    activation_clipping_mode: str | None = argument(Word(CLIPPING_MODES), None, "as `mode` of `activation_clipping`")
    activation_clipping_values: tuple[float, ...] | None = argument(Interval(), None, "as its `clipping_values`")
    # Everything else needs weights or inputs of other widths.
    precision_mode: str | None = argument(
        Word(_PRECISIONS),
        None,
        "8 bits, or 16 where every reader can take them; of output layers alone the `a16_…` modes mean 16 bits too",
        values(REFUSED, **dict.fromkeys(_PRECISIONS, ACTS)),
        need="a8_w8, or a8_w8_a16 where a layer's readers can take 16 bits, or any a16 mode for output layers alone",
    )
    ranges: tuple[tuple[str, tuple[float, float]], ...] = ()

    @classmethod
    def special_fates(cls, statement: Statement, named: Named, finder: Lookup) -> Mapping[str, Fate]:
        """Precisions with 16-bit inputs are built for output layers alone."""
        word = word_of(statement.keyword.get("precision_mode"))
        outputs_alone = word not in _OUTPUTS_ONLY or finder.outputs_alone(named.get(0, ()))
        return {} if outputs_alone else {"precision_mode": REFUSED}

    def resolved(self, resolving: Resolving) -> QuantizationParam | None:
        """With the ranges that are asked for: mode and (low, high) of each."""
        given = self.statement.keyword
        asked: list[tuple[str, str, tuple[float, ...] | None]] = []
        if self.activation_clipping_mode is not None:
            asked.append((self.activation_clipping_mode, "activation_clipping_values", self.activation_clipping_values))
        elif "activation_clipping_values" in given:
            rule, need = "activation_clipping_values without a mode", "activation_clipping_mode=manual, say"
            resolving.bad(rule, need, "activation_clipping_values")
            return None
        if "force_range_out" in given:
            asked.append(("manual", "force_range_out", self.force_range_out))
        ranges = [(mode, range_of(resolving, mode, key, numbers)) for mode, key, numbers in asked]
        known = tuple((mode, found) for mode, found in ranges if found is not None)
        return dataclasses.replace(self, ranges=known) if len(known) == len(ranges) else None

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """Bits, then ranges."""
        if not self.layers:
            return ()
        clips = tuple(Clip(self.layers, mode, values) for mode, values in self.ranges)
        if self.precision_mode is None:
            return clips
        bits = 8 if self.precision_mode in _EIGHT else WIDE
        return (Bits(self.layers, bits, self.statement.where("precision_mode")), *clips)


@acts(
    "model_optimization_flavor",
    by_keys=True,
    note="all weights have 8 bits",
    instead="level 1 is carried out, and weights keep 8 bits",
)
@dataclass(frozen=True)
class Flavor(OptimizeCommand):
    """How much the optimizer tries."""

    batch_size: int | None = argument(_FRAMES, None, "frames computed at a time; no number depends on it")
    optimization_level: int | None = argument(
        Whole(LEVELS[0], LEVELS[-1], LEVELS),
        None,
        "-100: nothing beside ranges; 0: equalization; 1: all that is built",
        values(ACTS, **{"2": LEFT_OUT, "3": LEFT_OUT, "4": LEFT_OUT}),
    )
    compression_level: int | None = argument(
        Whole(0, 5), None, "more weights of 4 bits", values(LEFT_OUT, **{"0": ANYWAY})
    )

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """The level, as far as it is built, and the batch."""
        level = () if self.optimization_level is None else (Level(min(self.optimization_level, BUILT_LEVEL)),)
        return (*level, *_in_flight(self.batch_size))


def _in_flight(frames: int | None) -> tuple[OptimizeEffect, ...]:
    return () if frames is None else (FramesInFlight(frames),)


@acts(f"{_CONFIG}(calibration)", by_keys=True, note="there is one emulator")
@dataclass(frozen=True)
class Calibration(OptimizeCommand):
    """How much data is used."""

    calibset_size: int | None = argument(_FRAMES, None, "frames used; the first ones")
    batch_size: int | None = argument(_FRAMES, None, "frames computed at a time; no number depends on it")
    use_acceleras: bool = argument(Policy(), True, "another emulator", values(HINT))

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """Both numbers."""
        frames = () if self.calibset_size is None else (CalibrationFrames(self.calibset_size),)
        return (*_in_flight(self.batch_size), *frames)


@acts(
    f"{_CONFIG}(checker_cfg)",
    fate=ANYWAY,
    off=HINT,
    note="the noise of every layer is always measured, which changes no number",
    instead="the noise of every layer is measured",
    idle=(
        *keys("policy"),
        *keys("analyze_mode", values(LEFT_OUT, simple=ANYWAY)),
        *keys("batch_norm_checker", values(LEFT_OUT, disabled=ANYWAY)),
    ),
)
@dataclass(frozen=True)
class NoiseCheck(OptimizeCommand):
    """How the noise is measured."""

    dataset_size: int | None = argument(_FRAMES, None, "frames on which it is measured", values(ACTS))
    batch_size: int | None = argument(_FRAMES, None, "frames at a time", values(HINT))

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """The number of frames."""
        return () if self.dataset_size is None else (NoiseFrames(self.dataset_size),)


@acts(
    f"{_CONFIG}(globals)",
    fate=HINT,
    by_keys=True,
    note="how the work is spread over processors never changes a number",
    idle=(*keys("multiproc_policy gpu_policy"), *keys("output_encoding_vector", _OFF_ANYWAY)),
)
@dataclass(frozen=True)
class Globals(OptimizeCommand):
    """What holds for the whole network."""

    output_16bit: bool | None = argument(Policy(), None, "16 bits at every output, or 8", values(ACTS))
    outputs: tuple[str, ...] = ("output_layer*",)

    def resolved(self, resolving: Resolving) -> Globals:
        """With the network's outputs."""
        outputs = resolving.finder.outputs()
        return self if outputs is None else dataclasses.replace(self, outputs=outputs)

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """The bits of the outputs."""
        if self.output_16bit is None:
            return ()
        return (Bits(self.outputs, WIDE if self.output_16bit else 8, self.statement.where("output_16bit")),)


_NONE_OF_THEM = values(REFUSED, **{"0": ANYWAY})
FORMS: tuple[Form, ...] = (
    QuantizationParam.form,
    Flavor.form,
    Calibration.form,
    NoiseCheck.form,
    idle(
        f"{_CONFIG}(compression_params)",
        OPTIMIZE,
        REFUSED,
        keys("auto_4bit_weights_ratio auto_16bit_weights_ratio", _NONE_OF_THEM),
        note="all weights have 8 bits",
        by_keys=True,
    ),
    Globals.form,
    idle(
        f"{_CONFIG}(negative_exponent)",
        OPTIMIZE,
        LEFT_OUT,
        keys("layers rank auto_clip auto_remove_offset"),
        note="nothing of the kind is done",
    ),
)
