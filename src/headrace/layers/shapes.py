# SPDX-License-Identifier: Apache-2.0
"""Shape checks that several families share."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.errors import Diagnostic, InputFileError


def shape_error(where: str, rule: str, got: object, need: object) -> InputFileError:
    return InputFileError(Diagnostic("E-LAYER-SHAPE", where, rule, str(got), str(need)))


def need_rank(shape: Sequence[int], rank: int, where: str) -> None:
    if len(shape) != rank:
        raise shape_error(
            where, f"the input must have rank {rank}", list(shape), "[-1, H, W, C]" if rank == 4 else "[-1, C]"
        )


def broadcast(shapes: Sequence[tuple[int, ...]], where: str) -> tuple[int, ...]:
    """The common shape of element-wise operands; each non-batch size is equal or 1."""
    if len({len(s) for s in shapes}) != 1:
        raise shape_error(where, "operands must have the same rank", [list(s) for s in shapes], "equal ranks")
    result: list[int] = [-1]
    for axis, sizes in enumerate(zip(*(s[1:] for s in shapes), strict=True), start=1):
        largest = max(sizes)
        if any(size not in (1, largest) for size in sizes):
            raise shape_error(where, f"sizes of axis {axis} do not broadcast", list(sizes), "equal, or 1")
        result.append(largest)
    return tuple(result)
