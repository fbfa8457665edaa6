# SPDX-License-Identifier: Apache-2.0
"""``optimize``: prepare, measure, choose scales, freeze, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.data.calibration import check_frames, range_notes
from headrace.data.dtypes import as_values
from headrace.errors import DataError, Diagnostic, InputFileError, UsageError
from headrace.hn import Array, Network, check_network
from headrace.optimize.algorithms import activation_ranges, channel_scales, equalization
from headrace.optimize.freeze.context import check_freezable
from headrace.optimize.gate import Gate, check
from headrace.optimize.measure.snr import Comparison, measure
from headrace.optimize.options import OptimizeOptions, OptimizeResult, Progress
from headrace.optimize.requests import Requests, resolve_requests, wide_groups
from headrace.optimize.scales import fitting, offsets, parts, reach
from headrace.optimize.scales.ranges import insert_rescales, scale_groups
from headrace.optimize.search import Search, check_same_meaning
from headrace.optimize.statistics.collect import Ranges, Request, Statistics, collect, evenly_spread
from headrace.optimize.trial import Trial
from headrace.passes import Pass, run_passes
from headrace.passes.preparation import preparation

CHECK_FRAMES = 4


def optimize(
    network: Network,
    calibration: Mapping[str, Array],
    options: OptimizeOptions | None = None,
    progress: Progress | None = None,
) -> OptimizeResult:
    """Quantise a float network to int8 and freeze all its integers.

    Args:
        network: float network; unchanged.
        calibration: per input layer an array ``[N, …]`` in the layout of the network (see ``load_calibration``).
        options: see :class:`OptimizeOptions`.
        progress: called with (done, total, text).

    Returns:
        The quantised network, the float network it stands for, the report.

    Raises:
        DataError: the calibration data are unusable.
        AccuracyError: an output is below ``min_snr``; ``error.result`` holds the complete result.
    """
    options = options or OptimizeOptions()
    options.check()
    _check_float(network)
    requests = resolve_requests(network, options)
    data, frames = _select(network, calibration, options)
    warnings = range_notes(network, data, frames)
    head = {name: value[: min(frames, CHECK_FRAMES)] for name, value in data.items()}
    prepared, records, requests = _prepared(network, head, options, requests)

    def measured_now(text: str = "calibrating") -> Statistics:
        return collect(prepared, data, frames, options, progress, _wanted(prepared, options, requests), text)

    statistics, fitted = _fitted(prepared, head, options, measured_now, requests.narrow)
    records += fitted
    centred = offsets.centre(prepared, statistics)
    if centred:  # the tensors before those outputs have other values now
        records += centred
        statistics = measured_now("calibrating about offsets")
    groups = scale_groups(prepared)
    raw = {x.name: is_raw_image(prepared, x.name, data[x.name], statistics.ranges) for x in prepared.input_layers}
    search = Search(prepared, statistics, data, frames, groups, raw, requests, options, progress)
    trial, decisions = search.run()
    for layer in trial.quantized.input_layers:
        low, high = trial.statistics.ranges.output[layer.name]
        layer.output.calibrated = float(low), float(high)
    chosen = list(evenly_spread(frames, options.snr_frames))
    sample = {name: np.ascontiguousarray(value[chosen]) for name, value in data.items()}
    measured = measure(trial.prepared, trial.quantized, sample, search.judge, options, progress)
    report = {
        "calibration": {
            "frames": frames,
            "snr_frames": len(chosen),
            "trial_frames": len(search.judge.frames),
            "raw_uint8_inputs": [n for n, v in raw.items() if v],
        },
        "options": options.as_dict(),
        "passes": records,
        "algorithms": decisions,
        "warnings": warnings,
        "layers": {name: _layer_report(trial, name, c) for name, c in measured.layers.items()},
        "outputs": {x.name: measured.outputs[x.name].as_dict() for x in trial.quantized.output_layers},
    }
    result = OptimizeResult(trial.quantized, trial.prepared, report)
    gate = Gate(trial, measured, groups)
    dead = gate.dead_layers(search.sensitivities(trial.prepared) if gate.suspects else {})
    report["dead_layers"] = dead
    check(gate, result, options.min_snr, dead)
    return result


def optimize_full_precision(network: Network, passes: Sequence[Pass] = ()) -> tuple[Network, list[dict[str, Any]]]:
    """Carry out model modifications on a copy of a float network.

    Args:
        network: float network; unchanged.
        passes: the modifications, in order; those of a script are ``ScriptPlan.passes``.

    Returns:
        The new network and one record per change.
    """
    changed = network.clone()
    records = run_passes(changed, passes)
    changed.net_params["stage"] = "fp_optimized"
    return changed, records


def prepare(
    network: Network, frames: Mapping[str, Array], apart: frozenset[str] = frozenset()
) -> tuple[Network, list[dict[str, Any]]]:
    """Rewrite a copy of the network into layers with an integer form, and prove on real frames that it means the same.

    Sums named in ``apart`` stay layers of their own.

    Raises:
        InternalError: an output changed by more than rounding (below 60 dB).
    """
    prepared = network.clone()
    records = run_passes(prepared, preparation(apart))
    if records:
        check_same_meaning(network, prepared, frames, "the preparation passes changed the network's result")
    return prepared, records


def is_raw_image(network: Network, name: str, data: Array, ranges: Ranges) -> bool:
    """Whether an input is a raw image: its uint8 codes are the data, scale 1 and zero point 0.

    So it is when the data are uint8, or when they are integers 0 … 255 and the input's users are normalizations.
    """
    low, high = ranges.output[name]
    if data.dtype == np.uint8:
        return True
    users = network.users(name)
    if low < 0 or high > 255 or not users or any(user.kind != "normalization" for user in users):
        return False
    return all(bool(np.all(np.rint(part) == part)) for part in (data[i : i + 64] for i in range(0, len(data), 64)))


def _select(
    network: Network, calibration: Mapping[str, Array], options: OptimizeOptions
) -> tuple[dict[str, Array], int]:
    data = check_frames(network, calibration)
    # The emulator would take them for codes.
    data = {name: as_values(value) if value.dtype == np.uint16 else value for name, value in data.items()}
    frames = min((len(v) for v in data.values()), default=0)
    if not data or frames < 1:
        raise DataError(
            Diagnostic(
                "E-DATA-EMPTY", network.name, "there is no calibration data", "0 frames", "at least 1 frame, better 64"
            )
        )
    if options.calibration_size is not None:
        frames = min(frames, options.calibration_size)
    return {name: value[:frames] for name, value in data.items()}, frames


def _joined_scales(network: Network, records: list[dict[str, Any]]) -> None:
    """Let every concatenation input have the concatenation's scale."""
    rescales = insert_rescales(network, scale_groups(network))
    if rescales:
        records += rescales
        check_network(network)


def _prepared(
    network: Network, head: Mapping[str, Array], options: OptimizeOptions, requests: Requests
) -> tuple[Network, list[dict[str, Any]], Requests]:
    """The network to quantise, what was rewritten, and the requests for its layers; what cannot be had is refused."""
    apart = requests.left_alone["addition_fusing"] if options.addition_fusing else frozenset(network.layers)
    prepared, records = prepare(network, head, apart)
    requests = requests.moved(records)
    check_freezable(prepared)
    _joined_scales(prepared, records)
    wide_groups(prepared, scale_groups(prepared), requests)
    return prepared, records, requests


def _wanted(prepared: Network, options: OptimizeOptions, requests: Requests) -> Request:
    """The statistics that the algorithms want of a network as it is."""
    wanted = activation_ranges.request(prepared, options.calibrator, requests.clippings)
    wanted |= parts.request(prepared) | offsets.request(prepared) | reach.request(prepared)
    if options.equalization:
        alone = requests.not_scaled
        wanted |= equalization.request(prepared, alone) | channel_scales.request(prepared, alone)
    return wanted


def _fitted(
    prepared: Network,
    head: Mapping[str, Array],
    options: OptimizeOptions,
    measure_again: Callable[[], Statistics],
    keep: frozenset[str],
) -> tuple[Statistics, list[dict[str, Any]]]:
    """Statistics of the prepared network, whose ranges are fitted to them; proved on the frames ``head`` to mean the
    same.
    """
    statistics = measure_again()
    shifts = reach.shift_masks(prepared, statistics)
    if shifts:
        # Not compared: beside such a mask float32 has lost some of the logits, without it it has not.
        check_network(prepared)
        statistics = measure_again()
    before = prepared.clone()
    statistics, records = fitting.fit(prepared, statistics, measure_again, options.output_bits == 8, keep)
    if records:
        check_same_meaning(before, prepared, head, "fitting ranges to the data changed the network's result")
    return statistics, shifts + records


def _check_float(network: Network) -> None:
    """Raise unless this is a valid float network with finite parameters."""
    if network.net_params.get("stage") == "quantized":
        raise UsageError(
            Diagnostic(
                "E-OPTIMIZE-STAGE",
                network.name,
                "the network is quantised already",
                "a quantised network",
                "a float network",
            )
        )
    check_network(network)
    problems = [
        Diagnostic(
            "E-OPTIMIZE-WEIGHTS",
            key,
            "a parameter holds NaN or infinity",
            f"{int((~np.isfinite(value)).sum())} of {value.size}",
            "finite numbers",
        )
        for key, value in network.params.items()
        if value.dtype.kind == "f" and not np.all(np.isfinite(value))
    ]
    if problems:
        raise InputFileError(problems)


def _layer_report(trial: Trial, name: str, comparison: Comparison) -> dict[str, Any]:
    share = comparison.saturated / comparison.elements if comparison.elements else 0.0
    return {
        "kind": trial.quantized[name].kind,
        "snr_db": comparison.whole.snr_db,
        "distinct_codes": comparison.distinct_codes,
        "saturated_percent": round(100.0 * share, 4),
        "range": list(trial.statistics.ranges.output[name]),
        **trial.tensors[name].as_dict(),
        **trial.notes.get(name, {}),
    }


__all__ = ["is_raw_image", "optimize", "optimize_full_precision", "prepare"]
