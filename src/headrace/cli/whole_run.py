# SPDX-License-Identifier: Apache-2.0
"""``headrace run --whole``: the file's own inputs through the host's steps and the device to its own outputs.

Needs neither torch nor onnx; onnxruntime only where the host has a network to run.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.options import check_picture_options, given, refuse
from headrace.cli.output import emit, number, table, warn
from headrace.errors import DataError, Diagnostic, UsageError

if TYPE_CHECKING:
    from headrace.data.notes import Notes
    from headrace.hn import Array
    from headrace.hn.whole import WholeModel
    from headrace.host.run import Result
    from headrace.runtime import HEF

_GZIP = b"\x1f\x8b"
#: Of an output that is strings, as numpy stores them.
_MAX_STRING_BYTES = 1 << 30
#: Options of ``headrace run`` that are about the device alone.
_OF_THE_DEVICE = (
    "strict", "time_to_run", "quantized", "user_format_type", "raw_outputs", "score_threshold", "iou_threshold",
    "measure_latency",
)  # fmt: skip


def run_whole(
    path: Path,
    input_files: Sequence[str],
    resize: str | None,
    channels: str | None,
    output_dir: Path | None,
    count: int | None,
    batch_size: int | None,
    device_options: Mapping[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Run a compiled network (HEF, or a HAR that holds one) with the steps of the host around it."""
    from headrace.cli.frames import OutputFiles, input_paths
    from headrace.data.notes import Notes
    from headrace.host import WholeRun

    refuse(given(*_OF_THE_DEVICE), "--whole", "the option is about the device's own inputs and outputs")
    hef, whole = _opened(path)
    notes = Notes()
    files: OutputFiles | None = None
    if output_dir is not None:
        shapes = {tensor.name: tensor.shape[1:] for tensor in whole.outputs}
        files = OutputFiles(output_dir, shapes, [path, *input_paths(input_files)], force)
    inputs = _inputs(whole, input_files, path.name, count, (resize, channels), notes)
    for line in notes.lines():
        warn(line)
    start = time.perf_counter()
    with _Device(hef, device_options, batch_size) as device:
        results = WholeRun(whole, device.infer, path.name).run(inputs, batch_size)
    seconds = time.perf_counter() - start
    data = _facts(path, whole, results, seconds, notes.lines())
    if files is not None:
        data["files"] = [str(written) for written in files.write(_arrays(results))]
    emit(data, lambda: _describe(data), as_json)


class _Device:
    """The network of a HEF on a virtual device, as a context."""

    def __init__(self, hef: HEF, options: Mapping[str, Any], batch_size: int | None) -> None:
        from headrace.runtime import FormatType, VDevice

        self._device = VDevice(**options)
        self._model = self._device.create_infer_model(hef)
        self._model.set_batch_size(batch_size or 0)
        for stream in (*self._model.inputs, *self._model.outputs):
            stream.set_format_type(FormatType.FLOAT32)

    def __enter__(self) -> _Device:
        self._network = self._model.configure()
        self._network.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._network.__exit__(*error)
        self._device.release()

    def infer(self, frames: dict[str, Array]) -> Mapping[str, Array]:
        """Frames of input streams to those of output streams, float32."""
        return self._network.infer(frames)


def with_whole(error: DataError, path: Path) -> DataError:
    """An error about a device's data, with ``--whole`` as a lever where the host has steps before the device.

    Args:
        error: what was wrong.
        path: of the HEF.
    """
    from headrace.runtime import HEF

    whole = HEF(str(path)).contents.whole()
    if whole is None or not whole.before:
        return error
    names = " ".join(f"--input-files {shlex.quote(tensor.name)}=FILE" for tensor in whole.inputs)
    levers = (*error.diagnostics[-1].levers, f"--whole {names}, for data of the model file's own inputs")
    return DataError([*error.diagnostics[:-1], replace(error.diagnostics[-1], levers=levers)])


def _opened(path: Path) -> tuple[HEF, WholeModel]:
    """The HEF, and the steps of the whole model that it carries."""
    from headrace.hn import archive
    from headrace.hn.files import open_regular
    from headrace.runtime import HEF

    data: bytes | str = str(path)
    with open_regular(path, "HEF") as file:
        is_archive = file.read(2) == _GZIP
    if is_archive:
        held = archive.load(path).hef
        if held is None:
            levers = ("`headrace compile` makes one", "ClientRunner.infer(…, whole=True) runs any stage")
            rule, need = "the archive holds no compiled network", "a compiled HAR, or a HEF"
            raise UsageError(Diagnostic("E-RUN-STATE", str(path), rule, "no HEF", need, levers))
        data = held
    hef = HEF(data)
    whole = hef.contents.whole()
    if whole is None:
        rule, levers = "nothing in it tells the steps of the whole model", ("compile the network again",)
        got, need = "a HEF of an older version", "its steps"
        raise UsageError(Diagnostic("E-WHOLE-MISSING", str(path), rule, got, need, levers))
    return hef, whole


def _inputs(
    whole: WholeModel,
    sources: Sequence[str],
    where: str,
    count: int | None,
    pictures: tuple[str | None, str | None],
    notes: Notes,
) -> dict[str, Array]:
    """Arrays of the file's inputs from ``FILE`` and ``NAME=FILE``; ``pictures``: how to resize, order of channels."""
    from headrace.data.files import load_path
    from headrace.host import model_inputs

    if not sources:
        names = ", ".join(tensor.name for tensor in whole.inputs)
        rule, levers = "the whole model takes data of its file's inputs", ("--input-files NAME=FILE.npy",)
        raise UsageError(Diagnostic("E-DATA-MISSING", "--whole", rule, "no --input-files", names, levers))
    known = [tensor.name for tensor in whole.inputs]
    named = [(name, file) for name, _, file in (s.partition("=") for s in sources) if file and name in known]
    if len(sources) == 1 and not named:
        resize, channels = pictures
        return model_inputs(whole, sources[0], where, limit=count, resize=resize, channels=channels, notes=notes)
    if len(named) < len(sources):
        rule, need = "several files need the names of the inputs", ", ".join(f"{name}=FILE" for name in known)
        raise UsageError(Diagnostic("E-DATA-NAME", "--input-files", rule, " ".join(sources)[:200], need))
    check_picture_options(*pictures, "named arrays behind --input-files")
    arrays = {name: load_path(Path(file), ()) for name, file in named}
    return model_inputs(whole, arrays, where, limit=count)


def _arrays(results: Mapping[str, Result]) -> dict[str, Array]:
    """Results as arrays.

    Raises:
        UsageError: frames gave arrays of unlike shapes.
    """
    import numpy as np

    ragged = [name for name, value in results.items() if isinstance(value, list)]
    if ragged:
        rule, levers = "frames give arrays of unlike shapes, which no .npy holds", ("--frames-count 1",)
        raise UsageError(Diagnostic("E-CLI-OUTPUT", "--output-dir", rule, ", ".join(ragged), levers=levers))
    return {name: _without_objects(name, np.asarray(value)) for name, value in results.items()}


def _without_objects(name: str, array: Array) -> Array:
    """Strings as numpy stores them without pickle, each as long as the longest.

    Raises:
        UsageError: one is so long that all together would fill the memory.
    """
    if array.dtype != object:
        return array
    longest = max((len(str(text)) for text in array.flat), default=0)
    size = array.size * longest * 4
    if size > _MAX_STRING_BYTES:
        rule, levers = "strings of unlike lengths take too much room in a .npy file", ("without --output-dir",)
        got, need = f"{name}: {array.size} of up to {longest} characters", f"≤ {_MAX_STRING_BYTES} bytes"
        raise UsageError(Diagnostic("E-CLI-OUTPUT", "--output-dir", rule, got, need, levers))
    return array.astype(str)


def _facts(
    path: Path, whole: WholeModel, results: Mapping[str, Result], seconds: float, warnings: list[str]
) -> dict[str, Any]:
    steps = [{"kind": type(s).__name__.removesuffix("Step").lower(), "makes": list(s.outputs)} for s in whole.steps]
    outputs: list[dict[str, Any]] = []
    for name, value in results.items():
        parts = value if isinstance(value, list) else [value]
        shapes = [list(part.shape) for part in parts]
        shape = shapes if isinstance(value, list) else shapes[0]
        dtype = "string" if parts[0].dtype == object else str(parts[0].dtype)
        outputs.append({"name": name, "shape": shape, "dtype": dtype})
    return {"model": str(path), "steps": steps, "outputs": outputs, "seconds": seconds, "warnings": warnings}


def _describe(data: Mapping[str, Any]) -> str:
    names = {"onnx": "host (onnxruntime)", "device": "device", "operator": "host"}
    rows = [("step", f"{names[step['kind']]}  →  {', '.join(step['makes'])}") for step in data["steps"]]
    rows += [("output", f"{o['name']}  {o['shape']}  {o['dtype']}") for o in data["outputs"]]
    rows.append(("seconds", number(data["seconds"])))
    rows += [("wrote", path) for path in data.get("files", [])]
    return table(rows)
