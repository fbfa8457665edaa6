# SPDX-License-Identifier: Apache-2.0
"""Quantized layers to kernels, one file per family; importing the package registers those of every file in it."""

from importlib import import_module
from pkgutil import iter_modules

from headrace.compiler.lower.lowering import lower_layer, lowered_operations

for _module in iter_modules(__path__):  # a new family is a new file, and no line here
    import_module(f"{__name__}.{_module.name}")

__all__ = ["lower_layer", "lowered_operations"]
