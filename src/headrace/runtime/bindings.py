# SPDX-License-Identifier: Apache-2.0
"""Which buffers one frame is read from and written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headrace.errors import DeviceError, Diagnostic
from headrace.hef.description import StreamDescription
from headrace.numerics.array import Array, is_array
from headrace.runtime.enums import FormatType, Status
from headrace.runtime.exceptions import device_error
from headrace.runtime.infos import dtype_of, find_stream


@dataclass(frozen=True)
class Port:
    """A stream and the element type the user chose for it; derived values are kept, they are needed for every frame."""

    stream: StreamDescription
    type: FormatType

    @cached_property
    def name(self) -> str:
        return self.stream.name

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame as the user sees it."""
        return self.stream.shape

    @cached_property
    def device_shape(self) -> tuple[int, int, int]:
        return (self.stream.height, self.stream.width, self.stream.features)

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        return dtype_of(self.stream, self.type)

    @cached_property
    def is_float(self) -> bool:
        return self.type == FormatType.FLOAT32


def buffer_problems(buffer: object, port: Port, where: str) -> list[Diagnostic]:
    """Why ``buffer`` cannot hold one frame of ``port``; empty when it can."""
    where = f"{where}, {port.stream.direction} {port.name!r}"
    need = f"numpy array {port.shape} {port.dtype}, C-contiguous"

    def bad(rule: str, got: object, *levers: str) -> Diagnostic:
        return Diagnostic("E-BUFFER", where, rule, str(got), need, levers)

    if not is_array(buffer):
        return [bad("the buffer is not a numpy array", type(buffer).__name__, "numpy.asarray(buffer)")]
    found: list[Diagnostic] = []
    if buffer.shape not in (port.shape, (1, *port.shape)):
        found.append(bad("the buffer has the wrong shape", buffer.shape, *_shape_levers(buffer, port)))
    if buffer.dtype != port.dtype:
        levers = (f"buffer.astype({port.dtype.name!r})", _format_lever(buffer.dtype))
        found.append(bad("the buffer has the wrong element type", buffer.dtype, *(lever for lever in levers if lever)))
    if not buffer.flags.c_contiguous:
        found.append(
            bad("the buffer is not contiguous", f"strides {buffer.strides}", "numpy.ascontiguousarray(buffer)")
        )
    if port.stream.direction == "output" and not buffer.flags.writeable:
        found.append(bad("the buffer cannot be written", "a read-only array"))
    return found


def _shape_levers(buffer: Array, port: Port) -> list[str]:
    shape = port.shape
    if len(shape) == 3 and buffer.shape[-3:] == (shape[2], shape[0], shape[1]):
        return ["this looks like channels first: numpy.moveaxis(buffer, -3, -1), then numpy.ascontiguousarray"]
    if buffer.ndim == len(shape) + 1 and buffer.shape[1:] == shape:
        return ["bindings hold one frame: make one per frame and run the list, or use ConfiguredInferModel.infer"]
    return []


def _format_lever(dtype: np.dtype[Any]) -> str:
    name = {"uint8": "UINT8", "uint16": "UINT16", "float32": "FLOAT32"}.get(dtype.name)
    return f"set_format_type(FormatType.{name}) before configure()" if name else ""


class BindingStream:
    """One stream's buffer in a :class:`Bindings`."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._buffer: Array | None = None

    @property
    def name(self) -> str:
        return self._port.name

    def set_buffer(self, buffer: Array) -> None:
        """Use this array for the frame; it is kept, not copied, until the run.

        Args:
            buffer: (H, W, C) or (C,) as ``shape`` says, or with a leading axis of 1; dtype by the stream's format
                type; C-contiguous; writeable for outputs.

        Raises:
            HailoRTInvalidArgumentException: the array does not fit; says what was got and what is needed.
        """
        problems = buffer_problems(buffer, self._port, "set_buffer")
        if problems:
            raise device_error(Status.INVALID_ARGUMENT, problems)
        self._buffer = buffer

    def get_buffer(self, tf_format: bool = False) -> Array:
        """The array that was set; for outputs it holds the result after the run.

        Args:
            tf_format: layout of detections; there are none here, so it changes nothing.

        Raises:
            HailoRTInvalidOperationException: no buffer was set.
        """
        del tf_format
        if self._buffer is None:
            raise device_error(Status.INVALID_OPERATION, self.missing())
        return self._buffer

    def missing(self) -> Diagnostic:
        """The problem that no buffer was set."""
        port = self._port
        need = f"set_buffer(array of {port.shape} {port.dtype})"
        return Diagnostic("E-BUFFER", f"{port.stream.direction} {port.name!r}", "no buffer is set", "nothing", need)

    @property
    def is_set(self) -> bool:
        return self._buffer is not None

    def frame(self) -> Array:
        """The buffer as (H, W, C), sharing memory."""
        return self.get_buffer().reshape(self._port.device_shape)


class Bindings:
    """The buffers of one frame, by stream; made by ``ConfiguredInferModel.create_bindings``."""

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self._inputs = {p.name: BindingStream(p) for p in inputs}
        self._outputs = {p.name: BindingStream(p) for p in outputs}
        self.ports = (*inputs, *outputs)

    def input(self, name: str = "") -> BindingStream:
        return self._inputs[self._find(name, "input")]

    def output(self, name: str = "") -> BindingStream:
        return self._outputs[self._find(name, "output")]

    def _find(self, name: str, direction: str) -> str:
        streams = [p.stream for p in self.ports if p.stream.direction == direction]
        return find_stream(name, streams, direction, "bindings").name

    def fill(self, inputs: Mapping[str, Array] | None, outputs: Mapping[str, Array] | None) -> None:
        """Set several buffers at once; all problems are reported together."""
        found: list[Diagnostic] = []
        for buffers, stream_of in ((inputs or {}, self.input), (outputs or {}, self.output)):
            for name, buffer in buffers.items():
                try:
                    stream_of(name).set_buffer(buffer)
                except DeviceError as error:
                    found += error.diagnostics
        if found:
            raise device_error(Status.INVALID_ARGUMENT, found)

    def missing(self) -> list[Diagnostic]:
        """One problem for each stream without a buffer."""
        streams = (*self._inputs.values(), *self._outputs.values())
        return [s.missing() for s in streams if not s.is_set]
