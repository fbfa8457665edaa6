# SPDX-License-Identifier: Apache-2.0
"""Reports on a network of any state, from HAR members only."""

from headrace.profiler.report import profile
from headrace.profiler.text import render_text

__all__ = ["profile", "render_text"]
