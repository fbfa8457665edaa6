# SPDX-License-Identifier: Apache-2.0
"""A parsed network beside the runtime of the file that it was parsed from, tensor by tensor.

The outputs of the parsed network are compared. Where they differ, the first tensor that does is looked for in the
network as it was translated, which still has most tensors of the file; where all of those agree, a pass is to blame,
and passes are run one by one to find it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.data.calibration import load_inputs
from headrace.data.inputs import InputSpec, spec_of
from headrace.errors import DataError, Diagnostic, UsageError
from headrace.frontends import Given, ParseOptions, trace
from headrace.hn import Array, Network
from headrace.host.file_runtimes import FileInput, FileRuntime, open_in_its_runtime
from headrace.host.tensorflow_runtime import TensorFlowRuntime
from headrace.reports.comparison import ComparedTensor, ComparisonReport, TensorFigures

if TYPE_CHECKING:
    from headrace.frontends.tracing import Trace, TracedTensor

#: The largest difference that is none, in parts of the range of a tensor.
TOLERANCE = 1e-4
#: Frames of data that are looked at, unless more are asked for.
FRAMES = 8
#: Elements of tensors that are held at once, of each side.
_AT_ONCE = 1 << 26
#: Random integers are below this: they may be indices into a table.
_INTEGERS = 8
#: A range is taken for no smaller than this, and than this part of the greatest value.
_LEAST_RANGE, _LEAST_PART = 1e-2, 1e-2


def compare(
    model: Given,
    options: ParseOptions | None = None,
    data: object = None,
    *,
    seed: int = 0,
    frames: int | None = None,
    tolerance: float = TOLERANCE,
    traced: Trace | None = None,
) -> ComparisonReport:
    """Parse a model, and compare the network with the file's own runtime.

    Args:
        model: as for :func:`headrace.frontends.parse`.
        options: as there.
        data: for the file's inputs, as :func:`headrace.data.calibration.load_calibration` takes them, the layouts of
            the network and of the file both; None: random numbers.
        seed: of random numbers.
        frames: the first frames of the data only; None: at most :data:`FRAMES`. Random: one batch of the file.
        tolerance: in parts of the range of a tensor.
        traced: what :func:`headrace.frontends.trace` made of this model with these options; None: it is parsed here.

    Raises:
        MissingExtraError: the file's runtime is not installed.
        DataError, UsageError: the data do not fit, or sizes of an input are not known.
        UnsupportedModelError, InputFileError: as parsing; or the runtime refuses the file.
    """
    if not 0 < tolerance < 1 or seed < 0 or (frames is not None and frames < 1):
        rule, need = "an argument of the comparison is out of range", "0 < tolerance < 1, seed ≥ 0, frames ≥ 1"
        got = f"tolerance {tolerance}, seed {seed}, frames {frames}"
        raise UsageError(Diagnostic("E-COMPARE-ARGUMENT", "compare", rule, got, need))
    options = ParseOptions() if options is None else options
    traced = trace(model, options) if traced is None else traced
    with _own_runtime(model, traced, options.input_values) as runtime:
        inputs = _Inputs(traced, runtime, options)
        batches = inputs.random(seed) if data is None else inputs.given(data, FRAMES if frames is None else frames)
        found = _Comparison(traced, runtime, tolerance)
        for feeds in batches:
            found.add(feeds)
        return found.report(f"random numbers, seed {seed}" if data is None else "the given data")


@contextmanager
def _own_runtime(model: Given, traced: Trace, fixed: Iterable[str]) -> Generator[FileRuntime]:
    """The runtime of a model's format, as long as it is needed; ``fixed``: inputs that have a value."""
    source, network = traced.result.report.source, traced.result.network
    is_data = isinstance(model, bytes | bytearray | memoryview)
    with tempfile.TemporaryDirectory(prefix="headrace-compare-") as folder:
        if source.format in ("tensorflow", "keras"):
            path = Path(folder) / f"model{'.h5' if source.facts.get('container') == 'h5' else '.keras'}"
            if is_data:
                path.write_bytes(bytes(model))
            else:
                path = Path(model)
            starts = [*(layer.boundary.source_name for layer in network.input_layers), *fixed]
            ends = [layer.boundary.source_name for layer in network.output_layers]
            runtime = _tensorflow(path, source.format, source.facts, starts, ends)
        else:
            path, data = (None, bytes(model)) if is_data else (Path(model), None)
            runtime = open_in_its_runtime(source.format, path, data)
        try:
            yield runtime
        finally:
            runtime.close()


def _tensorflow(
    path: Path, form: str, facts: Mapping[str, Any], starts: Sequence[str], ends: Sequence[str]
) -> FileRuntime:
    from headrace.frontends.formats.tensorflow.places import place_of
    from headrace.frontends.reader import Source

    if form == "keras":
        return TensorFlowRuntime("keras", path, None, (), starts, ends)
    place = place_of(Source.of(path))
    names = (str(facts.get("signature", "")), *map(str, facts.get("tags", ("serve",))))
    assert place.path is not None
    return TensorFlowRuntime(place.kind, place.path, place.prefix, names, starts, ends)


class _Inputs:
    """Feeds of a file's inputs, one batch of the file at a time."""

    def __init__(self, traced: Trace, runtime: FileRuntime, options: ParseOptions) -> None:
        self._traced, self._runtime, self._options = traced, runtime, options
        network = traced.result.network
        given = options.input_values
        self._asked = [entry for entry in runtime.inputs if entry.name not in given]
        self._fixed = {e.name: np.asarray(given[e.name], e.dtype) for e in runtime.inputs if e.name in given}
        self._layers = {layer.boundary.source_name: layer for layer in network.input_layers}

    def random(self, seed: int) -> Iterator[dict[str, Array]]:
        generator = np.random.default_rng(seed)
        yield self._fixed | {entry.name: self._numbers(entry, generator) for entry in self._asked}

    def _numbers(self, entry: FileInput, generator: np.random.Generator) -> Array:
        shape = self._shape(entry)
        if entry.dtype.kind in "iu":
            high = 256 if entry.dtype.itemsize == 1 and entry.dtype.kind == "u" else _INTEGERS
            return generator.integers(0, high, shape).astype(entry.dtype)
        if entry.dtype.kind == "b":
            return generator.integers(0, 2, shape).astype(bool)
        if entry.dtype.kind != "f":
            rule, need = "numbers cannot be made up for an input of this type", "--compare-data"
            raise UsageError(Diagnostic("E-COMPARE-INPUT", entry.name, rule, str(entry.dtype), need))
        return generator.uniform(-1, 1, shape).astype(entry.dtype)

    def _shape(self, entry: FileInput) -> tuple[int, ...]:
        """Every size of an input, for one batch of the file."""
        frames, layer = self._traced.frames, self._layers.get(entry.name)
        if layer is not None:
            known = [frames if size == -1 else size for size in layer.boundary.source_shape]
            return _of_rank(tuple(known), len(entry.shape))
        given = self._options.named_shapes.get(entry.name, self._options.only_shape) or entry.shape
        sizes = [frames if i == 0 and size < 1 else size for i, size in enumerate(given)]
        if any(size < 1 for size in sizes):
            rule, lever = "the file leaves sizes of this input open", f"--tensor-shapes {entry.name}=[1,SIZE,...]"
            raise UsageError(Diagnostic("E-COMPARE-INPUT", entry.name, rule, str(entry.shape), "every size", (lever,)))
        return tuple(sizes)

    def given(self, data: object, limit: int) -> Iterator[dict[str, Array]]:
        entries = {entry.name: entry for entry in self._asked}
        specs = [
            spec_of(self._layers[name]) if name in self._layers else InputSpec(name, self._shape(entry)[1:])
            for name, entry in entries.items()
        ]
        arrays = load_inputs(data, specs, self._traced.result.network.name, limit=limit)
        size = self._traced.frames
        count = min(len(array) for array in arrays.values())
        if count < size:
            rule = "the file takes more frames at once than there are"
            raise DataError(Diagnostic("E-DATA-COUNT", "compare", rule, f"{count} frames", f"{size} frames or more"))
        for start in range(0, count - size + 1, size):
            feeds: dict[str, Array] = dict(self._fixed)
            for spec, (name, entry) in zip(specs, entries.items(), strict=True):
                part = np.asarray(arrays[spec.name][start : start + size])
                if name in self._layers:
                    layer = self._layers[name]
                    part = layer.boundary.to_source(part, layer.output_shape)
                feeds[name] = np.ascontiguousarray(part.reshape(_of_rank(part.shape, len(entry.shape))), entry.dtype)
            yield feeds


def _of_rank(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """A shape without its batch of one, where the file's input has none."""
    return shape[1:] if len(shape) == rank + 1 and shape[0] == 1 else shape


class _Comparison:
    """What was found on the batches so far: of each tensor the worst."""

    def __init__(self, traced: Trace, runtime: FileRuntime, tolerance: float) -> None:
        self._traced, self._runtime, self._tolerance = traced, runtime, tolerance
        self._outputs: dict[str, ComparedTensor] = {}
        self._first: ComparedTensor | None = None
        self._changed_by = ""
        self._compared: set[str] = set()
        self._frames = 0

    def add(self, feeds: Mapping[str, Array]) -> None:
        """Compare on one batch of the file."""
        network = self._traced.result.network
        self._frames += self._traced.frames
        before = [layer.boundary.source_name for layer in network.input_layers]
        ends = [layer.boundary.source_name for layer in network.output_layers]
        theirs = self._runtime.run(feeds, [*before, *ends])
        absent = [name for name in before if name not in theirs]
        if absent or not any(name in theirs for name in ends):
            rule = "the file's runtime does not know a tensor where the network starts, or none where it ends"
            got, need = ", ".join(absent or ends)[:200], "tensors of the file itself"
            raise UsageError(Diagnostic("E-COMPARE-TENSOR", network.name, rule, got, need))
        differs = False
        for found in self._of_outputs(network, theirs):
            self._compared.add(found.tensor)
            worst = self._outputs.get(found.tensor)
            if worst is None or not found.difference <= worst.difference:
                self._outputs[found.tensor] = found
            differs = differs or self._is_different(found)
        if differs and self._first is None and not self._changed_by:
            self._first = self._first_tensor(feeds, theirs)
            if self._first is None:
                self._changed_by = self._first_pass(theirs)

    def report(self, inputs: str) -> ComparisonReport:
        outputs = tuple(self._outputs.values())
        return ComparisonReport(
            network=self._traced.result.network.name,
            runtime=self._runtime.title,
            inputs=inputs,
            frames=self._frames,
            tolerance=self._tolerance,
            agrees=not any(self._is_different(found) for found in outputs),
            outputs=outputs,
            compared=len(self._compared),
            cause="translation" if self._first is not None else ("pass" if self._changed_by else ""),
            first=self._first,
            changed_by=self._changed_by,
        )

    def _is_different(self, found: ComparedTensor) -> bool:
        return not found.difference <= self._tolerance

    def _given(self, network: Network, theirs: Mapping[str, Array]) -> dict[str, Array]:
        """The network's inputs, as it takes them."""
        return {
            layer.name: layer.boundary.from_source(theirs[layer.boundary.source_name], layer.output_shape)
            for layer in network.input_layers
        }

    def _of_outputs(self, network: Network, theirs: Mapping[str, Array]) -> Iterator[ComparedTensor]:
        from headrace.emulator import Executor

        made = Executor(network, "native").run(self._given(network, theirs), batch_size=self._traced.frames)
        nodes = {tensor.name: tensor for tensor in self._traced.tensors}
        for layer in network.output_layers:
            name = layer.boundary.source_name
            if name in theirs:
                ours = layer.boundary.to_source(made[layer.name], layer.output_shape)
                tensor = nodes.get(name)
                node, operator = ("", "") if tensor is None else (tensor.node, tensor.operator)
                yield compared(name, node, operator, theirs[name], ours)

    def _first_tensor(self, feeds: Mapping[str, Array], theirs: Mapping[str, Array]) -> ComparedTensor | None:
        """The first tensor that differs in the network as it was translated."""
        from headrace.emulator import Executor

        network = self._traced.network
        given = self._given(network, theirs)
        executor = Executor(network, "native")
        for part in self._parts():
            wanted = self._runtime.run(feeds, [tensor.name for tensor in part])
            made = executor.run(given, [tensor.view.layer for tensor in part], batch_size=self._traced.frames)
            for tensor in part:
                if tensor.name not in wanted:
                    continue
                self._compared.add(tensor.name)
                ours = tensor.of_frames(made[tensor.view.layer])
                found = compared(tensor.name, tensor.node, tensor.operator, wanted[tensor.name], ours)
                if self._is_different(found):
                    return found
        return None

    def _parts(self) -> Iterator[list[TracedTensor]]:
        """The tensors in order, as many at once as may be held."""
        part: list[TracedTensor] = []
        held = 0
        for tensor in self._traced.tensors:
            size = tensor.view.elements * self._traced.frames
            if part and held + size > _AT_ONCE:
                yield part
                part, held = [], 0
            part.append(tensor)
            held += size
        if part:
            yield part

    def _first_pass(self, theirs: Mapping[str, Array]) -> str:
        """The first pass behind which an output differs; empty where none does by itself."""
        from headrace.frontends.tracing import behind_each_pass

        for name, network in behind_each_pass(self._traced):
            if any(self._is_different(found) for found in self._of_outputs(network, theirs)):
                return name
        return ""


def compared(tensor: str, node: str, operator: str, theirs: Array, ours: Array) -> ComparedTensor:
    """One tensor of both sides: the largest difference in parts of the range, where it is, and figures of each.

    Arrays of different shape, and values that are finite on one side alone, differ infinitely. Of truth values it is
    the part of them that differ: a number near the threshold of a comparison may fall on either side.
    """
    wanted = np.asarray(theirs, np.float64)
    got = np.asarray(ours, np.float64)
    if wanted.size != got.size:
        difference, position = math.inf, ()
    else:
        difference, position = _largest(wanted, got.reshape(wanted.shape))
        if theirs.dtype == np.bool_ and wanted.size:
            difference = int(np.count_nonzero(wanted - got.reshape(wanted.shape))) / wanted.size
    return ComparedTensor(
        tensor=tensor, node=node, operator=operator, shape=tuple(wanted.shape), difference=difference,
        position=position, runtime=figures(wanted), native=figures(got),
    )  # fmt: skip


def _largest(wanted: Array, got: Array) -> tuple[float, tuple[int, ...]]:
    if not wanted.size:
        return 0.0, ()
    known, finite = np.isfinite(wanted), np.isfinite(got)
    alike = ~known & ~finite & ((wanted == got) | (np.isnan(wanted) & np.isnan(got)))
    with np.errstate(invalid="ignore"):
        apart = np.where(known & finite, np.abs(wanted - got), np.where(alike, 0.0, np.inf))
    values = wanted[known]
    span = max(float(np.ptp(values)), float(np.abs(values).max()) * _LEAST_PART, _LEAST_RANGE) if values.size else 1.0
    at = int(apart.argmax())
    return float(apart.reshape(-1)[at]) / span, tuple(int(i) for i in np.unravel_index(at, wanted.shape))


def figures(array: Array) -> TensorFigures:
    """Least, greatest, mean and deviation of the finite values."""
    values = array[np.isfinite(array)]
    absent = int(array.size - values.size)
    if not values.size:
        return TensorFigures(least=0.0, greatest=0.0, mean=0.0, deviation=0.0, not_finite=absent)
    return TensorFigures(
        least=float(values.min()), greatest=float(values.max()), mean=float(values.mean()),
        deviation=float(values.std()), not_finite=absent,
    )  # fmt: skip


__all__ = ["FRAMES", "TOLERANCE", "compare", "compared"]
