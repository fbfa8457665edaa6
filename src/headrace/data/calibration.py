# SPDX-License-Identifier: Apache-2.0
"""Calibration and inference data from what people have: arrays, dicts, ``.npy``, ``.npz``, images, iterables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.files import load_path
from headrace.errors import DataError, Diagnostic, unknown_name
from headrace.hn import Array, Layer, Network

log = logging.getLogger("headrace.data")
MAX_BYTES = 16 << 30
CHECK_CHUNK = 64


def load_calibration(source: Any, network: Network) -> dict[str, Array]:
    """Data for every network input, in the network's own layout.

    Args:
        source: an array ``[N, …]`` (one input), a mapping input name → array, the path of a ``.npy`` file, a ``.npz``
            file or a folder of images, or an iterable of frames (arrays, or mappings input name → array). Names are HN
            or source names of inputs. Layouts NHWC and NCHW are recognised; where both fit, NHWC is assumed and logged.
        network: the network the data are for.

    Returns:
        One array per input layer name; large ``.npy`` files stay memory-mapped. dtypes stay as they are.

    Raises:
        DataError: with every problem found: unknown names, missing inputs, shapes, dtypes, NaN or infinity, no frames.
    """
    if isinstance(source, (str, os.PathLike)):
        source = load_path(Path(source), [layer.output_shape for layer in network.input_layers])
    elif (
        isinstance(source, Iterable)
        and not isinstance(source, (Mapping, np.ndarray))
        and not hasattr(source, "__array__")
    ):
        source = stack_frames(source, network)
    return check_frames(network, _by_input(source, network))


def check_frames(network: Network, data: Mapping[str, Any]) -> dict[str, Array]:
    """Check names, shapes, dtypes and values of in-memory data and bring them to the network's layout."""
    problems: list[Diagnostic] = []
    found: dict[str, Array] = {}
    for name, value in data.items():
        layer = input_layer(network, name)
        if layer is None:
            known = [k for x in network.input_layers for k in (x.name, x.attributes.get("source_name") or x.name)]
            problems.append(unknown_name("E-DATA-NAME", "network input", str(name), known, network.name))
            continue
        try:
            found[layer.name] = _checked(layer, value)
        except DataError as error:
            problems += error.diagnostics
    given = {layer.name for layer in (input_layer(network, name) for name in data) if layer is not None}
    problems += [
        Diagnostic(
            "E-DATA-MISSING",
            layer.name,
            "there are no data for this network input",
            "nothing",
            f"an array {_shape_text(layer)}",
        )
        for layer in network.input_layers
        if layer.name not in given
    ]
    if not problems and len({len(v) for v in found.values()}) > 1:
        counts = ", ".join(f"{k}: {len(v)}" for k, v in found.items())
        problems.append(
            Diagnostic("E-DATA-COUNT", network.name, "inputs have different numbers of frames", counts, "equal numbers")
        )
    if problems:
        raise DataError(problems)
    return {layer.name: found[layer.name] for layer in network.input_layers}


def input_layer(network: Network, name: str) -> Layer | None:
    """The input of this HN name (scope may be left out) or source name."""
    for layer in network.input_layers:
        names = (layer.name, layer.short_name, layer.attributes.get("source_name"), *layer.original_names)
        if name in names:
            return layer
    return None


def _shape_text(layer: Layer) -> str:
    return f"(frames, {', '.join(map(str, layer.output_shape[1:]))})"


def _checked(layer: Layer, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            Diagnostic(
                "E-DATA-ARRAY",
                layer.name,
                "the data are not an array",
                str(error)[:200],
                f"numbers {_shape_text(layer)}",
            )
        ) from None
    if array.dtype.kind not in "uif":
        raise DataError(
            Diagnostic(
                "E-DATA-DTYPE",
                layer.name,
                "the dtype cannot be used",
                str(array.dtype),
                "uint8, float32 or another number type",
            )
        )
    array = to_network_layout(layer, array)
    if len(array) < 1:
        raise DataError(Diagnostic("E-DATA-EMPTY", layer.name, "there is no frame", "0 frames", "at least 1"))
    if array.dtype.kind == "f":
        for start in range(0, len(array), CHECK_CHUNK):
            part = array[start : start + CHECK_CHUNK]
            if not np.isfinite(part).all():
                bad = start + int(np.flatnonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1))[0])
                raise DataError(
                    Diagnostic(
                        "E-DATA-NOT-FINITE",
                        layer.name,
                        "the data hold NaN or infinity",
                        f"frame {bad}",
                        "finite numbers",
                    )
                )
    return array


def to_network_layout(layer: Layer, array: Array) -> Array:
    """View the data as ``[N, H, W, C]`` (or ``[N, C]``).

    Accepts the network's layout, NCHW, or the source file's own shape; the network's layout wins where several fit.
    """
    want = tuple(layer.output_shape[1:])
    got = tuple(array.shape[1:])
    if got == want and array.ndim == len(want) + 1:
        if len(want) == 3 and want == (want[2], want[0], want[1]):
            log.warning("%s: %s may be NHWC or NCHW; taken as NHWC", layer.name, tuple(array.shape))
        return array
    if len(want) == 3 and got == (want[2], want[0], want[1]):
        return array.transpose(0, 2, 3, 1)
    source = tuple(layer.attributes.get("source_shape") or ())
    order = tuple(layer.attributes.get("source_permutation") or ())
    if (
        source
        and array.ndim == len(source)
        and got == tuple(source[1:])
        and sorted(order) == list(range(len(want) + 1))
    ):
        whole = (len(array), *want)
        permuted = array.reshape([whole[axis] for axis in order])
        return permuted.transpose(np.argsort(order))
    levers: tuple[str, ...] = ()
    if array.shape == want or array.shape == (want[-1], *want[:-1]):
        levers = ("add a first axis for the frames: data[None]",)
    elif len(want) == 3 and array.ndim == 4 and want[2] in (got[0], got[2]):
        levers = (f"resize the images to {want[0]}×{want[1]} (height × width)",)
    need = _shape_text(layer)
    if len(want) == 3:
        need += f" or (frames, {want[2]}, {want[0]}, {want[1]})"
    raise DataError(
        Diagnostic(
            "E-DATA-SHAPE", layer.name, "the shape does not fit the input", str(tuple(array.shape)), need, levers
        )
    )


def _by_input(source: Any, network: Network) -> dict[str, Any]:
    """Data as a mapping; a single array is for the only input, of several arrays the only one that fits is taken."""
    layers = network.input_layers
    if not isinstance(source, Mapping):
        if len(layers) != 1:
            raise DataError(
                Diagnostic(
                    "E-DATA-MISSING",
                    network.name,
                    "the network has several inputs, so the data need names",
                    "one array",
                    "a mapping or .npz with " + ", ".join(x.name for x in layers),
                )
            )
        return {layers[0].name: source}
    data = {str(k): v for k, v in source.items()}
    if len(layers) == 1 and not any(input_layer(network, name) for name in data):
        fitting = [name for name, value in data.items() if _fits(layers[0], value)]
        if len(fitting) == 1:
            others = [name for name in data if name != fitting[0]]
            if others:
                log.info("%s: array %r is taken, %s are not needed", layers[0].name, fitting[0], others)
            return {layers[0].name: data[fitting[0]]}
        if len(data) == 1:
            return {layers[0].name: next(iter(data.values()))}
    elif len(layers) == 1:
        # Labels and the like beside the named input are left alone.
        data = {name: value for name, value in data.items() if input_layer(network, name) or _fits(layers[0], value)}
    return data


def _fits(layer: Layer, value: Any) -> bool:
    try:
        to_network_layout(layer, np.asarray(value))
    except (DataError, ValueError, TypeError):
        return False
    return True


def stack_frames(source: Iterable[Any], network: Network) -> dict[str, Array]:
    """Frames or batches from a Python iterable, in memory.

    Raises:
        DataError: nothing came, frames differ in shape, or they exceed 16 GiB.
    """
    parts: dict[str, list[Array]] = {}
    size = 0
    for number, item in enumerate(source):
        for name, array in _frame_arrays(item, number, network):
            parts.setdefault(name, []).append(array)
            size += array.nbytes
        if size > MAX_BYTES:
            raise DataError(
                Diagnostic(
                    "E-DATA-TOO-LARGE",
                    f"frame {number}",
                    "the iterable gives too much data to keep in memory",
                    f"{size} bytes",
                    f"≤ {MAX_BYTES}",
                    ("give fewer frames", "save them as .npy, which is memory-mapped"),
                )
            )
    if not parts:
        raise DataError(
            Diagnostic("E-DATA-EMPTY", network.name, "the iterable gives no frame", "nothing", "at least one frame")
        )
    result: dict[str, Array] = {}
    for name, arrays in parts.items():
        shapes = {a.shape[1:] for a in arrays}
        if len(shapes) != 1:
            text = ", ".join(str(s) for s in sorted(shapes)[:4])
            raise DataError(
                Diagnostic("E-DATA-SHAPE", name, "frames differ in shape", text, _shape_text(network[name]))
            )
        result[name] = np.concatenate(arrays)
    return result


def _frame_arrays(item: Any, number: int, network: Network) -> Iterator[tuple[str, Array]]:
    """(input layer name, ``[n, …]``) for what one step of an iterable gave."""
    where = f"frame {number}"
    if not isinstance(item, Mapping):
        if len(network.input_layers) != 1:
            rule = "the network has several inputs, so each frame needs names"
            need = "a mapping input name → array"
            raise DataError(Diagnostic("E-DATA-MISSING", where, rule, type(item).__name__, need))
        item = {network.input_layers[0].name: item}
    for name, value in item.items():
        layer = input_layer(network, str(name))
        if layer is None:
            known = [x.name for x in network.input_layers]
            raise DataError(unknown_name("E-DATA-NAME", "network input", str(name), known, where))
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            need = f"numbers {_shape_text(layer)}"
            raise DataError(Diagnostic("E-DATA-ARRAY", where, "it is not an array", str(error)[:200], need)) from None
        yield layer.name, array[None] if array.ndim == len(layer.output_shape) - 1 else array


def range_notes(network: Network, data: Mapping[str, Array], frames: int) -> list[str]:
    """Compare the values of the data with what the network expects.

    Returns:
        Remarks for the report.

    Raises:
        DataError: the device normalises raw images, and the data have been normalised before.
    """
    notes: list[str] = []
    for layer in network.input_layers:
        array = data[layer.name]
        sample = np.asarray(array[:: max(1, frames // CHECK_CHUNK)][:CHECK_CHUNK])
        low, high = float(sample.min()), float(sample.max())
        whole = bool(np.all(np.rint(sample) == sample))
        normalizations = [u for u in network.users(layer.name) if u.kind == "normalization"]
        if normalizations:
            mean, std = (network.param(normalizations[0], key) for key in ("mean", "std"))
            expects_bytes = float(np.max(np.abs(mean) + np.abs(std))) > 10
            if expects_bytes and not whole and low >= -10 and high <= 10:
                raise DataError(
                    Diagnostic(
                        "E-DATA-NORMALIZED",
                        layer.name,
                        "these look already normalised, and the device normalises again",
                        f"fractions between {low:.3g} and {high:.3g}",
                        f"raw values around mean {mean.tolist()}",
                        ("give raw images (0 … 255)", "remove normalization from the model script"),
                    )
                )
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
