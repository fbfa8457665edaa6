# SPDX-License-Identifier: Apache-2.0
"""What ``optimize`` takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace.errors import Diagnostic, UsageError
from headrace.hn import Network

Progress = Callable[[int, int, str], None]


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
        threads: worker threads; results do not depend on it. ``None`` takes one per CPU core.
        snr_frames: most frames on which the signal-to-noise ratio is measured.
    """

    min_snr: float = 10.0
    calibration_size: int | None = None
    batch: int = 64
    seed: int = 0
    activation_bits: int = 8
    threads: int | None = None
    snr_frames: int = 64

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
        need(self.threads is None or 1 <= self.threads <= 1024, "threads", "1 … 1024")
        need(self.snr_frames >= 1, "snr_frames", "≥ 1")
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
