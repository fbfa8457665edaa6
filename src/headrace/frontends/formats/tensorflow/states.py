# SPDX-License-Identifier: Apache-2.0
"""What outputs of operators are that are no tensors: branches that do not run, variables, lists, split frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

if TYPE_CHECKING:
    from headrace.frontends.formats.tensorflow.records import Node


@dataclass(frozen=True)
class Dead:
    """The output of a branch that does not run."""

    what: ClassVar[str] = "of a branch that does not run"


DEAD = Dead()


@dataclass(frozen=True)
class Variable:
    """A variable that is read elsewhere.

    Attributes:
        names: it may go by in a checkpoint, the likeliest first.
    """

    names: tuple[str, ...]
    what: ClassVar[str] = "a variable, which keeps its value from one frame to the next"


@dataclass(frozen=True)
class Elements:
    """A list of tensors: TensorArray and TensorList.

    Attributes:
        items: the tensors, None where none was written; or
        whole: one tensor whose first dimension the elements lie along.
        size: how many there are.
    """

    size: int
    items: tuple[ir.Value | None, ...] = ()
    whole: ir.Value | None = None
    what: ClassVar[str] = "a list of tensors"


@dataclass(frozen=True)
class Complex:
    """A tensor of complex numbers: ``value`` has real and imaginary part as its last dimension."""

    value: ir.Value
    what: ClassVar[str] = "a tensor of complex numbers"


@dataclass(frozen=True)
class Opaque:
    """What only other operators of its kind can use."""

    what: str


@dataclass(frozen=True)
class SplitFrames:
    """Frames that SpaceToBatchND made of one, until BatchToSpaceND puts them together: what lies between is remembered.

    Attributes:
        value: the one frame.
        block: step of each dimension behind the batch.
        paddings: before and after, of each.
        steps: the operators since, and their inputs; the frames are where ``None`` stands.
    """

    value: ir.Value
    block: tuple[int, ...]
    paddings: tuple[tuple[int, int], ...]
    steps: tuple[tuple[Node, str, tuple[object, ...]], ...] = field(default=())
    what: ClassVar[str] = "frames split by SpaceToBatchND"


__all__ = ["DEAD", "Complex", "Dead", "Elements", "Opaque", "SplitFrames", "Variable"]
