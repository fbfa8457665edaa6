# SPDX-License-Identifier: Apache-2.0
"""The one canonical text of a script: what is stored as the resolved script, and what two scripts are compared by."""

from __future__ import annotations

from headrace.script.parser import Name, Patterns, Script, Statement, Value


def resolve(script: Script) -> str:
    """The script as canonical text: one statement a line, no comments, one spelling for each value.

    ``parse_script(resolve(script))`` gives equal statements, and resolving twice changes nothing.
    """
    return "".join(statement_text(statement) + "\n" for statement in script.statements)


def statement_text(statement: Statement) -> str:
    """One statement in canonical spelling, without a line end."""
    arguments = [value_text(value) for value in statement.positional]
    arguments += [f"{key}={value_text(value)}" for key, value in statement.keyword.items()]
    name = f"{statement.method_of}.{statement.name}" if statement.method_of else statement.name
    call = f"{name}({', '.join(arguments)})"
    return f"{', '.join(statement.targets)} = {call}" if statement.targets else call


def value_text(value: Value) -> str:
    """One value in canonical spelling."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, Patterns):
        return "{" + ", ".join(value.items) + "}"
    return "[" + ", ".join(value_text(item) for item in value) + "]"
