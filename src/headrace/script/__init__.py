# SPDX-License-Identifier: Apache-2.0
"""The model-script language (``.alls``): parser, commands, plan, canonical text."""

from headrace.script.optimization import ClippingRequest, OptimizationRequest
from headrace.script.parser import Command, Name, Patterns, Script, Value, parse_script
from headrace.script.plan import Normalization, ScriptPlan, load_script, plan
from headrace.script.resolve import resolve

__all__ = [
    "ClippingRequest",
    "Command",
    "Name",
    "Normalization",
    "OptimizationRequest",
    "Patterns",
    "Script",
    "ScriptPlan",
    "Value",
    "load_script",
    "parse_script",
    "plan",
    "resolve",
]
