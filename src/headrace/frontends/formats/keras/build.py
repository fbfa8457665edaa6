# SPDX-License-Identifier: Apache-2.0
"""One call of a layer into nodes of the source graph: what it is given, its options, its arrays, none of them trusted.

Tensors keep Keras' own order. Where an operator of ONNX wants channels first, Transposes stand around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from headrace.frontends.formats.keras.config import Layer
from headrace.frontends.formats.keras.weights import LayerWeights
from headrace.frontends.formats.operation import Call
from headrace.frontends.graph import Unsupported, marks
from headrace.frontends.node_builder import NodeBuilder
from headrace.hn import Array
from headrace.hn.registering import entering
from headrace.typeguards import is_integer, is_number, is_object, is_sequence, is_text

Shape = tuple[int | None, ...]
Converter = Callable[["LayerCall"], "Tensor | Sequence[Tensor]"]
#: By class of a layer.
LAYERS: dict[str, Converter] = {}
#: By class of an operation of ``keras.ops``.
OPERATIONS: dict[str, Converter] = {}

MAX_SIZE = 1 << 28
#: Options that say nothing of what a layer computes, or nothing once it is trained.
_IDLE = frozenset({
    "autocast", "batch_input_shape", "batch_shape", "dtype", "dropout", "implementation", "input_dim", "input_length",
    "lora_alpha", "momentum", "name", "recurrent_dropout", "renorm_momentum", "seed", "sparse", "ragged",
    "synchronized", "trainable", "unit_forget_bias", "unroll", "virtual_batch_size", "zero_output_for_mask",
})  # fmt: skip
_IDLE_ENDS = ("_initializer", "_regularizer", "_constraint")
_FLOAT_POLICIES = ("float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")


def converts(*kinds: str) -> Callable[[Converter], Converter]:
    """Register a function as the translation of classes of layers."""
    return entering(LAYERS, kinds)


def converts_operation(*kinds: str) -> Callable[[Converter], Converter]:
    """Register a function as the translation of operations of ``keras.ops``."""
    return entering(OPERATIONS, kinds)


@dataclass(frozen=True)
class Tensor:
    """A tensor in Keras' order.

    Attributes:
        value: of the source graph.
        shape: with the batch first; None for what is open.
        masked: steps of it are to be left out, by a mask that a layer before has made.
    """

    value: ir.Value
    shape: Shape
    masked: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def channels(self) -> int:
        """The last size."""
        return self.size(-1)

    def size(self, axis: int) -> int:
        """The size of a dimension that must be known."""
        size = self.shape[axis] if -self.rank <= axis < self.rank else None
        if size is None:
            raise Unsupported(f"the file leaves dimension {axis} of its input open", "a known size")
        return size


class GraphBuilder(NodeBuilder):
    """The source graph under construction.

    Attributes:
        apply: calls a layer that is a part of another one; set by what walks over the model.
        is_version_2: functions have the meaning that they had before Keras 3.
    """

    apply: Callable[[Layer, LayerWeights, str, Sequence[Tensor]], list[Tensor]]

    def __init__(self, size: int, is_version_2: bool) -> None:
        super().__init__(size)
        self.is_version_2 = is_version_2


class LayerCall(Call[GraphBuilder]):
    """One call of a layer.

    Attributes:
        tensors: all that it is given as its first argument.
        arguments, named: what it is called with, with :class:`Tensor` in place of references.
    """

    def __init__(
        self, builder: GraphBuilder, layer: Layer, weights: LayerWeights, label: str, arguments: Sequence[Any],
        named: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.builder, self.layer, self.weights, self.label = builder, layer, weights, label
        self.arguments, self.named = list(arguments), dict(named)
        self.tensors = flat(self.arguments[:1])
        self._read: set[str] = set()

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def x(self) -> Tensor:
        """The one tensor that it is given."""
        if len(self.tensors) != 1:
            raise Unsupported(f"it is given {len(self.tensors)} tensors", "one")
        return self.tensors[0]

    # --- options -------------------------------------------------------------------------------------------------

    def option(self, name: str, default: Any = None) -> Any:
        """An option as it stands in the file."""
        self._read.add(name)
        return self.layer.config.get(name, default)

    def ignore(self, *names: str) -> None:
        """Options that mean nothing for what the layer computes."""
        self._read.update(names)

    def _wrong(self, name: str, need: str) -> Unsupported:
        return Unsupported(f"option {name!r} is {str(self.layer.config.get(name))[:80]}", need)

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self.option(name, default)
        if not is_integer(value) or not least <= value <= MAX_SIZE:
            raise self._wrong(name, f"an integer of at least {least}")
        return value

    def real(self, name: str, default: float) -> float:
        value = self.option(name, default)
        if not is_number(value) or not math.isfinite(value):
            raise self._wrong(name, "a finite number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.option(name, default)
        if not isinstance(value, bool) and value not in (0, 1):
            raise self._wrong(name, "true or false")
        return bool(value)

    def word(self, name: str, default: str, *allowed: str) -> str:
        value = self.option(name, default)
        value = default if value is None else value
        if not is_text(value) or (allowed and value.lower() not in allowed):
            raise self._wrong(name, " or ".join(allowed) or "a word")
        return value.lower()

    def integers(self, name: str, count: int, default: int = 1, least: int = 1) -> list[int]:
        """An option of ``count`` integers, or one for all."""
        value = self.option(name, default)
        values = [value] * count if is_integer(value) else value
        if not is_sequence(values) or len(values) != count:
            raise self._wrong(name, f"{count} integers")
        if not all(is_integer(v) and least <= v <= MAX_SIZE for v in values):
            raise self._wrong(name, f"integers of at least {least}")
        return [int(v) for v in values]

    def axes(self, name: str, rank: int, default: int | None = -1) -> list[int]:
        """Dimensions counted from 0, sorted; all but the batch where the option is None."""
        value = self.option(name, default)
        given = [value] if is_integer(value) else list(range(rank)) if value is None else value
        if not is_sequence(given) or not all(is_integer(a) and -rank <= a < rank for a in given):
            raise self._wrong(name, f"dimensions of a tensor of rank {rank}")
        return sorted({int(a) % rank for a in given})

    def axis(self, name: str, rank: int, default: int = -1) -> int:
        found = self.axes(name, rank, default)
        if len(found) != 1:
            raise self._wrong(name, "one dimension")
        return found[0]

    @property
    def channels_first(self) -> bool:
        """Whether images have their channels before height and width."""
        return self.word("data_format", "channels_last", "channels_last", "channels_first") == "channels_first"

    def check_options_read(self) -> None:
        """After a call was translated: what its layer states was asked for, or means nothing.

        Raises:
            Unsupported: an option had no part in the translation.
        """
        for name in sorted(self.layer.config):
            value = self.layer.config[name]
            idle = name in self._read or name in _IDLE or name.endswith(_IDLE_ENDS)
            if not idle and value not in (None, False, [], {}, 0):
                raise Unsupported(f"option {name!r} is not acted on", f"{self.kind} without it")
        policy = self.layer.config.get("dtype")
        name = policy["config"].get("name") if is_object(policy) and is_object(policy.get("config")) else policy
        exempt = self.layer.is_operation or self.kind == "Embedding"
        if name is not None and name not in _FLOAT_POLICIES and not exempt:
            raise Unsupported(f"it computes in {str(name)[:80]}", "a float type")

    # --- arguments of the call -----------------------------------------------------------------------------------

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name; an operation keeps some as options."""
        if index < len(self.arguments):
            return self.arguments[index]
        return self.named[name] if name in self.named else self.option(name, default)

    def no_arguments(self, *names: str) -> None:
        """Refuse arguments that change the result."""
        for name in names:
            value = self.named.get(name)
            if value is not None and value is not False:
                raise Unsupported(f"it is called with {name!r}", f"a call without {name!r}")

    def unmasked(self) -> None:
        """Refuse steps that a mask leaves out."""
        self.no_arguments("mask")
        if any(t.masked for t in self.tensors):
            raise Unsupported("a mask leaves out steps of its input, which depends on the data", "no mask")

    # --- arrays --------------------------------------------------------------------------------------------------

    def weight(self, index: int, shape: Sequence[int], what: str, weights: LayerWeights | None = None) -> Array:
        """One of the layer's arrays, float32, whose shape must be as its options say."""
        array = (weights or self.weights).array(index, what)
        if array.shape != tuple(shape):
            raise Unsupported(f"its {what} has shape {list(array.shape)}", f"{list(shape)}")
        self.builder.charge(array)
        return array

    # --- results -------------------------------------------------------------------------------------------------

    def transposed(self, value: ir.Value, order: Sequence[int], glue: bool = True) -> ir.Value:
        if list(order) == list(range(len(order))):
            return value
        return self.emit("Transpose", [value], {"perm": list(order)}, glue=glue)

    def channels_second(self, tensor: Tensor) -> ir.Value:
        """A tensor with its channels, the last dimension, behind the batch."""
        if tensor.rank == 4:
            return self.builder.channels_first(tensor.value)
        return self.transposed(tensor.value, [0, tensor.rank - 1, *range(1, tensor.rank - 1)])

    def channels_last(self, value: ir.Value, rank: int) -> ir.Value:
        """The reverse of :meth:`channels_second`."""
        return self.transposed(value, [0, *range(2, rank), 1])

    def sizes(self, shape: Shape) -> ir.Value:
        """A shape as Reshape wants it: what is open is copied or found, one dimension besides the batch at most."""
        return self.list([0, *([-1 if s is None else s for s in shape[1:]])])


def flat(value: Any) -> list[Tensor]:
    """All tensors in an argument, in order."""
    if isinstance(value, Tensor):
        return [value]
    if is_sequence(value):
        return [t for item in value for t in flat(item)]
    if is_object(value):
        return [t for item in value.values() for t in flat(item)]
    return []


def stand_for(tensor: Tensor, name: str) -> None:
    """Give a tensor its name in the source graph, and the shape that Keras knows of it."""
    marks(tensor.value).pop("internal", None)
    tensor.value.name = name
    tensor.value.dtype = tensor.value.dtype or ir.DataType.FLOAT
    tensor.value.shape = ir.Shape(list(tensor.shape))


__all__ = ["LAYERS", "OPERATIONS", "GraphBuilder", "LayerCall", "Shape", "Tensor", "converts", "converts_operation",
           "flat", "stand_for"]  # fmt: skip
