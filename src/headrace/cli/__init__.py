# SPDX-License-Identifier: Apache-2.0
"""The command line. One thin file per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``headrace`` program: runs one command and exits with its status."""
    try:
        from headrace.cli.app import run

        status = run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # before the commands are there to tell of it
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    sys.exit(status)
