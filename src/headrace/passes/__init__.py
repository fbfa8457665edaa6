# SPDX-License-Identifier: Apache-2.0
"""Graph rewrites on HN, one per file."""

from headrace.passes.numbering import renumber
from headrace.passes.rewriting import Pass, fresh_name, run_passes, sole_user

__all__ = ["Pass", "fresh_name", "renumber", "run_passes", "sole_user"]
