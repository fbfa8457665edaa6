# SPDX-License-Identifier: Apache-2.0
"""A network of any stage on data: the emulator in float or in integers, or the HEF on a virtual device."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from headrace.data.calibration import load_frames
from headrace.errors import Diagnostic, UsageError
from headrace.hn import Array
from headrace.hn.archive import Archive, need, network_after
from headrace.hn.stages import COMPILE, OPTIMIZE, OPTIMIZE_FULL_PRECISION, PARSE, Stage
from headrace.targets import list_targets

if TYPE_CHECKING:
    from headrace.emulator import Executor

EMULATED_AT_ONCE = 8


class InferenceContext(str, Enum):
    """What ``infer`` executes.

    SDK_NATIVE: the parsed float network. SDK_FP_OPTIMIZED: float, after the model script. SDK_QUANTIZED and
    SDK_BIT_EXACT: the integer emulator (here both are exact). SDK_HAILO_HW: the HEF on the virtual device.
    """

    SDK_NATIVE = "sdk_native"
    SDK_FP_OPTIMIZED = "sdk_fp_optimized"
    SDK_QUANTIZED = "sdk_quantized"
    SDK_BIT_EXACT = "sdk_bit_exact"
    SDK_HAILO_HW = "sdk_hailo_hw"

    @property
    def stage(self) -> Stage:
        """The stage whose result is executed."""
        return _STAGES[self]


_STAGES = {
    InferenceContext.SDK_NATIVE: PARSE,
    InferenceContext.SDK_FP_OPTIMIZED: OPTIMIZE_FULL_PRECISION,
    InferenceContext.SDK_QUANTIZED: OPTIMIZE,
    InferenceContext.SDK_BIT_EXACT: OPTIMIZE,
    InferenceContext.SDK_HAILO_HW: COMPILE,
}


class Inference:
    """Executes the networks of one archive; the quantized one is made ready once.

    Args:
        archive: as it is now; after a stage has run again there is another of this.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._quantized: Executor | None = None

    def run(
        self,
        context: InferenceContext,
        dataset: object,
        layers: Sequence[str] | None = None,
        batch_size: int | None = None,
        data_count: int | None = None,
        codes: bool = False,
        device_ids: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """The results of layers, by HN name.

        Args:
            context: what to execute.
            dataset: see :func:`headrace.data.calibration.load_frames`.
            layers: by HN or original name; all outputs by default, and nothing else on a device.
            batch_size: frames at a time; no result depends on it.
            data_count: only the first frames.
            codes: give codes instead of float32; a float network has none.
            device_ids: the device, for a HEF only.

        Returns:
            float32 or codes ``[N, …]`` each.

        Raises:
            DataError: unusable data.
            UsageError: the stage has not run, or an argument does not fit the context.
        """
        _check(context, layers, codes, device_ids)
        if context is InferenceContext.SDK_HAILO_HW:
            return self._device(dataset, batch_size, data_count, codes, device_ids)
        from headrace.emulator import Executor

        network = network_after(self._archive, context.stage)
        data = load_frames(dataset, network, data_count)
        names = None if layers is None else [network.find(name).name for name in layers]
        at_once = EMULATED_AT_ONCE if batch_size is None else batch_size
        if context.stage is not OPTIMIZE:
            executor = Executor(network, "native" if context.stage is PARSE else "fp_optimized")
            return executor.run(data, names, batch_size=at_once)
        if self._quantized is None:
            self._quantized = Executor(network, "quantized")
        return self._quantized.run(data, names, batch_size=at_once, dequantize=not codes)

    def _device(
        self,
        dataset: object,
        batch_size: int | None,
        data_count: int | None,
        codes: bool,
        device_ids: Sequence[str] | None,
    ) -> dict[str, Array]:
        hef, hw_arch = self._archive.hef, self._archive.hw_arch
        if hef is None:
            raise need(self._archive, COMPILE)
        from headrace import runtime
        from headrace.compiler.graph import output_tensors

        network = network_after(self._archive, OPTIMIZE)
        results = runtime.run(
            hef,
            load_frames(dataset, network, data_count),
            output_type=runtime.FormatType.AUTO if codes else runtime.FormatType.FLOAT32,
            # A target of the user's own stands in the program; the device takes it from there.
            arch=hw_arch if device_ids is None and hw_arch in list_targets() else None,
            device_ids=device_ids,
            batch_size=batch_size or 0,
            check_range=False,
        )
        return {layer.name: results[tensor] for layer, tensor in output_tensors(network)}


def _check(
    context: InferenceContext, layers: Sequence[str] | None, codes: bool, device_ids: Sequence[str] | None
) -> None:
    """Raises UsageError for arguments that would have no effect."""
    problem: Diagnostic | None = None
    on_device = context is InferenceContext.SDK_HAILO_HW
    if on_device and layers is not None:
        rule, levers = "the device gives network outputs only", ("use SDK_QUANTIZED: it is byte for byte the same",)
        problem = Diagnostic("E-RUNNER-LAYERS", "infer_layers", rule, str(list(layers)), "layers=None", levers)
    elif codes and context.stage in (PARSE, OPTIMIZE_FULL_PRECISION):
        rule, levers = "a float network has no codes", ("SDK_QUANTIZED and SDK_HAILO_HW have",)
        problem = Diagnostic("E-RUNNER-ARGUMENT", "infer(quantized_io=True)", rule, context.name, levers=levers)
    elif device_ids is not None and not on_device:
        rule, levers = "only SDK_HAILO_HW runs on a device", ("leave device_ids out",)
        problem = Diagnostic("E-RUNNER-ARGUMENT", "infer_context(device_ids=…)", rule, context.name, levers=levers)
    if problem is not None:
        raise UsageError(problem)
