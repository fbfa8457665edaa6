# SPDX-License-Identifier: Apache-2.0
"""Running a network layer by layer: float (native, full-precision-optimized) or exact integers (quantized).

The executor knows no layer kind. Each layer states its meaning against a small set of primitives
(:mod:`headrace.numerics.ops`); this module supplies the torch primitives, batches, and frees tensors after last use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from headrace.data.dtypes import as_values, dtype_problem
from headrace.emulator.exact import exact_arithmetic, thread_count
from headrace.emulator.float_ops import TorchFloatOps
from headrace.emulator.integer_ops import TorchIntegerOps, from_codes, to_codes
from headrace.emulator.tensors import tensor_of
from headrace.errors import DataError, Diagnostic, InputFileError, UsageError, out_of_memory, unknown_name
from headrace.hn import Array, Layer, Network, check_network, output_quantization, quantized_view
from headrace.layers import InputLayer
from headrace.layers.activation import GAIN, Activated, activate
from headrace.numerics.quantization import dequantize as dequantize_codes
from headrace.numerics.quantization import quantize_input

MODES = ("native", "fp_optimized", "quantized")
DEFAULT_BATCH = 16

Progress = Callable[[int, int, str], None]
Observer = Callable[[Layer, "torch.Tensor | None", "torch.Tensor"], None]
Forward = Callable[[Sequence[torch.Tensor]], torch.Tensor]
Results = tuple[torch.Tensor, ...]
After = Callable[[torch.Tensor], torch.Tensor]


class Executor:
    """Runs one network.

    Args:
        network: a float network for ``"native"`` and ``"fp_optimized"``, a quantized one for ``"quantized"``.
        mode: which of the three.
        threads: torch threads while running; ``None`` leaves torch's own setting.
        backend: convolution back end of the quantized mode, ``"onednn"`` or ``"matmul"``; ``None`` chooses.
        self_check: quantized mode: compare 64 positions of every convolution's first batch with int64 sums.
    """

    def __init__(
        self,
        network: Network,
        mode: str = "native",
        threads: int | None = None,
        backend: str | None = None,
        self_check: bool = True,
    ) -> None:
        if mode not in MODES:
            raise UsageError(unknown_name("E-EMULATOR-MODE", "emulation mode", str(mode), MODES))
        check_network(network)
        self.network = network
        self.mode = mode
        self.threads = threads
        self._float_ops = TorchFloatOps()
        self._integer_ops = TorchIntegerOps(backend, self_check) if mode == "quantized" else None
        self._forward: dict[str, Forward] = {}
        self._several: dict[str, Callable[[Sequence[torch.Tensor]], Results]] = {}
        self._before: dict[str, tuple[Forward, After]] = {}
        for layer in network:
            if not isinstance(layer.operation, InputLayer):
                self._prepare(layer)

    @property
    def quantized(self) -> bool:
        return self._integer_ops is not None

    # --- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        batch_size: int = DEFAULT_BATCH,
        dequantize: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """Run a data set that is in memory.

        Args:
            inputs: per input layer (HN or source name) an array ``[N, …]``: numbers of any type are real values, but in
                quantized mode arrays of the input's code type (uint8 or uint16) are codes, taken as they are.
            outputs: names of layers whose tensors are wanted; by default the network's outputs.
            batch_size: frames computed together; results do not depend on it in quantized mode.
            dequantize: quantized mode: return float32 reals instead of codes.
            progress: called with (frames done, frames, text).

        Returns:
            One array ``[N, …]`` per wanted name, keyed as asked.

        Raises:
            DataError: an input is missing, or has a wrong shape or dtype.
            UsageError: a name is unknown.
        """
        if batch_size < 1:
            raise UsageError(
                Diagnostic("E-EMULATOR-BATCH", "emulator", "the batch size must be positive", str(batch_size), "≥ 1")
            )
        data = self._check_inputs(inputs)
        total = min((len(v) for v in data.values()), default=0)
        names = list(outputs) if outputs is not None else [layer.name for layer in self.network.output_layers]
        results: dict[str, Array] = {}
        done = 0
        parts = ({k: v[i : i + batch_size] for k, v in data.items()} for i in range(0, max(total, 1), batch_size))
        for part in self._stream(parts, names, dequantize):
            for name, value in part.items():
                if name not in results:
                    results[name] = np.empty((total, *value.shape[1:]), value.dtype)
                results[name][done : done + len(value)] = value
            done = min(total, done + batch_size)
            if progress is not None:
                progress(done, total, "emulating")
        return results

    def stream(
        self, batches: Iterable[Mapping[str, Array]], outputs: Sequence[str] | None = None, dequantize: bool = False
    ) -> Iterator[dict[str, Array]]:
        """Run batches one by one as they come; yields one result per batch (see :meth:`run`)."""
        names = list(outputs) if outputs is not None else [layer.name for layer in self.network.output_layers]
        return self._stream((self._check_inputs(batch) for batch in batches), names, dequantize)

    def visit(self, inputs: Mapping[str, Array], observer: Observer) -> None:
        """Run one batch of a float network and show every layer's tensor to ``observer(layer, before, output)``.

        ``before`` is the tensor in front of the layer's activation, ``None`` where a layer has none. Tensors are only
        valid during the call.
        """
        data = self._check_inputs(inputs)
        with self._environment():
            self._execute(data, list(self.network), set(), observer)

    # --- inside --------------------------------------------------------------------------------------------------

    def _stream(
        self, batches: Iterable[dict[str, Array]], names: Sequence[str], dequantize: bool
    ) -> Iterator[dict[str, Array]]:
        wanted = {name: self.network.find(name) for name in names}
        keep = {layer.name for layer in wanted.values()}
        order = self._needed(keep)
        for batch in batches:
            with self._environment():
                kept = self._execute(batch, order, keep, None)
                result = {name: self._export(layer, kept[layer.name], dequantize) for name, layer in wanted.items()}
            yield result

    @contextlib.contextmanager
    def _environment(self) -> Generator[None]:
        with thread_count(self.threads), exact_arithmetic():
            yield

    def _export(self, layer: Layer, tensor: torch.Tensor, dequantize: bool) -> Array:
        if not self.quantized:
            return tensor.contiguous().numpy().copy()
        codes = from_codes(tensor)
        return dequantize_codes(codes, output_quantization(layer)) if dequantize else codes

    def _execute(
        self, data: Mapping[str, Array], order: Sequence[Layer], keep: set[str], observer: Observer | None
    ) -> dict[str, torch.Tensor]:
        last_use = {name: i for i, layer in enumerate(order) for name in layer.inputs}
        alive: dict[str, torch.Tensor] = {}
        for i, layer in enumerate(order):
            if isinstance(layer.operation, InputLayer):
                alive[layer.name] = self._import(layer, data[layer.name])
                if observer is not None:
                    observer(layer, None, alive[layer.name])
            else:
                results = self._compute(layer, [alive[name] for name in layer.inputs], observer)
                alive |= zip((value.name for value in layer.results), results, strict=True)
                del results  # or they would outlive their last use
            for name in dict.fromkeys(layer.inputs):
                if last_use[name] == i and name not in keep:
                    del alive[name]
            for value in layer.results:
                if value.name not in last_use and value.name not in keep:
                    del alive[value.name]
        return alive

    def _needed(self, wanted: set[str]) -> list[Layer]:
        """Layers that the wanted ones depend on, in topological order."""
        needed: set[str] = set()
        for layer in reversed(list(self.network)):
            if layer.name in wanted or layer.name in needed:
                needed.add(layer.name)
                needed.update(value.producer.name for value in layer.operands or ())
        return [layer for layer in self.network if layer.name in needed]

    def _compute(self, layer: Layer, inputs: Sequence[torch.Tensor], observer: Observer | None) -> Results:
        try:
            if layer.name in self._several:
                results = self._several[layer.name](inputs)
            elif observer is None:
                results = (self._forward[layer.name](inputs),)
            else:
                results = (self._observed(layer, inputs, observer),)
        except (KeyError, IndexError, ValueError, RuntimeError, TypeError) as error:
            short = out_of_memory(error, layer.name)
            if short is not None:
                raise short from error
            raise InputFileError(
                Diagnostic(
                    "E-EMULATOR-LAYER",
                    layer.name,
                    f"this {layer.kind} cannot be computed; its parameters do not fit it",
                    f"{type(error).__name__}: {str(error)[:200]}",
                    "a network made by this version",
                    ("parse the model again",),
                )
            ) from error
        computed = [tuple(result.shape[1:]) for result in results]
        recorded = [tuple(value.shape[1:]) for value in layer.results]
        if computed != recorded:
            rule, levers = "the computed shape differs from the recorded one", ("parse the model again",)
            got, need = (", ".join(map(str, shapes)) for shapes in (computed, recorded))
            raise InputFileError(Diagnostic("E-EMULATOR-LAYER", layer.name, rule, got, need, levers))
        return results

    def _observed(self, layer: Layer, inputs: Sequence[torch.Tensor], observer: Observer) -> torch.Tensor:
        split = self._before.get(layer.name)
        if split is None:
            result = self._forward[layer.name](inputs)
            observer(layer, None, result)
            return result
        forward, after = split
        before = forward(inputs)
        result = after(before)
        observer(layer, before, result)
        return result

    def _prepare(self, layer: Layer) -> None:
        """Bind a layer's rule, attributes and parameters into one function of its inputs."""
        operation = layer.operation
        if self._integer_ops is not None:
            ops, view = self._integer_ops, quantized_view(self.network, layer)
            self._forward[layer.name] = lambda xs: operation.forward_integer(ops, view, xs)
            return
        params = layer.params
        float_ops = self._float_ops
        if len(layer.results) > 1:
            self._several[layer.name] = lambda xs: operation.float_results(float_ops, params, xs)
            return
        self._forward[layer.name] = lambda xs: operation.forward_float(float_ops, params, xs)
        if isinstance(operation, Activated):
            linear = replace(operation, activation="linear", activation_params={})
            plain = {key: value for key, value in params.items() if key != GAIN}
            before: Forward = lambda xs: linear.forward_float(float_ops, plain, xs)  # noqa: E731
            after: After = lambda y: activate(float_ops, operation, params, y)  # noqa: E731
            self._before[layer.name] = (before, after)

    # --- inputs --------------------------------------------------------------------------------------------------

    def _import(self, layer: Layer, array: Array) -> torch.Tensor:
        if not self.quantized:
            value = as_values(array)
            return tensor_of(value if value.flags.writeable else value.copy())
        quantization = output_quantization(layer)
        codes = array if array.dtype == quantization.dtype else quantize_input(as_values(array), quantization)
        return to_codes(codes)

    def _check_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays by input layer name; every problem reported at once."""
        problems: list[Diagnostic] = []
        found: dict[str, Array] = {}
        layers = {layer.name: layer for layer in self.network.input_layers}
        for name, array in inputs.items():
            layer = self.network.find_input(name)
            if layer is None:
                known = list(layers) + [o for x in layers.values() for o in x.original_names]
                problems.append(unknown_name("E-EMULATOR-INPUT", "network input", name, known, self.network.name))
                continue
            value = np.asarray(array)
            problem = self._input_problem(layer, value)
            if problem is not None:
                problems.append(problem)
            found[layer.name] = value
        problems += [
            Diagnostic(
                "E-EMULATOR-INPUT",
                name,
                "a network input was not given",
                "nothing",
                f"an array {list(layer.output_shape)}",
            )
            for name, layer in layers.items()
            if name not in found
        ]
        if not problems and len({len(v) for v in found.values()}) > 1:
            counts = ", ".join(f"{k}: {len(v)}" for k, v in found.items())
            problems.append(
                Diagnostic(
                    "E-EMULATOR-INPUT", self.network.name, "inputs have different numbers of frames", counts, "equal"
                )
            )
        if problems:
            raise DataError(problems)
        return found

    def _input_problem(self, layer: Layer, value: Array) -> Diagnostic | None:
        want = tuple(layer.output_shape[1:])
        if value.ndim != len(want) + 1 or tuple(value.shape[1:]) != want:
            need = f"(frames, {', '.join(map(str, want))})"
            return Diagnostic(
                "E-EMULATOR-INPUT", layer.name, "the shape does not fit the input", str(value.shape), need
            )
        return dtype_problem(value.dtype, layer.name, "E-EMULATOR-INPUT")
