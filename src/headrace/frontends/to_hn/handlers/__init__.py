# SPDX-License-Identifier: Apache-2.0
"""One handler per operator, one file per family; importing the package registers all of them."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):  # a new family is a new file, and no line here
    import_module(f"{__name__}.{_module.name}")
