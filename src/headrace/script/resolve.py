# SPDX-License-Identifier: Apache-2.0
"""The one canonical text of a script: what is stored as the resolved script, and what two scripts are compared by."""

from __future__ import annotations

from headrace.script.parser import Command, Name, Patterns, Script, Value


def resolve(script: Script) -> str:
    """The script as canonical text: one command a line, no comments, one spelling for each value.

    ``parse_script(resolve(script))`` gives equal commands, and resolving twice changes nothing.
    """
    return "".join(command_text(command) + "\n" for command in script.commands)


def command_text(command: Command) -> str:
    """One command in canonical spelling, without a line end."""
    arguments = [value_text(value) for value in command.positional]
    arguments += [f"{key}={value_text(value)}" for key, value in command.keyword.items()]
    name = f"{command.method_of}.{command.name}" if command.method_of else command.name
    call = f"{name}({', '.join(arguments)})"
    return f"{', '.join(command.targets)} = {call}" if command.targets else call


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
