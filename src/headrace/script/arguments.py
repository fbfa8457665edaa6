# SPDX-License-Identifier: Apache-2.0
"""Arguments of commands: declared with type, range, default and meaning, and read by that.

A field of a command that acts is declared as ``batch: int | None = argument(Whole(1, 65536), None, "frames …")``; the
field then has the type that :meth:`ArgumentType.read` gives.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, cast

from headrace.script.fates import OTHER, POLICIES, Fate, Values, word_of
from headrace.script.parser import Value
from headrace.typeguards import is_integer, is_number

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")
#: Keys whose values are layer names, in whatever command they stand.
LAYER_KEYS = frozenset({"layers", "loss_layer_names", "native_layers", "layers_to_freeze"})
_METADATA = "headrace argument"


class Misfit(Exception):
    """A value is not what its argument takes.

    Attributes:
        rule: what is broken.
        need: what would do.
        word, known: where the value is none of some known words, it and these.
    """

    def __init__(self, rule: str, need: str = "", word: str = "", known: Sequence[str] = ()) -> None:
        super().__init__(rule)
        self.rule, self.need, self.word, self.known = rule, need, word, tuple(known)


class ArgumentType(ABC, Generic[T_co]):
    """What values an argument takes."""

    #: The values are names of layers, which are looked up.
    names_layers: ClassVar[bool] = False

    @property
    @abstractmethod
    def text(self) -> str:
        """What it takes, for the documentation."""

    @abstractmethod
    def read(self, value: Value, key: str) -> T_co:
        """The value.

        Raises:
            Misfit: it is none of this type.
        """


@dataclass(frozen=True)
class Anything(ArgumentType[Value]):
    """A value that nothing reads."""

    @property
    def text(self) -> str:
        return ""

    def read(self, value: Value, key: str) -> Value:
        return value


@dataclass(frozen=True)
class Whole(ArgumentType["int | None"]):
    """A whole number in a range, or one of some; ``None`` is as if it were not given."""

    low: int
    high: int
    among: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        return ", ".join(map(str, self.among)) if self.among else f"{self.low} … {self.high}"

    def read(self, value: Value, key: str) -> int | None:
        if value is None:
            return None
        if not is_integer(value) or not self.low <= value <= self.high:
            raise Misfit(f"{key} is not a whole number in its range", f"{self.low} … {self.high}")
        if self.among and value not in self.among:
            raise Misfit(f"there is no such {key}", self.text)
        return value


@dataclass(frozen=True)
class Share(ArgumentType["float | None"]):
    """A share of the device; where ``zero_is_none``, 0 sets no ceiling."""

    zero_is_none: bool = False

    @property
    def text(self) -> str:
        return "0 (no ceiling) … 1" if self.zero_is_none else "above 0, at most 1"

    def read(self, value: Value, key: str) -> float | None:
        need = "above 0, at most 1"
        if not is_number(value) or not 0 <= value <= 1:
            raise Misfit(f"{key} is not a share of the device", need)
        if value == 0 and not self.zero_is_none:
            raise Misfit(f"{key}=0 leaves no room for anything", need)
        return float(value) if value else None


@dataclass(frozen=True)
class Word(ArgumentType[str]):
    """One of some words, in whatever case."""

    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return ", ".join(f"`{word}`" for word in self.words)

    def read(self, value: Value, key: str) -> str:
        word = word_of(value)
        if word not in self.words:
            raise Misfit(f"there is no value of {key} of this name", word=str(value)[:40], known=self.words)
        return word


@dataclass(frozen=True)
class Policy(ArgumentType[bool]):
    """Whether something is done; ``allowed`` leaves it to the stage, which does what helps."""

    @property
    def text(self) -> str:
        return ", ".join(f"`{word}`" for word in POLICIES)

    def read(self, value: Value, key: str) -> bool:
        return Word(POLICIES).read(value, key) != "disabled"


@dataclass(frozen=True)
class Layers(ArgumentType["tuple[str, ...]"]):
    """Names and patterns of layers. What is read are the HN names of the layers that they mean."""

    names_layers: ClassVar[bool] = True

    @property
    def text(self) -> str:
        return "layers"

    def read(self, value: Value, key: str) -> tuple[str, ...]:
        raise AssertionError("names of layers are looked up, not read")


@dataclass(frozen=True)
class InputLayer(ArgumentType["str | None"]):
    """The name of one input layer, of HN or of the source model; ``None`` is as if it were not given."""

    @property
    def text(self) -> str:
        return "an input layer"

    def read(self, value: Value, key: str) -> str | None:
        if value is not None and not isinstance(value, str):
            raise Misfit(f"the {key} is the name of an input layer", "a layer name")
        return None if value is None else str(value)


@dataclass(frozen=True)
class Interval(ArgumentType["tuple[float, ...]"]):
    """Two numbers, [low, high]. What is none is read as (): whether that matters depends on the command's mode."""

    @property
    def text(self) -> str:
        return "[low, high]"

    def read(self, value: Value, key: str) -> tuple[float, ...]:
        if not isinstance(value, tuple) or not all(map(is_number, value)):
            return ()
        return tuple(float(v) for v in value if is_number(v))


@dataclass(frozen=True)
class Numbers(ArgumentType["tuple[float, ...]"]):
    """A list of finite numbers, one per channel."""

    most: int

    @property
    def text(self) -> str:
        return f"1 to {self.most} numbers"

    def read(self, value: Value, key: str) -> tuple[float, ...]:
        items = value if isinstance(value, tuple) else ()
        numbers = tuple(float(v) for v in items if is_number(v))
        if not 0 < len(items) <= self.most or len(numbers) != len(items) or not all(map(math.isfinite, numbers)):
            need = f"a list of 1 to {self.most} numbers, one per channel: [123.675, 116.28, 103.53]"
            raise Misfit(f"the {key} is not a list of numbers", need)
        return numbers


@dataclass(frozen=True)
class Argument:
    """One argument as declared.

    Attributes:
        key: its name.
        type: what it takes.
        doc: what it means.
        fates: of its values, as words; without any they share the fate of the command.
        position: its place among the values without a key (the feature's name is number 0 where there is one); None:
            it has a key.
        default: what counts where it is not given.
        need: what would be accepted where a value is refused.
    """

    key: str
    type: ArgumentType[Any] = field(default_factory=Anything)
    doc: str = ""
    fates: Values = field(default_factory=dict[str, Fate])
    position: int | None = None
    default: object = None
    need: str = ""

    def fate_of(self, word: str, fate: Fate) -> Fate:
        """What becomes of a value (:func:`word_of`), where ``fate`` is that of the command."""
        return self.fates.get(word, self.fates.get(OTHER, fate))


def argument(
    type: ArgumentType[T],  # noqa: A002  it reads as what it is
    default: D,
    doc: str,
    fates: Values | None = None,
    position: int | None = None,
    need: str = "",
) -> T | D:
    """A field of a command that acts."""
    declared = Argument("", type, doc, fates or {}, position, default, need)
    return cast("T | D", field(default=default, metadata={_METADATA: declared}))


def required(type: ArgumentType[T], doc: str, position: int) -> T:  # noqa: A002
    """A field that has to be given, without a key."""
    known = Argument("", type, doc, {}, position, dataclasses.MISSING)
    return cast("T", field(metadata={_METADATA: known}))


def declared(metadata: Mapping[Any, Any], name: str) -> Argument | None:
    """The argument that a field was declared as; None: the field is none."""
    known = metadata.get(_METADATA)
    if not isinstance(known, Argument):
        return None
    return Argument(name, known.type, known.doc, known.fates, known.position, known.default, known.need)


def values(fate: Fate, **named: Fate) -> Values:
    """Fates of some values, and of every other."""
    return {**named, OTHER: fate}


def keys(names: str, fates: Values | None = None) -> tuple[Argument, ...]:
    """Arguments that nothing reads; those that are policies or layers everywhere are so here."""
    return tuple(Argument(name, _usual_type(name), fates=fates or {}) for name in names.split())


def _usual_type(name: str) -> ArgumentType[Any]:
    if name in LAYER_KEYS:
        return Layers()
    return Policy() if name == "policy" else Anything()
