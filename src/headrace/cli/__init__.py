# SPDX-License-Identifier: Apache-2.0
"""The command line. One thin file per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``headrace`` program: runs one command and exits with its status."""
    from headrace.cli.app import run

    sys.exit(run(sys.argv[1:] if argv is None else argv))
