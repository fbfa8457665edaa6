# SPDX-License-Identifier: Apache-2.0
"""The only door to the native module: loaded when a device is opened, its errors turned into ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from headrace.errors import DeviceError, Diagnostic
from headrace.runtime.enums import Status
from headrace.runtime.exceptions import device_error

if TYPE_CHECKING:
    from headrace.runtime import _native

P = ParamSpec("P")
T = TypeVar("T")


def native_module():  # the module itself: a type that only inference can name
    """The module ``headrace.runtime._native``.

    Raises:
        DeviceError: it is not built, or it does not load on this machine.
    """
    if TYPE_CHECKING:
        return _native
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
        return native_module().kernel_sets()
    except DeviceError:
        return []


def library_version() -> str:
    """Version of the native library."""
    return native_module().library_version()


def call(where: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call into the native module; its error becomes a device error that says ``where``.

    Raises:
        DeviceError: of the kind that belongs to the native status.
    """
    module = native_module()
    try:
        return function(*args, **kwargs)
    except module.NativeError as error:
        raise status_error(where, error.status, error.problems) from error
    except MemoryError as error:
        rule = "the host has not enough memory"
        problem = Diagnostic("E-DEVICE-MEMORY", where, rule, "", "", ("use a smaller batch",))
        raise device_error(Status.OUT_OF_HOST_MEMORY, problem) from error


def status_error(where: str, status: int, problems: Iterable[_native.Problem]) -> DeviceError:
    """The device error of a native status and its problems, each at its place inside ``where``."""
    found = [
        Diagnostic(
            p.code, f"{where}, {p.where}" if p.where else where, p.rule, p.got, p.need, (p.lever,) if p.lever else ()
        )
        for p in problems
    ]
    return device_error(status, found)
