# SPDX-License-Identifier: Apache-2.0
"""A target: what the allocator may use, and how fast the parts are (docs/formats/target.md).

Built-in targets are the TOML files beside this module; anybody adds one by giving a path to a file of the same form.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from importlib import resources
from math import floor
from pathlib import Path, PurePath
from typing import Any

from headrace.errors import Diagnostic, InputFileError, UsageError, did_you_mean, unknown_name
from headrace.typeguards import is_list, is_object

MAX_FILE_BYTES = 1 << 16
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
#: Real devices without a description here, and why (docs/formats/target.md).
_NOT_DESCRIBED: dict[str, str] = {
    "hailo8p": "no public figure tells it from hailo8",
    "hailo8r": "only its clock (200 MHz) is public, not its clusters or its host link",
    "hailo10p": "nothing is public but its name",
    "hailo12l": "nothing is public but its name",
    "hailo15m": "which clusters of hailo15h it has is not public",
    "mars": "nothing is public but its name",
    "pluto": "it is the code name of hailo15l",
}

# Accepted range of each whole number. Upper bounds keep every sum and product of the allocator and the event simulation
# far inside 64 bits; they are no statement about real devices.
RANGES: dict[str, tuple[int, int]] = {
    "clusters": (1, 64),
    "controllers_per_cluster": (1, 1024),
    "subclusters_per_cluster": (1, 4096),
    "memory_units_per_cluster": (1, 65536),
    "memory_unit_bytes": (1, 1 << 24),
    "activation_units_per_cluster": (1, 4096),
    "input_aligners_per_cluster": (1, 4096),
    "macs_per_subcluster": (1, 4096),
    "clock_hz": (1_000_000, 100_000_000_000),
    "port_bytes_per_cycle": (1, 4096),
    "busy_numerator": (1, 65535),
    "busy_denominator": (1, 65535),
    "row_overhead_cycles": (0, 1_000_000),
    "link_bytes_per_second": (1_000, 10**15),
    "context_switch_ns": (0, 10**12),
    "cut_bytes_per_second": (1_000, 10**15),
}
_SHARES = ("usable_controllers", "usable_subclusters", "usable_memory_units")


@dataclass(frozen=True)
class Target:
    """One device description; integers as in the microcode's target record, shares for the allocator only.

    Attributes:
        name: what users type and what a program carries.
        title: one line for people.
        clusters: clusters of the device.
        controllers_per_cluster: layer controllers of one cluster.
        subclusters_per_cluster: sub-clusters of one cluster.
        memory_units_per_cluster: memory units of one cluster.
        memory_unit_bytes: bytes of one memory unit.
        activation_units_per_cluster: activation units of one cluster.
        input_aligners_per_cluster: input aligners of one cluster.
        macs_per_subcluster: 8-bit multiply-accumulates of one sub-cluster per cycle.
        clock_hz: cycles per second.
        port_bytes_per_cycle: bytes a controller's port moves per cycle, each way.
        busy_numerator, busy_denominator: share of the cycles in which engine and ports do useful work.
        row_overhead_cycles: cycles per output row and stage.
        link_bytes_per_second: host link, both directions together; also the rate at which weights are reloaded.
        context_switch_ns: fixed time of one context switch, nanoseconds.
        cut_bytes_per_second: rate of tensors that cross contexts.
        usable_controllers, usable_subclusters, usable_memory_units: shares (0 … 1] that one context may use.
        runs: names of other targets whose programs this device also runs.
    """

    name: str
    title: str
    clusters: int
    controllers_per_cluster: int
    subclusters_per_cluster: int
    memory_units_per_cluster: int
    memory_unit_bytes: int
    activation_units_per_cluster: int
    input_aligners_per_cluster: int
    macs_per_subcluster: int
    clock_hz: int
    port_bytes_per_cycle: int
    busy_numerator: int
    busy_denominator: int
    row_overhead_cycles: int
    link_bytes_per_second: int
    context_switch_ns: int
    cut_bytes_per_second: int
    usable_controllers: float = 1.0
    usable_subclusters: float = 1.0
    usable_memory_units: float = 1.0
    runs: tuple[str, ...] = ()

    @property
    def controllers(self) -> int:
        """Layer controllers that one context may use, on all clusters."""
        return _share(self.clusters * self.controllers_per_cluster, self.usable_controllers)

    @property
    def subclusters(self) -> int:
        """Sub-clusters that one context may use, on all clusters."""
        return _share(self.clusters * self.subclusters_per_cluster, self.usable_subclusters)

    @property
    def memory_units(self) -> int:
        """Memory units that one context may use, on all clusters."""
        return _share(self.clusters * self.memory_units_per_cluster, self.usable_memory_units)

    @property
    def busy_share(self) -> Fraction:
        """Share of the cycles in which engine and ports do useful work."""
        return Fraction(self.busy_numerator, self.busy_denominator)

    @property
    def tera_operations_per_second(self) -> float:
        """Rated speed: two operations per multiply-accumulate, every unit busy in every cycle."""
        macs = self.clusters * self.subclusters_per_cluster * self.macs_per_subcluster
        return 2 * macs * self.clock_hz / 1e12

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"runs": list(self.runs)}


def _share(total: int, share: float) -> int:
    """Whole units in ``share`` of ``total``; by the decimal that was written, so 0.9 of 10 is 9."""
    return floor(total * Fraction(str(share)))


def list_targets() -> list[str]:
    """Names of the built-in targets, in a fixed order."""
    folder = resources.files("headrace.targets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_target(name_or_path: str | Path, where: str = "") -> Target:
    """A built-in target by name, or any target by the path of its file.

    A string with a path separator or the ending ``.toml`` is a path. Names may be written in upper case.

    Args:
        name_or_path: what was typed.
        where: what typed it, for errors.

    Raises:
        UsageError: there is no built-in target of this name.
        InputFileError: the file cannot be read or breaks rules; all of them are listed.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        return parse_target(_read(Path(name_or_path)), text)
    name = text.strip().lower()
    if name not in list_targets():
        raise UsageError(_unknown(text, name, where))
    source = resources.files("headrace.targets").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return parse_target(source, f"{name}.toml")


def _unknown(text: str, name: str, where: str) -> Diagnostic:
    """What is wrong with a name of no built-in target; real devices that are not described get the reason."""
    if name not in _NOT_DESCRIBED:
        return unknown_name("E-TARGET-UNKNOWN", "target", text[:80], list_targets(), where)
    rule = f"this is a real device, but no target here describes it: {_NOT_DESCRIBED[name]}"
    near = "hailo15l" if name == "pluto" else "hailo8" if name.startswith("hailo8") else "hailo15h"
    levers = (
        f"{near}, the nearest that is described",
        "a target file of your own: --hw-arch FILE.toml (docs/formats/target.md)",
    )
    return Diagnostic("E-TARGET-UNKNOWN", where, rule, repr(text), "one of: " + ", ".join(list_targets()), levers)


def _read(path: Path) -> str:
    try:
        # Not to wait where a pipe stands that nobody writes to.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "is not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InputFileError(_bad(str(path), "the target file is too large", "more", f"{MAX_FILE_BYTES} bytes"))
        return data.decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        levers = (f"built-in targets: {', '.join(list_targets())}",)
        problem = Diagnostic("E-FILE-READ", str(path), "the target file cannot be read", reason, "TOML text", levers)
        raise InputFileError(problem) from error


def parse_target(text: str, where: str) -> Target:
    """A target from TOML text.

    Args:
        text: the file's text.
        where: how the file is called in errors.

    Raises:
        InputFileError: the text is not TOML, or keys are unknown, missing or out of range; all of them are listed.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:  # ValueError: a number of > 4300 digits
        problem = _bad(where, "the target file is not valid TOML", str(error) or type(error).__name__, "TOML 1.0")
        raise InputFileError(problem) from error
    return target_of(data, where)


def target_of(data: Mapping[str, Any], where: str) -> Target:
    """A target from its keys and values, as :meth:`Target.as_dict` gives them.

    Raises:
        InputFileError: keys are unknown, missing or out of range; all of them are listed.
    """
    found = list(_problems(data, where))
    if found:
        raise InputFileError(found)
    values: dict[str, Any] = {**data, "runs": tuple(data.get("runs", ()))}
    return Target(**values)


def is_built_in(target: Target) -> bool:
    """Whether this is a built-in target, unchanged."""
    return target.name in list_targets() and target == load_target(target.name)


def archived_target(name: str, own: Any, where: str) -> Target:
    """The target that an archive is for.

    Args:
        name: as the archive has it; older archives hold the path of a target file, of which the file's name counts.
        own: the description of a target that is not built in, or anything else.
        where: how the archive is called in errors.

    Raises:
        InputFileError: there is no such target.
    """
    if is_object(own):
        return target_of(own, where)
    try:
        return load_target(PurePath(name).name.removesuffix(".toml"), where)
    except UsageError as error:
        (found,) = error.diagnostics
        levers = (*found.levers, "name the target: --hw-arch NAME, or ClientRunner(hw_arch=NAME, har=...)")
        raise InputFileError(replace(found, levers=levers)) from None


def _problems(data: Mapping[str, Any], where: str) -> Iterator[Diagnostic]:
    known = [f.name for f in fields(Target)]
    for key in data:
        if key not in known:
            yield unknown_name("E-TARGET-KEY", "target key", key[:80], known, where)
    optional = (*_SHARES, "runs")
    for key in known:
        if key not in data and key not in optional:
            typed = did_you_mean(key, [k for k in data if k not in known])
            got = f"{typed[0]!r} instead" if typed else "nothing"
            yield _bad(where, f"the key {key!r} is missing", got, "every whole number, name and title")
    for key, value in data.items():
        yield from _value_problems(key, value, where)
    numerator, denominator = data.get("busy_numerator"), data.get("busy_denominator")
    if isinstance(numerator, int) and isinstance(denominator, int) and numerator > denominator:
        yield _bad(where, "the busy share is above 1", f"{numerator}/{denominator}", "numerator ≤ denominator")


def _value_problems(key: str, value: Any, where: str) -> Iterator[Diagnostic]:
    if key in RANGES:
        low, high = RANGES[key]
        if type(value) is not int or not low <= value <= high:  # a bool is no number here
            yield _bad(where, f"{key} is out of range", _shown(value), f"a whole number, {low} … {high}")
    elif key in _SHARES:
        if type(value) not in (int, float) or not 0 < value <= 1:
            yield _bad(where, f"{key} is not a share", _shown(value), "a number above 0, at most 1")
    elif key == "name":
        if not (isinstance(value, str) and _NAME.fullmatch(value)):
            need = "1 … 64 of a-z, 0-9, '_', '-', '.', first a letter or digit"
            yield _bad(where, "the name is not usable", _shown(value), need)
    elif key == "title":
        if not (isinstance(value, str) and value.isprintable() and 0 < len(value) <= 120):
            yield _bad(where, "the title is not usable", _shown(value), "one line of at most 120 characters")
    elif key == "runs" and not _are_names(value):
        yield _bad(where, "runs is not a list of target names", _shown(value), 'for example ["hailo8l"]')


def _are_names(value: object) -> bool:
    return is_list(value) and len(value) <= 64 and all(isinstance(v, str) and _NAME.fullmatch(v) for v in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _bad(where: str, rule: str, got: str, need: str) -> Diagnostic:
    return Diagnostic("E-TARGET", where, rule, got, need)
