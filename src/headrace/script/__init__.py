# SPDX-License-Identifier: Apache-2.0
"""The model-script language (``.alls``): parser, commands, plan, canonical text."""

from headrace.script.changes import Change, merge
from headrace.script.compilation import CompilationRequest
from headrace.script.optimization import BitsRequest, ClippingRequest, OptimizationRequest, Policy
from headrace.script.parser import Command, Name, Patterns, Script, Value, parse_script
from headrace.script.plan import Normalization, ScriptPlan, load_script, plan
from headrace.script.resolve import resolve

__all__ = [
    "BitsRequest",
    "Change",
    "ClippingRequest",
    "Command",
    "CompilationRequest",
    "Name",
    "Normalization",
    "OptimizationRequest",
    "Patterns",
    "Policy",
    "Script",
    "ScriptPlan",
    "Value",
    "load_script",
    "merge",
    "parse_script",
    "plan",
    "resolve",
]
