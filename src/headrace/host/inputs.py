# SPDX-License-Identifier: Apache-2.0
"""Data for the inputs of a file, as the file takes them: names, element types, layouts and sizes of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.files import load_path
from headrace.data.inputs import NAMELESS, InputSpec, check_counts, to_array, with_channels
from headrace.data.notes import Notes
from headrace.errors import DataError, Diagnostic, unknown_name
from headrace.hn import Array
from headrace.hn.whole import ANY, DeviceTensor, ModelTensor, WholeModel
from headrace.typeguards import is_mapping, is_path


def needed_inputs(whole: WholeModel) -> tuple[ModelTensor, ...]:
    """The inputs that some step reads, or that are outputs at once."""
    read = {name for step in whole.steps for name in step.inputs} | {tensor.name for tensor in whole.outputs}
    return tuple(tensor for tensor in whole.inputs if tensor.name in read)


def model_inputs(
    whole: WholeModel,
    source: Any,
    where: str,
    *,
    limit: int | None = None,
    resize: str | None = None,
    channels: str | None = None,
    notes: Notes | None = None,
) -> dict[str, Array]:
    """Arrays for every input of a file.

    Args:
        whole: the model.
        source: an array (one input), a mapping input name → array, the path of a ``.npy`` or ``.npz`` file or, for a
            single input that enters the device at once, a picture or a folder of pictures. Arrays have the file's
            layout, frames along the first dimension where the input has one for the batch.
        where: how the model is called in errors.
        limit: the first frames only.
        resize: how pictures get the input's size.
        channels: the order of pictures' channels.
        notes: told what was done to pictures.

    Raises:
        DataError, InputFileError: with every problem found.
    """
    needed = needed_inputs(whole)
    if is_path(source):
        specs = with_channels([_spec(whole, tensor) for tensor in needed], channels)
        source = load_path(Path(os.fspath(source)), specs, resize=resize, limit=limit, notes=notes)
        if not is_mapping(source) and len(needed) == 1:
            source = {needed[0].name: _in_file_layout(whole, needed[0], np.asarray(source))}
    if not is_mapping(source):
        if len(needed) != 1:
            rule, need = "the model has several inputs, so the data need names", ", ".join(t.name for t in needed)
            raise DataError(Diagnostic("E-DATA-MISSING", where, rule, "one array", f"a mapping or .npz with {need}"))
        source = {needed[0].name: source}
    if len(needed) == 1 and list(source) == [NAMELESS]:
        source = {needed[0].name: source[NAMELESS]}
    return _checked(whole, needed, source, where, limit)


def _checked(
    whole: WholeModel, needed: tuple[ModelTensor, ...], given: Mapping[Any, Any], where: str, limit: int | None
) -> dict[str, Array]:
    known = {tensor.name: tensor for tensor in whole.inputs}
    problems = [unknown_name("E-DATA-NAME", "input", str(n), known, where) for n in given if n not in known]
    found: dict[str, Array] = {}
    for tensor in needed:
        place = f"{where}, input {tensor.name!r}"
        if tensor.name not in given:
            rule = "there are no data for this input"
            problems.append(Diagnostic("E-DATA-MISSING", place, rule, "nothing", f"an array {list(tensor.shape)}"))
            continue
        try:
            array = _array(tensor, given[tensor.name], place)
        except DataError as error:
            problems += error.diagnostics
            continue
        at = tensor.frame_axis
        found[tensor.name] = array if limit is None or at < 0 else array[(*[slice(None)] * at, slice(limit))]
    counted = {
        t.name: np.moveaxis(found[t.name], t.frame_axis, 0) for t in needed if t.frame_axis >= 0 and t.name in found
    }
    problems += [] if problems else check_counts(counted, where)
    if problems:
        raise DataError(problems)
    return found


def _array(tensor: ModelTensor, value: Any, place: str) -> Array:
    """The value in the input's element type and shape."""
    array = to_array(value, place, f"an array {list(tensor.shape)} of {tensor.dtype}")
    if tensor.dtype == "string":
        array = array.astype(object)
    elif array.dtype.kind not in "fiub":
        rule = "the data have the wrong element type"
        raise DataError(Diagnostic("E-DATA-TYPE", place, rule, str(array.dtype), tensor.dtype))
    elif array.dtype != np.dtype(tensor.dtype):
        typed = array.astype(tensor.dtype)
        if np.dtype(tensor.dtype).kind != "f" and not np.array_equal(typed.astype(array.dtype), array):
            rule = "the data do not fit the input's element type"
            raise DataError(Diagnostic("E-DATA-TYPE", place, rule, str(array.dtype), tensor.dtype))
        array = typed
    at = tensor.frame_axis
    sizes = [ANY if axis == at else size for axis, size in enumerate(tensor.shape)]
    fits = len(sizes) == array.ndim and all(want in (ANY, got) for want, got in zip(sizes, array.shape, strict=True))
    if tensor.shape and not fits:
        shown = ["frames" if axis == at else "any" if size == ANY else size for axis, size in enumerate(sizes)]
        rule, need = "the data have another shape than the input", "[" + ", ".join(map(str, shown)) + "]"
        raise DataError(Diagnostic("E-DATA-SHAPE", place, rule, str(list(array.shape)), need))
    if at >= 0 and array.ndim > at and array.shape[at] < 1:
        raise DataError(Diagnostic("E-DATA-EMPTY", place, "there is no frame", "0 frames", "at least 1"))
    return array


def _spec(whole: WholeModel, tensor: ModelTensor) -> InputSpec:
    """What pictures are read for: the device's input, where the tensor enters the device at once."""
    port = _port(whole, tensor)
    if port is None:
        return InputSpec(tensor.name, tuple(max(1, size) for size in tensor.shape[1:]))
    return InputSpec(port.layer, port.layer_shape[1:], (tensor.name,), port.shape, port.permutation)


def _port(whole: WholeModel, tensor: ModelTensor) -> DeviceTensor | None:
    return next((port for port in whole.device.takes if port.tensor == tensor.name), None)


def _in_file_layout(whole: WholeModel, tensor: ModelTensor, array: Array) -> Array:
    """Frames that were read in the device's layout as the file has them; those of the file's own layout as they are."""
    port = _port(whole, tensor)
    if port is None or array.shape[1:] != port.layer_shape[1:] or array.shape[1:] == tensor.shape[1:]:
        return array
    shape = [len(array) if size == ANY else size for size in port.shape]
    return array.transpose(port.permutation).reshape(shape)
