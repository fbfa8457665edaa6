# SPDX-License-Identifier: Apache-2.0
"""Run-time errors: :class:`headrace.errors.DeviceError` and the kinds that people's ``except`` clauses name."""

from __future__ import annotations

from headrace.errors import DeviceError, Diagnostic, InputFileError
from headrace.runtime.enums import Status

HailoRTException = DeviceError  # the base that code written for pyHailoRT catches


class HailoRTTimeout(DeviceError):
    """Nothing came back within the time the caller allowed."""


class HailoRTStreamAborted(DeviceError):
    """The work was cancelled because its network was shut down."""


class HailoRTInvalidOperationException(DeviceError):
    """The object is not in a state for this call, for instance it was released."""


class HailoRTInvalidArgumentException(DeviceError):
    """An argument has the wrong shape, type, layout or value."""


class HailoRTNotFoundException(DeviceError):
    """There is no stream, network or device of this name."""


class HailoRTHEFNotCompatibleWithDevice(DeviceError):
    """The HEF was compiled for another target."""


class HailoRTInvalidHEFException(InputFileError, DeviceError):
    """The file is not a HEF that can run here; both an input-file error and a device error."""


# A HEF problem's code -> status number; anything else is INVALID_HEF.
_HEF_STATUS = {
    "E-FILE-MISSING": Status.OPEN_FILE_FAILURE,
    "E-FILE-READ": Status.OPEN_FILE_FAILURE,
    "E-FILE-TOO-LARGE": Status.OPEN_FILE_FAILURE,
    "E-HEF-SHORT": Status.HEF_FILE_CORRUPTED,
    "E-HEF-LENGTH": Status.HEF_FILE_CORRUPTED,
    "E-HEF-RESERVED": Status.HEF_FILE_CORRUPTED,
    "E-HEF-CRC": Status.HEF_FILE_CORRUPTED,
    "E-HEF-PROTOBUF": Status.HEF_FILE_CORRUPTED,
    "E-HEF-MAGIC": Status.HEF_NOT_SUPPORTED,
    "E-HEF-VERSION": Status.HEF_NOT_SUPPORTED,
    "E-HEF-EXTENSION": Status.HEF_NOT_SUPPORTED,
    "E-HEF-FOREIGN": Status.HEF_NOT_COMPATIBLE_WITH_DEVICE,
}
_KINDS: dict[int, type[DeviceError]] = {
    Status.TIMEOUT: HailoRTTimeout,
    Status.INVALID_ARGUMENT: HailoRTInvalidArgumentException,
    Status.INVALID_OPERATION: HailoRTInvalidOperationException,
    Status.NOT_FOUND: HailoRTNotFoundException,
    Status.INVALID_HEF: HailoRTInvalidHEFException,
    Status.HEF_FILE_CORRUPTED: HailoRTInvalidHEFException,
    Status.HEF_NOT_SUPPORTED: HailoRTInvalidHEFException,
    Status.HEF_NOT_COMPATIBLE_WITH_DEVICE: HailoRTHEFNotCompatibleWithDevice,
}


def device_error(status: int, diagnostics: Diagnostic | list[Diagnostic]) -> DeviceError:
    """The error of the kind that belongs to a status number."""
    return _KINDS.get(status, DeviceError)(diagnostics, int(status))


def hef_error(error: InputFileError) -> HailoRTInvalidHEFException:
    """The run-time form of an error met while reading a HEF."""
    status = _HEF_STATUS.get(error.code, Status.INVALID_HEF)
    return HailoRTInvalidHEFException(error.diagnostics, int(status))
