# SPDX-License-Identifier: Apache-2.0
"""Which virtual devices this computer offers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from headrace.runtime import native
from headrace.targets.description import Target, list_targets, load_target

ID_PREFIX = "virtual:"


@dataclass(frozen=True)
class DeviceInfo:
    """A virtual device that can be opened here.

    Attributes:
        device_id: for ``VDevice(device_ids=[…])``.
        arch: the target's name, for ``VDevice(arch=…)`` and ``--hw-arch``.
        title: one line for people.
        clusters, clock_hz: of the target.
        tera_operations_per_second: rated speed of the simulated device, not of this computer.
        runs: other targets whose programs it runs too.
        kernel_sets: how it can compute on this CPU, slowest first; empty when the native library is not built.
    """

    device_id: str
    arch: str
    title: str
    clusters: int
    clock_hz: int
    tera_operations_per_second: float
    runs: tuple[str, ...]
    kernel_sets: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"runs": list(self.runs), "kernel_sets": list(self.kernel_sets)}


def scan() -> list[DeviceInfo]:
    """One entry per built-in target, in a fixed order. Needs no native library."""
    sets = tuple(native.kernel_sets())
    return [_info(load_target(name), sets) for name in list_targets()]


def _info(target: Target, sets: tuple[str, ...]) -> DeviceInfo:
    return DeviceInfo(
        device_id=f"{ID_PREFIX}{target.name}",
        arch=target.name,
        title=target.title,
        clusters=target.clusters,
        clock_hz=target.clock_hz,
        tera_operations_per_second=round(target.tera_operations_per_second, 3),
        runs=target.runs,
        kernel_sets=sets,
    )


class Device:
    """The part of pyHailoRT's ``Device`` that makes sense without hardware: finding devices."""

    @classmethod
    def scan(cls) -> list[str]:
        """Ids of all virtual devices."""
        return [info.device_id for info in scan()]
