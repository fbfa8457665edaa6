# SPDX-License-Identifier: Apache-2.0
"""Frames from Python: iterables, data sets and loaders of the frameworks, callables that return one of these.

What one step may give: a frame or a batch; a tuple whose first entry is that (labels and notes behind it are not
looked at); a mapping of names; a Pillow image; the path of a picture or an array.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.dtypes import as_values, dtype_problem
from headrace.data.files import check_only_pictures, load_path
from headrace.data.inputs import InputSpec, arranged, find_input, to_array, unknown_input
from headrace.data.limits import memory_limit
from headrace.data.notes import Notes
from headrace.data.pictures import frame_of, is_picture
from headrace.errors import DataError, Diagnostic, HeadraceError
from headrace.hn import Array
from headrace.typeguards import is_list, is_mapping, is_path, is_sequence, is_tuple

MAX_FRAMES = 200_000
_LEVERS = ("give a number: calibset_size in the model script, calibration_size or data_count",)


def is_iterable(source: Any) -> bool:
    """Whether frames come out of this one by one: it is no array and no mapping, and can be walked through."""
    if is_mapping(source) or isinstance(source, (np.ndarray, memoryview)) or hasattr(source, "__array__"):
        return False
    return any(hasattr(source, name) for name in ("__getitem__", "as_numpy_iterator")) or isinstance(source, Iterable)


def called(source: Any, where: str) -> Any:
    """What a callable without arguments returns; anything else as it is.

    Raises:
        DataError: it needs arguments, or raises.
    """
    if not callable(source) or is_mapping(source) or hasattr(source, "__array__") or is_iterable(source):
        return source
    rule = "the callable that is to return the data set failed"
    try:
        inspect.signature(source).bind()
    except (TypeError, ValueError) as error:
        need = "a callable without arguments, or the data set itself"
        name = getattr(source, "__name__", type(source).__name__)
        raise DataError(Diagnostic("E-DATA-CALLABLE", where, rule, f"{name}: {error}"[:200], need)) from None
    try:
        result = source()
    except HeadraceError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {str(error)[:150]}"
        raise DataError(Diagnostic("E-DATA-CALLABLE", where, rule, got, "a data set")) from error
    if callable(result) and not is_iterable(result) and not hasattr(result, "__array__"):
        got, need = type(result).__name__, "an array, a mapping or an iterable"
        raise DataError(Diagnostic("E-DATA-CALLABLE", where, "the callable returned no data", got, need))
    return result


def stack_frames(
    source: Any,
    specs: Sequence[InputSpec],
    where: str,
    *,
    resize: str | None = None,
    limit: int | None = None,
    notes: Notes | None = None,
) -> dict[str, Array]:
    """Frames or batches from an iterable, in memory, by full input name.

    Args:
        source: see the module; may be endless when ``limit`` is given.
        specs: the network's inputs.
        where: the network, for errors.
        resize: for pictures.
        limit: stop after so many frames.
        notes: collects remarks on what was ignored.

    Raises:
        DataError: naming the step: nothing came, names, shapes or types do not fit, the iterable itself failed, more
            than 200,000 frames or than fits in memory.
    """
    notes = notes if notes is not None else Notes()
    parts: dict[str, list[Array]] = {spec.name: [] for spec in specs}
    size = count = 0
    most = limit or MAX_FRAMES + 1
    for number, item in _steps(source):
        found = _step(item, f"frame {number}", specs, resize, notes)
        lengths = {len(array) for array in found.values()}
        if len(lengths) != 1:
            got = ", ".join(f"{k}: {len(v)}" for k, v in found.items())
            rule = "the inputs have different numbers of frames"
            raise DataError(Diagnostic("E-DATA-COUNT", f"frame {number}", rule, got, "equal numbers"))
        for name, array in found.items():
            parts[name].append(array)
            size += array.nbytes
        count += lengths.pop()
        if count >= most:
            break
        if size > memory_limit() // 2:  # they are joined below
            rule, need = "the iterable gives too much data to keep in memory", f"≤ {memory_limit() // 2} bytes"
            levers = (*_LEVERS, "save the frames as .npy, which is mapped from the file")
            raise DataError(Diagnostic("E-DATA-TOO-LARGE", f"frame {number}", rule, f"{size} bytes", need, levers))
    if count > MAX_FRAMES and limit is None:
        rule, got = "the iterable gives too many frames, or does not end", f"more than {MAX_FRAMES}"
        raise DataError(Diagnostic("E-DATA-TOO-LARGE", where, rule, got, f"≤ {MAX_FRAMES}", _LEVERS))
    if count == 0:
        rule = "the iterable gives no frame"
        raise DataError(Diagnostic("E-DATA-EMPTY", where, rule, "nothing", "at least one frame"))
    return {name: _joined(arrays)[:limit] for name, arrays in parts.items()}


def _joined(arrays: list[Array]) -> Array:
    """Batches as one array; of unlike element types as float32."""
    if len({array.dtype for array in arrays}) > 1:
        arrays = [as_values(array) for array in arrays]
    return np.concatenate(arrays)


def _steps(source: Any) -> Iterator[tuple[int, Any]]:
    """(number, item); what the iterable itself raises becomes an error that names the step."""
    number = 0
    try:
        own = getattr(source, "as_numpy_iterator", None)
        if own is not None:
            steps: Iterator[Any] = iter(own())
        elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            # torch.utils.data.Dataset and the like need not raise IndexError at their end.
            steps = (source[i] for i in range(len(source)))
        else:
            steps = iter(source)
        for item in steps:
            yield number, item
            number += 1
    except (HeadraceError, GeneratorExit):
        raise
    except Exception as error:
        rule, got = "the iterable failed", f"{type(error).__name__}: {str(error)[:150]}"
        raise DataError(Diagnostic("E-DATA-ITERABLE", f"frame {number}", rule, got, "frames")) from error


def _step(item: Any, where: str, specs: Sequence[InputSpec], resize: str | None, notes: Notes) -> dict[str, Array]:
    """Arrays ``[n, …]`` in the network's layout by full input name."""
    if is_sequence(item) and item and is_mapping(item[0]):
        item = _first(item, notes)
    if is_mapping(item):
        named = _by_name(item, where, specs, notes)
        return {s.name: _frames(named[s.name], where, s, resize, notes) for s in specs}
    if len(specs) != 1:
        rule, got = "the network has several inputs, so each frame needs names", type(item).__name__
        need = "a mapping with " + ", ".join(s.name for s in specs)
        raise DataError(Diagnostic("E-DATA-MISSING", where, rule, got, need))
    return {specs[0].name: _frames(item, where, specs[0], resize, notes)}


def _first(item: Sequence[Any], notes: Notes) -> Any:
    if len(item) > 1:
        notes.say(f"of each {type(item).__name__} of {len(item)} the first entry is the data, the rest is not used")
    return item[0]


def _by_name(item: Mapping[Any, Any], where: str, specs: Sequence[InputSpec], notes: Notes) -> dict[str, Any]:
    """The entries for the inputs. Labels that loaders put beside them are ignored, with a remark."""
    found: dict[str, Any] = {}
    others: list[str] = []
    for name, value in item.items():
        spec = find_input(str(name), specs)
        if spec is None:
            others.append(str(name))
        elif spec.name in found:
            rule = "two entries are for one input"
            raise DataError(Diagnostic("E-DATA-NAME", where, rule, f"{name!r} and another", f"one for {spec.name!r}"))
        else:
            found[spec.name] = value
    missing = [s for s in specs if s.name not in found]
    if missing:
        levers = [f"give ({{{missing[0].name!r}: item[{name!r}]}} for item in data)" for name in others[:1]]
        problems = [unknown_input(n, missing, where, *levers) for n in others[:1]]
        rule = "there is no entry for this network input"
        problems += [
            Diagnostic("E-DATA-MISSING", f"{where}, {s.name}", rule, need=f"an array {s.text}") for s in missing
        ]
        raise DataError(problems)
    if others:
        notes.say(f"entries that are no network input are not used: {', '.join(repr(n)[:40] for n in others[:8])}")
    return found


def _frames(value: Any, where: str, spec: InputSpec, resize: str | None, notes: Notes) -> Array:
    """One value as ``[n, …]`` in the network's layout."""
    if is_picture(value):
        return frame_of(value, where, spec, resize, notes)[None]
    if is_path(value):
        loaded = load_path(Path(value), [spec], resize=resize, notes=notes)
        if isinstance(loaded, Mapping):
            need = "a picture, or .npy with frames"
            raise DataError(Diagnostic("E-DATA-FORMAT", where, "one step gives an archive", str(value), need))
        return arranged(spec, loaded, one_frame=True)
    if is_tuple(value):
        if not value:
            raise DataError(Diagnostic("E-DATA-ARRAY", where, "the tuple is empty", need=f"numbers {spec.text}"))
        return _frames(_first(value, notes), where, spec, resize, notes)
    if is_list(value):
        try:
            return _array(value, where, spec)
        except DataError:
            # What torch's loader makes of (image, label): a list of two batches.
            if value and not isinstance(value[0], (int, float, bool, list)):
                return _frames(_first(value, notes), where, spec, resize, notes)
            raise
    check_only_pictures(resize, spec.channels, where)
    return _array(value, where, spec)


def _array(value: Any, where: str, spec: InputSpec) -> Array:
    array = to_array(value, where, f"one frame or frames {spec.text}")
    problem = dtype_problem(array.dtype, where)
    if problem is None:
        try:
            return arranged(spec, array, one_frame=True)
        except DataError as error:
            d = error.diagnostics[0]
            problem = Diagnostic(d.code, f"{where}, {spec.name}", d.rule, d.got, d.need, d.levers)
    raise DataError(problem)
