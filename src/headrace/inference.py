# SPDX-License-Identifier: Apache-2.0
"""A network of any stage on data: the emulator in float or in integers, or the HEF on a virtual device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.data.calibration import load_calibration, load_frames
from headrace.data.files import load_path
from headrace.data.inputs import find_input, specs_of
from headrace.data.notes import Notes
from headrace.errors import Diagnostic, UsageError
from headrace.hn import Array, Network
from headrace.hn.archive import Archive, need, network_after, product
from headrace.hn.stages import COMPILE, OPTIMIZE, OPTIMIZE_FULL_PRECISION, PARSE, Stage
from headrace.numerics.array import is_array
from headrace.targets import list_targets
from headrace.typeguards import is_mapping, is_path

if TYPE_CHECKING:
    from headrace.emulator import Executor
    from headrace.host.run import Result
    from headrace.runtime import Postprocess

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
        self._float: tuple[Network, Executor] | None = None

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
            if self._float is None or self._float[0] is not network:
                self._float = network, Executor(network, "native" if context.stage is PARSE else "fp_optimized")
            return self._float[1].run(data, names, batch_size=at_once)
        if self._quantized is None:
            self._quantized = Executor(network, "quantized")
        return self._quantized.run(data, names, batch_size=at_once, dequantize=not codes)

    def whole(
        self,
        context: InferenceContext,
        dataset: object,
        batch_size: int | None = None,
        data_count: int | None = None,
        codes: bool = False,
        device_ids: Sequence[str] | None = None,
    ) -> dict[str, Result]:
        """The outputs of the file by name: the host's steps too, the device's as the context has it.

        Args:
            context: what executes the device's step.
            dataset: for the inputs of the file, see :func:`headrace.host.model_inputs`.
            batch_size: frames at a time.
            data_count: only the first frames.
            codes: refused: the host's steps take values.
            device_ids: the device, for a HEF only.

        Returns:
            By output an array as the file gives it; a list of them where frames give arrays of unlike shapes.

        Raises:
            DataError: unusable data. UsageError: there are no steps, or the stage has not run.
            MissingExtraError: the host has a network to run, and onnxruntime is not installed.
        """
        from headrace.host import WholeRun, model_inputs

        archive = self._archive
        if codes:
            rule, levers = "the whole model has values, no codes", ("leave quantized_io out", "leave whole out")
            raise UsageError(Diagnostic("E-RUNNER-ARGUMENT", "infer(whole=True)", rule, "quantized_io", levers=levers))
        if archive.whole is None:
            raise _no_steps(archive.name)
        if product(archive, context.stage) is None:
            raise need(archive, context.stage)
        data = model_inputs(archive.whole, dataset, archive.name, limit=data_count)

        def device(frames: dict[str, Array]) -> dict[str, Array]:
            return self.run(context, frames, batch_size=batch_size, device_ids=device_ids)

        return WholeRun(archive.whole, device, archive.name).run(data, batch_size)

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


def _no_steps(name: str) -> UsageError:
    rule, levers = "nothing tells the steps of the whole model", ("parse the model again",)
    return UsageError(Diagnostic("E-WHOLE-MISSING", name, rule, "an archive of an older version", "its steps", levers))


def calibration_frames(
    archive: Archive, given: Any, resize: str | None, channels: str | None, limit: int | None, notes: Notes
) -> dict[str, Array] | None:
    """Calibration data by input layer, as :func:`headrace.data.calibration.load_calibration` gives them.

    Args:
        archive: with the network that the script has changed, and the steps of the whole model.
        given: data for the device's inputs or, where the first steps are the host's, for the file's: these steps are
            run then. None: there are none.
        resize: how pictures get the input's size.
        channels: the order of their channels.
        limit: the first frames only.
        notes: told what was done to the data.
    """
    if given is None:
        return None
    network = network_after(archive, OPTIMIZE_FULL_PRECISION)
    data = _through_the_host(archive, given, network)
    return load_calibration(data, network, resize=resize, channels=channels, limit=limit, notes=notes)


def _through_the_host(archive: Archive, given: Any, network: Network) -> Any:
    """What the host's first steps make of data for the file's inputs; data for the device's as they are."""
    whole = archive.whole
    if whole is None or not whole.before:
        return given
    from headrace.host import WholeRun, model_inputs

    if is_path(given) and Path(given).suffix.lower() in (".npz", ".npy"):
        given = load_path(Path(given), specs_of(network))
    if is_mapping(given):
        names, specs = [tensor.name for tensor in whole.inputs], specs_of(network)
        ours = {spec.name for n in given if (spec := find_input(str(n), specs)) is not None}
        theirs = len(ours) < len(specs) and any(str(n) in names for n in given)
    else:
        theirs = is_array(given) and not _fits_device(given, network)
    if not theirs:
        return given
    data = model_inputs(whole, given, archive.name)
    return WholeRun(whole, _no_device, archive.name).device_inputs(data)


def _no_device(frames: dict[str, Array]) -> dict[str, Array]:
    """The device of a run of the steps before it: not reached."""
    raise NotImplementedError


def _fits_device(array: Array, network: Network) -> bool:
    specs = specs_of(network)
    return len(specs) == 1 and array.shape[1:] in (specs[0].shape, specs[0].source_shape[1:])


def postprocess_of(archive: Archive, contradicted: bool) -> Postprocess:
    """What makes boxes of a network's outputs.

    Args:
        archive: of the network.
        contradicted: codes, or another layout than HN's, are asked for.

    Raises:
        UsageError: the network has no detection head, or boxes cannot be made of what is asked for.
    """
    from headrace.runtime import Postprocess

    if archive.nms is None:
        rule, levers = "the network has no detection head", ("write nms_postprocess(...) in the model script",)
        raise UsageError(Diagnostic("E-NMS-NONE", "infer(boxes=True)", rule, levers=levers))
    if contradicted:
        rule, got = "boxes are made of real values in HN's layout", "quantized_io, source_layout or whole"
        raise UsageError(Diagnostic("E-RUNNER-ARGUMENT", "infer(boxes=True)", rule, got, "one of the two"))
    return Postprocess(archive.nms)


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


def simulate(hef: bytes) -> dict[str, Any]:
    """The device's event simulation of a HEF: fps, latency, cycles per layer (docs/formats/microcode.md)."""
    from headrace import runtime

    return runtime.simulate(hef)


def predictions(outputs: Mapping[str, Array] | Iterable[Array]) -> Array:
    """Arg-max over the last axis of the first output: classes of a classifier, int64 ``[N]``."""
    first: Array = np.asarray(next(iter(outputs.values() if is_mapping(outputs) else outputs)))
    return first.reshape(first.shape[0], -1).argmax(axis=1)
