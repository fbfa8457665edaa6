# SPDX-License-Identifier: Apache-2.0
"""Remembers that Ctrl-C was pressed, whatever becomes of the exception that tells of it.

Python raises ``KeyboardInterrupt`` in whatever code runs at that moment. A library's own code may make another error of
it (a module that is half imported, a C++ binding that answers ``TypeError``) or swallow it; who pressed the keys has
interrupted the command all the same, and must not read that a fault was found.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from types import FrameType

_seen = threading.Event()
#: Seconds after which an interrupt that was dropped is told again.
_AGAIN = 0.01


def watch() -> None:
    """Notes every interrupt from now on, and forgets those before.

    Where the parent process has the keys ignored, or something else of the process handles them, that stays: only
    Python's own handler is replaced. Elsewhere than in the main thread a handler cannot be set, and nothing is.
    """
    _seen.clear()
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _note)
        sys.unraisablehook = _swallowed


def seen() -> bool:
    """Whether the keys were pressed since :func:`watch`."""
    return _seen.is_set()


def _swallowed(what: sys.UnraisableHookArgs) -> None:
    """An interrupt that fell into code whose errors Python drops (destructors, callbacks of imports) comes again."""
    if what.exc_type is KeyboardInterrupt:
        threading.Timer(_AGAIN, _send).start()  # not from here, where it would be dropped once more
    else:
        sys.__unraisablehook__(what)


def _send() -> None:
    """Interrupt the main thread, also where it sleeps."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _note(number: int, frame: FrameType | None) -> None:
    _seen.set()
    signal.default_int_handler(number, frame)
