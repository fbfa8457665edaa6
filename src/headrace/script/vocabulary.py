# SPDX-License-Identifier: Apache-2.0
"""What becomes of each command and each value: the one table behind acting, refusing, warning and the documentation.

A command that chooses its feature by the first value (``pre_quantization_optimization(equalization, ...)``) has one
row per feature, written ``command(feature)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum


class Fate(Enum):
    """What becomes of a command or a value, in plain words."""

    ACTS = "acts"
    #: asks for what is done without it, too
    ANYWAY = "is what happens anyway"
    #: steers another device or its compiler: means nothing here
    HINT = "hint without effect on this device"
    #: makes a result better or a run faster, and is not built: skipped with a warning
    LEFT_OUT = "not built yet, left out with a warning; the result is valid without it"
    #: changes what the network computes, or how precisely, and is not built: refused, never skipped
    REFUSED = "not built yet, refused"


ACTS, ANYWAY, HINT, LEFT_OUT, REFUSED = Fate
#: Of a command's parts the one that comes first here decides what is said of the whole.
SEVERITY = (REFUSED, LEFT_OUT, ACTS, ANYWAY, HINT)
OTHER = "*"  # any value that is not named
Values = Mapping[str, Fate]

#: Keys whose values are layer names, in whatever command they stand.
LAYER_KEYS = frozenset({"layers", "loss_layer_names", "native_layers", "layers_to_freeze"})
#: Words of ``policy``; True and False are the first two.
POLICIES = ("enabled", "disabled", "allowed")


@dataclass(frozen=True)
class Rule:
    """One row.

    Attributes:
        fate: of the command where no ``policy`` (or ``mode``) says ``disabled``.
        off: of the command where one does; None: it has no such key.
        keys: key → value → fate; :data:`OTHER` is every value not named. None: any key, all of them like ``fate``.
        positional: how many values may stand before the keys, the feature's name included.
        layers: which of these are layer names: numbers, ``"*"`` (all words), ``"*-"`` (all words but the last).
        note: why nothing has to be done, or why it has no effect, as a clause.
        off_keys: where ``disabled`` turns the command off.
    """

    fate: Fate
    off: Fate | None = None
    keys: Mapping[str, Values] | None = field(default_factory=dict[str, Values])
    positional: tuple[int, int] = (0, 64)
    layers: str = ""
    note: str = ""
    off_keys: tuple[str, ...] = ("policy",)

    def fate_of(self, key: str, word: str) -> Fate:
        """What becomes of one key's value (:func:`headrace.script.plan.word_of`)."""
        if key in self.off_keys and word == "disabled" and self.off is not None:
            return self.off
        values = (self.keys or {}).get(key, {})
        return values.get(word, values.get(OTHER, self.fate))


def _keys(plain: str, **special: Values) -> dict[str, Values]:
    """Keys that share the command's fate, and those whose values have fates of their own."""
    return {**{key: {} for key in plain.split()}, **special}


def _values(fate: Fate, **named: Fate) -> Values:
    return {**named, OTHER: fate}


def _hint(layers: str = "", positional: tuple[int, int] = (0, 64)) -> Rule:
    # Machine-written lines of another compiler: their keys change between its releases, so any is taken.
    return Rule(HINT, None, None, positional, layers, "it steers another device's compiler")


_POLICY_OR_MODE = ("policy", "mode")
_FEATURE = (1, 1)  # the feature's name alone
_HINTED = _values(HINT)
_LEFT = _values(LEFT_OUT)
_OFF_ANYWAY = _values(REFUSED, disabled=ANYWAY)

_MODIFICATION: dict[str, Rule] = {
    "normalization": Rule(ACTS, None, {}, (2, 3)),  # its third value is an input layer: see `naming`
    "input_conversion": Rule(REFUSED, None, _keys("emulator_support"), (1, 2), "*-"),
    "resize": Rule(REFUSED, None, _keys("resize_shapes resize_method engine pixels_mode"), (0, 2), "0"),
    "resize_input": Rule(REFUSED, None, _keys("resize_method engine"), (1, 2), "1"),
    "yuv_to_rgb": Rule(REFUSED, None, {}, (0, 1), "0"),
    "transpose": Rule(REFUSED, None, {}, (0, 1), "0"),
    "change_output_activation": Rule(REFUSED, None, _keys("activation"), (1, 2), "*-"),
    "logits_layer": Rule(REFUSED, None, _keys("engine"), (2, 4), "0"),
    "nms_postprocess": Rule(
        REFUSED,
        None,
        _keys(
            "meta_arch engine bbox_decoding_only classes nms_scores_th nms_iou_th image_dims max_proposals_per_class "
            "background_removal background_removal_index regression_length dfl_on_nn_core"
        ),
        (0, 2),
    ),
    "remove_node": Rule(REFUSED, None, {}, (1, 1), "0"),
    "convert_to_dense": Rule(REFUSED, None, {}, (1, 1), "0"),
    "set_kv_cache_global_params": Rule(REFUSED, None, _keys("prefill_size cache_size")),
    "set_input_mask_to_softmax": Rule(REFUSED),
    "llm_modifications": Rule(REFUSED, None, None),
    "set_seed": Rule(ANYWAY, None, _keys("seed"), (0, 1), note="nothing here draws random numbers"),
}

_PRE = "pre_quantization_optimization"
_NOT_DONE = "nothing of the kind is done"
_BEFORE: dict[str, Rule] = {
    f"{_PRE}(equalization)": Rule(ACTS, ACTS, _keys("policy layers", mode=_LEFT, equalization_target=_LEFT), _FEATURE),
    f"{_PRE}(activation_clipping)": Rule(
        ACTS,
        ACTS,
        _keys("layers mode clipping_values policy", recollect_stats=_values(LEFT_OUT, disabled=ANYWAY)),
        _FEATURE,
        off_keys=_POLICY_OR_MODE,
    ),
    f"{_PRE}(weights_clipping)": Rule(
        ANYWAY,
        ANYWAY,
        _keys("layers clipping_values policy", mode=_values(REFUSED, mmse_if4b=ANYWAY)),
        _FEATURE,
        note="no weight is clipped: they have 8 bits",
        off_keys=_POLICY_OR_MODE,
    ),
    f"{_PRE}(dead_channels_removal)": Rule(LEFT_OUT, ANYWAY, _keys("policy layers"), _FEATURE, note=_NOT_DONE),
    f"{_PRE}(zero_static_channels)": Rule(LEFT_OUT, ANYWAY, _keys("policy layers eps"), _FEATURE, note=_NOT_DONE),
    f"{_PRE}(se_optimization)": Rule(
        REFUSED, ANYWAY, _keys("method mode count tile_height tile_width policy"), _FEATURE, note=_NOT_DONE
    ),
    f"{_PRE}(ew_add_fusing)": Rule(
        ANYWAY,
        ACTS,
        _keys("policy layers", infusible_ew_add_type=_LEFT),
        _FEATURE,
        note="a sum joins the convolution in front of it",
    ),
    f"{_PRE}(matmul_correction)": Rule(
        LEFT_OUT, ANYWAY, _keys("layers correction_type policy"), _FEATURE, note=_NOT_DONE
    ),
    f"{_PRE}(matmul_equalization)": Rule(
        LEFT_OUT, ANYWAY, _keys("layers policy matmul_bias"), _FEATURE, note=_NOT_DONE
    ),
    # Every layer norm is put together from smaller layers, at one precision: another way is not built.
    f"{_PRE}(layer_norm_decomposition)": Rule(
        REFUSED, REFUSED, _keys("bit_decomposition_mode equalization eq_consumer policy mode layers"), _FEATURE
    ),
    f"{_PRE}(layer_decomposition)": Rule(
        REFUSED, ANYWAY, _keys("layers policy remove_low_low"), _FEATURE, note=_NOT_DONE
    ),
    f"{_PRE}(decompose_conv_factor)": Rule(LEFT_OUT, ANYWAY, _keys("policy layers"), _FEATURE, note=_NOT_DONE),
    f"{_PRE}(global_avgpool_reduction)": Rule(
        LEFT_OUT, ANYWAY, _keys("layers division_factors policy"), _FEATURE, note=_NOT_DONE
    ),
    f"{_PRE}(resolution_reduction)": Rule(
        REFUSED, ANYWAY, _keys("shape interpolation policy layers"), _FEATURE, note=_NOT_DONE
    ),
    f"{_PRE}(quarot)": Rule(REFUSED, ANYWAY, None, _FEATURE, note=_NOT_DONE),
}

_CONFIG = "model_optimization_config"
_QUANTIZATION: dict[str, Rule] = {
    "quantization_param": Rule(
        ACTS,
        None,
        _keys(
            "force_range_out activation_clipping_mode activation_clipping_values",
            # 16 bits at an output: see `plan`. Everything else needs weights or inputs of other widths.
            precision_mode=_values(
                REFUSED, a8_w8=ACTS, a8_w8_a8=ACTS, a8_w8_a16=ACTS, a16_w16=ACTS, a16_w8=ACTS, a16_w8_a16=ACTS
            ),
            use_16bit_bias=_values(ANYWAY),
            activation_fit=_OFF_ANYWAY,
            weights_clipping_mode=_values(REFUSED, disabled=ANYWAY, mmse_if4b=ANYWAY),
            **{
                key: _values(REFUSED)
                for key in [
                    "bias_mode",
                    "force_range_in",
                    "force_range_index",
                    "max_elementwise_feed_repeat",
                    "null_channels_cutoff_factor",
                    "weight_group_size",
                    "quantization_groups",
                    "weights_clipping_values",
                ]
            },
        ),
        (1, 1),
        "0",
        "biases have 32 bits, and no weight is clipped",
    ),
    "model_optimization_flavor": Rule(
        ACTS,
        None,
        _keys(
            "batch_size",
            optimization_level=_values(ACTS, **{"2": LEFT_OUT, "3": LEFT_OUT, "4": LEFT_OUT}),
            compression_level=_values(LEFT_OUT, **{"0": ANYWAY}),
        ),
        (0, 0),
        note="all weights have 8 bits",
    ),
    f"{_CONFIG}(calibration)": Rule(
        ACTS,
        None,
        _keys("calibset_size batch_size", use_acceleras=_HINTED),
        _FEATURE,
        note="there is one emulator",
    ),
    f"{_CONFIG}(checker_cfg)": Rule(
        ANYWAY,
        HINT,
        _keys(
            "policy",
            dataset_size=_values(ACTS),
            analyze_mode=_values(LEFT_OUT, simple=ANYWAY),
            batch_norm_checker=_values(LEFT_OUT, disabled=ANYWAY),
            batch_size=_HINTED,
        ),
        _FEATURE,
        note="the noise of every layer is always measured, which changes no number",
    ),
    f"{_CONFIG}(compression_params)": Rule(
        REFUSED,
        None,
        _keys(
            "",
            auto_4bit_weights_ratio=_values(REFUSED, **{"0": ANYWAY}),
            auto_16bit_weights_ratio=_values(REFUSED, **{"0": ANYWAY}),
        ),
        _FEATURE,
        note="all weights have 8 bits",
    ),
    f"{_CONFIG}(globals)": Rule(
        HINT,
        None,
        _keys(
            "multiproc_policy gpu_policy",
            output_encoding_vector=_OFF_ANYWAY,
            output_16bit=_values(ACTS),
        ),
        _FEATURE,
        note="how the work is spread over processors never changes a number",
    ),
    f"{_CONFIG}(negative_exponent)": Rule(
        LEFT_OUT, None, _keys("layers rank auto_clip auto_remove_offset"), _FEATURE, note=_NOT_DONE
    ),
}

_POST = "post_quantization_optimization"
_AFTER: dict[str, Rule] = {
    f"{_POST}(bias_correction)": Rule(ACTS, ACTS, _keys("policy layers", cache_compression=_HINTED), _FEATURE),
    f"{_POST}(finetune)": Rule(
        LEFT_OUT,
        ANYWAY,
        _keys(
            "policy dataset_size epochs batch_size learning_rate def_loss_type loss_layer_names loss_types "
            "loss_factors native_layers native_activations stop_gradient_at_loss force_pruning warmup_epochs "
            "warmup_strategy train_scales val_images val_batch_size use_acceleras meta_arch optimizer "
            "layers_to_freeze lr_schedule_type"
        ),
        _FEATURE,
        note=_NOT_DONE,
    ),
    # Off, weights are rounded to the nearest. On, ours are rounded for the sums they make, not by training.
    f"{_POST}(adaround)": Rule(
        LEFT_OUT,
        ACTS,
        _keys(
            "policy layers learning_rate batch_size dataset_size epochs warmup weight train_bias "
            "bias_correction_count mode b_range decay_start cache_compression"
        ),
        _FEATURE,
    ),
    f"{_POST}(train_encoding)": Rule(LEFT_OUT, ANYWAY, None, _FEATURE, note=_NOT_DONE),
    f"{_POST}(mix_precision_search)": Rule(
        LEFT_OUT,
        ACTS,
        _keys("policy dataset_size snr_cap comprecision_metric compression_metric optimizer"),
        _FEATURE,
    ),
}

_CEILINGS = "max_control_utilization max_compute_utilization max_memory_utilization"
_COMPILE: dict[str, Rule] = {
    "performance_param": Rule(
        LEFT_OUT,
        None,
        _keys(
            "compiler_optimization_level optimization_level",
            fps=_values(LEFT_OUT, none=ANYWAY),
            optimize_for_batch=_values(ACTS),
            optimize_for_power=_values(LEFT_OUT, disabled=ANYWAY),
        ),
        (0, 1),
        note="as many frames per second as fit are sought, whatever power that takes",
    ),
    "resources_param": Rule(
        ACTS,
        None,
        _keys(
            _CEILINGS,
            strategy=_LEFT,
            max_utilization=_values(ACTS, **{"0": HINT}),
            max_compute_16bit_utilization=_HINTED,
            max_apu_utilization=_HINTED,
            max_input_aligner_utilization=_HINTED,
        ),
        (0, 0),
        note="0 sets no ceiling; 16-bit units, activation units and aligners have none",
    ),
    "context_switch_param": Rule(
        ACTS,
        ACTS,
        _keys(
            _CEILINGS,
            mode={"enabled": ACTS, "allowed": ANYWAY, "automatic": ANYWAY, "manual": LEFT_OUT},
            max_utilization=_values(ACTS, **{"0": HINT}),
            **dict.fromkeys(
                [
                    "goal_network_compute_utilization",
                    "goal_network_control_utilization",
                    "goal_network_memory_utilization",
                    "goal_network_weights_utilization",
                    "toposort_mode",
                    "slotter_chances",
                    "auto_partition_to_buckets",
                    "share_buckets_partition",
                    "berkitizer_min_size",
                    "berkitizer_bucket_size",
                    "allow_auto_merge_in_multicontext",
                ],
                _LEFT,
            ),
        ),
        (0, 0),
        note="several contexts are made where one does not do; a ceiling of 0 is none",
        off_keys=("mode",),
    ),
    "network_group": Rule(ANYWAY, None, {}, (1, 1), note="there is one network"),
}

#: Lines for another compiler: placement, splits, buffers; and which of their values are layers.
_PLACEMENT: dict[str, Rule] = {
    **{
        name: _hint()
        for name in ["allocator_param", "buffer_calc_param", "hef_param", "optimize_buffers", "platform_param"]
    },
    "spatial_reshape_flow_params": _hint(),
    **{name: _hint("0", (1, 64)) for name in ["compilation_param", "defuse"]},
    "buffers": _hint("0 1", (2, 64)),
    "format_conversion": _hint("*-", (2, 64)),
    "shape_splitter": _hint("1 2", (3, 3)),
    "place": _hint("1", (2, 2)),
    **{
        name: _hint("*", (1, 64))
        for name in [
            "bucket",
            "concat",
            "context",
            "ddr",
            "defuse_block",
            "feature_splitter",
            "join",
            "l4_portal",
            "merge",
            "mux_demux",
            "output_layer",
            "output_mux",
            "portal",
            "shortcut",
            "transpose_concat",
        ]
    },
}

RULES: dict[str, Rule] = {**_MODIFICATION, **_BEFORE, **_QUANTIZATION, **_AFTER, **_COMPILE, **_PLACEMENT}

#: Commands whose first value names the feature, and the features.
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(sorted(row[len(family) + 1 : -1] for row in RULES if row.startswith(f"{family}(")))
    for family in (_CONFIG, _POST, _PRE)
}

#: Every name that may stand before a parenthesis.
COMMANDS: tuple[str, ...] = tuple(sorted({row.partition("(")[0] for row in RULES}))

#: Commands of a handle: `context_0.place(...)`.
METHODS: dict[str, Rule] = {"compilation_param": _hint(), "place": _hint("1", (2, 2))}

#: Commands that change what the network computes, or how precisely; all others steer the compiler, or nothing.
NUMBERS = frozenset(row.partition("(")[0] for row in (*_MODIFICATION, *_BEFORE, *_QUANTIZATION, *_AFTER))

#: What is done where a command or value is left out; by default nothing, and the result is valid.
INSTEAD: dict[str, str] = {
    "model_optimization_flavor": "level 1 is carried out, and weights keep 8 bits",
    f"{_POST}(adaround)": "weights are rounded for the sums they make, not by training",
    f"{_POST}(mix_precision_search)": "outputs get 16 bits where that is measured to help",
    f"{_CONFIG}(checker_cfg)": "the noise of every layer is measured",
    f"{_PRE}(ew_add_fusing)": "a sum that joins no convolution stays a sum",
    "performance_param": "as many frames per second as fit are sought",
    "context_switch_param": "contexts are cut where the whole takes the fewest cycles",
}


#: Commands that ask by their keys alone: without any they ask for nothing.
ASK_BY_KEYS = frozenset(
    {row for row, rule in RULES.items() if rule.keys and rule.off is None and rule.fate in (ACTS, HINT)}
    | {f"{_CONFIG}(compression_params)", "performance_param", "context_switch_param"}
)


def table() -> Iterator[tuple[str, str, Fate]]:
    """(command, key=value or "", fate), every row that the documentation shows; a policy counts as a value."""
    for row, rule in RULES.items():
        neutral = row in ASK_BY_KEYS
        if not neutral:
            yield row, "", rule.fate
        if rule.keys is None and rule.off is not None:
            yield row, "policy=disabled", rule.off
        for key, values in (rule.keys or {}).items():
            if rule.off is not None and key in rule.off_keys and rule.off is not rule.fate:
                yield row, f"{key}=disabled", rule.off
            named = {word: fate for word, fate in values.items() if fate is not rule.fate or neutral}
            for word, fate in named.items():
                yield row, key if word == OTHER else f"{key}={word}", fate
            if neutral and not values:
                yield row, key, rule.fate
