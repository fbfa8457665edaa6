# SPDX-License-Identifier: Apache-2.0
"""Data for a network's inputs from what people have: arrays, mappings, files, pictures, iterables, callables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.dtypes import as_values
from headrace.data.files import KINDS, check_only_pictures, load_path
from headrace.data.inputs import InputSpec, by_input, check_counts, checked, specs_of, with_channels
from headrace.data.iterables import called, is_iterable, stack_frames
from headrace.data.notes import Notes
from headrace.data.pictures import check_resize
from headrace.data.plausible import expected_of, plausible_values, range_problem, raw_images_expected
from headrace.errors import DataError, Diagnostic
from headrace.hn import Array, Network
from headrace.layers import Normalization
from headrace.typeguards import is_mapping, is_path

CHECK_CHUNK = 64


def load_calibration(
    source: Any,
    network: Network,
    *,
    resize: str | None = None,
    channels: str | None = None,
    limit: int | None = None,
    notes: Notes | None = None,
) -> dict[str, Array]:
    """Data for every network input, in the network's own layout.

    Args:
        source: an array ``[N, …]`` (one input), a mapping input name → array, the path of a ``.npy`` file, a ``.npz``
            file, a picture or a folder of pictures, an iterable or data set of frames or batches (see
            :mod:`headrace.data.iterables`), or a callable without arguments that returns one of these. Names are HN or
            source names of inputs. Layouts NHWC and NCHW are recognized; where both fit, NHWC is assumed and logged.
        network: the network the data are for.
        resize: ``"letterbox"`` (in the middle), ``"letterbox-corner"`` (at the top left), ``"crop"`` or ``"stretch"``
            gives pictures the input's size; None takes only pictures that have it.
        channels: ``"bgr"`` puts pictures' channels in this order; ``"rgb"`` and None leave them as they are.
        limit: the first frames only; an iterable may then be endless.
        notes: told what was done to the data.

    Returns:
        One array per input layer name; large ``.npy`` files stay memory-mapped. Element types stay as they are.

    Raises:
        DataError: with every problem found: names, missing inputs, shapes, types, NaN or infinity, no frames.
    """
    specs = specs_of(network)
    return load_inputs(source, specs, network.name, resize=resize, channels=channels, limit=limit, notes=notes)


def load_inputs(
    source: Any,
    specs: list[InputSpec],
    where: str,
    *,
    resize: str | None = None,
    channels: str | None = None,
    limit: int | None = None,
    notes: Notes | None = None,
) -> dict[str, Array]:
    """As :func:`load_calibration`, for inputs that are described by themselves.

    Args:
        source: as there.
        specs: of the inputs.
        where: what they belong to, for messages.
        resize, channels, limit, notes: as there.
    """
    check_resize(resize)
    specs = with_channels(specs, channels)
    source = called(source, where)
    if is_path(source):
        if not os.fspath(source):  # which would mean the current folder
            raise DataError(Diagnostic("E-DATA-EMPTY", where, "the path of the data is empty", "''", KINDS))
        source = load_path(Path(source), specs, resize=resize, limit=limit, notes=notes)
    elif is_iterable(source):
        source = stack_frames(source, specs, where, resize=resize, limit=limit, notes=notes)
    else:
        check_only_pictures(resize, channels, where)
    data = _checked_frames(specs, _mapping(source, specs, where), where)
    return data if limit is None else {name: value[:limit] for name, value in data.items()}


def load_frames(source: Any, network: Network, limit: int | None) -> dict[str, Array]:
    """Data to run: real values as the executors take them. Of a quantized network they are compared with what it was
    calibrated for.

    Args:
        source: as for :func:`load_calibration`.
        network: float or quantized.
        limit: the first frames only; an iterable may then be endless.

    Warns:
        DataWarning: remarks about the data.
    """
    if limit is not None and limit < 1:
        raise DataError(Diagnostic("E-DATA-COUNT", "infer", "data_count must be positive", str(limit), "≥ 1"))
    notes = Notes()
    data = load_calibration(source, network, limit=limit, notes=notes)
    if network.net_params.get("stage") == "quantized":
        data = plausible_values(data, {x.name: expected_of(x) for x in network.input_layers}, notes)
    notes.warn()
    return data


def check_frames(network: Network, data: Mapping[str, Any]) -> dict[str, Array]:
    """Check names, shapes, types and values of in-memory data and bring them to the network's layout."""
    return _checked_frames(specs_of(network), data, network.name)


def _checked_frames(specs: list[InputSpec], data: Mapping[str, Any], where: str) -> dict[str, Array]:
    named, problems = by_input(data, specs, where)
    found: dict[str, Array] = {}
    for spec in (s for s in specs if s.name in named):
        try:
            found[spec.name] = checked(spec, named[spec.name])
        except DataError as error:
            problems += error.diagnostics
    problems += [] if problems else check_counts(found, where)
    if problems:
        raise DataError(problems)
    return found


def _mapping(source: Any, specs: list[InputSpec], where: str) -> Mapping[str, Any]:
    """Data as a mapping; a single array is for the only input."""
    if is_mapping(source):
        return source
    if len(specs) == 1:
        return {specs[0].name: source}
    rule, need = "the network has several inputs, so the data need names", ", ".join(s.name for s in specs)
    raise DataError(Diagnostic("E-DATA-MISSING", where, rule, "one array", f"a mapping or .npz with {need}"))


def range_notes(network: Network, data: Mapping[str, Array], frames: int) -> list[str]:
    """Compare the values of the data with what the network expects.

    Returns:
        Remarks for the report.

    Raises:
        DataError: the device normalizes raw images, and the data have been normalized before.
    """
    notes: list[str] = []
    for layer in network.input_layers:
        array = data[layer.name]
        sample = as_values(array[:: max(1, frames // CHECK_CHUNK)][:CHECK_CHUNK])
        low, high = float(sample.min()), float(sample.max())
        whole = bool(np.all(np.rint(sample) == sample))
        normalizations = [u for u in network.users(layer.name) if isinstance(u.operation, Normalization)]
        if normalizations:
            mean, std = (network.param(normalizations[0], key) for key in ("mean", "std"))
            expected = raw_images_expected(mean, std)
            problem = None if expected is None else range_problem(layer.name, sample, expected)
            if problem is not None and problem.code == "E-DATA-NORMALIZED":
                levers = (*problem.levers, "remove normalization from the model script")
                need = f"raw values around mean {mean.tolist()}"
                raise DataError(Diagnostic(problem.code, layer.name, problem.rule, problem.got, need, levers))
        elif whole and low >= 0 and 128 < high <= 255 and layer.output_shape[-1] in (1, 3, 4):
            notes.append(
                f"{layer.name}: these look like raw images (integers {low:.0f} … {high:.0f}) and no normalization is "
                "on the device; right only if the network itself takes raw images, else add normalization(...) to the "
                "model script"
            )
        if low == high:
            notes.append(f"{layer.name}: every value of the sample is {low:g}: the calibration data say nothing")
    if frames < 16:
        notes.append(f"only {frames} frames of calibration data; 64 or more give reliable ranges")
    return notes
