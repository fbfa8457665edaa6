# SPDX-License-Identifier: Apache-2.0
"""Both kinds of Keras files into what they hold: the configuration as JSON, and the arrays of the layers."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

from headrace.errors import InputFileError
from headrace.frontends.formats.keras.hdf5 import DamagedError, File, UnreadableError
from headrace.frontends.formats.keras.weights import LayerWeights, ListedWeights, TreeWeights
from headrace.frontends.reader import Source, check_not_a_pointer, corrupt
from headrace.hn.strict_json import parse
from headrace.typeguards import is_object, is_text

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_MODEL_BYTES = 4 << 30
_MAX_MEMBERS = 4096
_EXPANSION, _SPARE_BYTES = 32, 64 << 20
_MODEL = "a model saved with model.save(...)"
_SAVE = "save the model again: model.save('model.keras')"


@dataclass(frozen=True)
class Saved:
    """What a file holds.

    Attributes:
        config: of the model: its class, its name, its layers.
        version: of the Keras that wrote it; "" where it does not say.
        weights: the arrays.
        kind: "keras" or "h5".
        size: bytes of the file.
    """

    config: dict[str, Any]
    version: str
    weights: LayerWeights
    kind: str
    size: int

    @property
    def is_version_2(self) -> bool:
        """Whether functions have the meaning that they had before Keras 3."""
        return not self.version or self.version.startswith(("1.", "2."))


def members(source: Source) -> list[str]:
    """Names in a zip file; none where it cannot be read as one."""
    try:
        with zipfile.ZipFile(io.BytesIO(source.data) if source.data is not None else str(source.path)) as archive:
            return archive.namelist()[:_MAX_MEMBERS]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return []


def _problem(where: str, rule: str, got: object = "", need: str = _MODEL) -> InputFileError:
    return InputFileError(corrupt("keras", where, rule, got, need, _SAVE))


def _json(data: bytes, what: str, where: str) -> dict[str, Any]:
    try:
        found = parse(data)
    except ValueError as error:
        raise _problem(where, f"{what} is not valid JSON", error) from None
    if not is_object(found):
        raise _problem(where, f"{what} is no JSON object", type(found).__name__)
    return found


def _member(archive: zipfile.ZipFile, name: str, size: int, where: str) -> bytes:
    """One member of a zip file, which may unpack to a bounded number of bytes."""
    found = next((entry for entry in archive.infolist() if entry.filename == name), None)
    if found is None:
        raise _problem(where, f"it has no {name}", ", ".join(archive.namelist()[:8]), f"{CONFIG} and {WEIGHTS}")
    limit = _EXPANSION * size + _SPARE_BYTES
    if found.file_size > limit:
        raise _problem(where, f"{name} unpacks to more than a file of its size may", found.file_size, f"≤ {limit}")
    try:
        with archive.open(found) as stream:
            data = stream.read(limit)
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise _problem(where, f"{name} cannot be unpacked", error) from None
    if len(data) != found.file_size:
        raise _problem(where, f"{name} is cut short", len(data), str(found.file_size))
    return data


def _text(config: dict[str, Any], key: str) -> str:
    value = config.get(key)
    return value if is_text(value) else ""


def _read_zip(data: bytes, where: str) -> Saved:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _problem(where, "it is not a readable zip file", error) from None
    with archive:
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise _problem(where, "it has too many members", len(archive.infolist()), f"≤ {_MAX_MEMBERS}")
        names = archive.namelist()
        config = _json(_member(archive, CONFIG, len(data), where), CONFIG, where)
        metadata = _json(_member(archive, METADATA, len(data), where), METADATA, where) if METADATA in names else {}
        if WEIGHTS not in names and "model.weights.json" in names:
            raise _problem(where, "its weights are spread over several files", "model.weights.json", WEIGHTS)
        packed = _member(archive, WEIGHTS, len(data), where)
    weights = TreeWeights(File(packed))
    return Saved(config, _text(metadata, "keras_version"), weights, "keras", len(data))


def _read_hdf5(data: bytes, where: str) -> Saved:
    file = File(data)
    told = file.attribute("model_config")
    if told is None:
        rule = "the file holds weights only: no attribute 'model_config' says which layers they belong to"
        raise _problem(where, rule, ", ".join(file.names()[:8]))
    if not is_text(told):
        raise _problem(where, "its attribute 'model_config' is no text", type(told).__name__)
    version = file.attribute("keras_version")
    group = file.group("model_weights")
    if group is None:
        raise _problem(where, "it has no group 'model_weights'", ", ".join(file.names()[:8]))
    config = _json(told.encode("utf-8"), "its attribute 'model_config'", where)
    return Saved(config, version if is_text(version) else "", ListedWeights.of(group), "h5", len(data))


def open_saved(source: Source) -> Saved:
    """Read what a Keras file holds; arrays are read when they are asked for.

    Raises:
        InputFileError: missing, neither kind of file, damaged, or weights without a model.
    """
    where, data = source.where("Keras model"), source.bytes("Keras model", MAX_MODEL_BYTES)
    check_not_a_pointer("keras", data, where, "a Keras model", _SAVE)
    try:
        return _read_zip(data, where) if data.startswith(b"PK") else _read_hdf5(data, where)
    except DamagedError as error:
        raise _problem(where, "the HDF5 data are damaged", error) from None
    except UnreadableError as error:
        raise _problem(where, "the HDF5 data have a form that is not read", error) from None
