# SPDX-License-Identifier: Apache-2.0
"""The report of ``optimize``: what was measured, what was decided, and how near the result is to float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from headrace.reports.record import INLINE, REST, Json, Record, Report, record


@record
class PassRecord(Record):
    """A change that a pass made to the network."""

    pass_: Annotated[str, "the pass"]
    facts: Annotated[Mapping[str, Json], "what it did: `layer`, and by the pass `into`, `becomes`, `folded` …", REST]


@record
class CalibrationFacts(Record):
    """The data that the network was calibrated with."""

    frames: Annotated[int, "frames that ranges were measured on"]
    snr_frames: Annotated[int, "of these, frames that the accuracy was measured on"]
    trial_frames: Annotated[int, "of these, frames that algorithms were judged on"]
    raw_uint8_inputs: Annotated[tuple[str, ...], "input layers whose codes are the bytes of the data"]
    random: Annotated[bool, "the data are noise, for trying the flow: the accuracy says nothing"] = False


@record
class FileFacts(Record):
    """What a quantized model's own file stated, and what was taken of it."""

    tensors: Annotated[int, "results of layers with the file's scale, zero point and bits"]
    weights: Annotated[int, "layers with the file's weights, code by code"]
    changed_weights: Annotated[tuple[str, ...], "layers of whose weights some had to be rounded anew"]
    derived: Annotated[tuple[str, ...], "layers whose range follows from their operands' or readers' codes"]
    measured: Annotated[tuple[str, ...], "layers whose range was measured, for the file says nothing of it"]


@record
class ClippingChoice(Record):
    """The range of some layers, as it was asked for."""

    layers: Annotated[tuple[str, ...], "names of layers, with `*` and `?`"]
    mode: Annotated[str, "`percentile`, `percentile_force`, `manual` or `disabled`"]
    values: Annotated[tuple[float, float], "low and high: per cent, or reals"]


@record
class BitsChoice(Record):
    """The width of some layers, as it was asked for."""

    layers: Annotated[tuple[str, ...], "names of layers, with `*` and `?`"]
    bits: Annotated[int, "8 or 16"]


@record
class OptionChoices(Record):
    """The options that decide the result."""

    min_snr: Annotated[float, "dB that every output must reach; 0: not checked"]
    seed: Annotated[int, "of random choices"]
    activation_bits: Annotated[int, "bits of activations"]
    output_bits: Annotated[int | None, "bits of outputs; null: by measurement"]
    calibrator: Annotated[str, "how ranges follow from data: `minmax`, `percentile`, `mse` or `auto`"]
    percentiles: Annotated[tuple[float, float], "per cent, low and high, of `percentile`"]
    clippings: Annotated[tuple[ClippingChoice, ...], "ranges asked for; later ones win"]
    bits: Annotated[tuple[BitsChoice, ...], "widths asked for; later ones win"]
    switches: Annotated[
        Mapping[str, bool],
        "what is on: `addition_fusing` (sums join the convolution in front of them), `equalization` (scale moves "
        "between neighbouring layers, channels get gains and copies), `weight_rounding` (weights are rounded for the "
        "sums they make), `bias_correction` (the mean shift of quantization is taken off the biases)",
        REST,
    ]
    left_alone: Annotated[Mapping[str, tuple[str, ...]], "layers that each of these leaves alone"]
    requantize: Annotated[bool, "what a file that was quantized already states was not taken"] = False


@record
class Decision(Record):
    """An algorithm's proposal, for one layer or for the whole network, and what became of it."""

    name: Annotated[str, "the algorithm"]
    layer: Annotated[str | None, "the layer; null: the whole network, judged at its outputs"]
    chain: Annotated[tuple[str, ...], "layers that change together; absent where it is one"] = ()
    accepted: Annotated[bool, "whether it was carried out"]
    measure: Annotated[str, "what `before` and `after` are"]
    before: Annotated[float, "the measure without it"]
    after: Annotated[float, "the measure with it"]
    worst_before: Annotated[float | None, "dB of the worst part of an output without it; whole network only"] = None
    worst_after: Annotated[float | None, "dB of the worst part of an output with it; whole network only"] = None
    reason: Annotated[str, "why"]
    copies: Annotated[tuple[int, ...], "how often each channel stands there now; copies of channels only"] = ()


@record
class FreezeNotes(Record):
    """What freezing a layer's integers came upon; each is absent where there is no such thing."""

    table_bits: Annotated[int | None, "bits of the index into the table of its activation"] = None
    table_range: Annotated[tuple[float, float] | None, "reals of the first and the last entry of the table"] = None
    tables: Annotated[int | None, "different tables, of channels with gains"] = None
    largest_gain: Annotated[float | None, "the largest gain of a channel"] = None
    accumulator_bits: Annotated[int | None, "bits that hold every sum"] = None
    accumulator_bound: Annotated[int | None, "the largest absolute sum that there can be"] = None
    widened_channels: Annotated[tuple[int, ...], "channels with a coarser weight scale, to bound their sums"] = ()
    constant_channels: Annotated[tuple[int, ...], "channels whose weights are all zero"] = ()
    stated_weights: Annotated[
        bool | None, "the model's file states codes of the weights; false: not all channels can have them"
    ] = None
    stated_codes: Annotated[bool | None, "the model's file states the codes of the result"] = None


@record
class TensorScale(Record):
    """How the codes of a tensor stand for reals: `scale` · (code − `zero_point`)."""

    scale: Annotated[float | tuple[float, ...], "the step; a list: one per element of `axis`"]
    zero_point: Annotated[int | tuple[int, ...], "the code of 0, which may lie outside the codes; a list as `scale`"]
    bits: Annotated[int, "bits of a code, 8 or 16"]
    axis: Annotated[int, "axis of the lists, −1 (channels) where absent"] = -1


@record
class LayerAccuracy(Record):
    """A layer of the quantized network beside the float network, on calibration frames."""

    kind: Annotated[str, "kind of the layer"]
    snr_db: Annotated[float | None, "signal about the mean of each channel to noise, in dB; null: exact"]
    distinct_codes: Annotated[int, "different codes that occurred"]
    saturated_percent: Annotated[float, "values beyond the range of the codes, in per cent"]
    range: Annotated[tuple[float, float], "the least and the greatest float value in calibration"]
    scale: Annotated[TensorScale, "how its codes stand for reals", INLINE]
    notes: Annotated[FreezeNotes, "what freezing it came upon", INLINE] = FreezeNotes()


@record
class PartAccuracy(Record):
    """A part of an output: values of one origin (boxes, scores …), judged by themselves."""

    name: Annotated[str, "the part, as the layer it comes from without the network's name"]
    layer: Annotated[str, "the layer it comes from"]
    place: Annotated[str, "where in a frame, as `[:, :, 0:4]`; empty: the whole, or no grid"]
    slices: Annotated[tuple[tuple[int, int, int], ...] | None, "start, stop and step along each axis; null: no grid"]
    elements: Annotated[int, "values in a frame"]
    snr_db: Annotated[float | None, "signal about the mean of each channel to noise, in dB; null: exact"]
    distinct_codes: Annotated[int, "different codes that occurred"]
    range: Annotated[tuple[float, float], "the least and the greatest float value"]
    spread: Annotated[float, "standard deviation of the float values; 0: nothing varies"]
    constant: Annotated[bool, "nothing varies"]
    dead: Annotated[bool, "one or two codes are left of values that vary, and they are not all there is"]


@record
class OutputAccuracy(Record):
    """An output of the quantized network beside float, on calibration frames."""

    snr_db: Annotated[float | None, "of all parts that vary, in dB; null: exact"]
    distinct_codes: Annotated[int, "different codes that occurred"]
    worst: Annotated[str, "the part with the least dB"]
    worst_snr_db: Annotated[float | None, "its dB; null: exact"]
    parts: Annotated[tuple[PartAccuracy, ...], "every part"]


@record
class OptimizeReport(Report):
    """What `optimize` did and how accurate the result is (member `<net>.optimize.json`)."""

    VERSION = 2

    calibration: Annotated[CalibrationFacts, "the data"]
    options: Annotated[OptionChoices, "the options"]
    from_file: Annotated[
        FileFacts | None, "of a file that was quantized already and kept so; null or absent: everything is measured"
    ] = None
    passes: Annotated[tuple[PassRecord, ...], "changes that made layers with an integer form, and fitted ranges"]
    algorithms: Annotated[tuple[Decision, ...], "every proposal of an algorithm, in order"]
    warnings: Annotated[tuple[str, ...], "what to look at"]
    layers: Annotated[Mapping[str, LayerAccuracy], "by layer"]
    outputs: Annotated[Mapping[str, OutputAccuracy], "by output layer"]
    dead_layers: Annotated[
        Mapping[str, float], "layers that lost what they vary by → noise-to-signal that this alone makes at the outputs"
    ]
