# SPDX-License-Identifier: Apache-2.0
"""The model-script language (``.alls``): parser, commands, plan, canonical text.

A script steers the stages, so this package stands above them: its commands change their options.
"""

from headrace.script.changes import Change, merge
from headrace.script.parser import Name, Patterns, Script, Statement, Value, parse_script
from headrace.script.plan import ScriptPlan, load_script, plan
from headrace.script.resolve import resolve

__all__ = [
    "Change",
    "Name",
    "Patterns",
    "Script",
    "ScriptPlan",
    "Statement",
    "Value",
    "load_script",
    "merge",
    "parse_script",
    "plan",
    "resolve",
]
