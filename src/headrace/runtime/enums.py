# SPDX-License-Identifier: Apache-2.0
"""Enumerations with the names and values people know from pyHailoRT."""

from __future__ import annotations

from enum import Enum, IntEnum


class FormatType(IntEnum):
    """Element type of a buffer the user gives; AUTO is the stream's own code type."""

    AUTO = 0
    UINT8 = 1
    UINT16 = 2
    FLOAT32 = 3


class FormatOrder(IntEnum):
    """Order of a buffer. Only AUTO, NHWC and NC can be used here; the others exist so that names resolve."""

    AUTO = 0
    NHWC = 1
    NHCW = 2
    FCR = 3
    F8CR = 4
    NHW = 5
    NC = 6
    BAYER_RGB = 7
    BAYER_RGB_12_BIT = 8
    HAILO_NMS = 9
    RGB888 = 10
    NCHW = 11
    YUY2 = 12
    NV12 = 13
    NV21 = 14
    HAILO_YYUV = 15
    HAILO_YYVU = 16
    RGB4 = 17
    I420 = 18
    HAILO_YYYYUV = 19
    HAILO_NMS_WITH_BYTE_MASK = 20
    HAILO_NMS_ON_CHIP = 21
    HAILO_NMS_BY_CLASS = 22
    HAILO_NMS_BY_SCORE = 23


class HailoSchedulingAlgorithm(IntEnum):
    """How several networks share a device. Results never depend on it; the virtual device runs one call at a time."""

    NONE = 0
    ROUND_ROBIN = 1


class HailoPowerMode(IntEnum):
    """Accepted and without effect: a virtual device has no power modes."""

    PERFORMANCE = 0
    ULTRA_PERFORMANCE = 1


class HailoStreamDirection(IntEnum):
    """Seen from the host."""

    H2D = 0
    D2H = 1


class Status(IntEnum):
    """Status numbers of the run time that can occur here (``DeviceError.status``)."""

    SUCCESS = 0
    INVALID_ARGUMENT = 2
    OUT_OF_HOST_MEMORY = 3
    TIMEOUT = 4
    INVALID_OPERATION = 6
    NOT_IMPLEMENTED = 7
    INTERNAL_FAILURE = 8
    OPEN_FILE_FAILURE = 13
    INVALID_HEF = 26
    NOT_FOUND = 61
    OUT_OF_PHYSICAL_DEVICES = 74
    HEF_FILE_CORRUPTED = 91
    HEF_NOT_SUPPORTED = 92
    HEF_NOT_COMPATIBLE_WITH_DEVICE = 93
    DEADLOCK = 1001


def shown(value: object) -> str:
    """A caller's value in an error: an enum's name, anything else as Python writes it."""
    return value.name if isinstance(value, Enum) else repr(value)
