# SPDX-License-Identifier: Apache-2.0
"""What each command of the language is to Headrace: the table behind classification, checks and suggestions.

A command that chooses its feature by the first value (``pre_quantization_optimization(equalization, ...)``) has one
row per feature, written ``command(feature)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Effect(Enum):
    """What leaving a command out would do; decides between acting, warning and refusing."""

    SUPPORTED = "supported"
    #: changes what the network computes, or how precisely: refused until it is built, never skipped
    CHANGES_NUMERICS = "not built yet; it changes the numerics of the network"
    #: makes a result better or a run faster: skipped with a warning until it is built
    IMPROVES = "not built yet; the result is valid without it"
    #: steers placement on another device, or its compiler: means nothing here
    HINT = "ignored on this device"


@dataclass(frozen=True)
class Rule:
    """One row: the effect, the keys that may be given (None: any), and how many values may stand before them."""

    effect: Effect
    keywords: frozenset[str] | None = frozenset()
    positional: tuple[int, int] = (0, 64)


def _rule(effect: Effect, keywords: str = "", positional: tuple[int, int] = (0, 64)) -> Rule:
    return Rule(effect, frozenset(keywords.split()), positional)


def _hint() -> Rule:
    # Machine-written lines of another compiler: their keys change between its releases, so any is accepted.
    return Rule(Effect.HINT, None)


_NUMERICS, _IMPROVES = Effect.CHANGES_NUMERICS, Effect.IMPROVES

_PLACEMENT = """
    allocator_param bucket buffer_calc_param buffers compilation_param concat context ddr defuse defuse_block
    feature_splitter format_conversion hef_param join l4_portal merge mux_demux optimize_buffers output_layer output_mux
    place platform_param portal shape_splitter shortcut spatial_reshape_flow_params transpose_concat
"""

RULES: dict[str, Rule] = {
    # Model modification.
    "normalization": _rule(Effect.SUPPORTED, "", (2, 3)),
    "input_conversion": _rule(_NUMERICS, "emulator_support", (1, 2)),
    "resize": _rule(_NUMERICS, "resize_shapes resize_method engine pixels_mode", (0, 2)),
    "resize_input": _rule(_NUMERICS, "resize_method engine", (1, 2)),
    "yuv_to_rgb": _rule(_NUMERICS, "", (0, 1)),
    "transpose": _rule(_NUMERICS, "", (0, 1)),
    "change_output_activation": _rule(_NUMERICS, "activation", (1, 2)),
    "logits_layer": _rule(_NUMERICS, "engine", (2, 4)),
    "nms_postprocess": _rule(
        _NUMERICS,
        "meta_arch engine bbox_decoding_only classes nms_scores_th nms_iou_th image_dims max_proposals_per_class "
        "background_removal background_removal_index regression_length dfl_on_nn_core",
        (0, 2),
    ),
    "remove_node": _rule(_NUMERICS, "", (1, 1)),
    "convert_to_dense": _rule(_NUMERICS, "", (1, 1)),
    "set_kv_cache_global_params": _rule(_NUMERICS, "prefill_size cache_size"),
    "set_input_mask_to_softmax": _rule(_NUMERICS),
    "llm_modifications": Rule(_NUMERICS, None),
    # Nothing here draws random numbers.
    "set_seed": _rule(Effect.SUPPORTED, "seed", (0, 1)),
    # Before quantisation. `policy=disabled` asks for what happens anyway: see `plan`.
    "pre_quantization_optimization(equalization)": _rule(Effect.SUPPORTED, "policy mode layers equalization_target"),
    "pre_quantization_optimization(activation_clipping)": _rule(
        Effect.SUPPORTED, "layers mode clipping_values recollect_stats policy"
    ),
    "pre_quantization_optimization(weights_clipping)": _rule(_NUMERICS, "layers mode clipping_values policy"),
    "pre_quantization_optimization(dead_channels_removal)": _rule(_IMPROVES, "policy layers"),
    "pre_quantization_optimization(zero_static_channels)": _rule(_IMPROVES, "policy layers eps"),
    "pre_quantization_optimization(se_optimization)": _rule(
        _NUMERICS, "method mode count tile_height tile_width policy"
    ),
    "pre_quantization_optimization(ew_add_fusing)": _rule(_IMPROVES, "policy infusible_ew_add_type layers"),
    "pre_quantization_optimization(matmul_correction)": _rule(_IMPROVES, "layers correction_type policy"),
    "pre_quantization_optimization(matmul_equalization)": _rule(_IMPROVES, "layers policy matmul_bias"),
    "pre_quantization_optimization(layer_norm_decomposition)": _rule(
        _NUMERICS, "bit_decomposition_mode equalization eq_consumer policy mode layers"
    ),
    "pre_quantization_optimization(layer_decomposition)": _rule(_NUMERICS, "layers policy remove_low_low"),
    "pre_quantization_optimization(decompose_conv_factor)": _rule(_IMPROVES, "policy layers"),
    "pre_quantization_optimization(global_avgpool_reduction)": _rule(_IMPROVES, "layers division_factors policy"),
    "pre_quantization_optimization(resolution_reduction)": _rule(_NUMERICS, "shape interpolation policy"),
    "pre_quantization_optimization(quarot)": Rule(_NUMERICS, None),
    # Quantisation.
    "quantization_param": _rule(
        _NUMERICS,
        "precision_mode bias_mode use_16bit_bias force_range_in force_range_out force_range_index "
        "max_elementwise_feed_repeat null_channels_cutoff_factor activation_fit weight_group_size quantization_groups "
        "activation_clipping_mode activation_clipping_values weights_clipping_mode weights_clipping_values",
        (1, 1),
    ),
    "model_optimization_flavor": _rule(Effect.SUPPORTED, "optimization_level compression_level batch_size", (0, 0)),
    "model_optimization_config(calibration)": _rule(Effect.SUPPORTED, "calibset_size batch_size use_acceleras", (1, 1)),
    "model_optimization_config(checker_cfg)": _rule(
        _IMPROVES, "policy dataset_size analyze_mode batch_norm_checker batch_size", (1, 1)
    ),
    "model_optimization_config(compression_params)": _rule(
        _NUMERICS, "auto_4bit_weights_ratio auto_16bit_weights_ratio", (1, 1)
    ),
    "model_optimization_config(globals)": _rule(
        _NUMERICS, "multiproc_policy output_encoding_vector output_16bit gpu_policy", (1, 1)
    ),
    "model_optimization_config(negative_exponent)": _rule(
        _IMPROVES, "layers rank auto_clip auto_remove_offset", (1, 1)
    ),
    # After quantisation.
    "post_quantization_optimization(bias_correction)": _rule(Effect.SUPPORTED, "policy layers cache_compression"),
    "post_quantization_optimization(finetune)": _rule(
        _IMPROVES,
        "policy dataset_size epochs batch_size learning_rate def_loss_type loss_layer_names loss_types loss_factors "
        "native_layers native_activations stop_gradient_at_loss force_pruning warmup_epochs warmup_strategy "
        "train_scales val_images val_batch_size use_acceleras meta_arch optimizer layers_to_freeze lr_schedule_type",
    ),
    "post_quantization_optimization(adaround)": _rule(
        _IMPROVES,
        "policy layers learning_rate batch_size dataset_size epochs warmup weight train_bias bias_correction_count "
        "mode b_range decay_start cache_compression",
    ),
    "post_quantization_optimization(train_encoding)": Rule(_IMPROVES, None),
    "post_quantization_optimization(mix_precision_search)": _rule(
        _IMPROVES, "policy dataset_size snr_cap comprecision_metric compression_metric optimizer"
    ),
    # Compile: what the user wants of the result.
    "performance_param": _rule(
        _IMPROVES, "compiler_optimization_level fps optimize_for_batch optimize_for_power optimization_level", (0, 1)
    ),
    "resources_param": _rule(
        _IMPROVES,
        "strategy max_control_utilization max_compute_utilization max_compute_16bit_utilization "
        "max_memory_utilization max_apu_utilization max_input_aligner_utilization max_utilization",
        (0, 0),
    ),
    "context_switch_param": Rule(_IMPROVES, None, (0, 0)),
    "network_group": _rule(_IMPROVES, "", (1, 1)),
    # Compile: how another compiler places, splits and buffers.
    **{name: _hint() for name in _PLACEMENT.split()},
}

#: Commands whose first value names the feature, and the features.
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(sorted(row[len(family) + 1 : -1] for row in RULES if row.startswith(f"{family}(")))
    for family in ("model_optimization_config", "post_quantization_optimization", "pre_quantization_optimization")
}

#: Every name that may stand before a parenthesis.
COMMANDS: tuple[str, ...] = tuple(sorted({row.partition("(")[0] for row in RULES}))

#: Commands of a handle: `context_0.place(...)`.
METHODS: dict[str, Effect] = {"compilation_param": Effect.HINT, "place": Effect.HINT}
