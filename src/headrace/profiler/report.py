# SPDX-License-Identifier: Apache-2.0
"""What is known of a network: from the members of a HAR alone, in any state."""

from __future__ import annotations

from dataclasses import replace

from headrace import reports
from headrace.errors import Diagnostic, HeadraceError, UsageError
from headrace.hn import Layer, Network
from headrace.hn.archive import Archive
from headrace.mapping import Estimate, estimate, stages_of
from headrace.mapping.estimate import BASIS
from headrace.passes.preparation import PREPARATION
from headrace.passes.rewriting import run_passes
from headrace.reports.optimize import LayerAccuracy, OptimizeReport
from headrace.reports.profile import (
    NamedStream,
    NetworkAccuracy,
    NetworkTotals,
    NoEstimate,
    ProfiledLayer,
    ProfileReport,
    Simulation,
    TargetEstimate,
)
from headrace.reports.schedule import ScheduleReport
from headrace.reports.timing import TimingReport
from headrace.targets import Target, list_targets, load_target
from headrace.timing.work import is_quantized

SIMULATION, CALIBRATION, COUNTS = "event simulation", "calibration", "counts"


def profile(archive: Archive, hw_arch: str | Target | None = None) -> ProfileReport:
    """The report of a HAR.

    Args:
        archive: any state.
        hw_arch: target of interest, or its name; the archive's own by default. It need not be what was compiled for.

    Raises:
        UsageError: the archive holds no network, or there is no such target.
        InputFileError: a report in the archive breaks a rule of its form.
    """
    network = archive.quantized or archive.fp_optimized or archive.native
    if network is None:
        raise UsageError(
            Diagnostic("E-PROFILE-EMPTY", archive.name, "the archive holds no network", "none", "a parsed network")
        )
    target = hw_arch if isinstance(hw_arch, Target) else load_target(hw_arch or archive.hw_arch, archive.name)
    known = reports.of(archive)
    optimized, schedule, timing = known.optimize, known.schedule, known.timing
    return ProfileReport(
        name=archive.name,
        state=archive.state.value,
        hw_arch=target.name,
        network=_totals(network),
        layers=_layers(network, optimized, schedule, timing),
        estimates=_estimates(network, target),
        accuracy=None if optimized is None else _accuracy(optimized),
        compiled=None if schedule is None else replace(schedule, layers=()),
        simulation=None if timing is None else Simulation(basis=SIMULATION, timing=replace(timing, stages=())),
    )


def _accuracy(optimized: OptimizeReport) -> NetworkAccuracy:
    return NetworkAccuracy(
        basis=CALIBRATION,
        calibration=optimized.calibration,
        options=optimized.options,
        outputs=optimized.outputs,
        dead_layers=optimized.dead_layers,
        warnings=optimized.warnings,
    )


def _totals(network: Network) -> NetworkTotals:
    def streams(layers: list[Layer]) -> tuple[NamedStream, ...]:
        return tuple(
            NamedStream(name=x.name, shape=tuple(x.output_shape), original_names=tuple(x.original_names))
            for x in layers
        )

    totals = {"macs": 0, "weights": 0, "operations": 0}
    for layer in network:
        for key, count in _counts(network, layer).items():
            totals[key] += count
    return NetworkTotals(
        basis=COUNTS,
        layers=sum(1 for layer in network if not layer.operation.is_boundary),
        inputs=streams(network.input_layers),
        outputs=streams(network.output_layers),
        **totals,
    )


def _counts(network: Network, layer: Layer) -> dict[str, int]:
    c = layer.operation.counts(network.input_shapes(layer), layer.output_shape)
    return {"macs": c.macs, "weights": c.weights, "operations": c.operations}


def _layers(
    network: Network, optimized: OptimizeReport | None, schedule: ScheduleReport | None, timing: TimingReport | None
) -> tuple[ProfiledLayer, ...]:
    accuracy = optimized.layers if optimized else dict[str, LayerAccuracy]()
    planned = {layer.name: layer for layer in (schedule.layers if schedule else ())}
    played = {stage.name: stage for stage in (timing.stages if timing else ())}
    return tuple(
        ProfiledLayer(
            name=layer.name,
            kind=layer.kind,
            inputs=tuple(layer.inputs),
            input_shapes=tuple(tuple(shape) for shape in network.input_shapes(layer)),
            output_shape=tuple(layer.output_shape),
            original_names=tuple(layer.original_names),
            **_counts(network, layer),
            accuracy=accuracy.get(layer.name),
            schedule=planned.get(layer.name),
            simulation=played.get(layer.name),
        )
        for layer in network
    )


def _prepared(network: Network) -> Network:
    """The network with the rewrites that ``optimize`` makes: a fused addition takes no stage of its own."""
    if any(is_quantized(layer) for layer in network):
        return network
    prepared = network.clone()
    run_passes(prepared, PREPARATION)
    return prepared


def _estimates(network: Network, own: Target) -> tuple[TargetEstimate | NoEstimate, ...]:
    """Closed-form size and speed on every built-in target, and on ``own`` when it is a file of the user's."""
    targets = [load_target(name) for name in list_targets()]
    if own not in targets:
        targets = [own, *targets]
    graph = stages_of(_prepared(network))
    rows: list[TargetEstimate | NoEstimate] = []
    for target in targets:
        try:
            rows.append(_estimated(estimate(graph, target)))
        except HeadraceError as error:
            rows.append(NoEstimate(basis=BASIS, target=target.name, error=str(error)))
    return tuple(rows)


def _estimated(found: Estimate) -> TargetEstimate:
    return TargetEstimate(
        basis=BASIS,
        target=found.target,
        fits_one_context=found.fits,
        fps=round(found.fps, 2),
        latency_ms=round(found.latency_ms, 4),
        bottleneck=found.bottleneck,
        clusters_needed=found.clusters,
        devices_needed=found.devices,
        need=found.need,
        have=found.have,
    )
