# SPDX-License-Identifier: Apache-2.0
"""Functions of torch whose stubs have no types, with theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from headrace.numerics.array import Array

#: The tensor of an array, which shares its memory.
tensor_of = cast("Callable[[Array], torch.Tensor]", torch.from_numpy)  # pyright: ignore[reportUnknownMemberType]

#: The switches of oneDNN by keyword; returns what they were. Which there are depends on torch's version.
set_onednn_flags = cast("Callable[..., tuple[Any, ...]]", torch.backends.mkldnn.set_flags)  # pyright: ignore[reportUnknownMemberType]


def cholesky(matrices: torch.Tensor, upper: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Cholesky factors of a stack of matrices, and for each the order of the first minor that is not positive, or 0."""
    factorize = cast("Callable[..., tuple[torch.Tensor, torch.Tensor]]", torch.linalg.cholesky_ex)  # pyright: ignore[reportUnknownMemberType]
    return factorize(matrices, upper=upper)


__all__ = ["cholesky", "set_onednn_flags", "tensor_of"]
