# SPDX-License-Identifier: Apache-2.0
"""Run compiled networks on virtual devices, with the names people know from pyHailoRT.

::

    from headrace.runtime import HEF, FormatType, VDevice

    with VDevice() as device:
        model = device.create_infer_model("net.hef")
        model.output().set_format_type(FormatType.FLOAT32)
        with model.configure() as configured:
            bindings = configured.create_bindings({"net/input_layer1": frame}, {"net/fc1": result})
            configured.run([bindings], timeout=1000)

or in one line ``headrace.runtime.run("net.hef", {"input_layer1": frames})``. An output is called by the layer that
makes it (``headrace hef info`` lists the names); all tensors are NHWC, whatever the model file had.

Importing this package loads neither torch nor onnx, and the native library only when a device is opened.
"""

from headrace.errors import DeviceError
from headrace.runtime.bindings import Bindings
from headrace.runtime.configured import AsyncInferCompletionInfo, AsyncInferJob, ConfiguredInferModel
from headrace.runtime.devices import Device, DeviceInfo, scan
from headrace.runtime.enums import (
    FormatOrder,
    FormatType,
    HailoPowerMode,
    HailoSchedulingAlgorithm,
    HailoStreamDirection,
    Status,
)
from headrace.runtime.exceptions import (
    HailoRTException,
    HailoRTHEFNotCompatibleWithDevice,
    HailoRTInvalidArgumentException,
    HailoRTInvalidHEFException,
    HailoRTInvalidOperationException,
    HailoRTNotFoundException,
    HailoRTStreamAborted,
    HailoRTTimeout,
)
from headrace.runtime.hef import HEF
from headrace.runtime.infer_model import InferModel, InferStream
from headrace.runtime.infos import Format, NetworkGroupInfo, QuantInfo, StreamInfo, VStreamInfo
from headrace.runtime.native import kernel_sets, library_version
from headrace.runtime.oneshot import detect, find, run, simulate, verify
from headrace.runtime.postprocess import Mask, Objects, Postprocess
from headrace.runtime.vdevice import VDevice, VDeviceParams

__all__ = [
    "HEF",
    "AsyncInferCompletionInfo",
    "AsyncInferJob",
    "Bindings",
    "ConfiguredInferModel",
    "Device",
    "DeviceError",
    "DeviceInfo",
    "Format",
    "FormatOrder",
    "FormatType",
    "HailoPowerMode",
    "HailoRTException",
    "HailoRTHEFNotCompatibleWithDevice",
    "HailoRTInvalidArgumentException",
    "HailoRTInvalidHEFException",
    "HailoRTInvalidOperationException",
    "HailoRTNotFoundException",
    "HailoRTStreamAborted",
    "HailoRTTimeout",
    "HailoSchedulingAlgorithm",
    "HailoStreamDirection",
    "InferModel",
    "InferStream",
    "Mask",
    "NetworkGroupInfo",
    "Objects",
    "Postprocess",
    "QuantInfo",
    "Status",
    "StreamInfo",
    "VDevice",
    "VDeviceParams",
    "VStreamInfo",
    "detect",
    "find",
    "kernel_sets",
    "library_version",
    "run",
    "scan",
    "simulate",
    "verify",
]
