# SPDX-License-Identifier: Apache-2.0
"""The report of ``profile``: all that a HAR knows of its network, layer by layer.

Every group of figures says what it is: ``counts`` (exact), ``calibration`` (measured on calibration data),
``closed form`` (the allocator's formula) or ``event simulation`` (the virtual device's clock).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from headrace.reports.optimize import CalibrationFacts, LayerAccuracy, OptionChoices, OutputAccuracy
from headrace.reports.record import INLINE, Record, Report, record
from headrace.reports.schedule import ScheduledLayer, ScheduleReport
from headrace.reports.timing import SimulatedStage, TimingReport


@record
class NamedStream(Record):
    """An input or an output."""

    name: Annotated[str, "the layer"]
    shape: Annotated[tuple[int, ...], "of its values; −1 is the batch"]
    original_names: Annotated[tuple[str, ...], "its names in the model file"]


@record
class NetworkTotals(Record):
    """The network as a whole."""

    basis: Annotated[str, '`"counts"`']
    layers: Annotated[int, "layers, inputs and outputs not counted"]
    inputs: Annotated[tuple[NamedStream, ...], "inputs"]
    outputs: Annotated[tuple[NamedStream, ...], "outputs"]
    macs: Annotated[int, "multiply-accumulates per frame"]
    weights: Annotated[int, "weights and biases"]
    operations: Annotated[int, "operations per frame, two for a multiply-accumulate"]


@record
class ProfiledLayer(Record):
    """All that is known of a layer; `accuracy`, `schedule` and `simulation` are absent where its state has none."""

    name: Annotated[str, "the layer"]
    kind: Annotated[str, "kind of the layer"]
    inputs: Annotated[tuple[str, ...], "layers that it reads"]
    input_shapes: Annotated[tuple[tuple[int, ...], ...], "shapes of what it reads; −1 is the batch"]
    output_shape: Annotated[tuple[int, ...], "shape of what it makes"]
    original_names: Annotated[tuple[str, ...], "nodes that it stands for"]
    macs: Annotated[int, "multiply-accumulates per frame"]
    weights: Annotated[int, "weights and biases"]
    operations: Annotated[int, "operations per frame"]
    accuracy: Annotated[LayerAccuracy | None, "beside float (calibration)"] = None
    schedule: Annotated[ScheduledLayer | None, "on the device (closed form)"] = None
    simulation: Annotated[SimulatedStage | None, "on the device (event simulation)"] = None


@record
class TargetEstimate(Record):
    """What the network would need of a target in one context, without compiling."""

    basis: Annotated[str, '`"closed form"`']
    target: Annotated[str, "the target"]
    fits_one_context: Annotated[bool, "whether the sums of all resources stay within it"]
    fps: Annotated[float, "frames per second; 0 where it does not fit"]
    latency_ms: Annotated[float, "milliseconds; 0 where it does not fit"]
    bottleneck: Annotated[str, "the layer that takes longest, or `host link`"]
    clusters_needed: Annotated[int, "clusters whose sums hold it"]
    devices_needed: Annotated[int, "the same in whole devices"]
    need: Annotated[Mapping[str, int], "by resource: of the pipeline, or of the most frugal one where it does not fit"]
    have: Annotated[Mapping[str, int], "by resource"]


@record
class NoEstimate(Record):
    """Why there is no estimate for a target."""

    basis: Annotated[str, '`"closed form"`']
    target: Annotated[str, "the target"]
    error: Annotated[str, "why"]


@record
class NetworkAccuracy(Record):
    """From the report of `optimize`."""

    basis: Annotated[str, '`"calibration"`']
    calibration: Annotated[CalibrationFacts, "the data"]
    options: Annotated[OptionChoices, "the options"]
    outputs: Annotated[Mapping[str, OutputAccuracy], "by output layer"]
    dead_layers: Annotated[Mapping[str, float], "layers that lost what they vary by"]
    warnings: Annotated[tuple[str, ...], "what to look at"]


@record
class Simulation(Record):
    """From the event simulation."""

    basis: Annotated[str, '`"event simulation"`']
    timing: Annotated[TimingReport, "without its stages, which stand with the layers", INLINE]


@record
class ProfileReport(Report):
    """All that a HAR of any state knows of its network (`headrace profile --json`, `ClientRunner.profile`).

    Its version is called `format`, and always written.
    """

    VERSION_KEY: ClassVar[str] = "format"
    UNWRITTEN: ClassVar[int] = 0

    name: Annotated[str, "the network"]
    state: Annotated[str, "the HAR's state"]
    hw_arch: Annotated[str, "the target of interest"]
    network: Annotated[NetworkTotals, "as a whole"]
    layers: Annotated[tuple[ProfiledLayer, ...], "every layer"]
    estimates: Annotated[tuple[TargetEstimate | NoEstimate, ...], "every target"]
    accuracy: Annotated[NetworkAccuracy | None, "after `optimize`"] = None
    compiled: Annotated[ScheduleReport | None, "after `compile`: the schedule without its layers"] = None
    simulation: Annotated[Simulation | None, "after `compile`"] = None
