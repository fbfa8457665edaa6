# SPDX-License-Identifier: Apache-2.0
"""What a network input takes, and checking an array against it: names, layout, element type, finite values."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headrace.data.dtypes import dtype_problem, first_not_finite
from headrace.errors import DataError, Diagnostic, UsageError, unknown_name
from headrace.hn import Array, Layer, Network
from headrace.hn.names import meant

log = logging.getLogger("headrace.data")

#: What numpy.savez calls an array that was given no name.
NAMELESS = "arr_0"
#: A picture has as many channels.
PICTURE_CHANNELS = (1, 3, 4)
#: Orders of the channels of a colour picture; a fourth, transparency, stays the last.
CHANNELS = ("rgb", "bgr")


@dataclass(frozen=True)
class InputSpec:
    """One network input, of an HN or of a HEF.

    Attributes:
        name: full name.
        shape: one frame, (H, W, C) or (C,).
        names: other names that mean it: without the scope, and of the tensor in the source model.
        source_shape, source_order: how the source file sees the tensor: ``hn.transpose(order).reshape(shape)``; empty
            when not known.
        channels: the order that pictures get, one of :data:`CHANNELS`; None: nothing was said, which is RGB.
    """

    name: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    source_shape: tuple[int, ...] = ()
    source_order: tuple[int, ...] = ()
    channels: str | None = None

    @property
    def is_picture(self) -> bool:
        return len(self.shape) == 3 and self.shape[2] in PICTURE_CHANNELS

    @property
    def text(self) -> str:
        """The shape of an array of frames, for people."""
        return f"(frames, {', '.join(map(str, self.shape))})"


def spec_of(layer: Layer) -> InputSpec:
    """The spec of an input layer."""
    return InputSpec(
        layer.name,
        tuple(layer.output_shape[1:]),
        layer.names[1:],
        layer.boundary.source_shape,
        layer.boundary.source_permutation,
    )


def specs_of(network: Network) -> list[InputSpec]:
    """The specs of a network's inputs, in order."""
    return [spec_of(layer) for layer in network.input_layers]


def check_channels(channels: str | None) -> None:
    """Raises UsageError for an unknown order of channels."""
    if channels is not None and channels not in CHANNELS:
        raise UsageError(unknown_name("E-DATA-CHANNELS", "order of channels", str(channels), CHANNELS, "channels"))


def with_channels(specs: Sequence[InputSpec], channels: str | None) -> list[InputSpec]:
    """The inputs, of which pictures get this order of channels; an unknown one is a UsageError."""
    check_channels(channels)
    return [replace(spec, channels=channels) for spec in specs]


def find_input(name: str, specs: Sequence[InputSpec]) -> InputSpec | None:
    """The input that a name means: its full name first, then any other, as long as it means one input."""
    return meant(name, specs, lambda spec: (spec.name, *spec.names))


def unknown_input(name: str, specs: Sequence[InputSpec], where: str, *levers: str) -> Diagnostic:
    """The problem that no input has this name."""
    known = list(dict.fromkeys(n for spec in specs for n in (spec.name, *spec.names)))
    problem = unknown_name("E-DATA-NAME", "network input", name, known, where)
    if not levers:
        return problem
    return Diagnostic(problem.code, problem.where, problem.rule, problem.got, problem.need, (*problem.levers, *levers))


def by_input(
    data: Mapping[str, Any], specs: Sequence[InputSpec], where: str
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The arrays of a mapping or an archive by full input name, and the problems of its names.

    Every name has to be an input's. The one exception is :data:`NAMELESS`, alone, for a network with one input.
    Problems are names that are no input's, inputs given twice, and inputs without data.
    """
    if len(specs) == 1 and list(data) == [NAMELESS]:
        return {specs[0].name: data[NAMELESS]}, []
    problems: list[Diagnostic] = []
    found: dict[str, Any] = {}
    for name in data:
        spec = find_input(str(name), specs)
        if spec is None:
            levers = () if str(name).startswith("arr_") else ("leave arrays that are no network input out",)
            free = [s for s in specs if s.name not in data and not any(n in data for n in s.names)]
            if len(free) == 1:
                levers = (*levers, f"if it is the data of {free[0].name!r}, name it so")
            problems.append(unknown_input(str(name), specs, where, *levers))
        elif spec.name in found:
            rule = "two arrays are for one input"
            problems.append(Diagnostic("E-DATA-NAME", where, rule, f"{name!r} and another", f"one for {spec.name!r}"))
        else:
            found[spec.name] = data[name]
    return found, problems + missing_inputs(found, specs)


def missing_inputs(found: Mapping[str, Any], specs: Sequence[InputSpec]) -> list[Diagnostic]:
    rule = "there are no data for this network input"
    return [
        Diagnostic("E-DATA-MISSING", s.name, rule, "nothing", f"an array {s.text}")
        for s in specs
        if s.name not in found
    ]


def check_counts(found: Mapping[str, Array], where: str) -> list[Diagnostic]:
    """The problem that inputs have different numbers of frames."""
    if len({len(v) for v in found.values()}) < 2:
        return []
    counts = ", ".join(f"{k}: {len(v)}" for k, v in found.items())
    return [Diagnostic("E-DATA-COUNT", where, "the inputs have different numbers of frames", counts, "equal numbers")]


def checked(spec: InputSpec, value: Any, *, one_frame: bool = False) -> Array:
    """The value as an array of frames in the network's layout; its element type stays.

    Args:
        spec: the input.
        value: anything that numpy takes for an array.
        one_frame: a frame without a first axis is taken too.

    Raises:
        DataError: it is no array of real numbers, has another shape, no frame, or NaN, infinity, or a number beyond
            float32.
    """
    array = to_array(value, spec.name, f"numbers {spec.text}")
    problem = dtype_problem(array.dtype, spec.name)
    if problem is not None:
        raise DataError(problem)
    array = arranged(spec, array, one_frame=one_frame)
    if len(array) < 1:
        raise DataError(Diagnostic("E-DATA-EMPTY", spec.name, "there is no frame", "0 frames", "at least 1"))
    bad = first_not_finite(array)
    if bad is not None:
        rule = "the data hold NaN, infinity, or a number beyond float32"
        raise DataError(Diagnostic("E-DATA-NOT-FINITE", spec.name, rule, f"frame {bad}", "finite numbers"))
    return array


def to_array(value: Any, where: str, need: str) -> Array:
    """``numpy.asarray`` for arrays, tensors of frameworks, pictures' pixels and nested lists.

    Raises:
        DataError: numpy does not take it.
    """
    plain: Any = value
    if np.ma.is_masked(plain):
        rule, got = "the array has masked elements", f"{np.ma.getmaskarray(plain).sum()} of {plain.size}"
        raise DataError(Diagnostic("E-DATA-ARRAY", where, rule, got, need, ("data.filled(value)",)))
    try:
        if type(value).__module__.partition(".")[0] == "torch":
            plain = plain.detach().cpu()  # it may need gradients or live on another device
            plain = plain.float() if str(plain.dtype) == "torch.bfloat16" else plain  # numpy has no such type
        return np.asarray(plain)
    except Exception as error:
        rule, got = "it is not an array", f"{type(value).__name__}: {str(error)[:150]}"
        raise DataError(Diagnostic("E-DATA-ARRAY", where, rule, got, need)) from error


def arranged(spec: InputSpec, array: Array, *, one_frame: bool = False) -> Array:
    """A view of the data as ``[N, H, W, C]`` (or ``[N, C]``).

    Takes the network's layout, channels first, or the source file's own shape; the network's layout wins where several
    fit.
    """
    want = spec.shape
    if one_frame and array.ndim == len(want) and _fits_frame(spec, array.shape):
        array = array[None]
    got = tuple(array.shape[1:])
    channels_first = (want[-1], *want[:-1])
    if got == want and array.ndim == len(want) + 1:
        if len(want) == 3 and want == channels_first and want[0] > 1:
            log.warning("%s: %s may be NHWC or NCHW; taken as NHWC", spec.name, tuple(array.shape))
        return array
    if len(want) == 3 and array.ndim == 4 and got == channels_first:
        return array.transpose(0, 2, 3, 1)
    source = _as_source(spec, array)
    if source is not None:
        whole = (array.size // max(math.prod(want), 1), *want)
        permuted = source.reshape([whole[axis] for axis in spec.source_order])
        return permuted.transpose(np.argsort(spec.source_order))
    need = spec.text + (f" or (frames, {', '.join(map(str, channels_first))})" if len(want) == 3 else "")
    raise DataError(
        Diagnostic(
            "E-DATA-SHAPE",
            spec.name,
            "the shape does not fit the input",
            str(tuple(array.shape)),
            need,
            _shape_levers(spec, array),
        )
    )


def _fits_frame(spec: InputSpec, shape: tuple[int, ...]) -> bool:
    want = spec.shape
    return shape == want or (len(want) == 3 and shape == (want[2], *want[:2]))


def _as_source(spec: InputSpec, array: Array) -> Array | None:
    """The data in the order in which the source file has them, where they are such: with the frames where the file has
    its batch, with the frames first, or tensors of one frame stacked.
    """
    source, order = spec.source_shape, spec.source_order
    if not source or sorted(order) != list(range(len(spec.shape) + 1)):
        return None
    at = source.index(-1) if -1 in source else 0
    rest = (*source[:at], *source[at + 1 :])
    shape = tuple(array.shape)
    if at and shape[1:] == (*source[:at], 1, *source[at + 1 :]):
        return np.moveaxis(array.reshape(shape[0], *rest), 0, at)
    if len(shape) != len(source):
        return None
    if shape[1:] == rest:
        return np.moveaxis(array, 0, at)
    return array if (*shape[:at], *shape[at + 1 :]) == rest else None


def _shape_levers(spec: InputSpec, array: Array) -> tuple[str, ...]:
    want, got = spec.shape, tuple(array.shape[1:])
    if _fits_frame(spec, array.shape):
        return ("add a first axis for the frames: data[None]",)
    if len(want) == 3 and array.ndim == 4 and want[2] in (got[0], got[2]):
        return (f"resize the images to {want[0]}×{want[1]} (height × width)",)
    return ()
