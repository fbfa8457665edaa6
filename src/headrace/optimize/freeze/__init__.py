# SPDX-License-Identifier: Apache-2.0
"""From floats to the final integers of each layer, one file per layer family; importing registers all of them."""

from importlib import import_module
from pkgutil import iter_modules

from headrace.optimize.freeze.context import FreezeContext
from headrace.optimize.freeze.network import Correction, Steps, freeze_network

for _module in iter_modules(__path__):  # a new family is a new file, and no line here
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Correction", "FreezeContext", "Steps", "freeze_network"]
