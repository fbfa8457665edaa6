# SPDX-License-Identifier: Apache-2.0
"""Commands that turn an algorithm of ``optimize`` on or off, before and after quantization.

A policy with ``layers`` holds for these layers alone; later lines win; one that is written out wins over
``optimization_level``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from headrace.hn.stages import OPTIMIZE
from headrace.script.arguments import Argument, Interval, Layers, Policy, Word, argument, keys, values
from headrace.script.commands.ranges import CLIPPING_MODES, WHOLE_RANGE, range_of
from headrace.script.effects import Clip, OptimizeEffect, Use, WideOutputs
from headrace.script.fates import ACTS, ANYWAY, HINT, LEFT_OUT, REFUSED, Fate
from headrace.script.forms import Form, OptimizeCommand, Resolving, acts, idle

_PRE = "pre_quantization_optimization"
_POST = "post_quantization_optimization"
_NOT_DONE = "nothing of the kind is done"
_LEFT = values(LEFT_OUT)


@dataclass(frozen=True)
class AlgorithmPolicy(OptimizeCommand):
    """A command that turns one algorithm on or off."""

    algorithm: ClassVar[str]

    policy: bool = argument(Policy(), True, "`disabled`: it is not used")
    layers: tuple[str, ...] | None = argument(Layers(), None, "for these layers alone; without it for all")

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """The algorithm on or off."""
        return (Use(self.algorithm, self.policy, self.layers),)


@acts(f"{_PRE}(equalization)", off=ACTS, idle=keys("mode equalization_target", _LEFT))
@dataclass(frozen=True)
class Equalization(AlgorithmPolicy):
    """Scale moves between neighbouring layers; off, channel scales and copies are too."""

    algorithm: ClassVar[str] = "equalization"


@acts(
    f"{_PRE}(ew_add_fusing)",
    fate=ANYWAY,
    off=ACTS,
    idle=keys("infusible_ew_add_type", _LEFT),
    note="a sum joins the convolution in front of it",
    instead="a sum that joins no convolution stays a sum",
)
@dataclass(frozen=True)
class AdditionFusing(AlgorithmPolicy):
    """A sum joins the convolution in front of it; off, sums stay layers of their own."""

    algorithm: ClassVar[str] = "addition_fusing"


@acts(f"{_POST}(bias_correction)", off=ACTS, idle=keys("cache_compression", values(HINT)))
@dataclass(frozen=True)
class BiasCorrection(AlgorithmPolicy):
    """The mean shift of quantization is taken off the biases."""

    algorithm: ClassVar[str] = "bias_correction"


# Off, weights are rounded to the nearest. On, ours are rounded for the sums they make, not by training.
@acts(
    f"{_POST}(adaround)",
    fate=LEFT_OUT,
    off=ACTS,
    idle=keys(
        "learning_rate batch_size dataset_size epochs warmup weight train_bias bias_correction_count mode b_range "
        "decay_start cache_compression"
    ),
    instead="weights are rounded for the sums they make, not by training",
)
@dataclass(frozen=True)
class WeightRounding(AlgorithmPolicy):
    """Weights are rounded for the sums they make; off, each to the nearest."""

    algorithm: ClassVar[str] = "weight_rounding"


@acts(
    f"{_POST}(mix_precision_search)",
    fate=LEFT_OUT,
    off=ACTS,
    idle=keys("dataset_size snr_cap comprecision_metric compression_metric optimizer"),
    instead="outputs get 16 bits where that is measured to help",
)
@dataclass(frozen=True)
class MixedPrecision(OptimizeCommand):
    """Outputs get 16 bits where that is measured to help; off, none does by measurement."""

    policy: bool = argument(Policy(), True, "`disabled`: no output is widened by measurement")

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """Whether outputs may be widened."""
        return (WideOutputs(self.policy),)


@acts(
    f"{_PRE}(activation_clipping)",
    off=ACTS,
    off_keys=("policy", "mode"),
    idle=keys("recollect_stats", values(LEFT_OUT, disabled=ANYWAY)),
)
@dataclass(frozen=True)
class ActivationClipping(OptimizeCommand):
    """The range of some layers' outputs."""

    layers: tuple[str, ...] | None = argument(Layers(), None, "without it all")
    mode: str = argument(
        Word(CLIPPING_MODES), "percentile", "what `clipping_values` are: per cent of what was measured, or reals"
    )
    clipping_values: tuple[float, ...] | None = argument(
        Interval(), None, "the range; of percentiles [0.01, 99.99] without it"
    )
    policy: bool = argument(Policy(), True, "`disabled`: as `mode=disabled`")

    def resolved(self, resolving: Resolving) -> ActivationClipping | None:
        """With the range that mode and values make."""
        mode = self.mode if self.policy else "disabled"
        known = range_of(resolving, mode, "clipping_values", self.clipping_values)
        return None if known is None else dataclasses.replace(self, mode=mode, clipping_values=known)

    def effects(self) -> tuple[OptimizeEffect, ...]:
        """The range."""
        layers = ("*",) if self.layers is None else self.layers
        low, high = self.clipping_values or WHOLE_RANGE
        return (Clip(layers, self.mode, (low, high)),) if layers else ()


def _feature(
    feature: str, fate: Fate, arguments: tuple[Argument, ...] | None, off: Fate | None = ANYWAY, note: str = _NOT_DONE
) -> Form:
    return idle(feature, OPTIMIZE, fate, arguments, off, note=note)


FORMS: tuple[Form, ...] = (
    Equalization.form,
    ActivationClipping.form,
    idle(
        f"{_PRE}(weights_clipping)",
        OPTIMIZE,
        ANYWAY,
        keys("layers clipping_values policy") + keys("mode", values(REFUSED, mmse_if4b=ANYWAY)),
        ANYWAY,
        note="no weight is clipped: they have 8 bits",
        off_keys=("policy", "mode"),
    ),
    _feature(f"{_PRE}(dead_channels_removal)", LEFT_OUT, keys("policy layers")),
    _feature(f"{_PRE}(zero_static_channels)", LEFT_OUT, keys("policy layers eps")),
    _feature(f"{_PRE}(se_optimization)", REFUSED, keys("method mode count tile_height tile_width policy")),
    AdditionFusing.form,
    _feature(f"{_PRE}(matmul_correction)", LEFT_OUT, keys("layers correction_type policy")),
    _feature(f"{_PRE}(matmul_equalization)", LEFT_OUT, keys("layers policy matmul_bias")),
    # Every layer norm is put together from smaller layers, at one precision: another way is not built.
    _feature(
        f"{_PRE}(layer_norm_decomposition)",
        REFUSED,
        keys("bit_decomposition_mode equalization eq_consumer policy mode layers"),
        REFUSED,
        "",
    ),
    _feature(f"{_PRE}(layer_decomposition)", REFUSED, keys("layers policy remove_low_low")),
    _feature(f"{_PRE}(decompose_conv_factor)", LEFT_OUT, keys("policy layers")),
    _feature(f"{_PRE}(global_avgpool_reduction)", LEFT_OUT, keys("layers division_factors policy")),
    _feature(f"{_PRE}(resolution_reduction)", REFUSED, keys("shape interpolation policy layers")),
    _feature(f"{_PRE}(quarot)", REFUSED, None),
    BiasCorrection.form,
    _feature(
        f"{_POST}(finetune)",
        LEFT_OUT,
        keys(
            "policy dataset_size epochs batch_size learning_rate def_loss_type loss_layer_names loss_types "
            "loss_factors native_layers native_activations stop_gradient_at_loss force_pruning warmup_epochs "
            "warmup_strategy train_scales val_images val_batch_size use_acceleras meta_arch optimizer "
            "layers_to_freeze lr_schedule_type"
        ),
    ),
    WeightRounding.form,
    _feature(f"{_POST}(train_encoding)", LEFT_OUT, None),
    MixedPrecision.form,
)
