# SPDX-License-Identifier: Apache-2.0
"""What is known of a network, as data: from the members of a HAR alone, in any state.

Every group of figures says what it is: ``counts`` (exact), ``calibration`` (measured on calibration data),
``closed form`` (the allocator's formula) or ``event simulation`` (the virtual device's clock).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import Diagnostic, HeadraceError, UsageError
from headrace.hn import Layer, Network
from headrace.hn.archive import Archive
from headrace.mapping import estimate
from headrace.passes.base import run_passes
from headrace.passes.preparation import PREPARATION
from headrace.targets import Target, list_targets, load_target
from headrace.timing import flow_of
from headrace.timing.work import is_quantized

FORMAT = 1
CLOSED_FORM, SIMULATION, CALIBRATION, COUNTS = "closed form", "event simulation", "calibration", "counts"
_ACCURACY = ("snr_db", "range", "scale", "zero_point", "bits", "distinct_codes", "saturated_percent")
_HIDDEN = ("name", "kind", "macs", "weight_bytes")


def profile(archive: Archive, hw_arch: str | Target | None = None) -> dict[str, Any]:
    """The report of a HAR.

    Args:
        archive: any state.
        hw_arch: target of interest, or its name; the archive's own by default. It need not be what was compiled for.

    Returns:
        JSON values: ``name, state, hw_arch, network, layers, estimates`` and, where the state has them, ``accuracy``,
        ``compiled`` and ``simulation``.

    Raises:
        UsageError: the archive holds no network, or there is no such target.
    """
    network = archive.quantized or archive.fp_optimized or archive.native
    if network is None:
        raise UsageError(
            Diagnostic("E-PROFILE-EMPTY", archive.name, "the archive holds no network", "none", "a parsed network")
        )
    target = hw_arch if isinstance(hw_arch, Target) else load_target(hw_arch or archive.hw_arch, archive.name)
    optimized, schedule, timing = (_section(archive.reports, n) for n in ("optimize", "schedule", "timing"))
    report: dict[str, Any] = {
        "format": FORMAT,
        "name": archive.name,
        "state": archive.state.value,
        "hw_arch": target.name,
        "network": _totals(network),
        "layers": _layers(network, optimized, schedule, timing),
        "estimates": _estimates(network, target),
    }
    if optimized:
        report["accuracy"] = {"basis": CALIBRATION} | {
            key: optimized[key]
            for key in ("calibration", "options", "outputs", "dead_layers", "warnings")
            if key in optimized
        }
    if schedule:
        report["compiled"] = {"basis": CLOSED_FORM} | {k: v for k, v in schedule.items() if k != "layers"}
    if timing:
        report["simulation"] = {"basis": SIMULATION} | {k: v for k, v in timing.items() if k != "stages"}
    return report


def _section(reports: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A report of the archive; an archive from elsewhere may hold anything there."""
    value = reports.get(name)
    return value if isinstance(value, dict) else {}


def _by_name(rows: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, list):
        return {}
    return {r["name"]: r for r in rows if isinstance(r, dict) and isinstance(r.get("name"), str)}


def _totals(network: Network) -> dict[str, Any]:
    counts = [_counts(network, layer) for layer in network]

    def streams(layers: list[Layer]) -> list[dict[str, Any]]:
        return [{"name": x.name, "shape": list(x.output_shape), "original_names": x.original_names} for x in layers]

    return {
        "basis": COUNTS,
        "layers": sum(1 for layer in network if not layer.operation.is_boundary),
        "inputs": streams(network.input_layers),
        "outputs": streams(network.output_layers),
        **{key: sum(c[key] for c in counts) for key in ("macs", "weights", "operations")},
    }


def _counts(network: Network, layer: Layer) -> dict[str, int]:
    c = layer.operation.counts(network.input_shapes(layer), layer.output_shape)
    return {"macs": c.macs, "weights": c.weights, "operations": c.operations}


def _layers(
    network: Network, optimized: dict[str, Any], schedule: dict[str, Any], timing: dict[str, Any]
) -> list[dict[str, Any]]:
    accuracy = optimized.get("layers")
    planned, played = _by_name(schedule.get("layers")), _by_name(timing.get("stages"))
    rows: list[dict[str, Any]] = []
    for layer in network:
        row: dict[str, Any] = {
            "name": layer.name,
            "kind": layer.kind,
            "inputs": layer.inputs,
            "input_shapes": [list(s) for s in network.input_shapes(layer)],
            "output_shape": list(layer.output_shape),
            "original_names": layer.original_names,
            **_counts(network, layer),
        }
        noted = accuracy.get(layer.name) if isinstance(accuracy, dict) else None
        if isinstance(noted, dict):
            row["accuracy"] = {key: noted[key] for key in _ACCURACY if key in noted}
        if layer.name in planned:
            row["schedule"] = {k: v for k, v in planned[layer.name].items() if k not in _HIDDEN}
        if layer.name in played:
            row["simulation"] = {k: v for k, v in played[layer.name].items() if k != "name"}
        rows.append(row)
    return rows


def _prepared(network: Network) -> Network:
    """The network with the rewrites that ``optimize`` makes: a fused addition takes no stage of its own."""
    if any(is_quantized(layer) for layer in network):
        return network
    prepared = network.clone()
    run_passes(prepared, PREPARATION)
    return prepared


def _estimates(network: Network, own: Target) -> list[dict[str, Any]]:
    """Closed-form size and speed on every built-in target, and on ``own`` when it is a file of the user's."""
    targets = [load_target(name) for name in list_targets()]
    if own not in targets:
        targets = [own, *targets]
    flow = flow_of(_prepared(network))
    rows: list[dict[str, Any]] = []
    for target in targets:
        try:
            rows.append(estimate(flow, target).as_dict())
        except HeadraceError as error:
            rows.append({"basis": CLOSED_FORM, "target": target.name, "error": str(error)})
    return rows
