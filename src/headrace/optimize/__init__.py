# SPDX-License-Identifier: Apache-2.0
"""From a float network and calibration data to frozen integers.

Names are loaded on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import need_memory_for_torch

if TYPE_CHECKING:
    from headrace.optimize.options import Clipping, OptimizeOptions, OptimizeResult, OutputBits
    from headrace.optimize.pipeline import optimize, optimize_full_precision

_HOMES = {
    "Clipping": "options",
    "OptimizeOptions": "options",
    "OptimizeResult": "options",
    "OutputBits": "options",
    "optimize": "pipeline",
    "optimize_full_precision": "pipeline",
}
__all__ = ["Clipping", "OptimizeOptions", "OptimizeResult", "OutputBits", "optimize", "optimize_full_precision"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        need_memory_for_torch()
        return getattr(importlib.import_module(f"headrace.optimize.{_HOMES[name]}"), name)
    raise AttributeError(name)
