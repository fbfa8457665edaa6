# SPDX-License-Identifier: Apache-2.0
"""Files that were quantized already: their codes are taken as they are, and no data are needed.

Where the file says nothing of a value (its converter left a layer in float, or a layer of the file became several), its
range follows from its meaning or its neighbours' codes; what is left needs calibration data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from headrace.errors import DataError, Diagnostic, UsageError
from headrace.hn import Array, Network, check_network
from headrace.layers import ScaleRule
from headrace.optimize.freeze import FreezeContext, freeze_network
from headrace.optimize.options import OptimizeOptions, OptimizeResult, Progress
from headrace.optimize.preparation import prepare
from headrace.optimize.requests import resolve_requests
from headrace.optimize.scales.implied import range_before, tensors_without_data
from headrace.optimize.scales.ranges import scale_groups
from headrace.reports.optimize import (
    CalibrationFacts,
    FileFacts,
    FreezeNotes,
    OptimizeReport,
    PassRecord,
)

#: Frames of noise on which rewrites are proved; nothing is measured on them.
_PROBES = 2
#: Multiply-accumulates and elements of all tensors of a frame, above which nothing is proved.
_MOST_MACS, _MOST_ELEMENTS = 1 << 35, 1 << 27
_MOST_NAMED = 20


def optimize_without_data(
    network: Network, options: OptimizeOptions, switches: Sequence[str], progress: Progress | None = None
) -> OptimizeResult:
    """Freeze a network all of whose ranges the model's own file gives.

    Args:
        network: float network; unchanged.
        options: the user's; what needs data does not happen.
        switches: names of all switches, for the report.
        progress: called with layers done, all layers, text.

    Raises:
        DataError: ranges are missing, with the layers that lack them.
    """
    ready = prepare(network, _probes(network), resolve_requests(network, options), options)
    prepared = ready.network
    tensors, derived, missing = tensors_without_data(prepared, scale_groups(prepared))
    if missing:
        raise _no_data(prepared, missing)
    quantized = prepared.clone()
    before = {layer.name: span for layer in prepared if (span := range_before(prepared, layer, tensors)) is not None}
    context = FreezeContext(quantized, tensors, before)
    freeze_network(context, progress)
    quantized.net_params["stage"] = "quantized"
    check_network(quantized)
    keep_limits(quantized)
    report = OptimizeReport(
        calibration=CalibrationFacts(frames=0, snr_frames=0, trial_frames=0, raw_uint8_inputs=()),
        options=options.choices(switches),
        from_file=file_facts(prepared, context.notes, derived),
        passes=tuple(PassRecord.from_dict(record, "passes") for record in ready.records),
        algorithms=(),
        warnings=("no calibration data: the codes are the file's, and nothing was measured",),
        layers={},
        outputs={},
        dead_layers={},
    )
    return OptimizeResult(quantized, prepared, report)


def check_data_given(network: Network, given: bool, stated: bool) -> None:
    """Raise unless there are data, or a file whose codes are to be kept.

    Raises:
        DataError: there are none.
    """
    if given or stated:
        return
    rule, need = "there is no calibration data", "calibration data: 64 frames that look like the data of use"
    got = "no data, for a network whose file states no codes"
    raise DataError(Diagnostic("E-OPTIMIZE-NO-DATA", network.name, rule, got, need, ("--calib-set-path DATA",)))


def check_nothing_asked(network: Network, options: OptimizeOptions) -> None:
    """Raise where options ask for other codes than those that the network's file states.

    Raises:
        UsageError: naming all that do.
    """
    requests = resolve_requests(network, options)
    stated = {layer.name: codes for layer in network if (codes := layer.wish.codes) is not None}
    problems = [f"a range for {name!r}" for name in requests.clippings if name in stated]
    problems += [
        f"{asked.bits} bits for {name!r}"
        for name, (_, asked) in requests.bits.items()
        if name in stated and stated[name].bits != asked.bits
    ]
    if options.calibrator != "minmax":
        problems.append(f"the ranges of {options.calibrator!r}")
    if options.output_bits is not None:
        problems.append(f"{options.output_bits} bits for outputs")
    if problems:
        rule = "other codes are asked for than the model's file states, and those are kept"
        levers = ("--requantize, with calibration data", "leave out what asks for it")
        raise UsageError(
            Diagnostic("E-OPTIMIZE-STATED", network.name, rule, "; ".join(problems[:5]), "the file's codes", levers)
        )


def _no_data(network: Network, missing: Sequence[str]) -> DataError:
    first = [network[name] for name in missing if network[name].operation.scale_rule is not ScaleRule.PASSES]
    shown = first[:_MOST_NAMED] or [network[name] for name in missing[:_MOST_NAMED]]
    more = f", and {len(missing) - len(shown)} more" if len(missing) > len(shown) else ""
    return DataError(
        [
            Diagnostic(
                "E-OPTIMIZE-NO-DATA",
                layer.name,
                "the model's file states no codes of this layer's result, and nothing tells its range",
                f"{layer.kind} {', '.join(layer.original_names[:2])}{more if layer is shown[-1] else ''}",
                "calibration data",
                ("--calib-set-path DATA: only the ranges that the file leaves open are measured",),
            )
            for layer in shown
        ]
    )


def _probes(network: Network) -> dict[str, Array]:
    """Noise within the codes of each input: frames on which a rewritten network is compared with the one before.

    None for a network that would take long to run: there are no data whose size bounds it.
    """
    macs = elements = 0
    for layer in network:
        elements += math.prod(layer.output_shape[1:])
        if layer.inputs:
            macs += layer.operation.counts(network.input_shapes(layer), layer.output_shape).macs
    if macs > _MOST_MACS or elements > _MOST_ELEMENTS:
        return {}
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for layer in network.input_layers:
        codes = layer.wish.codes
        low, high = (-1.0, 1.0) if codes is None else codes.limits
        shape = (_PROBES, *layer.output_shape[1:])
        noise = rng.random(shape, np.float32) * np.float32(high - low)
        found[layer.name] = np.clip(noise + np.float32(low), low, high)
    return found


def keep_limits(quantized: Network) -> None:
    """Let the inputs say which values their codes can show, where no data told."""
    for layer in quantized.input_layers:
        codes = layer.output.quantization
        if codes is not None and layer.output.calibrated is None:
            layer.output.calibrated = codes.limits


def file_facts(
    network: Network,
    notes: Mapping[str, FreezeNotes],
    derived: Sequence[str] | None = None,
) -> FileFacts:
    """What came from the file, for the report.

    Args:
        network: float network.
        notes: of the freezing, by layer.
        derived: layers whose range followed from others'; None: there were data, and such ranges were measured.
    """
    weights = {name: note.stated_weights for name, note in notes.items() if note.stated_weights is not None}
    measured: list[str] = []
    if derived is None:
        _, follow, missing = tensors_without_data(network, scale_groups(network))
        measured = [*follow, *missing]
    return FileFacts(
        tensors=sum(layer.wish.codes is not None for layer in network),
        weights=sum(weights.values()),
        changed_weights=tuple(name for name, kept in weights.items() if not kept),
        derived=tuple(derived or ()),
        measured=tuple(measured),
    )


__all__ = ["check_data_given", "check_nothing_asked", "file_facts", "keep_limits", "optimize_without_data"]
