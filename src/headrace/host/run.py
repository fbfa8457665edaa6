# SPDX-License-Identifier: Apache-2.0
"""Runs a whole model: the host's steps, and between them the device as whoever calls has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from headrace.errors import DataError, Diagnostic, InputFileError
from headrace.hn import Array
from headrace.hn.whole import ANY, DeviceStep, DeviceTensor, ModelTensor, OnnxStep, Step, WholeModel
from headrace.host.operators import find_operator
from headrace.host.session import Session, as_type

#: Frames of input layers, float32 in HN's layout by name, to the frames of output layers.
Device = Callable[[dict[str, Array]], Mapping[str, Array]]
#: A tensor of all frames or, where those of several runs have other shapes, one of each run.
Result = Array | list[Array]
FRAMES_AT_ONCE = 16


class WholeRun:
    """A whole model, ready to run; networks of the host are loaded when they are first needed.

    Args:
        whole: the steps, not trusted.
        device: runs the device's step.
        where: how the model is called in errors.
    """

    def __init__(self, whole: WholeModel, device: Device, where: str) -> None:
        self.whole, self._device, self._where = whole, device, where
        self._sessions: dict[int, Session] = {}

    def run(self, inputs: Mapping[str, Array], batch_size: int | None = None) -> dict[str, Result]:
        """The outputs of the file by name.

        Args:
            inputs: those of the file by name, see :func:`headrace.host.model_inputs`.
            batch_size: frames at a time; without it as many as the file takes.

        Returns:
            By output one array; a list with one for each run where they cannot be joined.

        Raises:
            DataError: the host's networks refuse the data. InputFileError: one of them must not be run.
        """
        parts: dict[str, list[Array]] = {tensor.name: [] for tensor in self.whole.outputs}
        for tensors, count in self._runs(inputs, batch_size):
            self._steps(tensors, self.whole.steps)
            for tensor in self.whole.outputs:
                parts[tensor.name].append(self._cut(tensor, tensors[tensor.name], count))
        return {tensor.name: _joined(tensor, parts[tensor.name]) for tensor in self.whole.outputs}

    def device_inputs(self, inputs: Mapping[str, Array], batch_size: int | None = None) -> dict[str, Array]:
        """What enters the device, float32 frames in HN's layout by layer, for the same inputs."""
        parts: dict[str, list[Array]] = {port.layer: [] for port in self.whole.device.takes}
        for tensors, count in self._runs(inputs, batch_size):
            self._steps(tensors, self.whole.before)
            for port in self.whole.device.takes:
                parts[port.layer].append(_frames(port, tensors[port.tensor], self._where)[:count])
        return {layer: np.concatenate(arrays) for layer, arrays in parts.items()}

    # --- frames --------------------------------------------------------------------------------------------------

    def _runs(self, inputs: Mapping[str, Array], batch_size: int | None) -> list[tuple[dict[str, Array], int]]:
        """The inputs of each run, and how many frames in it are asked for."""
        axes = {t.name: t.frame_axis for t in self.whole.inputs if t.frame_axis >= 0 and t.name in inputs}
        if not axes:
            return [(dict(inputs), 1)]
        frames = min(inputs[name].shape[axis] for name, axis in axes.items())
        size = self._size(frames, batch_size)
        runs: list[tuple[dict[str, Array], int]] = []
        for first in range(0, frames, size):
            count = min(size, frames - first)
            # The file may take more at once than are left: the last one again.
            numbers = np.minimum(np.arange(first, first + max(count, self.whole.frames)), first + count - 1)
            taken = {name: np.take(inputs[name], numbers, axis) for name, axis in axes.items()}
            runs.append(({**inputs, **taken}, count))
        return runs

    def _size(self, frames: int, batch_size: int | None) -> int:
        if self.whole.frames != ANY:
            return self.whole.frames
        if batch_size is not None:
            return max(1, batch_size)
        joins = all(tensor.frame_axis >= 0 for tensor in self.whole.outputs)
        return FRAMES_AT_ONCE if joins else frames

    def _cut(self, tensor: ModelTensor, array: Array, count: int) -> Array:
        """Without the frames that only filled up a run."""
        if count >= self.whole.frames or self.whole.frames == ANY:
            return array
        if tensor.frame_axis < 0:
            rule = "the file takes its frames together, and an output is of all of them"
            got, need = f"{count} frames", f"a multiple of {self.whole.frames}"
            raise DataError(Diagnostic("E-DATA-COUNT", f"{self._where}, output {tensor.name!r}", rule, got, need))
        return np.take(array, np.arange(count), tensor.frame_axis)

    # --- steps ---------------------------------------------------------------------------------------------------

    def _steps(self, tensors: dict[str, Array], steps: Sequence[Step]) -> None:
        """Add what steps make to the tensors."""
        for step in steps:
            where = f"{self._where}, step {self.whole.steps.index(step) + 1} of the whole model"
            if isinstance(step, DeviceStep):
                frames = {port.layer: _frames(port, tensors[port.tensor], where) for port in step.takes}
                made = self._device(frames)
                tensors.update((port.tensor, _tensor(port, made[port.layer], where)) for port in step.gives)
            elif isinstance(step, OnnxStep):
                tensors.update(self._session(step, where).run(tensors))
            else:
                arrays = find_operator(step.operator, where)(step.attributes, [tensors[n] for n in step.inputs])
                if len(arrays) != len(step.outputs):
                    rule, got = f"{step.operator} makes another number of tensors", len(arrays)
                    raise InputFileError(Diagnostic("E-WHOLE-CORRUPT", where, rule, str(got), str(len(step.outputs))))
                tensors.update(zip(step.outputs, arrays, strict=True))

    def _session(self, step: OnnxStep, where: str) -> Session:
        number = self.whole.steps.index(step)
        if number not in self._sessions:
            self._sessions[number] = Session(step, where)
        return self._sessions[number]


def _frames(port: DeviceTensor, array: Array, where: str) -> Array:
    """A tensor of the file as float32 frames of a layer.

    Raises:
        DataError: it has another shape, NaN or infinity, which a device does not take.
    """
    sizes = [size for size in port.shape if size != ANY]
    count = array.size // max(1, int(np.prod(sizes, dtype=np.int64)))
    order = [count if port.layer_shape[axis] == ANY else port.layer_shape[axis] for axis in port.permutation]
    try:
        frames = array.reshape(order).transpose(np.argsort(port.permutation)).astype(np.float32)
    except (ValueError, TypeError) as error:
        rule, need = "a tensor does not fit the device's input", list(port.shape)
        got = f"{list(array.shape)} of {array.dtype}: {error}"
        place = f"{where}, tensor {port.tensor!r}"
        raise DataError(Diagnostic("E-DATA-SHAPE", place, rule, got[:200], str(need))) from None
    if not np.isfinite(frames).all():
        rule = "a tensor that enters the device holds NaN, infinity, or a number beyond float32"
        raise DataError(Diagnostic("E-DATA-NOT-FINITE", f"{where}, tensor {port.tensor!r}", rule, "", "finite numbers"))
    return np.ascontiguousarray(frames)


def _tensor(port: DeviceTensor, frames: Array, where: str) -> Array:
    """The frames of a layer as a tensor of the file.

    Raises:
        InputFileError: they have not the sizes that the steps tell.
    """
    try:
        shaped = frames.reshape(len(frames), *port.layer_shape[1:])
        # What is open holds the frames, maybe times a dimension that the file has joined with them (tokens in rows).
        return shaped.transpose(port.permutation).reshape([-1 if s == ANY else s for s in port.shape])
    except ValueError as error:
        rule, got = "what the device gives is not the tensor that the steps tell", f"{list(frames.shape)}: {error}"
        place, levers = f"{where}, tensor {port.tensor!r}", ("parse the model again",)
        raise InputFileError(
            Diagnostic("E-WHOLE-CORRUPT", place, rule, got[:200], str(list(port.shape)), levers)
        ) from None


def _joined(tensor: ModelTensor, parts: list[Array]) -> Result:
    typed = parts if tensor.dtype == "string" else [as_type(part, np.dtype(tensor.dtype)) for part in parts]
    if len(typed) == 1:
        return typed[0]
    at = tensor.frame_axis
    alike = len({(*part.shape[:at], *part.shape[at + 1 :]) for part in typed}) == 1
    return np.concatenate(typed, axis=at) if at >= 0 and alike else typed
