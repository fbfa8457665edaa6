# SPDX-License-Identifier: Apache-2.0
"""A Keras file as source graph: every call of every layer converted, also in models in models; refusals collected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from headrace.errors import Diagnostic, InputFileError, UnsupportedModelError
from headrace.frontends.faults import faults_at
from headrace.frontends.fixed_values import FixedInputs
from headrace.frontends.formats.keras import layers, operations
from headrace.frontends.formats.keras.archive import Saved, open_saved
from headrace.frontends.formats.keras.build import (
    LAYERS,
    OPERATIONS,
    GraphBuilder,
    LayerCall,
    Tensor,
    flat,
    stand_for,
)
from headrace.frontends.formats.keras.config import (
    MODELS,
    Call,
    Layer,
    Model,
    Reference,
    read_inner,
    read_model,
    replaced,
    tensors_of,
)
from headrace.frontends.formats.keras.weights import LayerWeights
from headrace.frontends.graph import SourceGraph, Unsupported, marks, set_constant
from headrace.frontends.options import ParseOptions
from headrace.frontends.reader import Source, corrupt
from headrace.typeguards import is_integer, is_list, is_object, is_text

_LOADED = (layers, operations)  # imported for what they register
_MAX_CALLS = 20_000
_MAX_DEPTH = 24
_CODE = "layers of Keras, or functions of keras.ops, in place of Python code"
_DTYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT, "float64": ir.DataType.FLOAT,
           "bfloat16": ir.DataType.FLOAT, "uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8,
           "int32": ir.DataType.INT32, "int64": ir.DataType.INT64, "bool": ir.DataType.BOOL,
           "string": ir.DataType.STRING}  # fmt: skip


def _why_unknown(layer: Layer) -> Unsupported:
    if layer.kind == "Lambda":
        return Unsupported("it runs Python code that stands in the file, and that is never run", _CODE)
    if layer.is_custom:
        return Unsupported(f"{layer.kind} is a class of {layer.module}, not one of Keras", _CODE)
    if layer.is_operation:
        return Unsupported(f"the operation {layer.kind} of {layer.module} is not supported")
    if layer.kind == "TensorFlowOpLayer":
        what = layer.config.get("node_def", "")
        need = "a model that Keras 3 saved, or layers of Keras"
        return Unsupported(f"it is an operation of TensorFlow ({str(what)[:80]})", need)
    return Unsupported(f"layers of class {layer.kind} are not supported")


class _Scope:
    """One call of one model: what its layers have made so far.

    Attributes:
        given: what the model is called with, by name of its input layers.
        made: layer and number of its call → results.
    """

    def __init__(self, model: Model, weights: LayerWeights, prefix: str) -> None:
        self.model, self.prefix = model, prefix
        self.made: dict[tuple[str, int], list[Tensor]] = {}
        self.layers = {layer.name: layer for layer in model.layers}
        own = [layer for layer in model.layers if not layer.is_operation]
        found = weights.layers([(layer.kind, layer.name) for layer in own])
        self.weights = dict(zip((layer.name for layer in own), found, strict=True))
        self.results: Counter[tuple[str, int]] = Counter()
        for reference in [*model.outputs, *(r for x in model.layers for c in x.calls for r in _references(c))]:
            key = (reference.layer, reference.call)
            self.results[key] = max(self.results[key], reference.result + 1)


def _references(call: Call) -> list[Reference]:
    return [*tensors_of(call.arguments), *tensors_of(call.named)]


class _Walk:
    def __init__(self, saved: Saved, where: str, options: ParseOptions) -> None:
        self.saved, self.where, self.options = saved, where, options
        self.builder = GraphBuilder(saved.size, saved.is_version_2)
        self.builder.apply = self.apply
        self.source = SourceGraph(ir.Graph([], [], nodes=[]), where, {}, channels_last=True)
        self.inputs: list[ir.Value] = []
        self.input_names: list[str] = []
        self.fixed = FixedInputs(options.input_values)
        self.kinds: Counter[str] = Counter()
        self.calls = 0
        self._labels: dict[str, int] = {}
        self._models: dict[
            int, tuple[Layer, Model]
        ] = {}  # a model that is called again is the same; by id of its layer

    def problem(self, rule: str, got: object = "") -> InputFileError:
        return InputFileError(corrupt("keras", self.where, rule, got, "a configuration that Keras wrote"))

    # --- models --------------------------------------------------------------------------------------------------

    def model(self, model: Model, weights: LayerWeights, prefix: str, given: list[Tensor] | None) -> list[Tensor]:
        """The results of one call of a model.

        Args:
            model: the model.
            weights: its arrays.
            prefix: of the names of its layers.
            given: what it is called with; None: the inputs of the file.
        """
        if prefix.count("/") > _MAX_DEPTH:
            raise self.problem("models are nested too deeply", prefix[:80])
        scope = _Scope(model, weights, prefix)
        if model.sequential:
            return self._sequence(scope, given)
        self._bind(scope, given)
        for layer in model.layers:
            for index in range(len(layer.calls)):
                self._demand(scope, (layer.name, index))
        return [self._find(scope, reference) for reference in model.outputs]

    def _bind(self, scope: _Scope, given: list[Tensor] | None) -> None:
        """Enter the results of a model's input layers."""
        model = scope.model
        wanted = model.inputs or [Reference(x.name, 0, 0) for x in model.layers if x.kind == "InputLayer"]
        if given is not None and len(given) != len(wanted):
            raise self.problem(f"model {model.name!r} is called with {len(given)} tensors", len(wanted))
        for number, reference in enumerate(wanted):
            layer = scope.layers.get(reference.layer)
            if layer is None or layer.kind != "InputLayer":
                raise self.problem(f"an input of model {model.name!r} is no input layer", reference.layer)
            made = given[number] if given is not None else self._input(layer, scope.prefix)
            scope.made[layer.name, 0] = [made]

    def _demand(self, scope: _Scope, wanted: tuple[str, int]) -> None:
        """Make what a call makes, and before it what it is given."""
        waiting, open_ = [wanted], set[tuple[str, int]]()
        while waiting:
            key = waiting[-1]
            if key in scope.made:
                waiting.pop()
                continue
            layer = scope.layers.get(key[0])
            if layer is None or key[1] >= len(layer.calls):
                raise self.problem(f"a call of model {scope.model.name!r} is named that does not exist", key)
            call = layer.calls[key[1]]
            before = [(r.layer, r.call) for r in _references(call)]
            missing = [b for b in dict.fromkeys(before) if b not in scope.made]
            if not missing:
                scope.made[key] = self._call(scope, layer, key[1], call)
                continue
            if key in open_:
                raise self.problem("layers wait for each other", f"{layer.name!r} in model {scope.model.name!r}")
            open_.add(key)
            waiting += reversed(missing)

    def _find(self, scope: _Scope, reference: Reference) -> Tensor:
        self._demand(scope, (reference.layer, reference.call))
        made = scope.made[reference.layer, reference.call]
        if reference.result >= len(made):
            raise self.problem(f"result {reference.result} of layer {reference.layer!r} does not exist", len(made))
        found = made[reference.result]
        if found.value.shape is None and reference.shape is not None:  # of a layer that was refused
            found = Tensor(found.value, reference.shape)
            stand_for(found, found.value.name or reference.layer)
            made[reference.result] = found
        return found

    def _sequence(self, scope: _Scope, given: list[Tensor] | None) -> list[Tensor]:
        """A Sequential model: each layer is given what the one before has made."""
        rest = scope.model.layers
        first = rest[0] if rest else None
        if first is None:
            raise self.problem(f"model {scope.model.name!r} has no layers")
        if first.kind == "InputLayer":
            rest = rest[1:]
        current = given
        if current is None:
            current = [self._input(first, scope.prefix)]
        for layer in rest:
            arguments: list[Any] = list(current) if len(current) == 1 else [current]
            current = self._call(scope, layer, 0, Call(arguments))
        return current

    # --- inputs --------------------------------------------------------------------------------------------------

    def _input(self, layer: Layer, prefix: str) -> Tensor:
        """An input of the file; in a Sequential model without an input layer, that of its first layer."""
        shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
        build = layer.config.get("build_input_shape")
        shape = build if shape is None else shape
        sizes = shape if is_list(shape) else None
        if (
            sizes is None
            or len(sizes) > 8
            or any(s is not None and not (is_integer(s) and 0 < s < 1 << 31) for s in sizes)
        ):
            raise UnsupportedModelError(
                Diagnostic("E-KERAS-SHAPES", self.where, f"input {layer.name!r} has no shape", str(shape)[:80],
                           "a model whose input shape is known", ("call the model once before it is saved",))
            )  # fmt: skip
        name = f"{prefix}{layer.name}" if layer.kind == "InputLayer" else f"{prefix}{layer.name}_input"
        self.input_names.append(name)
        kind = layer.config.get("dtype")
        dtype = _DTYPES.get(kind if is_text(kind) else "float32", ir.DataType.FLOAT)
        array = self.fixed.value(name, None if dtype == ir.DataType.STRING else dtype.numpy(), sizes)
        value = ir.Value(name=name, shape=ir.Shape([None if s is None else s for s in sizes]))
        value.dtype = dtype
        if array is not None:
            value.shape = ir.Shape(array.shape)
            set_constant(value, array)
            return Tensor(value, (None, *array.shape[1:]))
        self.inputs.append(value)
        own = self.options.named_shapes.get(name, self.options.only_shape)
        if own is not None and len(own) == len(sizes):  # checked later, with all inputs
            sizes = [None if s < 1 else s for s in own]
        return Tensor(value, (None, *sizes[1:]))

    # --- calls ---------------------------------------------------------------------------------------------------

    def _label(self, name: str) -> str:
        """The name of a call; a layer that is called again gets a number."""
        self._labels[name] = self._labels.get(name, 0) + 1
        return name if self._labels[name] == 1 else f"{name}#{self._labels[name]}"

    def _call(self, scope: _Scope, layer: Layer, index: int, call: Call) -> list[Tensor]:
        self.calls += 1
        if self.calls > _MAX_CALLS:
            raise self.problem("the layers are called too often", f"> {_MAX_CALLS}")

        def find(reference: Reference) -> Tensor:
            return self._find(scope, reference)

        arguments, named = replaced(call.arguments, find), replaced(call.named, find)
        weights = scope.weights.get(layer.name)
        if layer.kind in MODELS and not layer.is_operation:
            label = self._label(f"{scope.prefix}{layer.name}")
            assert weights is not None
            return self.model(
                read_inner(layer, self.where, self.saved.is_version_2), weights, f"{label}/", flat(arguments[:1])
            )
        label = self._label(f"{scope.prefix}{layer.name}")
        self.kinds[layer.kind] += 1
        self.source.operators[label] = layer.kind
        tensors, results = flat(arguments) + flat(named), scope.results[layer.name, index]
        if any(t.value.shape is None for t in tensors):  # it follows a layer that was refused, which says so
            return self._unknown(layer, label, tensors, results, None)
        try:
            with self.builder.attempt(), faults_at(f"{self.where}, layer {label!r} ({layer.kind})"):
                made = self._converted(layer, weights, label, arguments, named)
        except Unsupported as problem:
            made = self._unknown(layer, label, tensors, results, problem)
        return made

    def _inner(self, layer: Layer) -> Model:
        if id(layer) not in self._models:
            self._models[id(layer)] = layer, read_inner(layer, self.where, self.saved.is_version_2)
        return self._models[id(layer)][1]

    def apply(self, layer: Layer, weights: LayerWeights, label: str, given: Sequence[Tensor]) -> list[Tensor]:
        """What a layer that is a part of another makes; a refusal of it is one of the whole."""
        if layer.kind in MODELS:
            raise Unsupported(f"it wraps a whole model ({layer.name!r})", "a layer")
        return self._converted(layer, weights, label, list(given), {}, named=False)

    def _converted(
        self, layer: Layer, weights: LayerWeights | None, label: str, arguments: list[Any], given: dict[str, Any],
        named: bool = True,
    ) -> list[Tensor]:  # fmt: skip
        table = OPERATIONS if layer.is_operation else LAYERS
        converter = None if layer.is_custom else table.get(layer.kind)
        if converter is None:
            raise _why_unknown(layer)
        call = LayerCall(self.builder, layer, weights or _none(layer), label, arguments, given)
        if given.get("training") is True and self.saved.is_version_2:  # later ones overrule it when they predict
            raise Unsupported("it is called with training=True", "a call for inference")
        made = converter(call)
        call.check_options_read()
        results = [made] if isinstance(made, Tensor) else list(made)
        return self._named(call, results) if named else results

    def _named(self, call: LayerCall, results: list[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        masked = any(t.masked for t in call.tensors)
        for index, result in enumerate(results):
            fresh = result
            if "internal" not in marks(result.value):
                fresh = Tensor(call.emit("Identity", [result.value], glue=True), result.shape, result.masked)
            if masked and not fresh.masked and len(fresh.shape) > 2:
                fresh = Tensor(fresh.value, fresh.shape, True)
            stand_for(fresh, f"{call.label}:{index}" if index else call.label)
            found.append(fresh)
        return found

    def _unknown(
        self, layer: Layer, label: str, given: list[Tensor], results: int, problem: Unsupported | None
    ) -> list[Tensor]:
        """A node that stands for a call that cannot be translated, or (no problem) that follows one."""
        count, values = min(max(results, 1), 1024), [t.value for t in given]
        kind, domain = ("Identity", "") if problem is None else (layer.kind, "keras")
        node = self.builder.add(kind, values, {}, label, outputs=count, domain=domain)
        if problem is not None:
            self.source.broken[node] = problem
        made: list[Tensor] = []
        for index, value in enumerate(node.outputs):
            marks(value).pop("internal", None)
            value.name = f"{label}:{index}" if index else label
            made.append(Tensor(value, ()))
        return made


def _none(layer: Layer) -> LayerWeights:
    from headrace.frontends.formats.keras.weights import NoWeights

    return NoWeights(layer.name)


def _check_kind(saved: Saved, where: str) -> None:
    kind = saved.config.get("class_name")
    if (is_text(kind) and kind in MODELS and is_object(saved.config.get("config"))) or is_list(
        saved.config.get("config")
    ):
        return
    module = saved.config.get("module")
    rule = "the model is a class of its own: what it computes is Python code that the file does not have"
    got = f"{module}.{kind}" if is_text(module) else str(kind)
    levers = ("export it: model.export('folder') makes a SavedModel", "build it with keras.Model(inputs, outputs)")
    need = "a Functional or Sequential model"
    raise UnsupportedModelError(Diagnostic("E-KERAS-UNSUPPORTED", where, rule, got[:200], need, levers))


def read_keras(source: Source, options: ParseOptions) -> SourceGraph:
    """Read a Keras model.

    Raises:
        InputFileError: missing, not a Keras model, damaged or inconsistent.
        UsageError: a value for what is no input, or of another type or shape than the input.
        UnsupportedModelError: a model of a class of its own. Layers that are not supported are reported later,
            together.
    """
    where = source.where("Keras model")
    saved = open_saved(source)
    _check_kind(saved, where)
    walk = _Walk(saved, where, options)
    model = read_model(saved.config, where, saved.is_version_2)
    results = walk.model(model, saved.weights, "", None)
    walk.fixed.check(walk.input_names)
    result = walk.source
    result.facts = {
        "format": "keras",
        "container": saved.kind,
        "keras_version": saved.version[:40],
        "operators": dict(sorted(walk.kinds.items())),
    }
    result.folded = walk.builder.folded
    outputs = list(dict.fromkeys(t.value for t in results))
    result.graph = ir.Graph(walk.inputs, outputs, nodes=walk.builder.nodes, name=None)
    return result
