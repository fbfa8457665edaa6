# SPDX-License-Identifier: Apache-2.0
"""Reports with chosen figures, for tests of what shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.reports.optimize import (
    CalibrationFacts,
    LayerAccuracy,
    OptimizeReport,
    OutputAccuracy,
    PartAccuracy,
    TensorScale,
)
from headrace.reports.parse import ParseReport, SourceFacts
from headrace.reports.timing import SimulatedStage, TimingReport


def parse_report(warnings: Sequence[str] = ()) -> ParseReport:
    return ParseReport(
        network="net",
        source=SourceFacts(format="onnx", facts={"opset": 11}),
        source_nodes=3,
        patterns=(),
        near_misses=(),
        folded_constants=0,
        removed_nodes=(),
        layers={},
        nodes={},
        passes=(),
        parameters=0,
        weights=0,
        macs=0,
        operations=0,
        inputs=(),
        outputs=(),
        warnings=tuple(warnings),
    )


def layer_accuracy(snr_db: float | None) -> LayerAccuracy:
    return LayerAccuracy(
        kind="conv",
        snr_db=snr_db,
        distinct_codes=200,
        saturated_percent=0.0,
        range=(0.0, 6.0),
        scale=TensorScale(scale=0.125, zero_point=0, bits=8),
    )


def output_accuracy(snr_db: float | None, codes: int = 77, parts: Mapping[str, float | None] = {}) -> OutputAccuracy:
    """An output with parts of these dB; the first of them is the worst."""
    found = tuple(
        PartAccuracy(
            name=name,
            layer=f"net/{name}",
            place="[:, :, 0:4]",
            slices=None,
            elements=4,
            snr_db=value,
            distinct_codes=codes,
            range=(0.0, 1.0),
            spread=0.5,
            constant=False,
            dead=False,
        )
        for name, value in parts.items()
    )
    worst = found[0] if found else None
    return OutputAccuracy(
        snr_db=snr_db,
        distinct_codes=codes,
        worst=worst.name if worst else "",
        worst_snr_db=worst.snr_db if worst else snr_db,
        parts=found,
    )


def optimize_report(
    outputs: Mapping[str, OutputAccuracy],
    warnings: Sequence[str] = (),
    layers: Mapping[str, LayerAccuracy] | None = None,
    random: bool = False,
) -> OptimizeReport:
    from headrace.optimize.options import OptimizeOptions

    return OptimizeReport(
        calibration=CalibrationFacts(frames=64, snr_frames=64, trial_frames=16, raw_uint8_inputs=(), random=random),
        options=OptimizeOptions().choices(["equalization"]),
        passes=(),
        algorithms=(),
        warnings=tuple(warnings),
        layers=layers or {},
        outputs=outputs,
        dead_layers={},
    )


def timing_report(
    fps: float, latency_ms: float, bottleneck: str, cycles: Mapping[str, int] | None = None
) -> TimingReport:
    """With a stage of so many cycles per frame for each layer named."""
    stages = tuple(
        SimulatedStage(
            name=name,
            rows=4,
            busy_cycles=1,
            engine_cycles=1,
            input_port_cycles=1,
            output_port_cycles=1,
            cycles_per_frame=count,
            stall_input_cycles=3,
            stall_output_cycles=0,
        )
        for name, count in (cycles or {}).items()
    )
    return TimingReport(
        fps=fps,
        latency_ms=latency_ms,
        cycles_per_frame=324000,
        latency_cycles=200000,
        clock_hz=400_000_000,
        link_busy_cycles=1,
        frames_simulated=8,
        steady=True,
        batch=1,
        contexts=(),
        bottleneck=bottleneck,
        stages=stages,
    )
