# SPDX-License-Identifier: Apache-2.0
"""Tensors prepared once from a network's parameter arrays."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

V = TypeVar("V")


class ConstantCache:
    """Values derived from an object, found again by the object's identity.

    The object is kept alive with the value, so an identity is never reused while its entry exists. Concurrent use may
    prepare a value twice; both are equal and one is kept.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[int, Hashable], tuple[Any, Any]] = {}

    def get(self, owner: Any, key: Hashable, prepare: Callable[[], V]) -> V:
        """The value for ``(owner, key)``, prepared on first use."""
        entry = self._entries.get((id(owner), key))
        if entry is None:
            entry = self._entries.setdefault((id(owner), key), (owner, prepare()))
        return entry[1]
