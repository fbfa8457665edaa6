# SPDX-License-Identifier: Apache-2.0
"""``ConfiguredInferModel``: a network on a device, run frame by frame, in batches, now or later."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import Diagnostic, HeadraceError, InternalError, unknown_name
from headrace.numerics.array import Array, is_array
from headrace.numerics.quantization import dequantize, quantize_input
from headrace.runtime import native
from headrace.runtime.bindings import Bindings, Port
from headrace.runtime.enums import Status
from headrace.runtime.exceptions import HailoRTStreamAborted, HailoRTTimeout, device_error
from headrace.runtime.infos import find_stream, quantization

if TYPE_CHECKING:
    from headrace.runtime import _native

DEFAULT_TIMEOUT_MS = 10_000
_QUEUE_FRAMES = 64
_CHUNK_FRAMES = 64  # frames per native call when no batch size was chosen: bounds the memory of a long list
_NATIVE_QUEUE_FRAMES = 65536  # the device's own bound; the one that people meet is ConfiguredInferModel._capacity
_ABORTED = 1002  # the native status of a run that was cancelled
_log = logging.getLogger("headrace.runtime")


@dataclass(frozen=True)
class AsyncInferCompletionInfo:
    """Given to the callback of ``run_async``; ``exception`` is None when the run went well."""

    exception: Exception | None


class AsyncInferJob:
    """A run that was started; keep it to wait for it."""

    def __init__(self, future: Future[None], where: str) -> None:
        self._future = future
        self._where = where

    def wait(self, timeout_ms: int | None = DEFAULT_TIMEOUT_MS) -> None:
        """Block until the run has ended.

        Args:
            timeout_ms: milliseconds to wait; None waits for ever. After a timeout the run goes on, and its output
                buffers may still be written.

        Raises:
            HailoRTTimeout: it has not ended in time.
            HailoRTStreamAborted: the model was shut down before it began.
            HeadraceError: whatever the run itself raised.
        """
        try:
            self._future.result(None if timeout_ms is None else max(timeout_ms, 0) / 1000)
        except FutureTimeoutError as error:
            rule, levers = "the run did not end in time", ("wait longer", "use smaller lists of bindings")
            problem = Diagnostic("E-TIMEOUT", self._where, rule, f"still running after {timeout_ms} ms", "", levers)
            raise HailoRTTimeout(problem, Status.TIMEOUT) from error


class ConfiguredInferModel:
    """A loaded network; made by ``InferModel.configure``. Use as a context manager, or call :meth:`shutdown`.

    May be used from several threads. Results do not depend on batch size, threads or kernel set.
    """

    def __init__(
        self, name: str, network: _native.Network, inputs: Sequence[Port], outputs: Sequence[Port], batch_size: int = 0
    ) -> None:
        self._name = name
        self._network: _native.Network | None = network
        self._inputs = {p.name: p for p in inputs}
        self._outputs = {p.name: p for p in outputs}
        self._all_float = all(p.is_float for p in (*inputs, *outputs))
        self._chunk = batch_size or _CHUNK_FRAMES
        self._capacity = max(_QUEUE_FRAMES, 2 * batch_size)
        self._pending = 0
        self._changed = threading.Condition()
        self._closing = False
        native.call(name, network.set_queue_size, _NATIVE_QUEUE_FRAMES)
        _open_models.add(self)

    # ------------------------------------------------------------------------------------------- life

    def __enter__(self) -> ConfiguredInferModel:
        self._live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def activate(self) -> ConfiguredInferModel:
        """Without effect: a configured network is always ready. Returns itself, so ``with`` works."""
        self._live()
        return self

    def deactivate(self) -> None:
        """Without effect."""

    def shutdown(self) -> None:
        """Wait for the run in progress, cancel those that wait, and let go of the network. May be called again.

        From inside a callback it does not wait for the run that called back: that one is over.
        """
        with self._changed:
            network, self._network = self._network, None
            self._closing = True
        if network is not None:
            native.call(self._name, network.cancel_all)

    def _live(self) -> _native.Network:
        network = self._network
        if network is None or self._closing:
            rule = "the model was shut down or its device released"
            problem = Diagnostic("E-RELEASED", self._name, rule, "a call after it", "a configured model")
            raise device_error(Status.INVALID_OPERATION, problem)
        return network

    # ------------------------------------------------------------------------------- whole batches at once

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch held in one array per input.

        Args:
            inputs: by stream name, (B, H, W, C) or (B, C), the element type chosen for the stream, B ≥ 1 the same for
                all.

        Returns:
            By stream name, (B, H, W, C) or (B, C) of the element type chosen for the output.

        Raises:
            HailoRTInvalidArgumentException: names, shapes or types do not fit; all problems together.
        """
        network = self._live()
        batch, frames = self._checked(inputs)
        parts: list[dict[str, Array]] = []
        for start in range(0, batch, self._chunk):
            chunk = {k: v[start : start + self._chunk] for k, v in frames.items()}
            parts.append(self._device(network, chunk))
        return {
            name: (parts[0][name] if len(parts) == 1 else np.concatenate([p[name] for p in parts])).reshape(
                batch, *port.shape
            )
            for name, port in self._outputs.items()
        }

    def infer_layers(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Like :meth:`infer`, but gives the codes (B, H, W, C) of every layer by its name; for tests and analysis."""
        network = self._live()
        batch, frames = self._checked(inputs)
        where = f"{self._name}, layers of {batch} frames"
        return dict(native.call(where, network.infer_all, {k: self._codes(k, v) for k, v in frames.items()}))

    def timing(self) -> dict[str, Any]:
        """What the event simulation says: fps, latency, cycles of each stage (docs/formats/microcode.md, 'Time')."""
        return dict(native.call(self._name, self._live().timing))

    def set_host_profiling(self, enabled: bool) -> None:
        """Count, from zero, what each layer costs this computer; or stop counting. Costs two clock reads per layer."""
        native.call(self._name, self._live().set_host_profiling, enabled)

    def host_profile(self) -> dict[str, float]:
        """Milliseconds a frame that this computer spends in each layer, by name in order of execution.

        Time of the virtual device's host since :meth:`set_host_profiling`, not of the modelled device (which is
        :meth:`timing`). Empty before the first frame. Frames that run side by side count their own thread's time.
        """
        network = self._live()
        counted = native.call(self._name, network.host_profile)
        if not counted["frames"]:
            return {}
        names = [layer["name"] for layer in network.layers]
        return {n: t / counted["frames"] / 1e6 for n, t in zip(names, counted["nanoseconds"], strict=True)}

    def _checked(self, inputs: Mapping[str, Array]) -> tuple[int, dict[str, Array]]:
        """(batch, arrays as (B, H, W, C) by full stream name)."""
        found: list[Diagnostic] = []
        frames: dict[str, Array] = {}
        for name, array in inputs.items():
            try:
                port = self._inputs.get(name) or self._input_port(name)
            except HeadraceError as error:
                found += error.diagnostics
                continue
            if port.name in frames:
                found.append(Diagnostic("E-INPUT", self._name, "an input is given twice", repr(name), port.name))
            found += self._array_problems(array, port)
            frames[port.name] = array
        for name in self._inputs:
            if name not in frames and not (found and len(frames) < len(inputs)):
                found.append(Diagnostic("E-INPUT", self._name, "an input is missing", "nothing", repr(name)))
        counts = {k: v.shape[0] for k, v in frames.items() if is_array(v) and v.ndim}
        if not found and len(set(counts.values())) > 1:
            found.append(
                Diagnostic("E-INPUT", self._name, "the inputs have different batches", str(counts), "one size")
            )
        if found:
            raise device_error(Status.INVALID_ARGUMENT, found)
        batch = next(iter(counts.values()))
        shaped = {k: v.reshape(batch, *self._inputs[k].device_shape) for k, v in frames.items()}
        return batch, {k: shaped[k] for k in self._inputs}

    def _input_port(self, name: str) -> Port:
        """The input meant by a short or original name."""
        return self._inputs[find_stream(name, [p.stream for p in self._inputs.values()], "input", self._name).name]

    def _array_problems(self, array: object, port: Port) -> list[Diagnostic]:
        if is_array(array) and array.dtype == port.dtype and array.shape[1:] == port.shape and len(array):
            return []
        where = f"{self._name}, input {port.name!r}"
        need = f"numpy array (frames, {', '.join(map(str, port.shape))}) {port.dtype}, at least one frame"
        if not is_array(array):
            return [Diagnostic("E-INPUT", where, "this is not a numpy array", type(array).__name__, need)]
        found: list[Diagnostic] = []
        if array.shape[1:] != port.shape or array.ndim != len(port.shape) + 1 or array.shape[0] < 1:
            found.append(Diagnostic("E-INPUT", where, "the shape does not fit", str(array.shape), need))
        if array.dtype != port.dtype:
            found.append(Diagnostic("E-INPUT", where, "the element type does not fit", str(array.dtype), need))
        return found

    def _codes(self, name: str, frames: Array) -> Array:
        """Contiguous codes of an input given as codes or reals."""
        port = self._inputs[name]
        codes = quantize_input(frames, quantization(port.stream)) if port.is_float else frames
        return np.ascontiguousarray(codes)

    def _device(self, network: _native.Network, frames: dict[str, Array]) -> dict[str, Array]:
        """One native call: (B, H, W, C) arrays in the formats chosen, in and out."""
        if self._all_float:
            # The library converts too, by the same rule and without the copies made below.
            reals = {name: np.ascontiguousarray(array) for name, array in frames.items()}
            results = native.call(self._name, network.infer_float, reals)
            return {name: results[name] for name in self._outputs}
        codes = {name: self._codes(name, array) for name, array in frames.items()}
        results = native.call(self._name, network.infer, codes)
        return {
            name: dequantize(results[name], quantization(port.stream)) if port.is_float else results[name]
            for name, port in self._outputs.items()
        }

    # ------------------------------------------------------------------------------------ frames in bindings

    def create_bindings(
        self, input_buffers: Mapping[str, Array] | None = None, output_buffers: Mapping[str, Array] | None = None
    ) -> Bindings:
        """Buffers for one frame; those not given here are set later."""
        self._live()
        bindings = Bindings(list(self._inputs.values()), list(self._outputs.values()))
        bindings.fill(input_buffers, output_buffers)
        return bindings

    def run(self, bindings: Bindings | Sequence[Bindings], timeout: int | None = DEFAULT_TIMEOUT_MS) -> None:
        """Run one frame, or a list of them as a batch, and wait.

        Args:
            bindings: every input and output has its buffer.
            timeout: milliseconds; None waits for ever. After a timeout frames of a long list that were not begun are
                not run.
        """
        frames = self._ready(bindings)
        end = None if timeout is None else time.monotonic() + max(timeout, 0) / 1000
        for start in range(0, len(frames), self._chunk):
            job = self._submit(frames[start : start + self._chunk], None, bounded=False)
            job.wait(None if end is None else int(max(0.0, end - time.monotonic()) * 1000))

    def run_async(
        self,
        bindings: Bindings | Sequence[Bindings],
        callback: Callable[[AsyncInferCompletionInfo], object] | None = None,
    ) -> AsyncInferJob:
        """Start a run and return at once. Runs of one model end in the order they were started.

        Args:
            bindings: not to be changed until the run has ended.
            callback: called from the run time's thread when the run has ended, well or not.

        Raises:
            HailoRTInvalidOperationException: the queue is full; see :meth:`wait_for_async_ready`.
        """
        return self._submit(self._ready(bindings), callback, bounded=True)

    def wait_for_async_ready(self, timeout_ms: int = 1000, frames_count: int = 1) -> None:
        """Block until the queue has room for ``frames_count`` frames.

        Raises:
            HailoRTTimeout: no room within ``timeout_ms``.
        """
        self._live()
        if not 1 <= frames_count <= self._capacity:
            rule, need = "more frames than the queue can ever hold", f"1 … {self._capacity}"
            problem = Diagnostic("E-QUEUE", self._name, rule, str(frames_count), need, ("set_batch_size",))
            raise device_error(Status.INVALID_ARGUMENT, problem)
        end = time.monotonic() + max(timeout_ms, 0) / 1000
        with self._changed:
            while self._pending + frames_count > self._capacity:
                rest = end - time.monotonic()
                if rest <= 0 or not self._changed.wait(rest):
                    got = f"{self._pending} of {self._capacity} frames after {timeout_ms} ms"
                    problem = Diagnostic(
                        "E-TIMEOUT", self._name, "the queue stayed full", got, f"room for {frames_count}"
                    )
                    raise HailoRTTimeout(problem, Status.TIMEOUT)

    def get_async_queue_size(self) -> int:
        """Frames that may wait at once."""
        return self._capacity

    def set_scheduler_timeout(self, timeout_ms: int) -> None:
        """Accepted and without effect on results or simulated time."""
        self._live()

    def set_scheduler_threshold(self, threshold: int) -> None:
        """Accepted and without effect on results or simulated time."""
        self._live()

    def set_scheduler_priority(self, priority: int) -> None:
        """Accepted and without effect on results or simulated time."""
        self._live()

    def _ready(self, bindings: Bindings | Sequence[Bindings]) -> list[Bindings]:
        """The frames, every one with all its buffers."""
        self._live()
        given: list[object] = [bindings] if isinstance(bindings, Bindings) else list(bindings)
        frames = [b for b in given if isinstance(b, Bindings)]
        strange = [type(b).__name__ for b in given if not isinstance(b, Bindings)]
        if strange or not frames:
            rule, got = "these are no bindings", strange[0] if strange else "an empty list"
            problem = Diagnostic("E-BINDINGS", self._name, rule, got, "what create_bindings returns, or a list of it")
            raise device_error(Status.INVALID_ARGUMENT, problem)
        for index, frame in enumerate(frames):
            problems = frame.missing() + self._foreign(frame)
            if problems:
                where = f"frame {index} of {len(frames)}, "
                raise device_error(
                    Status.INVALID_OPERATION,
                    [Diagnostic(d.code, where + d.where, d.rule, d.got, d.need, d.levers) for d in problems],
                )
        return frames

    def _foreign(self, frame: Bindings) -> list[Diagnostic]:
        """Problems of bindings that another model made."""
        own = (*self._inputs.values(), *self._outputs.values())
        if frame.ports == own:
            return []
        names = [p.name for p in own]
        other = [p.name for p in frame.ports if p.name not in names]
        if other:
            return [unknown_name("E-BINDINGS", "stream", other[0], names, self._name)]
        rule = "the bindings were made by another model or with other formats"
        return [Diagnostic("E-BINDINGS", self._name, rule, "other formats", "this model's create_bindings()")]

    def _submit(
        self, frames: list[Bindings], callback: Callable[[AsyncInferCompletionInfo], object] | None, *, bounded: bool
    ) -> AsyncInferJob:
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        where = self._name

        def over(status: int, problems: tuple[_native.Problem, ...], results: dict[str, Array]) -> None:
            """On the device's thread, or on that of whoever shuts the model down."""
            error: Exception | None = None
            if status == _ABORTED:
                error = HailoRTStreamAborted(Diagnostic("E-ABORTED", where, "the run was cancelled", "shutdown", ""))
            elif status:
                error = native.status_error(where, status, problems)
            else:
                error = self._give(frames, results)
            with self._changed:
                self._pending -= len(frames)
                self._changed.notify_all()
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
            if callback is None:
                return
            try:
                callback(AsyncInferCompletionInfo(error))
            except Exception:  # noqa: BLE001  somebody else's code, on our thread
                _log.exception("the callback of run_async raised")

        stacked = {n: np.stack([f.input(n).frame() for f in frames]) for n in self._inputs}
        if not self._all_float:
            stacked = {name: self._codes(name, array) for name, array in stacked.items()}
        with self._changed:
            network = self._live()
            if bounded and self._pending + len(frames) > self._capacity:
                got = f"{self._pending} frames wait, {len(frames)} more"
                levers = ("wait_for_async_ready(timeout_ms, frames_count)", "set_batch_size makes the queue longer")
                need = f"at most {self._capacity} frames"
                raise device_error(
                    Status.INVALID_OPERATION, Diagnostic("E-QUEUE", self._name, "the queue is full", got, need, levers)
                )
            native.call(self._name, network.submit, stacked, self._all_float, over)
            self._pending += len(frames)
        return AsyncInferJob(future, self._name)

    def _give(self, frames: list[Bindings], results: dict[str, Array]) -> Exception | None:
        """Copy results (B, H, W, C) into the bindings' buffers; the error if that fails."""
        try:
            for name, port in self._outputs.items():
                values = results[name]
                if port.is_float and not self._all_float:
                    values = dequantize(values, quantization(port.stream))
                for frame, value in zip(frames, values, strict=True):
                    np.copyto(frame.output(name).frame(), value)
        except HeadraceError as error:
            return error
        except Exception as error:  # noqa: BLE001  whatever it is, the run must end
            rule, got = "the run time failed", f"{type(error).__name__}: {error}"
            return InternalError(Diagnostic("E-RUNTIME", self._name, rule, got))
        return None


_open_models: weakref.WeakSet[ConfiguredInferModel] = weakref.WeakSet()


@atexit.register
def _shut_down_all() -> None:
    """No run may end after the interpreter has."""
    for model in list(_open_models):
        model.shutdown()
