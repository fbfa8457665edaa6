# SPDX-License-Identifier: Apache-2.0
"""A quantized network as kernels and a dataflow graph, before resources are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from headrace.compiler.lower import lower_layer
from headrace.errors import (
    Diagnostic,
    HeadraceError,
    InputFileError,
    NotBuiltYetError,
    UnsupportedModelError,
    UsageError,
)
from headrace.hef.description import MAX_STREAMS
from headrace.hef.kernel import Kernel
from headrace.hef.microcode import Opcode
from headrace.hn import Layer, Network, check_network, output_quantization, passed_quantization
from headrace.hn.check import check_single_results
from headrace.layers import OutputLayer, ScaleRule
from headrace.layers.rows import Family, RowRule
from headrace.mapping import Stage, StageGraph
from headrace.numerics.quantization import TensorQuantization
from headrace.timing import Work, work_of_layer
from headrace.timing.work import is_quantized, plane_of


@dataclass(frozen=True)
class Stream:
    """A network input or output: the HN layer on the host's side and the tensor that carries it."""

    layer: Layer
    tensor: str
    shape: tuple[int, int, int]
    quantization: TensorQuantization


@dataclass(frozen=True)
class Lowered:
    """A network as stages in execution order.

    Attributes:
        name: of the network.
        graph: every layer's kernel and work.
        inputs, outputs: the host's side of it.
    """

    name: str
    graph: StageGraph
    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]

    @property
    def input_scales(self) -> dict[str, TensorQuantization]:
        return {stream.tensor: stream.quantization for stream in self.inputs}


def lower_network(network: Network) -> Lowered:
    """Every layer's kernel and work.

    Outputs are carried by the tensors that :func:`output_tensors` names.

    Raises:
        UsageError: the network is not quantized, or has no input or output.
        UnsupportedModelError, InputFileError: with one diagnostic per offending layer.
    """
    _check_stage(network)
    check_network(network)
    check_single_results(network)
    problems: list[HeadraceError] = [InputFileError(d) for d in _changed_meanings(network)]
    stages: list[Stage] = []
    for layer in network:
        if layer.operation.is_boundary:
            continue
        try:
            stages.append(Stage(work_of_layer(network, layer), lower_layer(network, layer)))
        except HeadraceError as error:
            problems.append(error)
    if problems:
        # The most telling class: what was never possible before what is damaged before what is still to come.
        kinds = (UnsupportedModelError, InputFileError, NotBuiltYetError)
        kind = next((k for k in kinds if any(isinstance(e, k) for e in problems)), InputFileError)
        raise kind([d for error in problems for d in error.diagnostics])
    inputs = tuple(Stream(layer, layer.name, layer.frame_shape, _input(layer)) for layer in network.input_layers)
    outputs: list[Stream] = []
    for layer, tensor in output_tensors(network):
        source = network[layer.inputs[0]]
        if tensor != source.name:
            stages.append(_copy(layer, source))
        outputs.append(Stream(layer, tensor, source.frame_shape, _host_side(layer, source)))
    planes = {stage.name: stage.work.output for stage in stages}
    graph = StageGraph(
        tuple(stages), tuple(plane_of(s.layer) for s in inputs), tuple(planes[s.tensor] for s in outputs)
    )
    return Lowered(network.name, graph, inputs, tuple(outputs))


def output_tensors(network: Network) -> list[tuple[Layer, str]]:
    """Every output layer and the tensor that carries it: the one it reads or, where that is a network input or carries
    an output already, a copy under the output layer's own name.
    """
    taken = {layer.name for layer in network.input_layers}
    found: list[tuple[Layer, str]] = []
    for layer in network.output_layers:
        source = layer.inputs[0]
        found.append((layer, layer.name if source in taken else source))
        taken.add(source)
    return found


def _check_stage(network: Network) -> None:
    missing = [
        layer.name for layer in network if not is_quantized(layer) and not isinstance(layer.operation, OutputLayer)
    ]
    if missing or not network.layers:
        raise UsageError(
            Diagnostic(
                "E-COMPILE-STAGE",
                network.name,
                "only a quantized network can be compiled",
                f"{len(missing)} layers without integers, e.g. {', '.join(missing[:3])}",
                "the result of optimize",
                ("run optimize first",),
            )
        )
    streams = len(network.input_layers) + len(network.output_layers)
    if streams > MAX_STREAMS:
        raise UsageError(
            Diagnostic(
                "E-COMPILE-STREAMS",
                network.name,
                "there are more inputs and outputs than a HEF holds",
                f"{len(network.input_layers)} inputs and {len(network.output_layers)} outputs",
                f"at most {MAX_STREAMS} together",
                ("parse with fewer end nodes (--end-node-names)", "join tensors in the model (Concat, Split)"),
            )
        )
    if not network.input_layers or not network.output_layers:
        raise UsageError(
            Diagnostic(
                "E-COMPILE-STREAMS",
                network.name,
                "a network needs an input and an output",
                f"{len(network.input_layers)} inputs, {len(network.output_layers)} outputs",
                "at least one of each",
            )
        )


def _input(layer: Layer) -> TensorQuantization:
    """How the host makes codes of an input's values; they have one scale."""
    found = output_quantization(layer)
    if not found.computable:
        rule, need = "an input has one scale, and a zero point among its codes", "one scale and zero point"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, str(found.pairs[:2]), need))
    return found


def _host_side(layer: Layer, source: Layer) -> TensorQuantization:
    """How the host makes values of an output's codes."""
    found = output_quantization(layer if is_quantized(layer) else source)
    if found.axis != -1:
        rule, got = "an output's scales go along its channels", f"along axis {found.axis}"
        raise InputFileError(Diagnostic("E-HN-QUANTIZATION", layer.name, rule, got, "axis -1"))
    return found


def _changed_meanings(network: Network) -> Iterator[Diagnostic]:
    """Layers that pass codes between tensors of which they would mean other values: a damaged quantized network."""
    for layer in network:
        passes = layer.operation.scale_rule in (ScaleRule.PASSES, ScaleRule.CONCAT)
        if not passes or not is_quantized(layer):
            continue
        inputs = [output_quantization(network[name]) for name in layer.inputs]
        want = inputs[0] if len(set(inputs)) == 1 else None
        if layer.operation.copies_codes:
            want = passed_quantization(layer, network.input_shapes(layer), inputs)
        if want != output_quantization(layer):
            rule = "a layer that passes codes unchanged has inputs of another scale"
            got = ", ".join(_short(q) for q in inputs[:4])
            need = _short(output_quantization(layer))
            yield Diagnostic("E-COMPILE-SCALE", layer.name, rule, got, need, ("run optimize again",))


def _short(quantization: TensorQuantization) -> str:
    several = "" if quantization.uniform else f" and {len(quantization.runs) - 1} more"
    return f"{quantization.bits} bits, scale {quantization.scale:.9g}, zero {quantization.zero_point}{several}"


def _copy(layer: Layer, source: Layer) -> Stage:
    """An output that is carried by a tensor of its own."""
    kernel = Kernel(layer.name, Opcode.RESHAPE, (source.name,), source.frame_shape, output_quantization(source))
    read = plane_of(source)
    work = Work(layer.name, "copy", Family.MOVE, (read,), (RowRule(),), replace(read, tensor=layer.name))
    return Stage(work, kernel)
