# SPDX-License-Identifier: Apache-2.0
"""``headrace run``: frames through a HEF on the virtual device. Needs neither torch nor onnx."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.options import ManyCommand, channels_option, force_option, json_option, resize_option
from headrace.cli.output import emit, number, table, warn
from headrace.cli.progress import progress
from headrace.cli.whole_run import run_whole, with_whole
from headrace.errors import DataError, Diagnostic, UsageError

if TYPE_CHECKING:
    from headrace.cli.boxes import BoxFile
    from headrace.cli.frames import OutputFiles
    from headrace.data.notes import Notes
    from headrace.reports.timing import TimingReport
    from headrace.runtime import Postprocess

DEFAULT_FRAMES = 100
_CHUNK = 64
FORMATS = ("auto", "uint8", "uint16", "float32")


def device_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how this computer runs the device; results never depend on them."""
    threads = click.option("--threads", type=click.IntRange(0, 256), default=0, help="Host threads; 0: all cores.")
    kernels = click.option("--kernels", metavar="NAME", help="Kernel set to force, for example generic or avx2.")
    return threads(kernels(function))


@click.command(cls=ManyCommand)
@click.argument("hef", type=click.Path(path_type=Path))
@click.option(
    "--input-files",
    multiple=True,
    metavar="FILE...",
    help="Pictures, folders or patterns of them, .npy, .npz or raw .bin; NAME=FILE for several inputs. Without: "
    "generated frames.",
)
@resize_option
@channels_option
@click.option("--strict", is_flag=True, help="Values that cannot be what the network was calibrated for are an error.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Write each output as .npy into this folder.")
@click.option("--frames-count", "-c", type=click.IntRange(1), help=f"Frames to run; default: all, or {DEFAULT_FRAMES}.")
@click.option("--time-to-run", "-t", type=click.FloatRange(0, min_open=True), help="Repeat for so many seconds.")
@click.option("--batch-size", type=click.IntRange(1, 65536), help="Frames per call of the device.")
@click.option("--quantized", is_flag=True, help="Inputs and outputs are codes, not real values.")
@click.option(
    "--user-format-type",
    type=click.Choice(FORMATS),
    default="auto",
    help="float32: real values (as auto); uint8, uint16: codes of that size, in all inputs and outputs.",
)
@click.option("--raw-outputs", is_flag=True, help="Of a detector the network's outputs instead of boxes.")
@click.option(
    "--score-threshold", type=click.FloatRange(0, 1), help="Boxes of at least this score; default: the HEF's."
)
@click.option(
    "--iou-threshold", type=click.FloatRange(0, 1), help="Of two boxes that overlap more, one; default: the HEF's."
)
@click.option("--measure-latency", is_flag=True, help="Also show the device's simulated speed.")
@click.option("--whole", is_flag=True, help="The model file's own inputs to its own outputs, with the host's steps.")
@device_options
@force_option
@json_option
def run(
    hef: Path,
    input_files: tuple[str, ...],
    resize: str | None,
    channels: str | None,
    strict: bool,
    output_dir: Path | None,
    frames_count: int | None,
    time_to_run: float | None,
    batch_size: int | None,
    quantized: bool,
    user_format_type: str,
    raw_outputs: bool,
    score_threshold: float | None,
    iou_threshold: float | None,
    measure_latency: bool,
    whole: bool,
    threads: int,
    kernels: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Run frames through HEF on the virtual device; of a detector the boxes are shown, and written as boxes.json."""
    from headrace.cli.boxes import BoxFile, with_thresholds
    from headrace.cli.frames import input_paths
    from headrace.data.notes import Notes
    from headrace.reports.timing import TimingReport
    from headrace.runtime import VDevice
    from headrace.runtime.enums import FormatType

    if whole:
        how = {"threads": threads, "kernels": kernels}
        return run_whole(hef, input_files, resize, channels, output_dir, frames_count, batch_size, how, force, as_json)
    kind = format_type(user_format_type, quantized)
    _check_options(input_files, resize, channels, strict, kind)
    notes = Notes()
    with VDevice(threads=threads, kernels=kernels) as device:
        model = device.create_infer_model(str(hef))
        model.set_batch_size(batch_size or 0)
        for stream in (*model.inputs, *model.outputs):
            stream.set_format_type(kind)
        boxes = None if raw_outputs or kind != FormatType.FLOAT32 else model.postprocess()
        boxes = with_thresholds(boxes, score_threshold, iou_threshold)
        files = _files(model, output_dir, [hef, *input_paths(input_files)], force, boxes)
        frames, pictures = _frames(model, hef, input_files, frames_count, resize, channels, notes)
        if input_files:
            _check_ranges(model, frames, strict, notes)
        for line in notes.lines():
            warn(line)
        with model.configure() as network:
            outputs, done, seconds = _repeat(network, frames, batch_size or _CHUNK, time_to_run, as_json, boxes)
            timing = TimingReport.from_dict(network.timing(), str(hef)) if measure_latency else None
    data: dict[str, Any] = {"hef": str(hef), **_facts(outputs, done, seconds, timing), "warnings": notes.lines()}
    data |= _picture_facts(pictures, resize, channels)
    if boxes is not None:
        data["boxes"] = _boxes(model, outputs, pictures, resize)
    if files is not None:
        written = files.write(data["boxes"]) if isinstance(files, BoxFile) else files.write(outputs)
        data["files"] = [str(path) for path in written]
    emit(data, lambda: _describe(data), as_json)


def _picture_facts(pictures: Mapping[str, list[str]], resize: str | None, channels: str | None) -> dict[str, Any]:
    from headrace.data.pictures import picture_facts

    return {**({"pictures": pictures} if pictures else {}), **picture_facts(resize, channels)}


def _facts(outputs: Mapping[str, Any], done: int, seconds: float, timing: TimingReport | None) -> dict[str, Any]:
    """What was run and how fast, as data."""
    data: dict[str, Any] = {
        "frames": done,
        "seconds": seconds,
        "host_fps": done / seconds if seconds > 0 else None,
    }
    if "boxes" not in outputs:
        data["outputs"] = [{"name": n, "shape": list(a.shape), "dtype": str(a.dtype)} for n, a in outputs.items()]
    if timing is not None:
        data["device_simulated"] = {"fps": timing.fps, "latency_ms": timing.latency_ms}
    return data


def _files(
    model: Any, folder: Path | None, inputs: list[Path], force: bool, postprocess: Postprocess | None
) -> OutputFiles | BoxFile | None:
    """The files of ``--output-dir``: the boxes where they are made, else one for each output."""
    if folder is None:
        return None
    from headrace.cli.boxes import BoxFile
    from headrace.cli.frames import OutputFiles

    if postprocess is not None:
        return BoxFile(folder, inputs, force)
    return OutputFiles(folder, {stream.name: stream.shape for stream in model.outputs}, inputs, force)


def _boxes(
    model: Any, outputs: Mapping[str, Any], pictures: Mapping[str, list[str]], resize: str | None
) -> list[dict[str, Any]]:
    """Boxes of each frame as data, in the pixels of the pictures that the frames were made of."""
    from headrace.cli.boxes import box_facts

    first = model.inputs[0]
    height, width = first.shape[:2]
    return box_facts(outputs["boxes"], (height, width), pictures.get(first.name, []), resize)


def format_type(name: str, quantized: bool) -> Any:
    """The run time's format type: codes for ``--quantized`` or a code type, else float32.

    Raises:
        UsageError: both are given and contradict each other.
    """
    from headrace.runtime.enums import FormatType

    if quantized and name == "float32":
        rule, got = "the two options contradict each other", "codes (--quantized) of real values (float32)"
        levers = ("leave out --quantized for real values", "leave out --user-format-type for codes")
        where = "--quantized, --user-format-type"
        raise UsageError(Diagnostic("E-CLI-CONTRADICTION", where, rule, got, "one of the two", levers))
    if quantized and name == "auto":
        return FormatType.AUTO
    return FormatType.FLOAT32 if name == "auto" else FormatType[name.upper()]


def _check_options(
    input_files: tuple[str, ...], resize: str | None, channels: str | None, strict: bool, kind: Any
) -> None:
    """Raises UsageError for options that would have no effect."""
    from headrace.runtime.enums import FormatType

    given = {"--resize": resize is not None, "--channels": channels is not None, "--strict": strict}
    where = next((name for name, stands in given.items() if stands), None)
    if where is not None and not input_files:
        rule, need = "the option is about the data of --input-files", "--input-files"
        raise UsageError(Diagnostic("E-CLI-CONTRADICTION", where, rule, "generated frames", need))
    if strict and kind != FormatType.FLOAT32:
        rule, need = "codes have no range to be checked against", "real values"
        raise UsageError(Diagnostic("E-CLI-CONTRADICTION", "--strict", rule, "codes", need, ("leave out --strict",)))


def _frames(
    model: Any,
    hef: Path,
    input_files: tuple[str, ...],
    count: int | None,
    resize: str | None,
    channels: str | None,
    notes: Notes,
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Frames by input name, and the pictures they were read from."""
    from headrace.cli.frames import generate_frames, read_frames
    from headrace.runtime.infos import input_spec

    if not input_files:
        return generate_frames(model.inputs, count or DEFAULT_FRAMES), {}
    specs = [input_spec(stream.stream) for stream in model.inputs]
    how = {"resize": resize, "channels": channels}
    try:
        read = read_frames(input_files, model.inputs, specs=specs, **how, limit=count, notes=notes)
    except DataError as error:
        raise with_whole(error, hef) from None
    have = len(next(iter(read.arrays.values())))
    if count is not None and have < count:
        notes.say(f"{count} frames were asked for (--frames-count), the files hold {have}")
    return {name: array[:count] for name, array in read.arrays.items()}, read.pictures


def _check_ranges(model: Any, frames: Mapping[str, Any], strict: bool, notes: Notes) -> None:
    """Compare real values with what calibration saw.

    Raises:
        DataError: they cannot be what the network was calibrated for, and ``strict``.
    """
    from headrace.data.notes import problem_text
    from headrace.data.plausible import range_problem
    from headrace.runtime.infos import expected_values

    problems: list[Diagnostic] = []
    for stream in model.inputs:
        if stream.dtype.kind == "f":
            problem = range_problem(stream.name, frames[stream.name], expected_values(stream.stream))
            problems += [] if problem is None else [problem]
    if problems and strict:
        raise DataError(problems)
    for problem in problems:
        notes.say(problem_text(problem))


def _repeat(
    network: Any,
    frames: Mapping[str, Any],
    chunk: int,
    seconds: float | None,
    quiet: bool,
    postprocess: Postprocess | None = None,
) -> tuple[dict[str, Any], int, float]:
    """All frames once, then again until ``seconds`` are over; the first pass's outputs, frames done, seconds used.

    With post-processing the only output is ``boxes``, a list of what was found in each frame.
    """
    import numpy as np

    from headrace.cli.boxes import found_in

    count = len(next(iter(frames.values())))
    parts: list[dict[str, Any]] = []
    done = 0
    start = time.perf_counter()
    with progress("run", quiet) as advance:
        while True:
            for first in range(0, count, chunk):
                part = network.infer({name: array[first : first + chunk] for name, array in frames.items()})
                if postprocess is not None:
                    part = {"boxes": found_in(postprocess, part)}
                if done < count:
                    parts.append(part)
                done += min(chunk, count - first)
                advance(min(done, count), count, f"{done} frames")
                elapsed = time.perf_counter() - start
                if seconds is not None and done >= count and elapsed >= seconds:
                    break
            elapsed = time.perf_counter() - start
            if seconds is None or elapsed >= seconds:
                break
    if postprocess is not None:
        return {"boxes": [one for part in parts for one in part["boxes"]]}, done, elapsed
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return outputs, done, elapsed


def _describe(data: Mapping[str, Any]) -> str:
    rows = [("frames", f"{data['frames']}"), ("seconds", number(data["seconds"]))]
    if data["host_fps"]:
        rows.append(
            ("host speed", f"{number(data['host_fps'])} frames/s (measured, this computer running the virtual device)")
        )
    simulated = data.get("device_simulated")
    if simulated:
        speed = f"{number(simulated['fps'])} frames/s, latency {number(simulated['latency_ms'])} ms"
        rows.append(("device speed", f"{speed} (simulated)"))
    for output in data.get("outputs", []):
        rows.append(("output", f"{output['name']}  {'×'.join(map(str, output['shape']))}  {output['dtype']}"))
    rows += [("wrote", path) for path in data.get("files", [])]
    if "boxes" in data:
        from headrace.cli.boxes import describe_boxes

        return f"{table(rows)}\n\n{describe_boxes(data['boxes'])}"
    return table(rows)
