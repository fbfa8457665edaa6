# SPDX-License-Identifier: Apache-2.0
"""Running a HEF in one line, and asking for its simulated time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from headrace.data.dtypes import as_values
from headrace.data.inputs import checked
from headrace.data.notes import Notes, problem_text
from headrace.data.plausible import range_problem
from headrace.errors import DataError, Diagnostic, HeadraceError
from headrace.hef.description import StreamDescription
from headrace.runtime import native
from headrace.runtime.bindings import Array
from headrace.runtime.enums import FormatType, Status
from headrace.runtime.exceptions import device_error
from headrace.runtime.hef import HEF
from headrace.runtime.infos import dtype_of, expected_values, find_stream, input_spec
from headrace.runtime.postprocess import Objects, Postprocess
from headrace.runtime.vdevice import VDevice

HefSource = HEF | str | os.PathLike[str] | bytes
Made = TypeVar("Made")


def run(
    hef: HefSource,
    inputs: Mapping[str, Array] | Array,
    *,
    output_type: FormatType = FormatType.FLOAT32,
    arch: str | os.PathLike[str] | None = None,
    device_ids: Sequence[str] | None = None,
    threads: int = 0,
    kernels: str | None = None,
    batch_size: int = 0,
    check_range: bool = True,
) -> dict[str, Array]:
    """Run a compiled network on a virtual device.

    Args:
        hef: the network: a :class:`HEF`, its path or its bytes.
        inputs: one array per input, by stream name (full, or the part after the last ``/``) or source name; a network
            with one input also takes the bare array. An array holds frames (B, H, W, C) or one frame (H, W, C); frames
            with channels first are recognized when only that fits. Arrays of the stream's code type (uint8 or uint16)
            are codes; arrays of floating type are real values and are quantized.
        output_type: FLOAT32 gives real values, AUTO gives codes.
        arch, device_ids, threads, kernels: see :class:`VDevice`.
        batch_size: frames per call of the device; 0 chooses. Results never depend on it.
        check_range: warn when real values cannot be what the network was calibrated for.

    Returns:
        By full stream name, (B, H, W, C) or (B, C); without the batch axis when every input was one frame.

    Raises:
        DeviceError: names, shapes or types do not fit, values are NaN or infinite (all problems together), or the
            device refused.

    Warns:
        DataWarning: see ``check_range``.
    """
    loaded = hef if isinstance(hef, HEF) else HEF(hef)
    arrays, single = _arrays(loaded, inputs)
    if check_range:
        _warn_about_range(loaded, arrays)
    with VDevice(arch=arch, device_ids=device_ids, threads=threads, kernels=kernels) as device:
        model = device.create_infer_model(loaded)
        model.set_batch_size(batch_size)
        for name, array in arrays.items():
            model.input(name).set_format_type(FormatType.FLOAT32 if array.dtype == np.float32 else FormatType.AUTO)
        for output in model.outputs:
            output.set_format_type(output_type)
        with model.configure() as configured:
            results = configured.infer(arrays)
    return {name: value[0] for name, value in results.items()} if single else results


def detect(
    hef: HefSource,
    inputs: Mapping[str, Array] | Array,
    *,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    **options: Any,
) -> list[Array]:
    """Boxes of a detector, from a HEF that holds what makes them (docs/formats/nms.md).

    Args:
        hef, inputs: as for :func:`run`.
        score_threshold, iou_threshold: instead of those of the HEF, 0 to 1.
        options: as for :func:`run`.

    Returns:
        For each frame float32 ``[boxes, 6]``, best first: top, left, bottom, right as parts of the frame, score, class.

    Raises:
        DeviceError: as for :func:`run`; or the HEF has no detection head, or a threshold is out of range.
    """
    return _outputs_to(hef, inputs, score_threshold, iou_threshold, options, Postprocess.detect)


def find(
    hef: HefSource,
    inputs: Mapping[str, Array] | Array,
    *,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    **options: Any,
) -> list[Objects]:
    """Boxes with masks, key points and angles, where the head makes them.

    Args:
        hef, inputs, score_threshold, iou_threshold, options: as for :func:`detect`.

    Raises:
        DeviceError: as for :func:`detect`.
    """
    return _outputs_to(hef, inputs, score_threshold, iou_threshold, options, Postprocess.find)


def _outputs_to(
    hef: HefSource,
    inputs: Mapping[str, Array] | Array,
    score_threshold: float | None,
    iou_threshold: float | None,
    options: Mapping[str, Any],
    how: Callable[[Postprocess, Mapping[str, Array]], list[Made]],
) -> list[Made]:
    loaded = hef if isinstance(hef, HEF) else HEF(hef)
    configuration = loaded.nms()
    if configuration is None:
        rule, levers = "the HEF has no detection head", ("write nms_postprocess(...) in the model script", "use run()")
        where = loaded.path or loaded.description.network_name
        raise device_error(Status.INVALID_OPERATION, Diagnostic("E-NMS-NONE", where, rule, levers=levers))
    if score_threshold is not None:
        configuration = replace(configuration, score_threshold=score_threshold)
    if iou_threshold is not None:
        configuration = replace(configuration, iou_threshold=iou_threshold)
    postprocess = Postprocess(configuration)
    arrays, _ = _arrays(loaded, inputs)
    return how(postprocess, run(loaded, arrays, output_type=FormatType.FLOAT32, **options))


def simulate(hef: HefSource, *, arch: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Simulated time of a network: fps, latency, cycles per stage. Does not run a frame."""
    with VDevice(arch=arch, threads=1) as device, device.create_infer_model(hef).configure() as configured:
        return configured.timing()


def verify(hef: HefSource) -> None:
    """Check a HEF as a device does at load.

    Raises:
        DeviceError: the description or the program breaks a rule.
    """
    loaded = hef if isinstance(hef, HEF) else HEF(hef)
    native.call(loaded.path or "HEF", native.native_module().verify, loaded.data)


def _arrays(hef: HEF, inputs: Mapping[str, Array] | Array) -> tuple[dict[str, Array], bool]:
    """(arrays with a batch axis by full stream name, whether every one came without)."""
    streams = hef.description.inputs
    where = hef.description.network_name
    if not isinstance(inputs, Mapping):
        inputs = {find_stream("", streams, "input", where).name: inputs}
    found: list[Diagnostic] = []
    arrays: dict[str, Array] = {}
    bare: list[bool] = []
    for name, array in inputs.items():
        try:
            stream = find_stream(str(name), streams, "input", where)
            arranged, without_batch = _arranged(array, stream, where)
        except HeadraceError as error:
            found += error.diagnostics
            continue
        arrays[stream.name] = arranged
        bare.append(without_batch)
    if found:
        raise device_error(Status.INVALID_ARGUMENT, found)
    if not arrays:
        names = ", ".join(s.name for s in streams)
        problem = Diagnostic("E-INPUT", where, "no input is given", "an empty mapping", f"arrays for: {names}")
        raise device_error(Status.INVALID_ARGUMENT, problem)
    return arrays, all(bare)


def _arranged(array: Any, stream: StreamDescription, where: str) -> tuple[Array, bool]:
    """(frames (B, …) as codes or float32, whether the batch axis was added)."""
    spec = input_spec(stream)
    try:
        values = checked(spec, array, one_frame=True)
    except DataError as error:
        codes = dtype_of(stream, FormatType.AUTO)
        need = f"(frames, {', '.join(map(str, stream.shape))}) or one frame, {codes} codes or real values"
        place = f"{where}, input {stream.name!r}"
        found = [Diagnostic("E-INPUT", place, d.rule, d.got, need, d.levers) for d in error.diagnostics]
        raise device_error(Status.INVALID_ARGUMENT, found) from error
    without_batch = np.ndim(array) == len(stream.shape)
    codes = dtype_of(stream, FormatType.AUTO)
    is_codes = values.dtype.newbyteorder("=") == codes
    return (values.astype(codes, copy=False) if is_codes else as_values(values)), without_batch


def _warn_about_range(hef: HEF, arrays: Mapping[str, Array]) -> None:
    notes = Notes()
    for stream in hef.description.inputs:
        array = arrays.get(stream.name)
        problem = None
        if array is not None and array.dtype == np.float32:
            problem = range_problem(stream.name, array, expected_values(stream))
        if problem is not None:
            notes.say(problem_text(problem))
    notes.warn()
