# SPDX-License-Identifier: Apache-2.0
"""Inputs of a file to which the user gave values: checked the same way for every format, constants of its graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from headrace.errors import Diagnostic, UsageError, unknown_name
from headrace.frontends.options import InputValues, value_of
from headrace.hn import Array

_OPTION = "--input-values"
_CODE = "E-PARSE-VALUES"


class FixedInputs:
    """Values of inputs while a file is read; what is wrong with them is collected until :meth:`check`."""

    def __init__(self, given: InputValues, keys: Mapping[str, str] | None = None) -> None:
        """Begin.

        Args:
            given: value by name of the input.
            keys: tensor of the file → the name by which its input goes, where these differ.
        """
        self._given, self._keys = given, dict(keys or {})
        self._problems: list[Diagnostic] = []

    def value(
        self, tensor: str, dtype: np.dtype | None, sizes: Sequence[int | str | None] | None
    ) -> Array | None:  # fmt: skip
        """The value of an input in the type that the file states, or None: there is none, or it is not of the input.

        Args:
            tensor: the input's name in the file.
            dtype: its type; None: no tensor of numbers.
            sizes: what the file states; below 1, a name or None: open; None for the whole: not even the rank.
        """
        name = self._keys.get(tensor, tensor)
        if name not in self._given:
            return None
        found = _as_stated(name, value_of(self._given[name]), dtype, sizes)
        if isinstance(found, Diagnostic):
            self._problems.append(found)
            return None
        return found

    def check(self, inputs: Iterable[str]) -> None:
        """After reading.

        Args:
            inputs: names of all inputs of the file.

        Raises:
            UsageError: a name of no input, or a value of another type or shape than its input; all of them together.
        """
        known = set(inputs)
        unknown = [unknown_name(_CODE, "input", n, known, _OPTION) for n in self._given if n not in known]
        if unknown or self._problems:
            raise UsageError([*unknown, *self._problems])


def _as_stated(
    name: str, value: Array | None, dtype: np.dtype | None, sizes: Sequence[int | str | None] | None
) -> Array | Diagnostic:
    """The value in the type that the file states for the input, or why it is not of it."""
    dtype = dtype if dtype is not None and dtype.kind in "biuf" else None
    shape = "" if sizes is None else f" of shape [{', '.join('?' if s is None else str(s) for s in sizes)}]"
    need = f"{dtype}{shape}" if dtype is not None else "an input that is a tensor of numbers"

    def refused(rule: str) -> Diagnostic:
        got = "" if value is None else f"{value.dtype.name} of shape {list(value.shape)}: {value.tolist()!r}"
        return Diagnostic(_CODE, f"{_OPTION} {name}", rule, got[:200], need)

    if dtype is None or value is None:
        return refused("this input cannot be given a value")
    if sizes is not None:
        pairs = zip(sizes, value.shape, strict=False)
        if len(sizes) != value.ndim or not all(not isinstance(s, int) or s <= 0 or s == v for s, v in pairs):
            return refused("the value has not the shape of the input")
    if (value.dtype.kind == "b") != (dtype.kind == "b") or (value.dtype.kind == "f" and dtype.kind != "f"):
        return refused("the value is not of the type of the input")
    with np.errstate(all="ignore"):
        made = value.astype(dtype)
    same = bool(np.isfinite(made).all()) if dtype.kind == "f" else bool(np.array_equal(made, value))
    return made if same else refused("the type of the input does not have this value")
