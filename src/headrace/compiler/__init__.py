# SPDX-License-Identifier: Apache-2.0
"""Quantized network to HEF: lower, allocate, place, generate, verify."""

from headrace.compiler.carried import carried
from headrace.compiler.pipeline import CompileOptions, CompileResult, Progress, compile_network

__all__ = ["CompileOptions", "CompileResult", "Progress", "carried", "compile_network"]
