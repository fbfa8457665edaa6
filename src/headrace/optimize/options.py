# SPDX-License-Identifier: Apache-2.0
"""What ``optimize`` takes and gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace.errors import Diagnostic, UsageError, unknown_name
from headrace.hn import Network
from headrace.reports.optimize import BitsChoice, ClippingChoice, OptimizeReport, OptionChoices

Progress = Callable[[int, int, str], None]


CALIBRATORS = ("auto", "minmax", "percentile", "mse")
#: Switch of the preparation: let a sum join the convolution in front of it.
ADDITION_FUSING = "addition_fusing"
_ALONE = "no_"
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


@dataclass(frozen=True, init=False)
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
        requantize: of a file that was quantized already, start afresh from its float meaning; without it the codes
            that the file states are taken as they are.
        off: switches that are off; all others are on.
        left_alone: name of a switch → names of layers that are left alone.
        named: every switch that was set, to what it is anyway too, so that a misspelt one is found.

    A switch belongs to algorithms (:attr:`headrace.optimize.algorithms.algorithm.Algorithm.switch`) or to the
    preparation, and is set by its name, ``OptimizeOptions(equalization=False, no_bias_correction=["conv1"])``:

    - ``addition_fusing``: let a sum join the convolution in front of it;
    - ``equalization``: move scale between neighbouring layers, chain by chain, give channels gains behind activations
      that let no factor pass, and compute channels more than once, where it lowers the measured error;
    - ``weight_rounding``: round weights for the sums they make instead of each to the nearest;
    - ``bias_correction``: take the mean shift of quantization off the biases.
    """

    min_snr: float
    calibration_size: int | None
    batch: int
    seed: int
    activation_bits: int
    output_bits: int | None
    threads: int | None
    snr_frames: int
    calibrator: str
    percentiles: tuple[float, float]
    clippings: tuple[Clipping, ...]
    bits: tuple[OutputBits, ...]
    requantize: bool
    off: frozenset[str]
    left_alone: Mapping[str, tuple[str, ...]]
    named: frozenset[str] = field(compare=False)

    def __init__(
        self,
        *,
        min_snr: float = 10.0,
        calibration_size: int | None = None,
        batch: int = 64,
        seed: int = 0,
        activation_bits: int = 8,
        output_bits: int | None = None,
        threads: int | None = None,
        snr_frames: int = 64,
        calibrator: str = "minmax",
        percentiles: tuple[float, float] = (0.01, 99.99),
        clippings: tuple[Clipping, ...] = (),
        bits: tuple[OutputBits, ...] = (),
        requantize: bool = False,
        off: Iterable[str] = (),
        left_alone: Mapping[str, Sequence[str]] | None = None,
        named: Iterable[str] = (),
        **switches: bool | Sequence[str],
    ) -> None:
        """Also takes ``NAME=bool`` and ``no_NAME=layers`` for every switch."""
        now_off = set(off)
        alone = {name: tuple(layers) for name, layers in (left_alone or {}).items()}
        for name, value in switches.items():
            if isinstance(value, bool):
                (now_off.discard if value else now_off.add)(name)
            elif name.startswith(_ALONE) and not isinstance(value, str):
                alone[name.removeprefix(_ALONE)] = tuple(value)
            else:
                need = f"a bool, or a list of layers for {_ALONE}NAME"
                rule = f"{name!r} is no option, and no setting of a switch"
                raise UsageError(Diagnostic("E-OPTIMIZE-OPTION", f"option {name}", rule, repr(value), need))
        values: dict[str, object] = {
            "min_snr": min_snr,
            "calibration_size": calibration_size,
            "batch": batch,
            "seed": seed,
            "activation_bits": activation_bits,
            "output_bits": output_bits,
            "threads": threads,
            "snr_frames": snr_frames,
            "calibrator": calibrator,
            "percentiles": percentiles,
            "clippings": clippings,
            "bits": bits,
            "requantize": bool(requantize),
            "off": frozenset(now_off),
            "left_alone": {name: layers for name, layers in alone.items() if layers},
            "named": frozenset((*named, *now_off, *alone, *(name.removeprefix(_ALONE) for name in switches))),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def enabled(self, switch: str) -> bool:
        """Whether a switch is on."""
        return switch not in self.off

    def switched(self, switch: str, on: bool, without: Sequence[str] = ()) -> OptimizeOptions:
        """The options with a switch on, except for some layers, or off."""
        off = self.off - {switch} if on else self.off | {switch}
        alone = {**self.left_alone, switch: tuple(without)}
        return replace(self, off=off, left_alone=alone, named=self.named | {switch})

    def choices(self, switches: Sequence[str]) -> OptionChoices:
        """What decides the result, for the report.

        Args:
            switches: names of all there are.
        """
        return OptionChoices(
            min_snr=self.min_snr,
            seed=self.seed,
            activation_bits=self.activation_bits,
            output_bits=self.output_bits,
            calibrator=self.calibrator,
            percentiles=self.percentiles,
            clippings=tuple(ClippingChoice(layers=c.layers, mode=c.mode, values=c.values) for c in self.clippings),
            bits=tuple(BitsChoice(layers=b.layers, bits=b.bits) for b in self.bits),
            switches={name: self.enabled(name) for name in switches},
            left_alone={name: self.left_alone.get(name, ()) for name in switches},
            requantize=self.requantize,
        )

    def check_switches(self, switches: Sequence[str]) -> None:
        """Raises UsageError naming every switch that is not among these."""
        unknown = [
            unknown_name("E-OPTIMIZE-OPTION", "switch", name, switches)
            for name in sorted(self.named)
            if name not in switches
        ]
        if unknown:
            raise UsageError(unknown)

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
        network: the quantized network; every integer is final.
        fp_network: the float network it stands for, with the same layers (softmax decomposed, sums fused).
        report: per layer and per output SNR, ranges, scales; passes, decisions, warnings, options.
    """

    network: Network
    fp_network: Network
    report: OptimizeReport
