# SPDX-License-Identifier: Apache-2.0
"""The command line. One thin file per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from headrace.errors import INTERRUPTED


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``headrace`` program: runs one command and exits with its status."""
    from headrace.cli import interrupts, streams

    interrupts.watch()
    streams.secure()
    if not sys.warnoptions and os.environ.get("HEADRACE_DEBUG", "") in ("", "0"):
        warnings.simplefilter("ignore")  # what numpy and torch remark is for whoever works on Headrace
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        from headrace.cli.app import run

        status = run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # before the commands are there to tell of it
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    sys.exit(status)
