# SPDX-License-Identifier: Apache-2.0
"""From a float network as it was parsed to the one that is quantized: rewritten, measured, its ranges fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import Diagnostic, InputFileError, UsageError
from headrace.hn import Array, Network, check_network
from headrace.hn.check import check_single_results
from headrace.optimize.bench import check_same_meaning
from headrace.optimize.freeze.families import check_freezable
from headrace.optimize.options import ADDITION_FUSING, OptimizeOptions
from headrace.optimize.requests import Requests, wide_groups
from headrace.optimize.scales import fitting, offsets, parts, reach
from headrace.optimize.scales.ranges import insert_rescales, scale_groups
from headrace.optimize.statistics.collect import Request, Statistics
from headrace.passes import run_passes
from headrace.passes.file_codes import has_codes
from headrace.passes.preparation import preparation

Records = list[dict[str, Any]]


@dataclass
class Prepared:
    """A network to be quantized.

    Attributes:
        network: float network with an integer form for every layer.
        requests: what was asked of its layers.
        records: one per change, in order.
        head: the first few frames, on which rewrites are proved.
    """

    network: Network
    requests: Requests
    records: Records
    head: Mapping[str, Array]

    def measured(self, options: OptimizeOptions, measure: Callable[[str], Statistics]) -> Statistics:
        """Statistics of the network, after its ranges were fitted to them and its outputs centred; changes the network.

        Args:
            options: the user's.
            measure: takes the statistics of the network as it is; told what to say.
        """
        network = self.network
        statistics = measure("calibrating")
        if has_codes(network):  # ranges are the file's
            return statistics
        shifts = reach.shift_masks(network, statistics)
        if shifts:
            # Not compared: beside such a mask float32 has lost some of the logits, without it it has not.
            check_network(network)
            statistics = measure("calibrating")
        before = network.clone()
        keep = self.requests.narrow
        statistics, fits = fitting.fit(
            network, statistics, lambda: measure("calibrating"), options.output_bits == 8, keep
        )
        if fits:
            check_same_meaning(before, network, self.head, "fitting ranges to the data changed the network's result")
        self.records += shifts + fits
        centred = offsets.centre(network, statistics)
        if centred:  # the tensors before those outputs have other values now
            self.records += centred
            statistics = measure("calibrating about offsets")
        return statistics


def request(network: Network) -> Request:
    """The statistics of a prepared network by which its ranges are fitted."""
    return parts.request(network) | offsets.request(network) | reach.request(network)


def prepare(network: Network, head: Mapping[str, Array], requests: Requests, options: OptimizeOptions) -> Prepared:
    """The network to quantize, rewritten into layers with an integer form; ``head`` proves that it means the same.

    Raises:
        InternalError: an output changed by more than rounding (below 60 dB).
        NotBuiltYetError: a layer cannot be quantized, or not as it was asked for.
    """
    fusing = options.enabled(ADDITION_FUSING)
    apart = requests.alone(ADDITION_FUSING) if fusing else frozenset(network.layers)
    prepared, records = rewritten(network, head, apart)
    requests = requests.moved(records)
    check_freezable(prepared)
    rescales = insert_rescales(prepared, scale_groups(prepared))
    if rescales:
        records += rescales
        check_network(prepared)
    wide_groups(prepared, scale_groups(prepared), requests)
    return Prepared(prepared, requests, records, head)


def rewritten(
    network: Network, frames: Mapping[str, Array], apart: frozenset[str] = frozenset()
) -> tuple[Network, Records]:
    """Rewrite a copy of the network into layers with an integer form, and prove on real frames that it means the same.

    Sums named in ``apart`` stay layers of their own. Without frames nothing is proved.

    Raises:
        InternalError: an output changed by more than rounding (below 60 dB).
    """
    prepared = network.clone()
    records = run_passes(prepared, preparation(apart))
    if records and frames:
        check_same_meaning(network, prepared, frames, "the preparation passes changed the network's result")
    return prepared, records


def check_float(network: Network) -> None:
    """Raise unless this is a valid float network with finite parameters."""
    if network.net_params.get("stage") == "quantized":
        raise UsageError(
            Diagnostic(
                "E-OPTIMIZE-STAGE",
                network.name,
                "the network is quantized already",
                "a quantized network",
                "a float network",
            )
        )
    check_network(network)
    check_single_results(network)
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


__all__ = ["Prepared", "check_float", "prepare", "request", "rewritten"]
