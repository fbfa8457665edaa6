# SPDX-License-Identifier: Apache-2.0
"""The reports of ``compile``: what was decided per layer and cluster, and the figures of the whole network.

Every figure of time is the closed form's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from headrace.reports.record import INLINE, Record, Report, record

# --- decisions -------------------------------------------------------------------------------------------------------


@record
class SplitDecision(Record):
    """A layer whose weights exceed a context became several."""

    decision: Annotated[Literal["split"], "what was decided"]
    layer: Annotated[str, "the layer"]
    parts: Annotated[int, "how many there are now"]
    axis: Annotated[str, "what was divided: `output channels` or `groups`"]
    channels: Annotated[tuple[int, ...], "output channels of each part"]
    reason: Annotated[str, "why"]


@record
class JoinDecision(Record):
    """A concatenation of more tensors than a cluster has input aligners became a tree of them."""

    decision: Annotated[Literal["join in steps"], "what was decided"]
    layer: Annotated[str, "the concatenation"]
    inputs: Annotated[int, "tensors that it joins"]
    concatenations: Annotated[int, "how many there are now"]
    reason: Annotated[str, "why"]


CompileDecision: TypeAlias = SplitDecision | JoinDecision

# --- figures of the network ------------------------------------------------------------------------------------------


@record
class PipelineFigures(Record):
    """Figures of the pipeline that stands in one context."""

    cycles_per_frame: Annotated[int, "cycles from one frame to the next"]
    fps: Annotated[float, "frames per second"]
    latency_ms: Annotated[float, "milliseconds from a frame's first byte in to its last byte out"]
    latency_cycles: Annotated[int, "the same in cycles"]
    bottleneck: Annotated[str, "the layer that takes longest, or `host link`"]
    link_cycles_per_frame: Annotated[int, "cycles that the host link is busy for a frame"]
    link_bytes_per_frame: Annotated[int, "bytes that cross the host link for a frame"]
    lower_bound_cycles: Annotated[int, "cycles per frame below which no allocation of these layers comes"]
    gap_percent: Annotated[float, "by how much `cycles_per_frame` lies above it"]
    totals: Annotated[Mapping[str, int], "what is used, by resource; `input_controllers`: those of network inputs"]
    limits: Annotated[Mapping[str, int], "what there is, by resource"]
    utilization: Annotated[Mapping[str, float], "per cent used, by resource"]


@record
class BoundFigures(Record):
    """What each thing alone would allow, and how near to the hardest of them the network comes."""

    bounds_fps: Annotated[Mapping[str, float], "frames per second that each bound allows"]
    bound_by: Annotated[str, "the hardest bound of the device itself"]
    efficiency_percent: Annotated[float, "frames per second of that bound"]
    proven_percent: Annotated[float, "frames per second of what is proven possible at most"]


@record
class OneContext(Record):
    """Figures of a network that stays on the device."""

    basis: Annotated[str, '`"closed form"`']
    target: Annotated[str, "the device"]
    contexts: Annotated[int, "1"]
    pipeline: Annotated[PipelineFigures, "of its pipeline", INLINE]
    bounds: Annotated[BoundFigures, "what bounds it", INLINE]

    @property
    def whole(self) -> PipelineFigures:
        """Where the speed of the whole network stands."""
        return self.pipeline


@record
class ContextFigures(Record):
    """One of several contexts."""

    context: Annotated[int, "its number, from 0"]
    layers: Annotated[int, "layers in it"]
    first: Annotated[str, "the first of them"]
    last: Annotated[str, "the last of them"]
    cycles_per_batch: Annotated[int, "cycles that its turn takes"]
    reload_cycles: Annotated[int, "of loading its program and weights"]
    loaded_ahead_cycles: Annotated[int, "of these, while the context before it ran"]
    waited_cycles: Annotated[int, "that loading waited for the host link"]
    overrun_cycles: Annotated[int, "that its loading takes longer than the run before it"]
    switch_cycles: Annotated[int, "of the switch itself"]
    run_cycles: Annotated[int, "of running the batch"]
    weight_bytes: Annotated[int, "of its weights"]
    cut_input_bytes: Annotated[int, "per frame, of tensors that come from contexts before it"]
    cut_output_bytes: Annotated[int, "per frame, of tensors that go to contexts after it"]
    pipeline: Annotated[PipelineFigures, "of its pipeline on its own", INLINE]


@record
class SearchFigures(Record):
    """What the search for cuts between contexts did."""

    cuts: Annotated[int, "places between layers that were considered"]
    allocations: Annotated[int, "contexts that were allocated"]
    optimal: Annotated[bool, "whether there is proof that nothing better stands between these places"]


@record
class SeveralContexts(Record):
    """Figures of a network whose contexts are loaded in turn, for a batch of frames each."""

    basis: Annotated[str, '`"closed form"`']
    target: Annotated[str, "the device"]
    contexts: Annotated[int, "how many, at least 2"]
    batch: Annotated[int, "frames between two switches"]
    cycles_per_batch: Annotated[int, "cycles that a batch takes"]
    cycles_per_frame: Annotated[int, "the same per frame, rounded up"]
    fps: Annotated[float, "frames per second"]
    bounds: Annotated[BoundFigures, "what bounds it", INLINE]
    fps_by_batch: Annotated[Mapping[str, float], "frames per second with other batches"]
    latency_ms: Annotated[float, "milliseconds from a batch's first byte in to its first frame's last byte out"]
    latency_cycles: Annotated[int, "the same in cycles"]
    bottleneck: Annotated[str, "the layer that takes longest, or `host link`"]
    loading_cycles_per_batch: Annotated[int, "of loading and switching"]
    link_bytes_per_frame: Annotated[int, "bytes that cross the host link for a frame, weights not counted"]
    weight_bytes: Annotated[int, "of all contexts' weights"]
    lower_bound_cycles: Annotated[int, "cycles per frame below which no sequence of contexts comes"]
    gap_percent: Annotated[float, "by how much the batch's cycles lie above their lower bound"]
    search: Annotated[SearchFigures, "the search for cuts"]
    totals: Annotated[Mapping[str, int], "the most that any context uses, by resource"]
    limits: Annotated[Mapping[str, int], "what there is, by resource"]
    utilization: Annotated[Mapping[str, float], "per cent used at most, by resource"]
    parts: Annotated[tuple[ContextFigures, ...], "the contexts"]

    @property
    def whole(self) -> SeveralContexts:
        """Where the speed of the whole network stands."""
        return self


NetworkFigures: TypeAlias = OneContext | SeveralContexts

# --- layers and clusters ---------------------------------------------------------------------------------------------


@record
class OptionFigures(Record):
    """How a layer is divided over sub-clusters."""

    column_slices: Annotated[int, "slices of the width"]
    feature_slices: Annotated[int, "slices of the output channels"]
    subclusters_per_slice: Annotated[int, "sub-clusters that share the input channels of a slice"]


@record
class NextBetter(Record):
    """The slowest option of a layer that is faster than the one chosen."""

    option: Annotated[OptionFigures, "how the layer would be divided", INLINE]
    cycles: Annotated[int, "cycles per frame that it would take"]
    extra: Annotated[Mapping[str, int], "what it costs more, by resource"]


@record
class RowCycles(Record):
    """Cycles that a row of a layer takes, by what takes them at the same time."""

    engine: Annotated[int, "of computing"]
    input_port: Annotated[int, "of reading"]
    output_port: Annotated[int, "of writing"]
    overhead: Annotated[int, "beside the longest of them"]


@record
class BufferFigures(Record):
    """A line buffer: rows of a tensor that a reader has not let go of."""

    tensor: Annotated[str, "what stands in it"]
    to: Annotated[str, "who reads it: a layer, or `host`"]
    operand: Annotated[int, "as which operand"]
    rows: Annotated[int, "its size in rows"]
    bytes: Annotated[int, "its size in bytes"]
    frames: Annotated[float, "its size in frames"]


@record
class ScheduledLayer(Record):
    """A layer on the device: where, with what, how fast."""

    context: Annotated[int | None, "the context; absent where there is one"] = None
    name: Annotated[str, "the layer"]
    kind: Annotated[str, "kind of the layer"]
    cluster: Annotated[int, "the cluster it stands in"]
    option: Annotated[OptionFigures, "how it is divided"]
    controllers: Annotated[int, "layer controllers; 0: it shares one"]
    subclusters: Annotated[int, "sub-clusters"]
    memory_units: Annotated[int, "memory units, of weights and line buffers"]
    activation_units: Annotated[int, "activation units"]
    input_aligners: Annotated[int, "input aligners"]
    weight_units: Annotated[int, "of the memory units, those of weights"]
    buffer_units: Annotated[int, "of the memory units, those of line buffers"]
    cycles: Annotated[int, "cycles per frame"]
    utilization: Annotated[float, "these as per cent of the context's"]
    bound: Annotated[str, "what a row waits for: `engine`, `input port`, `output port`"]
    rows: Annotated[int, "rows of a frame"]
    row_cycles: Annotated[RowCycles, "cycles of a row"]
    macs: Annotated[int, "multiply-accumulates per frame"]
    weight_bytes: Annotated[int, "of its weights"]
    next_better: Annotated[NextBetter | None, "what would be faster; null: nothing"]
    buffers: Annotated[tuple[BufferFigures, ...], "its operands' line buffers, and the host's of what it makes"]
    shares_controller_of: Annotated[str | None, "the layer whose controller it shares; absent: it has its own"] = None


@record
class Share(Record):
    """Of a resource of one cluster."""

    used: Annotated[int, "what is used"]
    of: Annotated[int, "what there is"]
    percent: Annotated[float, "the one of the other"]


@record
class ClusterFigures(Record):
    """What the layers in one cluster use of it."""

    context: Annotated[int | None, "the context; absent where there is one"] = None
    cluster: Annotated[int, "its number, from 0"]
    control: Annotated[Share, "layer controllers, those of network inputs included"]
    compute: Annotated[Share, "sub-clusters"]
    memory: Annotated[Share, "memory units"]
    activation_units: Annotated[Share, "activation units"]
    input_aligners: Annotated[Share, "input aligners"]


# --- reports ---------------------------------------------------------------------------------------------------------


@record
class ScheduleReport(Report):
    """Every decision of the compiler (member `<net>.schedule.json`)."""

    figures: Annotated[NetworkFigures, "of the whole network", INLINE]
    clusters: Annotated[tuple[ClusterFigures, ...], "every cluster of every context"]
    layers: Annotated[tuple[ScheduledLayer, ...], "every layer; left out where layers stand elsewhere"] = ()
    decisions: Annotated[tuple[CompileDecision, ...], "layers that the device takes in another form"]


@record
class CompileReport(Report):
    """The result of compiling in figures (member `<net>.compile.json`)."""

    figures: Annotated[NetworkFigures, "of the whole network", INLINE]
    network: Annotated[str, "its name"]
    kernels: Annotated[int, "kernels of the program"]
    hef_bytes: Annotated[int, "of the HEF"]
    microcode_bytes: Annotated[int, "of the program in it"]
    constant_bytes: Annotated[int, "of the program's constants"]
    decisions: Annotated[tuple[CompileDecision, ...], "layers that the device takes in another form"]
