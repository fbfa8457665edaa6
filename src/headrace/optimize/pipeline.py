# SPDX-License-Identifier: Apache-2.0
"""``optimize``: prepare, measure, let algorithms propose, freeze, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.data.calibration import range_notes
from headrace.hn import Array, Network
from headrace.numerics.quantization import TensorQuantization
from headrace.optimize.algorithms.algorithm import Algorithm, Role
from headrace.optimize.algorithms.order import ALGORITHMS, switches
from headrace.optimize.bench import CHECK_FRAMES, Bench
from headrace.optimize.chunks import ChunkRunner, Pool, evenly_spread, frames_of, thread_pool
from headrace.optimize.file_codes import (
    check_data_given,
    check_nothing_asked,
    file_facts,
    optimize_without_data,
)
from headrace.optimize.gate import Gate, check
from headrace.optimize.measure.snr import measure
from headrace.optimize.options import ADDITION_FUSING, OptimizeOptions, OptimizeResult, Progress
from headrace.optimize.preparation import check_float, prepare
from headrace.optimize.preparation import request as fitting_request
from headrace.optimize.requests import resolve_requests
from headrace.optimize.scales.ranges import scale_groups
from headrace.optimize.search import Search, switched_on, wanted
from headrace.optimize.statistics.collect import Statistics, collect
from headrace.optimize.statistics.frames import is_raw_image, selected
from headrace.optimize.trial import Trial
from headrace.passes import Pass, run_passes
from headrace.passes.file_codes import forgotten, has_codes
from headrace.reports.optimize import (
    CalibrationFacts,
    FreezeNotes,
    LayerAccuracy,
    OptimizeReport,
    PassRecord,
    TensorScale,
)


def optimize(
    network: Network,
    calibration: Mapping[str, Array] | None,
    options: OptimizeOptions | None = None,
    progress: Progress | None = None,
    *,
    algorithms: Sequence[Algorithm] = ALGORITHMS,
    pool: Pool = thread_pool,
) -> OptimizeResult:
    """Quantize a float network to int8 and freeze all its integers.

    Args:
        network: float network; unchanged.
        calibration: per input layer an array ``[N, …]`` in the layout of the network (see ``load_calibration``).
            ``None``: there are no data, and the network's file was quantized already.
        options: see :class:`OptimizeOptions`.
        progress: called with (done, total, text).
        algorithms: in the order of their turns; the first gives the first trial.
        pool: makes the workers that compute chunks of frames; no result depends on it.

    Returns:
        The quantized network, the float network it stands for, the report.

    Raises:
        DataError: the calibration data are unusable, or needed and not there.
        UsageError: an option is out of range, or names a switch or a layer that is not there.
        AccuracyError: an output is below ``min_snr``; ``error.result`` holds the complete result.
    """
    options = options or OptimizeOptions()
    named = (ADDITION_FUSING, *switches(algorithms))
    options.check()
    options.check_switches(named)
    check_float(network)
    network = forgotten(network) if options.requantize else network
    stated = has_codes(network)
    check_data_given(network, calibration is not None, stated)
    if stated:
        check_nothing_asked(network, options)
    if calibration is None:
        return optimize_without_data(network, options, named, progress)
    return _with_data(network, calibration, options, progress, algorithms, pool)


def _with_data(
    network: Network,
    calibration: Mapping[str, Array],
    options: OptimizeOptions,
    progress: Progress | None,
    algorithms: Sequence[Algorithm],
    pool: Pool,
) -> OptimizeResult:
    """Measure, search, freeze and compare; see :func:`optimize`."""
    stated = has_codes(network)
    requests = resolve_requests(network, options)
    data, frames = selected(network, calibration, options)
    warnings = range_notes(network, data, frames)
    ready = prepare(network, frames_of(data, slice(min(frames, CHECK_FRAMES))), requests, options)
    prepared, requests = ready.network, ready.requests
    runner, used = ChunkRunner.of(options, progress, pool), _used(algorithms, options, stated)

    def measure_now(text: str) -> Statistics:
        request = fitting_request(prepared) | wanted(used, prepared, requests, options)
        return collect(prepared, data, frames, runner, request, text)

    statistics = ready.measured(options, measure_now)
    raw = _raw_inputs(prepared, data, statistics)
    bench = Bench(prepared, data, frames, scale_groups(prepared), raw, requests, options, runner)
    trial, decisions = Search(bench, used).run(prepared, statistics)
    _store_ranges(trial, data)
    gate = _compared(trial, bench)
    report = OptimizeReport(
        calibration=_calibration(bench),
        options=options.choices((ADDITION_FUSING, *switches(algorithms))),
        from_file=file_facts(ready.network, trial.notes) if stated else None,
        passes=tuple(PassRecord.from_dict(record, "passes") for record in ready.records),
        algorithms=tuple(decisions),
        warnings=tuple(warnings),
        layers=_layers(gate),
        outputs={x.name: gate.measured.outputs[x.name].accuracy() for x in trial.quantized.output_layers},
        dead_layers=_dead_layers(gate, bench),
    )
    return check(gate, OptimizeResult(trial.quantized, trial.prepared, report), options.min_snr)


def _used(algorithms: Sequence[Algorithm], options: OptimizeOptions, stated: bool) -> list[Algorithm]:
    """The algorithms that have a turn; nothing may change what a quantized file states."""
    used = switched_on(algorithms, options)
    return [one for one in used if one.role is Role.RANGES] if stated else used


def _raw_inputs(prepared: Network, data: Mapping[str, Array], statistics: Statistics) -> dict[str, bool]:
    """Which inputs take raw bytes, their file stating nothing else."""
    return {
        x.name: x.wish.codes is None and is_raw_image(prepared, x.name, data[x.name], statistics.ranges)
        for x in prepared.input_layers
    }


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


def _scale(quantization: TensorQuantization) -> TensorScale:
    if quantization.uniform:
        return TensorScale(scale=quantization.scale, zero_point=quantization.zero_point, bits=quantization.bits)
    return TensorScale(
        scale=tuple(quantization.scales),
        zero_point=tuple(quantization.zero_points),
        bits=quantization.bits,
        axis=quantization.axis,
    )


def _store_ranges(trial: Trial, data: Mapping[str, Array]) -> None:
    """Let the quantized network's inputs say what calibration saw, that which their readers do not tell apart too."""
    for layer in trial.quantized.input_layers:
        low, high = trial.statistics.ranges.output[layer.name]
        if layer.name in trial.prepared.layers and trial.prepared[layer.name].wish.reach is not None:
            low, high = data[layer.name].min(), data[layer.name].max()
        layer.output.calibrated = float(low), float(high)


def _compared(trial: Trial, bench: Bench) -> Gate:
    """The network that was chosen, against float on calibration frames."""
    sample = frames_of(bench.data, evenly_spread(bench.frames, bench.options.snr_frames))
    measured = measure(trial.prepared, trial.quantized, sample, bench.judge, bench.runner)
    return Gate(trial, measured, bench.groups)


def _calibration(bench: Bench) -> CalibrationFacts:
    """The data."""
    return CalibrationFacts(
        frames=bench.frames,
        snr_frames=min(bench.frames, bench.options.snr_frames),
        trial_frames=len(bench.judge.frames),
        raw_uint8_inputs=tuple(name for name, is_raw in bench.raw.items() if is_raw),
    )


def _dead_layers(gate: Gate, bench: Bench) -> dict[str, float]:
    """Dead layers that matter; sensitivities are taken where there is one to suspect."""
    return gate.dead_layers(bench.sensitivities(gate.trial.prepared) if gate.suspects else {})


def _layers(gate: Gate) -> dict[str, LayerAccuracy]:
    """Every layer of the quantized network beside float."""
    trial = gate.trial
    return {
        name: LayerAccuracy(
            kind=trial.quantized[name].kind,
            snr_db=found.whole.snr_db,
            distinct_codes=found.distinct_codes,
            saturated_percent=found.saturated_percent,
            range=trial.statistics.ranges.output[name],
            scale=_scale(trial.tensors[name]),
            notes=trial.notes.get(name, FreezeNotes()),
        )
        for name, found in gate.measured.layers.items()
    }


__all__ = ["optimize", "optimize_full_precision"]
