# SPDX-License-Identifier: Apache-2.0
"""The only door to the native module: loaded when a device is opened, its errors turned into ours."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

from headrace.errors import DeviceError, Diagnostic
from headrace.runtime.enums import Status
from headrace.runtime.exceptions import device_error

P = ParamSpec("P")
T = TypeVar("T")


def native_module() -> Any:
    """The module ``headrace.runtime._native``.

    Raises:
        DeviceError: it is not built, or it does not load on this machine.
    """
    try:
        return import_module("headrace.runtime._native")
    except ImportError as error:
        levers = ("pip install headrace", "in a source tree: make setup")
        rule = "the native library is not there, so no virtual device can be opened"
        problem = Diagnostic("E-NATIVE-MISSING", "headrace.runtime", rule, str(error), "the installed package", levers)
        raise DeviceError(problem, Status.OUT_OF_PHYSICAL_DEVICES) from error


def kernel_sets() -> list[str]:
    """Kernel sets this CPU has, slowest first; empty where the native library is not built."""
    try:
        return list(native_module().kernel_sets())
    except DeviceError:
        return []


def library_version() -> str:
    """Version of the native library."""
    return str(native_module().library_version())


def call(where: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call into the native module; its error becomes a device error that says ``where``.

    Raises:
        DeviceError: of the kind that belongs to the native status.
    """
    module = native_module()
    try:
        return function(*args, **kwargs)
    except module.NativeError as error:
        raise status_error(where, *_parts(error)) from error
    except MemoryError as error:
        rule = "the host has not enough memory"
        problem = Diagnostic("E-DEVICE-MEMORY", where, rule, "", "", ("use a smaller batch",))
        raise device_error(Status.OUT_OF_HOST_MEMORY, problem) from error


def status_error(where: str, status: int, text: str) -> DeviceError:
    """The device error of a native status and its text."""
    rule, got, need = _split(text)
    return device_error(status, Diagnostic(f"E-DEVICE-{status}", where, rule, got, need))


def _parts(error: Exception) -> tuple[int, str]:
    """Status and text of a native error."""
    status = getattr(error, "status", None)
    if status is None and error.args and isinstance(error.args[0], int):
        status = error.args[0]
    text = getattr(error, "text", None) or (str(error.args[-1]) if error.args else str(error))
    return int(status) if status is not None else int(Status.INTERNAL_FAILURE), str(text)


def _split(text: str) -> tuple[str, str, str]:
    """(rule, got, need) of the native text ``rule\\n  got:  …\\n  need: …``."""
    found = {"rule": [], "got": [], "need": []}
    kind = "rule"
    for line in text.splitlines():
        stripped = line.strip()
        for key in ("got", "need"):
            if stripped.startswith(f"{key}:"):
                kind, stripped = key, stripped[len(key) + 1 :].strip()
        found[kind].append(stripped)
    return " ".join(found["rule"]), " ".join(found["got"]), " ".join(found["need"])
