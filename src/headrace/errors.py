# SPDX-License-Identifier: Apache-2.0
"""Every error Headrace raises on purpose.

HeadraceError                      exit code
├── UsageError                     2   a wrong option, name or call
├── InputFileError                 3   a file is missing, corrupt, hostile or of another kind
├── UnsupportedModelError          4   the network uses something that is not supported
├── ScriptError                    5   a model script does not parse or asks for something impossible
├── DataError                      6   calibration or inference data is unusable
├── AccuracyError                  7   the quantized network is not accurate enough (``--min-snr``)
├── CapacityError                  8   the network does not fit the target
├── DeviceError                    9   the virtual device or its run time refused
├── MissingExtraError             10   an optional dependency is not installed
├── NotBuiltYetError              11   Headrace does not do this yet, and says so
├── MemoryLimitError              12   this computer has not the memory, or gives none to this process
└── InternalError                 70   a bug in Headrace

Each carries one or more :class:`Diagnostic` values. A diagnostic is data first; its text is derived.
"""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

#: Exit code of a command that Ctrl-C ended: 128 + SIGINT, as shells have it.
INTERRUPTED = 130


#: Characters of one part of a message: names come from files and may have any length.
_LONGEST = 8000
#: A lever may list names to be copied, and works only whole.
_LONGEST_LEVER = 64_000


def _without_middle(text: str, longest: int = _LONGEST) -> str:
    """A text as a message takes it: of one that is far too long only the two ends."""
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"


@dataclass(frozen=True)
class Diagnostic:
    """One problem, complete enough to be fixed without reading the source.

    Attributes:
        code: stable identifier, e.g. ``"E-ONNX-UNSUPPORTED"``.
        where: place: file, layer, source node, script line.
        rule: the rule that was broken, as a sentence.
        got: what was found.
        need: what would be accepted.
        levers: concrete things the user can change.
    """

    code: str
    where: str
    rule: str
    got: str = ""
    need: str = ""
    levers: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["levers"] = list(self.levers)
        return data

    def __str__(self) -> str:
        where, rule, got, need = (_without_middle(text) for text in (self.where, self.rule, self.got, self.need))
        lines = [f"{self.code}: {where}: {rule}" if where else f"{self.code}: {rule}"]
        if got:
            lines.append(f"  got:  {got}")
        if need:
            lines.append(f"  need: {need}")
        lines += [f"  try:  {_without_middle(lever, _LONGEST_LEVER)}" for lever in self.levers]
        return "\n".join(lines)


class HeadraceError(Exception):
    """Base of everything raised on purpose; ``diagnostics`` is never empty."""

    exit_code: ClassVar[int] = 1

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        items = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        if not items:
            raise ValueError("a HeadraceError needs at least one diagnostic")
        self.diagnostics: tuple[Diagnostic, ...] = items
        super().__init__(items)

    def __str__(self) -> str:
        return "\n".join(str(d) for d in self.diagnostics)

    @property
    def code(self) -> str:
        """The code of the first diagnostic."""
        return self.diagnostics[0].code

    def as_dict(self) -> dict[str, Any]:
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "diagnostics": [d.as_dict() for d in self.diagnostics],
        }


class UsageError(HeadraceError):
    exit_code = 2


class InputFileError(HeadraceError):
    exit_code = 3


class UnsupportedModelError(HeadraceError):
    """The network cannot be translated; lists *all* offending nodes."""

    exit_code = 4


class ScriptError(HeadraceError):
    exit_code = 5


class DataError(HeadraceError):
    exit_code = 6


class AccuracyError(HeadraceError):
    """The quantized network is not accurate enough; ``result`` is what came out all the same."""

    exit_code = 7

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic], result: object = None) -> None:
        super().__init__(diagnostics)
        self.result = result


class CapacityError(HeadraceError):
    """The network does not fit; ``report`` holds resource, need, have, terms and levers as data."""

    exit_code = 8

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic], report: dict[str, Any] | None = None) -> None:
        super().__init__(diagnostics)
        self.report: dict[str, Any] = report or {}

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"report": self.report}


class DeviceError(HeadraceError):
    """The run time refused; ``status`` is the numeric status of the native library (0 when not from there)."""

    exit_code = 9

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic], status: int = 0) -> None:
        super().__init__(diagnostics)
        self.status = status


class MissingExtraError(HeadraceError):
    exit_code = 10


class NotBuiltYetError(HeadraceError):
    exit_code = 11


class MemoryLimitError(HeadraceError):
    exit_code = 12


class InternalError(HeadraceError):
    exit_code = 70


class DataWarning(UserWarning):
    """Data that run, and whose result is probably not what is wanted (issued by ``warnings.warn``)."""


def did_you_mean(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """The candidates most like ``name``, best first; deterministic for equal scores."""
    pool: Sequence[str] = sorted(set(candidates))
    lowered: dict[str, str] = {}
    for candidate in pool:
        lowered.setdefault(candidate.lower(), candidate)
    matches = difflib.get_close_matches(name.lower(), list(lowered), n=limit, cutoff=0.5)
    tails = [c for c in pool if c.rsplit("/", 1)[-1].lower() == name.rsplit("/", 1)[-1].lower()]
    ordered = tails + [lowered[m] for m in matches]
    return list(dict.fromkeys(ordered))[:limit]


def unknown_name(code: str, what: str, name: str, candidates: Iterable[str], where: str = "") -> Diagnostic:
    """The diagnostic for a name the user typed that does not exist, with suggestions."""
    known = sorted(set(candidates))
    close = did_you_mean(name, known)
    levers = (f"did you mean {' or '.join(repr(c) for c in close)}?",) if close else ()
    shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return Diagnostic(code, where, f"there is no {what} of this name", repr(name), f"one of: {shown}", levers)


def internal_error(where: str, error: BaseException) -> InternalError:
    """The error for an exception that nothing in Headrace foresaw, at the place where it came up."""
    lever = "set HEADRACE_DEBUG=1 and run the same command to see the traceback, and please report it"
    got = f"{type(error).__name__}: {error}"[:2000]
    return InternalError(Diagnostic("E-INTERNAL", where, "this is a bug in Headrace", got, levers=(lever,)))


_NO_MEMORY = (
    "bad_alloc",
    "failed to map segment",
    "cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
    "cannot enable executable stack",
    "unable to allocate",
    "bad allocation",
    "failed to allocate memory",
    "can't start new thread",
    "resource temporarily unavailable",
)


_MAY_SAY_SO = (MemoryError, ImportError, RuntimeError, OSError)


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of a library only means that memory was short."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    return any(words in text for words in _NO_MEMORY)


def out_of_memory(error: BaseException, where: str = "") -> MemoryLimitError | None:
    """The error for an exception that only means that memory was short; None for any other.

    Libraries say it in many ways: as a ``MemoryError``, as an import that fails half way, in the text of a
    ``RuntimeError``.
    """
    text = str(error)
    if not (isinstance(error, _MAY_SAY_SO) and says_out_of_memory(error)):
        return None
    got = f"{type(error).__name__}{': ' if text else ''}{text[:200]}"
    levers = ("ulimit -v unlimited", "close other programs", "a smaller --batch-size, or fewer frames")
    need = "more memory for this process"
    return MemoryLimitError(Diagnostic("E-MEMORY", where, "there is not enough memory", got, need, levers))


#: Address space that importing torch and computing with it takes at least; below it, it does not fail but aborts.
TORCH_BYTES = 640 << 20


def need_memory_for_torch() -> None:
    """Refuse where the process may not have the memory that torch takes (``ulimit -v``).

    Raises:
        MemoryLimitError: before torch is imported, which would end the process without a word.
    """
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or "torch" in sys.modules:
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        used = 0  # no Linux: the limit alone is judged
    if limit - used < TORCH_BYTES:
        got, need = f"{(limit - used) >> 20} MiB left below ulimit -v", f"{TORCH_BYTES >> 20} MiB for torch alone"
        raise MemoryLimitError(
            Diagnostic("E-MEMORY", "torch", "there is not enough memory", got, need, ("ulimit -v unlimited",))
        )


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """The error for an optional dependency that is not installed."""
    return MissingExtraError(
        Diagnostic(
            "E-MISSING-EXTRA",
            package,
            "this step needs a package that is not installed",
            f"no module {package!r}",
            f"the extra [{extra}]",
            (f"pip install 'headrace[{extra}]'",),
        )
    )
