# SPDX-License-Identifier: Apache-2.0
"""Programs that run as if some packages were not installed."""

from __future__ import annotations

_BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Block())
"""


def without(*packages: str) -> str:
    """The opening lines of a Python program in which these packages cannot be imported; it has imported ``sys``."""
    return f"BLOCKED = {sorted(packages)!r}\n{_BLOCK}"
