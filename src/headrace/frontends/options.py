# SPDX-License-Identifier: Apache-2.0
"""What a caller asks of parsing: one value, checked once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from headrace.errors import Diagnostic, UsageError
from headrace.hn import Array
from headrace.typeguards import is_integer, is_mapping, is_sequence

Progress = Callable[[int, int], None]
#: Shapes by input name, or one for the only input.
InputShapes = Mapping[str, Sequence[int]] | Sequence[int]
#: Values of inputs by name: a number, a truth value, or nested lists of them.
InputValues = Mapping[str, object]
Framework = Literal["onnx", "tensorflow"]
#: Dimensions of a value that is given.
MAX_VALUE_RANK = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")


@dataclass(frozen=True)
class ParseOptions:
    """How a model is read and translated.

    Attributes:
        net_name: name of the network, the scope of its layers; None: from the file's name.
        start_node_names: nodes whose data inputs become the network's inputs (tensor names are accepted too).
        end_node_names: nodes whose outputs become the network's outputs, in this order.
        input_shapes: source shapes of inputs whose sizes the file leaves open, by input name, or one for an only input.
        input_values: values that inputs always have, by name: they are then constants of the network.
        signature: of a SavedModel, which of its signatures; None: ``serving_default``, or the only one.
        framework: whose formats are expected; None: any.
        device_only: nothing may be left to the host; what cannot be on the device is refused.
        progress: called with source nodes done and in all.

    Raises:
        UsageError: a value that no model could go with; all of them together.
    """

    net_name: str | None = None
    start_node_names: Sequence[str] = ()
    end_node_names: Sequence[str] = ()
    input_shapes: InputShapes | None = None
    framework: Framework | None = None
    device_only: bool = False
    input_values: InputValues = field(default_factory=dict[str, object])
    signature: str | None = None
    progress: Progress | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        problems = [
            *_name_problems(self.net_name),
            *_shape_problems(self.input_shapes),
            *_value_problems(self.input_values),
        ]
        for option in ("start_node_names", "end_node_names"):
            given = getattr(self, option)
            if isinstance(given, str) or not all(isinstance(name, str) for name in given):
                rule, need = "names of nodes are a list of strings", "['first', 'second']"
                problems.append(Diagnostic("E-PARSE-NODE", option, rule, repr(given)[:100], need))
        if problems:
            raise UsageError(problems)

    @property
    def named_shapes(self) -> dict[str, list[int]]:
        """The shapes that were given by name."""
        given = self.input_shapes
        return {name: list(shape) for name, shape in given.items()} if isinstance(given, Mapping) else {}

    @property
    def plain_values(self) -> dict[str, object]:
        """The values of inputs as plain JSON."""
        return {name: np.asarray(value).tolist() for name, value in self.input_values.items()}

    @property
    def only_shape(self) -> list[int] | None:
        """The one shape that was given for an only input."""
        given = self.input_shapes
        return None if given is None or isinstance(given, Mapping) else list(given)


def _name_problems(name: str | None) -> list[Diagnostic]:
    if name is None or _NAME.fullmatch(name):
        return []
    need = "a letter or underscore, then up to 63 letters, digits, '_', '.', '-'"
    return [Diagnostic("E-PARSE-NAME", "net_name", "the network name is not valid", repr(name)[:80], need)]


def _shape_problems(given: InputShapes | None) -> list[Diagnostic]:
    if given is None:
        return []
    shapes = dict(given) if is_mapping(given) else {"input_shapes": given}
    return [
        Diagnostic("E-PARSE-SHAPES", str(name), "a shape is a list of integers", repr(shape)[:100], "[1,3,224,224]")
        for name, shape in shapes.items()
        if not is_sequence(shape) or not all(is_integer(size) for size in shape)
    ]


def _value_problems(given: InputValues) -> list[Diagnostic]:
    need = '{"name": number}, or a list of numbers'
    if not is_mapping(given):
        return [Diagnostic("E-PARSE-VALUES", "input_values", "values are given by input name", repr(given)[:100], need)]
    return [
        Diagnostic("E-PARSE-VALUES", str(name), "this is no value of an input", repr(value)[:100], need)
        for name, value in given.items()
        if not isinstance(name, str) or value_of(value) is None
    ]


def value_of(given: object) -> Array | None:
    """A number, a truth value or nested lists of them as an array; None: it is none of these."""
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, OverflowError):  # lists of different lengths
        return None
    whole = array.dtype.kind in "bui" or (array.dtype.kind == "f" and bool(np.isfinite(array).all()))
    return array if whole and array.size and array.ndim <= MAX_VALUE_RANK else None
