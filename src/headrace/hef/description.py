# SPDX-License-Identifier: Apache-2.0
"""What a HEF says about its network: streams, names, quantization, figures. Plain values and their rules."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace import __version__
from headrace.errors import Diagnostic
from headrace.numerics.quantization import MAX_ZERO_POINT, TensorQuantization, per_channel

Direction = Literal["input", "output"]
Order = Literal["NHWC", "NC"]

MAX_NAME_BYTES = 127  # 128 with the closing NUL of the C interface
MAX_STREAMS = 40
MAX_CONTEXTS = 65535
MAX_FRAMES = 1 << 32  # of calibration
MAX_FRAME_BYTES = 2**32 - 1
MIN_SCALE = 2.0**-126  # below it float32 loses bits, and executors that flush to zero would differ
SDK_VERSION = f"headrace {__version__} (virtual device)"


def _float32(value: float) -> float:
    """``value`` rounded to the nearest float32, which is what the file holds."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(value))


@dataclass(frozen=True)
class StreamDescription:
    """One network input or output.

    Attributes:
        name: HN layer name, e.g. ``"resnet20/input_layer1"``; at most 127 bytes of UTF-8.
        direction: ``"input"`` (host to device) or ``"output"``.
        height, width, features: one frame; ``NC`` has height and width 1.
        data_bytes: 1 (uint8 codes) or 2 (little-endian uint16 codes).
        scale: ``real = scale · (code - zero_point)``; rounded to float32. Where channels differ, the first one's.
        zero_point: code of real zero; an output's may lie outside of the codes.
        channel_scales: outputs: one scale per channel, where they differ, else (); rounded to float32.
        channel_zero_points: likewise.
        limvals: smallest and largest real value: of an input those that calibration saw, else (the default) those of
            the extreme codes. Rounded to float32.
        original_names: names of the tensor in the source model.
        order: ``"NHWC"`` or ``"NC"``.
    """

    name: str
    direction: Direction
    height: int
    width: int
    features: int
    data_bytes: int = 1
    scale: float = 1.0
    zero_point: int = 0
    limvals: tuple[float, float] | None = None
    original_names: tuple[str, ...] = ()
    order: Order = "NHWC"
    channel_scales: tuple[float, ...] = ()
    channel_zero_points: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_scales", tuple(_float32(s) for s in self.channel_scales))
        object.__setattr__(self, "channel_zero_points", tuple(self.channel_zero_points))
        scale = self.channel_scales[0] if self.channel_scales else _float32(self.scale)
        if self.channel_zero_points:
            object.__setattr__(self, "zero_point", self.channel_zero_points[0])
        top = (1 << (8 * self.data_bytes)) - 1 if self.data_bytes in (1, 2) else 0
        pairs = list(zip(self.channel_scales, self.channel_zero_points, strict=False)) or [(scale, self.zero_point)]
        low, high = self.limvals or (min(s * -z for s, z in pairs), max(s * (top - z) for s, z in pairs))
        # "+ 0.0" turns the negative zero of a zero zero point into the plain one.
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "limvals", (_float32(low) + 0.0, _float32(high) + 0.0))
        object.__setattr__(self, "original_names", tuple(self.original_names))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame: (H, W, C), or (C,) for ``NC``."""
        return (self.features,) if self.order == "NC" else (self.height, self.width, self.features)

    @property
    def quantization(self) -> TensorQuantization:
        """How the stream's codes map to reals."""
        if not self.channel_scales:
            return TensorQuantization(self.scale, self.zero_point, 8 * self.data_bytes)
        return per_channel(self.channel_scales, self.channel_zero_points, 8 * self.data_bytes)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one quantized frame."""
        return self.height * self.width * self.features * self.data_bytes


@dataclass(frozen=True)
class HefDescription:
    """Everything a HEF says beside its microcode.

    Attributes:
        network_name: the network group's name.
        streams: inputs, then outputs, each in the order users see (sorted so on construction).
        contexts: number of contexts, at least 1.
        bottleneck_fps: frames per second the allocator expects (closed form), 0 when unknown.
        latency_ms: milliseconds of one frame that is alone, by the closed form of the compiler; 0 when unknown.
        sdk_version: who wrote the file.
        random_calibration: frames of random noise that the network was calibrated with: its accuracy means nothing.
            0 where it was calibrated with data.
    """

    network_name: str
    streams: tuple[StreamDescription, ...]
    contexts: int = 1
    bottleneck_fps: float = 0.0
    latency_ms: float = 0.0
    sdk_version: str = SDK_VERSION
    random_calibration: int = 0

    def __post_init__(self) -> None:
        # Inputs first: one canonical order, so that a file read again gives an equal description.
        object.__setattr__(self, "streams", tuple(sorted(self.streams, key=lambda s: s.direction == "output")))

    @property
    def inputs(self) -> tuple[StreamDescription, ...]:
        return tuple(s for s in self.streams if s.direction == "input")

    @property
    def outputs(self) -> tuple[StreamDescription, ...]:
        return tuple(s for s in self.streams if s.direction == "output")


def check_description(description: HefDescription, where: str) -> list[Diagnostic]:
    """Every broken rule, in a fixed order; empty when a host library would take the description."""
    found = list(_check_name(description.network_name, where, "network name"))
    streams = description.streams
    if not 1 <= description.contexts <= MAX_CONTEXTS:
        found.append(_bad(where, "the number of contexts is out of range", description.contexts, f"1 … {MAX_CONTEXTS}"))
    if len(streams) > MAX_STREAMS:
        found.append(_bad(where, "there are too many streams", len(streams), f"at most {MAX_STREAMS}"))
    for kind, some in (("input", description.inputs), ("output", description.outputs)):
        if not some:
            found.append(_bad(where, f"the network has no {kind} stream", "none", "at least one"))
    names = [s.name for s in streams]
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        found.append(_bad(where, "stream names must be unique", f"{name!r} {names.count(name)} times", "once"))
    for label, value in (("bottleneck_fps", description.bottleneck_fps), ("latency_ms", description.latency_ms)):
        if not (math.isfinite(value) and value >= 0):
            found.append(_bad(where, f"{label} is not a usable figure", value, "a finite number, 0 or more"))
    frames = description.random_calibration
    if type(frames) is not int or not 0 <= frames <= MAX_FRAMES:
        found.append(_bad(where, "the number of random frames is out of range", frames, f"0 … {MAX_FRAMES}"))
    found += _check_text(description.sdk_version, where, "sdk_version", 256)
    for stream in streams:
        found += check_stream(stream, f"{where}, stream {stream.name!r}")
    return found


def check_stream(stream: StreamDescription, where: str) -> Iterator[Diagnostic]:
    """Every broken rule of one stream."""
    yield from _check_name(stream.name, where, "stream name")
    if stream.direction not in ("input", "output"):
        yield _bad(where, "the direction is unknown", stream.direction, "input or output")
    if stream.order not in ("NHWC", "NC"):
        yield _bad(where, "the order is unknown", stream.order, "NHWC or NC")
    elif stream.order == "NC" and (stream.height, stream.width) != (1, 1):
        yield _bad(where, "an NC stream has height and width 1", f"{stream.height} × {stream.width}", "1 × 1")
    sizes = (stream.height, stream.width, stream.features)
    if stream.data_bytes not in (1, 2):
        yield _bad(where, "codes have 1 or 2 bytes", stream.data_bytes, "1 or 2")
    else:
        yield from _check_zeros(stream, where)
    if min(sizes) < 1 or stream.frame_bytes > MAX_FRAME_BYTES:
        shown = f"{' × '.join(map(str, sizes))} of {stream.data_bytes} bytes"
        yield _bad(where, "the frame size is out of range", shown, "sizes of at least 1, below 2^32 bytes in all")
    wrong = [s for s in (stream.scale, *stream.channel_scales) if not (math.isfinite(s) and s >= MIN_SCALE)]
    if wrong:
        yield _bad(where, "the scale is not usable as float32", wrong[0], "a finite number, at least 2^-126")
    low, high = stream.limvals or (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        yield _bad(where, "the value range is not usable", f"{low} … {high}", "two finite numbers in ascending order")
    for original in stream.original_names:
        yield from _check_text(original, where, "original name", 4096)


def _check_zeros(stream: StreamDescription, where: str) -> Iterator[Diagnostic]:
    """Zero points, and one scale and zero point per channel or none."""
    lengths = {len(stream.channel_scales), len(stream.channel_zero_points)}
    if lengths != {0} and (stream.direction != "output" or lengths != {stream.features}):
        got = f"{len(stream.channel_scales)} scales, {len(stream.channel_zero_points)} zero points"
        yield _bad(where, "there is not one scale per channel", got, f"{stream.features}, of an output")
    zeros = (stream.zero_point, *stream.channel_zero_points)
    if stream.direction == "output":
        far = [z for z in zeros if abs(z) > MAX_ZERO_POINT]
        if far:
            yield _bad(where, "a zero point is out of range", far[0], f"within {MAX_ZERO_POINT} of 0")
    elif not 0 <= stream.zero_point < 1 << (8 * stream.data_bytes):
        yield _bad(where, "the zero point is not a code", stream.zero_point, f"0 … {(1 << 8 * stream.data_bytes) - 1}")


def _check_name(name: str, where: str, what: str) -> Iterator[Diagnostic]:
    if not name:
        yield _bad(where, f"the {what} is empty", "''", f"1 … {MAX_NAME_BYTES} bytes")
    yield from _check_text(name, where, what, MAX_NAME_BYTES)


def _check_text(text: str, where: str, what: str, limit: int) -> Iterator[Diagnostic]:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        yield _bad(where, f"the {what} cannot be written as UTF-8", ascii(text[:60]), "text without lone surrogates")
        return
    if size > limit:
        yield _bad(where, f"the {what} is too long", f"{size} bytes", f"at most {limit} bytes of UTF-8")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        yield _bad(where, f"the {what} has control characters", ascii(text[:60]), "printable text")


def _bad(where: str, rule: str, got: object, need: object) -> Diagnostic:
    return Diagnostic("E-HEF-CONTENTS", where, rule, str(got), str(need))
