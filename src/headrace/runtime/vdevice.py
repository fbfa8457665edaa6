# SPDX-License-Identifier: Apache-2.0
"""``VDevice``: a virtual device on this computer."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from headrace.errors import Diagnostic, HeadraceError, NotBuiltYetError, unknown_name
from headrace.hef.description import StreamDescription
from headrace.runtime import native
from headrace.runtime.configured import ConfiguredInferModel
from headrace.runtime.devices import ID_PREFIX
from headrace.runtime.enums import HailoSchedulingAlgorithm, Status
from headrace.runtime.exceptions import HailoRTInvalidHEFException, HailoRTNotFoundException, device_error
from headrace.runtime.hef import HEF
from headrace.runtime.infer_model import InferModel
from headrace.targets.description import Target, list_targets, load_target
from headrace.typeguards import is_integer

if TYPE_CHECKING:
    from headrace.runtime import _native

MAX_THREADS = 256  # what the native library takes


@dataclass
class VDeviceParams:
    """What ``VDevice.create_params`` gives: known attributes, to be changed before opening.

    Attributes:
        device_ids: ids of :func:`headrace.runtime.scan`; at most one here.
        device_count: number of devices behind one handle; only 1 is built.
        scheduling_algorithm: accepted; results never depend on it.
        group_id: accepted and without effect.
        multi_process_service: only False is built.
    """

    device_ids: list[str] | None = None
    device_count: int = 1
    scheduling_algorithm: HailoSchedulingAlgorithm = HailoSchedulingAlgorithm.ROUND_ROBIN
    group_id: str = ""
    multi_process_service: bool = False


class VDevice:
    """A virtual device; a context manager.

    Args:
        params: from :meth:`create_params`.
        device_ids: ids of :func:`headrace.runtime.scan`, one at most; names the target to be.
        arch: target to be, by name or by the path of a target file. Without it (and without ids) the device becomes
            the target of the first program it loads.
        threads: worker threads; 0 takes one per CPU. Results never depend on it.
        kernels: a name of :func:`headrace.runtime.native.kernel_sets`; without it ``$HEADRACE_KERNELS``, else the best
            the CPU has. Results never depend on it.

    Raises:
        DeviceError: an argument is wrong, or the native library is missing.
    """

    def __init__(
        self,
        params: VDeviceParams | None = None,
        *,
        device_ids: Sequence[str] | None = None,
        arch: str | os.PathLike[str] | None = None,
        threads: int = 0,
        kernels: str | None = None,
    ) -> None:
        params = params or VDeviceParams()
        self._lock = threading.Lock()
        self._models: list[weakref.ref[ConfiguredInferModel]] = []
        _check_params(params, threads)
        target = _target(arch, device_ids if device_ids is not None else params.device_ids)
        name, runs = (target.name, " ".join(target.runs)) if target else (None, None)
        module = native.native_module()
        self._device: _native.Device | None = native.call("VDevice", module.Device, name, threads, kernels, runs)

    @staticmethod
    def create_params() -> VDeviceParams:
        """Parameters with their default values."""
        return VDeviceParams()

    def __enter__(self) -> VDevice:
        self._live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Shut down every model configured here and close the device. May be called again."""
        with self._lock:
            models, self._models = self._models, []
            self._device = None
        for reference in models:
            model = reference()
            if model is not None:
                model.shutdown()

    @property
    def arch(self) -> str:
        """The target it is; empty while it has not taken one from a program."""
        return self._live().arch

    @property
    def kernels(self) -> str:
        """The kernel set in use."""
        return self._live().kernels

    @property
    def threads(self) -> int:
        """Worker threads in use."""
        return self._live().threads

    def get_physical_devices_ids(self) -> list[str]:
        """One id; without a target yet it is that of any."""
        return [f"{ID_PREFIX}{self.arch or 'any'}"]

    def create_infer_model(self, hef_source: HEF | str | os.PathLike[str] | bytes, name: str = "") -> InferModel:
        """A network of a HEF, to choose formats for and configure.

        Args:
            hef_source: a :class:`HEF`, its path or its bytes.
            name: network name; a HEF of ours holds one, so it may stay empty.
        """
        self._live()
        hef = hef_source if isinstance(hef_source, HEF) else HEF(hef_source)
        known = hef.get_network_group_names() + hef.get_networks_names()
        if name and name not in known:
            problem = unknown_name("E-HEF-NAME", "network", name, known, hef.path or "HEF")
            raise HailoRTNotFoundException(problem, Status.NOT_FOUND)
        return InferModel(hef, self._configure)

    def configure(self, hef: HEF, configure_params_by_name: dict[str, Any] | None = None) -> list[Any]:
        """The older vstream interface; not built."""
        del hef, configure_params_by_name
        rule, levers = "configured network groups and vstreams are not built yet", ("create_infer_model(hef)",)
        raise NotBuiltYetError(Diagnostic("E-NOT-BUILT", "VDevice.configure", rule, "", "", levers))

    def _live(self) -> _native.Device:
        device = self._device
        if device is None:
            problem = Diagnostic(
                "E-RELEASED", "VDevice", "the device was released", "a call after it", "an open device"
            )
            raise device_error(Status.INVALID_OPERATION, problem)
        return device

    def _configure(self, model: InferModel) -> ConfiguredInferModel:
        device = self._live()
        name = model.hef.description.network_name
        network = native.call(model.hef.path or f"HEF of {name!r}", device.load, model.hef.data)
        _check_agreement(network, model.hef)
        configured = ConfiguredInferModel(
            name, network, [s.port() for s in model.inputs], [s.port() for s in model.outputs], model.batch_size
        )
        with self._lock:
            released = self._device is None
            self._models = [r for r in self._models if r() is not None] + [weakref.ref(configured)]
        if released:
            configured.shutdown()
            self._live()
        return configured


def _check_params(params: VDeviceParams, threads: int) -> None:
    found: list[Diagnostic] = []
    if not is_integer(threads) or not 0 <= threads <= MAX_THREADS:
        need = f"a whole number, 0 (one per CPU) … {MAX_THREADS}"
        found.append(Diagnostic("E-DEVICE-PARAMS", "VDevice", "threads is out of range", repr(threads), need))
    for rule, value, good in (
        ("several devices behind one handle are not built yet", params.device_count, 1),
        ("sharing a device between processes is not built yet", params.multi_process_service, False),
    ):
        if value != good:
            found.append(Diagnostic("E-DEVICE-PARAMS", "VDevice", rule, repr(value), repr(good)))
    if found:
        raise device_error(Status.INVALID_ARGUMENT, found)


def _target(arch: str | os.PathLike[str] | None, device_ids: Sequence[str] | None) -> Target | None:
    """The target to be, or None to take the program's."""
    ids = [device_ids] if isinstance(device_ids, str) else list(device_ids or ())
    if len(ids) > 1:
        rule = "several devices behind one handle are not built yet"
        problem = Diagnostic("E-DEVICE-PARAMS", "VDevice", rule, f"{len(ids)} device ids", "one")
        raise device_error(Status.INVALID_ARGUMENT, problem)
    wanted = [str(i).removeprefix(ID_PREFIX) for i in ids if str(i) != f"{ID_PREFIX}any"]
    target: Target | None = None
    if arch is not None:
        try:
            target = load_target(arch if isinstance(arch, str) else os.fspath(arch))
        except HeadraceError as error:
            raise device_error(Status.OUT_OF_PHYSICAL_DEVICES, list(error.diagnostics)) from error
        wanted.append(target.name)
    for name in wanted:
        if arch is None and name not in list_targets():
            known = [f"{ID_PREFIX}{t}" for t in list_targets()]
            problem = unknown_name("E-DEVICE-ID", "device", f"{ID_PREFIX}{name}", known, "VDevice")
            raise device_error(Status.OUT_OF_PHYSICAL_DEVICES, problem)
    if len(set(wanted)) > 1:
        rule = "device id and arch name different targets"
        problem = Diagnostic("E-DEVICE-PARAMS", "VDevice", rule, " and ".join(wanted), "one target")
        raise device_error(Status.INVALID_ARGUMENT, problem)
    return target or (load_target(wanted[0]) if wanted else None)


def _check_agreement(network: _native.Network, hef: HEF) -> None:
    """The description and the program must mean the same streams; a file that was tampered with may not."""
    found: list[Diagnostic] = []
    description = hef.description
    for kind, streams, infos in (
        ("input", description.inputs, network.inputs),
        ("output", description.outputs, network.outputs),
    ):
        native_streams = {i["name"]: _facts_of(i) for i in infos}
        described = {s.name: _facts(s) for s in streams}
        if native_streams != described:
            rule = f"the {kind} streams of the description and of the program differ"
            levers = ("compile the network again",)
            found.append(
                Diagnostic("E-HEF-STREAMS", hef.path or "HEF", rule, str(described), str(native_streams), levers)
            )
    if found:
        raise HailoRTInvalidHEFException(found, Status.INVALID_HEF)


def _facts(stream: StreamDescription) -> tuple[Any, ...]:
    sizes = (stream.height, stream.width, stream.features)
    if stream.channel_scales:
        return (*sizes, stream.data_bytes, stream.channel_scales, stream.channel_zero_points)
    return (*sizes, stream.data_bytes, stream.scale, stream.zero_point)


def _facts_of(info: _native.StreamInfo) -> tuple[Any, ...]:
    sizes = (info["height"], info["width"], info["channels"])
    if info["channel_scales"]:
        return (*sizes, info["element_bytes"], info["channel_scales"], info["channel_zero_points"])
    return (*sizes, info["element_bytes"], info["scale"], info["zero_point"])
