# SPDX-License-Identifier: Apache-2.0
"""Executors of a network on the CPU (torch): native, full-precision-optimized, quantized (exact).

``Executor`` is loaded on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import need_memory_for_torch

if TYPE_CHECKING:
    from headrace.emulator.executor import Executor

__all__ = ["Executor"]


def __getattr__(name: str) -> Any:
    if name == "Executor":
        need_memory_for_torch()
        from headrace.emulator.executor import Executor

        return Executor
    raise AttributeError(name)
