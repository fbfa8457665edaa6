# SPDX-License-Identifier: Apache-2.0
"""Commands: what may be written, what becomes of it, and, of those that act, the value that a statement is read as."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from headrace.hn.stages import COMPILE, OPTIMIZE, OPTIMIZE_FULL_PRECISION, Stage
from headrace.script.arguments import Argument, declared
from headrace.script.effects import CompileEffect, OptimizeEffect
from headrace.script.fates import ACTS, HINT, Fate
from headrace.script.parser import Statement

if TYPE_CHECKING:
    from headrace.passes import Pass

WITHOUT = "the result is valid without it"
#: HN names of layers, by the key or the number of the value that names them.
Named = Mapping["str | int", tuple[str, ...]]


class Lookup(Protocol):
    """The layers of the network that a script is for; see :class:`headrace.script.naming.Finder`."""

    def outputs(self) -> tuple[str, ...] | None:
        """HN names of the output layers; None: no network is known."""
        ...

    def outputs_alone(self, names: Sequence[str]) -> bool:
        """Whether some names are of output layers, all of them."""
        ...

    def normalize(
        self, statement: Statement, input_layer: str | None, channels: int
    ) -> tuple[tuple[str | None, str | None], ...] | None:
        """The inputs that a normalization follows and the names of the layers it makes, known from here on."""
        ...


class Resolving(Protocol):
    """What a command is read with: the names of the network, and where its problems go."""

    @property
    def finder(self) -> Lookup: ...

    def bad(self, rule: str, need: str = "", key: str = "") -> None:
        """A problem of the statement, or of one of its keys."""
        ...


@dataclass(frozen=True, kw_only=True)
class ActingCommand(ABC):
    """A statement that acts: its arguments, read. Its fields are the arguments of the command."""

    #: Set by :func:`acts`.
    form: ClassVar[Form]

    statement: Statement = field(compare=False, repr=False)

    def resolved(self, resolving: Resolving) -> Self | None:
        """The command with what follows from the network and from several arguments; None: a problem was noted."""
        del resolving
        return self

    @classmethod
    def special_fates(cls, statement: Statement, named: Named, finder: Lookup) -> Mapping[str, Fate]:
        """Fates of keys that more than the value decides."""
        del statement, named, finder
        return {}


@dataclass(frozen=True, kw_only=True)
class ModificationCommand(ActingCommand):
    """A command that changes the float network."""

    @abstractmethod
    def passes(self) -> tuple[Pass, ...]:
        """The passes that do it, in order."""


@dataclass(frozen=True, kw_only=True)
class OptimizeCommand(ActingCommand):
    """A command that steers ``optimize``."""

    @abstractmethod
    def effects(self) -> tuple[OptimizeEffect, ...]:
        """What it decides."""


@dataclass(frozen=True, kw_only=True)
class CompileCommand(ActingCommand):
    """A command that steers ``compile``; it changes no number of the result."""

    @abstractmethod
    def effects(self) -> tuple[CompileEffect, ...]:
        """What it decides."""


@dataclass(frozen=True)
class Form:
    """How a command is written and what becomes of it.

    Attributes:
        row: its name, with the feature that its first value chooses: ``command`` or ``command(feature)``.
        stage: what it steers, or would.
        fate: of the command where no ``policy`` (or ``mode``) says ``disabled``.
        off: of the command where one does; None: it has no such key.
        arguments: by key, or by name where they have a position; None: any key, all of them like ``fate``.
        positional: how many values may stand before the keys, the feature's name included.
        layers_at: which of these are layer names: numbers, ``"*"`` (all words), ``"*-"`` (all words but the last).
        note: why nothing has to be done, or why it has no effect, as a clause.
        instead: what is done where it is left out.
        off_keys: where ``disabled`` turns the command off.
        by_keys: it asks by its keys alone: without any it asks for nothing.
        makes_layers: the names left of its ``=`` are names of layers of this network.
        scopes: its first value names networks.
        reads: what a statement of it is read as, where it acts.
    """

    row: str
    stage: Stage
    fate: Fate
    off: Fate | None = None
    arguments: Mapping[str, Argument] | None = field(default_factory=dict[str, Argument])
    positional: tuple[int, int] = (0, 64)
    layers_at: str = ""
    note: str = ""
    instead: str = WITHOUT
    off_keys: tuple[str, ...] = ("policy",)
    by_keys: bool = False
    makes_layers: bool = False
    scopes: bool = False
    reads: type[ActingCommand] | None = None

    @property
    def name(self) -> str:
        """The command's name alone."""
        return self.row.partition("(")[0]

    @property
    def feature(self) -> str:
        """What its first value has to be; empty where it is free."""
        return self.row.partition("(")[2].removesuffix(")")

    @property
    def keys(self) -> Mapping[str, Argument] | None:
        """Its arguments that have keys; None: any."""
        if self.arguments is None:
            return None
        return {key: one for key, one in self.arguments.items() if one.position is None}

    @property
    def changes_numbers(self) -> bool:
        """Whether it is about what the network computes, or how precisely."""
        return self.stage is not COMPILE

    def fate_of(self, key: str, word: str) -> Fate:
        """What becomes of one key's value (:func:`headrace.script.fates.word_of`)."""
        if key in self.off_keys and word == "disabled" and self.off is not None:
            return self.off
        known = (self.arguments or {}).get(key)
        return self.fate if known is None else known.fate_of(word, self.fate)


C = TypeVar("C", bound=ActingCommand)
_STAGES = (
    (ModificationCommand, OPTIMIZE_FULL_PRECISION),
    (OptimizeCommand, OPTIMIZE),
    (CompileCommand, COMPILE),
)


def acts(
    row: str,
    *,
    fate: Fate = ACTS,
    off: Fate | None = None,
    idle: Sequence[Argument] = (),
    positional: tuple[int, int] | None = None,
    note: str = "",
    instead: str = WITHOUT,
    off_keys: tuple[str, ...] = ("policy",),
    by_keys: bool = False,
    makes_layers: bool = False,
) -> Callable[[type[C]], type[C]]:
    """Declares a command that acts; stands above its ``@dataclass``. For its arguments see :class:`Form`.

    Args:
        row, fate, off, note, instead, off_keys, by_keys, makes_layers: as there; a command that does not act itself may
            have values or a policy that do.
        idle: arguments that nothing reads.
        positional: how many values may stand before the keys, where that does not follow from the fields.
    """

    def declare(command: type[C]) -> type[C]:
        (stage,) = (stage for base, stage in _STAGES if issubclass(command, base))
        own = [declared(one.metadata, one.name) for one in dataclasses.fields(command)]
        arguments = [one for one in own if one is not None]
        placed = [one for one in arguments if one.position is not None]
        first = 1 if "(" in row else 0
        least = first + sum(one.default is dataclasses.MISSING for one in placed)
        command.form = Form(
            row,
            stage,
            fate,
            off,
            {one.key: one for one in (*arguments, *idle)},
            positional or (least, first + len(placed)),
            " ".join(str(one.position) for one in placed if one.type.names_layers),
            note,
            instead,
            off_keys,
            by_keys,
            makes_layers,
            reads=command,
        )
        return command

    return declare


def idle(
    row: str,
    stage: Stage,
    fate: Fate,
    arguments: Sequence[Argument] | None,
    off: Fate | None = None,
    *,
    positional: tuple[int, int] | None = None,
    layers_at: str = "",
    note: str = "",
    instead: str = WITHOUT,
    off_keys: tuple[str, ...] = ("policy",),
    by_keys: bool = False,
) -> Form:
    """A command that nothing reads: of another device, or not built."""
    known = None if arguments is None else {one.key: one for one in arguments}
    allowed = positional or ((1, 1) if "(" in row else (0, 64))
    return Form(row, stage, fate, off, known, allowed, layers_at, note, instead, off_keys, by_keys)


def hint(row: str, layers_at: str = "", positional: tuple[int, int] = (0, 64)) -> Form:
    """A machine-written line of another compiler; their keys change between its releases, so any is taken."""
    note = "it steers another device's compiler"
    return Form(row, COMPILE, HINT, None, None, positional, layers_at, note)
