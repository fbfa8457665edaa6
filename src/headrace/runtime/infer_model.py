# SPDX-License-Identifier: Apache-2.0
"""``InferModel``: choose formats and batch size, then configure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hef.description import StreamDescription
from headrace.runtime.bindings import Port
from headrace.runtime.configured import ConfiguredInferModel
from headrace.runtime.enums import FormatOrder, FormatType, HailoPowerMode, Status, shown
from headrace.runtime.exceptions import device_error
from headrace.runtime.hef import HEF
from headrace.runtime.infos import Format, QuantInfo, code_type, dtype_of, find_stream, format_order, quant_infos
from headrace.runtime.postprocess import Postprocess
from headrace.typeguards import is_integer

MAX_BATCH = 65536


class InferStream:
    """One input or output of an :class:`InferModel` and the format its buffers will have."""

    def __init__(self, stream: StreamDescription) -> None:
        self._stream = stream
        self._type = FormatType.AUTO

    @property
    def name(self) -> str:
        return self._stream.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame: (H, W, C) or (C,)."""
        return self._stream.shape

    @property
    def stream(self) -> StreamDescription:
        """What the HEF says about it."""
        return self._stream

    @property
    def format(self) -> Format:
        """The buffers' format; AUTO is shown as the stream's code type."""
        kind = code_type(self._stream) if self._type == FormatType.AUTO else self._type
        return Format(kind, format_order(self._stream))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy type buffers must have."""
        return dtype_of(self._stream, self._type)

    @property
    def quant_infos(self) -> list[QuantInfo]:
        """One, or one per channel (the last axis) where channels have scales of their own."""
        return quant_infos(self._stream)

    @property
    def is_nms(self) -> bool:
        """Always False: outputs are what the device gives; :meth:`InferModel.postprocess` makes boxes of them."""
        return False

    def set_format_type(self, type: FormatType) -> None:  # noqa: A002  the public parameter name
        """Codes (AUTO, or UINT8/UINT16 as the stream has) or FLOAT32, which quantizes inputs and dequantizes outputs.

        Raises:
            HailoRTInvalidArgumentException: the stream's codes have another size.
        """
        where, own = f"{self._stream.direction} {self.name!r}", code_type(self._stream)
        allowed = (FormatType.AUTO, FormatType.FLOAT32, own)
        if type not in allowed:
            got = shown(type)
            rule, need = "the stream cannot have this format type", f"AUTO, {own.name} or FLOAT32"
            raise device_error(Status.INVALID_ARGUMENT, Diagnostic("E-FORMAT", where, rule, got, need))
        self._type = FormatType(type)

    def set_format_order(self, order: FormatOrder) -> None:
        """Only AUTO and the stream's own order are built."""
        own = format_order(self._stream)
        if order not in (FormatOrder.AUTO, own):
            rule = "changing the order of buffers is not built yet"
            got = shown(order)
            levers = ("transpose with numpy before and after",)
            raise NotBuiltYetError(Diagnostic("E-NOT-BUILT", self.name, rule, got, f"AUTO or {own.name}", levers))

    def port(self) -> Port:
        """The stream with the format chosen now."""
        return Port(self._stream, self._type)


class InferModel:
    """A network about to run on a device; made by ``VDevice.create_infer_model``."""

    def __init__(self, hef: HEF, configure: Callable[[InferModel], ConfiguredInferModel]) -> None:
        self._hef = hef
        self._configure = configure
        self._batch_size = 0
        self._inputs = [InferStream(s) for s in hef.description.inputs]
        self._outputs = [InferStream(s) for s in hef.description.outputs]

    @property
    def hef(self) -> HEF:
        return self._hef

    def postprocess(self) -> Postprocess | None:
        """What makes boxes of the outputs; None where the HEF has no detection head.

        Raises:
            DeviceError: it is damaged.
        """
        found = self._hef.nms()
        return None if found is None else Postprocess(found)

    @property
    def inputs(self) -> list[InferStream]:
        return list(self._inputs)

    @property
    def outputs(self) -> list[InferStream]:
        return list(self._outputs)

    @property
    def input_names(self) -> list[str]:
        return [s.name for s in self._inputs]

    @property
    def output_names(self) -> list[str]:
        return [s.name for s in self._outputs]

    @property
    def batch_size(self) -> int:
        """Frames per call of the device; 0 chooses by itself. Results never depend on it."""
        return self._batch_size

    def input(self, name: str = "") -> InferStream:
        return self._find(name, self._inputs, "input")

    def output(self, name: str = "") -> InferStream:
        return self._find(name, self._outputs, "output")

    def _find(self, name: str, streams: list[InferStream], what: str) -> InferStream:
        known = self._hef.description.inputs if what == "input" else self._hef.description.outputs
        chosen = find_stream(name, known, what, self._hef.description.network_name)
        return next(s for s in streams if s.name == chosen.name)

    def set_batch_size(self, batch_size: int) -> None:
        """Frames per call of the device, 0 (automatic) … 65536.

        Raises:
            HailoRTInvalidArgumentException: the number is out of range.
        """
        if not is_integer(batch_size) or not 0 <= batch_size <= MAX_BATCH:
            rule, need = "the batch size is out of range", f"a whole number, 0 … {MAX_BATCH}"
            problem = Diagnostic("E-BATCH", self._hef.description.network_name, rule, repr(batch_size), need)
            raise device_error(Status.INVALID_ARGUMENT, problem)
        self._batch_size = batch_size

    def set_power_mode(self, power_mode: HailoPowerMode) -> None:
        """Accepted and without effect."""
        del power_mode

    def configure(self) -> ConfiguredInferModel:
        """Load the network on the device with the formats chosen so far.

        Raises:
            DeviceError: the device was released, refuses the program, or it was compiled for another target.
        """
        return self._configure(self)
