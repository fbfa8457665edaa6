# SPDX-License-Identifier: Apache-2.0
"""The report of the device's event simulation (``docs/formats/microcode.md``, section Time)."""

from __future__ import annotations

from typing import Annotated

from headrace.reports.record import Record, Report, record


@record
class SimulatedContext(Record):
    """One of several contexts, for one batch."""

    reload_cycles: Annotated[int, "of loading its program and weights"]
    switch_cycles: Annotated[int, "of the switch itself"]
    first_frame_cycles: Annotated[int, "from its start to its first frame's last byte out"]
    run_cycles: Annotated[int, "of running the batch"]
    link_busy_cycles: Annotated[int, "that the host link is busy"]
    ahead_cycles: Annotated[int, "of loading, while the context before it ran"]
    overrun_cycles: Annotated[int, "that its loading takes longer than the run before it"]


@record
class SimulatedStage(Record):
    """A layer on the device, per frame."""

    name: Annotated[str, "the layer"]
    rows: Annotated[int, "rows that it makes"]
    busy_cycles: Annotated[int, "that it works"]
    engine_cycles: Annotated[int, "of computing"]
    input_port_cycles: Annotated[int, "of reading"]
    output_port_cycles: Annotated[int, "of writing"]
    cycles_per_frame: Annotated[int, "from a frame's first row to its last, stalls included"]
    stall_input_cycles: Annotated[int, "that it waits for rows to read"]
    stall_output_cycles: Annotated[int, "that it waits for room to write"]


@record
class TimingReport(Report):
    """What the event simulation of the virtual device says of a HEF (member `<net>.timing.json`)."""

    fps: Annotated[float, "frames per second, once the pipeline is full"]
    latency_ms: Annotated[float, "milliseconds from a frame's first byte in to its last byte out"]
    cycles_per_frame: Annotated[int, "cycles from one frame to the next"]
    latency_cycles: Annotated[int, "the latency in cycles"]
    clock_hz: Annotated[int, "cycles of the device per second"]
    link_busy_cycles: Annotated[int, "that the host link is busy, per frame"]
    frames_simulated: Annotated[int, "frames until every frame took the same time"]
    steady: Annotated[bool, "whether they did"]
    batch: Annotated[int, "frames between two switches of context"]
    contexts: Annotated[tuple[SimulatedContext, ...], "the contexts; empty where there is one"]
    bottleneck: Annotated[str, "the layer that takes longest, or `host link`"]
    stages: Annotated[tuple[SimulatedStage, ...], "every layer; left out where layers stand elsewhere"] = ()
