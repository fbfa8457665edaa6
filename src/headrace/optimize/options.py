# SPDX-License-Identifier: Apache-2.0
"""What ``optimize`` takes and gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace.errors import Diagnostic, UsageError, unknown_name
from headrace.hn import Network

Progress = Callable[[int, int, str], None]


CALIBRATORS = ("auto", "minmax", "percentile", "mse")
#: Algorithms that can be told to leave layers alone.
PER_LAYER = ("addition_fusing", "equalization", "weight_rounding", "bias_correction")
CLIPPING_MODES = ("percentile", "percentile_force", "manual", "disabled")


@dataclass(frozen=True)
class Clipping:
    """The range of some layers' outputs, as the user asked for it.

    Attributes:
        layers: names of layers; ``*`` and ``?`` match as in file names.
        mode: ``"percentile"`` (``"percentile_force"``): ``values`` are per cent of what was measured, [0.01, 99.99];
            ``"manual"``: reals; ``"disabled"``: all that was measured.
        values: (low, high).
    """

    layers: tuple[str, ...]
    mode: str
    values: tuple[float, float] = (0.0, 100.0)

    def problems(self) -> list[Diagnostic]:
        """What is wrong with the values, if anything."""
        if self.mode not in CLIPPING_MODES:
            return [unknown_name("E-OPTIMIZE-OPTION", "mode of activation clipping", self.mode, CLIPPING_MODES)]
        low, high = self.values
        fits = math.isfinite(low) and math.isfinite(high) and low < high
        need = "two numbers, low < high"
        if self.mode.startswith("percentile"):
            fits, need = fits and low >= 0 and high <= 100, "0 ≤ low < high ≤ 100 (per cent)"
        if fits or self.mode == "disabled":
            return []
        rule = "the clipping values do not make a range"
        return [Diagnostic("E-OPTIMIZE-OPTION", ", ".join(self.layers), rule, f"[{low:g}, {high:g}]", need)]


@dataclass(frozen=True)
class OutputBits:
    """The bits of some layers' outputs, as the user asked for them.

    Attributes:
        layers: names of layers; ``*`` and ``?`` match as in file names.
        bits: 8 or 16.
        where: what asked, for errors.
    """

    layers: tuple[str, ...]
    bits: int
    where: str = "option bits"


@dataclass(frozen=True)
class OptimizeOptions:
    """Options of :func:`headrace.optimize.optimize`.

    Attributes:
        min_snr: dB that every output must reach against float; 0 disables the check.
        calibration_size: use only the first frames; ``None`` uses all.
        batch: most frames in flight, which bounds memory. Frames are computed in chunks whose size is fixed by the
            network alone (16, fewer where frames are large), so results do not depend on it; at least one chunk runs.
        seed: recorded; nothing here is random yet.
        activation_bits: bits of activations; 8 is the only choice now.
        output_bits: of graph outputs and of what softmax reads, where only layers that can read it do: 8, 16, or
            ``None``: 16 where rounding to 8 bits is predicted to make a good part of the noise.
        threads: worker threads; results do not depend on it. ``None`` takes one per CPU core.
        snr_frames: most frames on which the signal-to-noise ratio is measured.
        calibrator: how activation ranges follow from data: ``"minmax"``, ``"percentile"``, ``"mse"``, or ``"auto"``,
            which takes the one whose outputs are nearest to float on calibration frames.
        percentiles: per cent (low, high) for ``"percentile"``.
        clippings: ranges asked for by layer; later ones win.
        bits: widths asked for by layer; later ones win. Eight keeps a layer's output from being widened by measurement.
        addition_fusing: let a sum join the convolution in front of it.
        equalization: move scale between neighbouring layers, chain by chain, and give channels gains behind
            activations that let no factor pass, where it lowers the measured error.
        weight_rounding: round weights for the sums they make instead of each to the nearest.
        bias_correction: take the mean shift of quantisation off the biases.
        no_addition_fusing, no_equalization, no_weight_rounding, no_bias_correction: names of layers that the algorithm
            leaves alone.
    """

    min_snr: float = 10.0
    calibration_size: int | None = None
    batch: int = 64
    seed: int = 0
    activation_bits: int = 8
    output_bits: int | None = None
    threads: int | None = None
    snr_frames: int = 64
    calibrator: str = "minmax"
    percentiles: tuple[float, float] = (0.01, 99.99)
    clippings: tuple[Clipping, ...] = ()
    equalization: bool = True
    weight_rounding: bool = True
    bias_correction: bool = True
    bits: tuple[OutputBits, ...] = ()
    addition_fusing: bool = True
    no_addition_fusing: tuple[str, ...] = ()
    no_equalization: tuple[str, ...] = ()
    no_weight_rounding: tuple[str, ...] = ()
    no_bias_correction: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What decides the result, as JSON data."""
        return {
            "min_snr": self.min_snr,
            "seed": self.seed,
            "activation_bits": self.activation_bits,
            "output_bits": self.output_bits,
            "calibrator": self.calibrator,
            "percentiles": list(self.percentiles),
            "clippings": [{"layers": list(c.layers), "mode": c.mode, "values": list(c.values)} for c in self.clippings],
            "bits": [{"layers": list(b.layers), "bits": b.bits} for b in self.bits],
            "addition_fusing": self.addition_fusing,
            "equalization": self.equalization,
            "weight_rounding": self.weight_rounding,
            "bias_correction": self.bias_correction,
            "left_alone": {name: list(getattr(self, f"no_{name}")) for name in PER_LAYER},
        }

    def check(self) -> None:
        """Raises UsageError naming every option that is out of range."""
        problems: list[Diagnostic] = []

        def need(ok: bool, name: str, need_text: str) -> None:
            if not ok:
                problems.append(
                    Diagnostic(
                        "E-OPTIMIZE-OPTION",
                        f"option {name}",
                        "the value is out of range",
                        str(getattr(self, name)),
                        need_text,
                    )
                )

        need(0 <= self.min_snr < 1000, "min_snr", "0 (off) to 1000 dB")
        need(self.calibration_size is None or self.calibration_size >= 1, "calibration_size", "≥ 1")
        need(self.batch >= 1, "batch", "≥ 1")
        need(self.activation_bits == 8, "activation_bits", "8")
        need(self.output_bits in (None, 8, 16), "output_bits", "8, 16 or None")
        need(self.threads is None or 1 <= self.threads <= 1024, "threads", "1 … 1024")
        need(self.snr_frames >= 1, "snr_frames", "≥ 1")
        need(all(request.bits in (8, 16) for request in self.bits), "bits", "8 or 16 for every layer")
        low, high = self.percentiles
        need(0 <= low < high <= 100, "percentiles", "0 ≤ low < high ≤ 100")
        if self.calibrator not in CALIBRATORS:
            problems.append(unknown_name("E-OPTIMIZE-OPTION", "calibrator", self.calibrator, CALIBRATORS))
        for clipping in self.clippings:
            problems += clipping.problems()
        if problems:
            raise UsageError(problems)


@dataclass
class OptimizeResult:
    """What came out.

    Attributes:
        network: the quantised network; every integer is final.
        fp_network: the float network it stands for, with the same layers (softmax decomposed, sums fused).
        report: plain JSON data: per layer and per output SNR, ranges, scales; passes, warnings, options.
    """

    network: Network
    fp_network: Network
    report: dict[str, Any]
