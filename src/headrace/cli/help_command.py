# SPDX-License-Identifier: Apache-2.0
"""``headrace help [COMMAND]``: the same as ``--help``, for those who type the word."""

from __future__ import annotations

import click


@click.command("help")
@click.argument("command", nargs=-1)
@click.pass_context
def help_(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of COMMAND, or of Headrace."""
    root = context.find_root()
    root.command.main([*command, "--help"], prog_name="headrace", standalone_mode=False)
