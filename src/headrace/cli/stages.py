# SPDX-License-Identifier: Apache-2.0
"""What the commands of the compiler share: opening a model at any stage, and running the stages that are missing.

Each verb runs every earlier stage that has not been run, so a command takes a model file or a HAR of any state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import reports
from headrace.cli.options import Calibration
from headrace.cli.output import table, warn
from headrace.cli.progress import expect, progress
from headrace.cli.report_text import boxes_text
from headrace.errors import AccuracyError, HeadraceError

if TYPE_CHECKING:
    from headrace.frontends.options import Framework, ParseOptions
    from headrace.hn.outputs import Outputs
    from headrace.reports.optimize import OptimizeReport
    from headrace.runner import ClientRunner

RANDOM_FRAMES = 64
_FROZEN = ("quantized_model", "compiled_model")


@dataclass(frozen=True)
class Translation:
    """How a model file is to be read; ``framework`` is what the command line says it is of, None: what it is."""

    net_name: str | None = None
    start_node_names: Sequence[str] = ()
    end_node_names: Sequence[str] = ()
    tensor_shapes: dict[str, list[int]] | list[int] | None = None
    framework: Framework | None = None
    device_only: bool = False
    input_values: Mapping[str, object] = field(default_factory=dict[str, object])
    signature: str | None = None

    @property
    def options(self) -> ParseOptions:
        """The same for what parses.

        Raises:
            UsageError: a value that no model could go with.
        """
        from headrace.frontends import ParseOptions

        return ParseOptions(
            self.net_name,
            self.start_node_names,
            self.end_node_names,
            self.tensor_shapes,
            self.framework,
            device_only=self.device_only,
            input_values=self.input_values,
            signature=self.signature,
        )


def translate(path: Path, hw_arch: str | None, how: Translation, quiet: bool = False) -> ClientRunner:
    """A runner with the network of a model file.

    Raises:
        InputFileError: there is no such file, or it is of no format that is known.
        NotBuiltYetError: the file is of a format that is not read yet.
    """
    from headrace.frontends.formats import reader_of
    from headrace.frontends.reader import Source, check_takes_signature

    reader = reader_of(Source.of(path), how.framework)
    check_takes_signature(reader, how.signature)
    framework = reader.framework
    from headrace.runner import ClientRunner

    runner = ClientRunner(hw_arch=hw_arch)
    names: dict[str, Any] = {
        "start_node_names": list(how.start_node_names) or None,
        "end_node_names": list(how.end_node_names) or None,
        "device_only": how.device_only,
    }
    with progress("parse", quiet) as advance:
        if framework == "tensorflow":
            runner.translate_tf_model(
                str(path),
                how.net_name,
                **names,
                tensor_shapes=how.tensor_shapes,
                signature=how.signature,
                input_values=how.input_values,
                progress=advance,
            )
        else:
            runner.translate_onnx_model(
                str(path),
                how.net_name,
                **names,
                net_input_shapes=how.tensor_shapes,
                input_values=how.input_values,
                progress=advance,
            )
    parsed = reports.of(runner.archive).parse
    for warning in () if parsed is None else parsed.warnings:
        warn(warning)
    for problem in _of_the_host(runner):
        warn(problem)
    return runner


def _of_the_host(runner: ClientRunner) -> list[str]:
    """Why steps of the host will not run here, a sentence each: onnxruntime is missing, or does not take them."""
    from headrace.hn.whole import OnnxStep
    from headrace.host.session import check_step

    whole, found = runner.archive.whole, dict[str, None]()
    for number, step in enumerate(() if whole is None else whole.steps, 1):
        if isinstance(step, OnnxStep):
            try:
                check_step(step, f"step {number} of the whole model")
            except HeadraceError as error:
                first = error.diagnostics[0]
                text = f"{first.where}: {first.rule} ({first.got})" if first.got else f"{first.where}: {first.rule}"
                levers = "; ".join(first.levers)
                found[f"--whole will not run here: {first.code}: {text}" + (f"; try: {levers}" if levers else "")] = (
                    None
                )
    return list(found)


def open_model(path: Path, hw_arch: str | None, quiet: bool = False, *, stages: Sequence[str] = ()) -> ClientRunner:
    """A runner at the state of a HAR, or with a model file just translated.

    ``stages`` are those that follow, which the progress bar has to hold beside the translation.
    """
    from headrace.frontends.formats import is_model

    if is_model(path):
        expect("parse", *stages)
        return translate(path, hw_arch, Translation(), quiet)
    from headrace.runner import ClientRunner

    runner = ClientRunner(hw_arch=hw_arch, har=path)
    done = state_name(runner) in _FROZEN and "compile" in stages
    expect(*(stage for stage in stages if not (done and stage == "optimize")))
    return runner


def state_name(runner: ClientRunner) -> str:
    """``hailo_model``, ``fp_optimized_model``, ``quantized_model`` or ``compiled_model``."""
    return str(getattr(runner.state, "value", runner.state))


def apply_script(runner: ClientRunner, model_script: Path | None) -> None:
    """Loads a model script, and says what of it is not acted on and what it drops."""
    if model_script is None:
        return
    import warnings

    with warnings.catch_warnings(record=True) as dropped:
        warnings.simplefilter("always")
        change = runner.load_model_script(model_script)
    for diagnostic in change.news.warnings:
        warn(f"{diagnostic.where}: {diagnostic.rule}")
    if change.news.ignored:
        first = change.news.ignored[0]
        more = f" (and {len(change.news.ignored) - 1} more lines)" if len(change.news.ignored) > 1 else ""
        warn(f"{model_script.name}: without effect on this device: {first}{more}")
    for warning in dropped:
        warn(str(warning.message))


def quantize(runner: ClientRunner, calibration: Calibration, quiet: bool) -> OptimizeReport:
    """Runs ``optimize`` and passes on its warnings; returns its report.

    Raises:
        UsageError: neither or both kinds of calibration data were named, or an option is about the other kind.
    """
    calibration.check(_states_codes(runner))
    data: str | dict[str, Any] | None = None
    if calibration.random:
        warn("CALIBRATING WITH RANDOM NOISE (--use-random-calib-set): THE ACCURACY OF THE RESULT IS MEANINGLESS")
        data = random_calibration(runner, calibration.random_max)
    elif calibration.path is not None:
        data = str(calibration.path)
    with progress("optimize", quiet) as advance:
        runner.optimize(
            data,
            min_snr=0.0 if calibration.random else calibration.min_snr,
            progress=advance,
            resize=calibration.resize,
            channels=calibration.channels,
            random=calibration.random,
            requantize=calibration.requantize,
        )
    # What noise means was said before the work began; the report says it from now on.
    report = reports.of(runner.archive).optimize
    assert report is not None
    for warning in report.warnings[1 if calibration.random else 0 :]:
        warn(warning)
    return report


def _states_codes(runner: ClientRunner) -> bool:
    """Whether the network's own file was quantized already."""
    from headrace.passes.file_codes import has_codes

    native = runner.archive.native
    return native is not None and has_codes(native)


def random_calibration(runner: ClientRunner, maximum: float) -> dict[str, Any]:
    """Uniform noise in [0, ``maximum``) for every input; the same numbers in every run.

    Returns:
        input layer name → float32 array (64, H, W, C) or (64, C).
    """
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(0))
    inputs: Mapping[str, Sequence[int]] = {
        name: layer["output_shapes"][0] for name, layer in hn_layers(runner).items() if layer["type"] == "input_layer"
    }
    return {
        name: (generator.random((RANDOM_FRAMES, *shape[1:]), dtype=np.float32) * np.float32(maximum))
        for name, shape in inputs.items()
    }


def hn_layers(runner: ClientRunner) -> dict[str, dict[str, Any]]:
    """The layers of the runner's network as plain data."""
    return runner.get_hn()["layers"]


def summary(runner: ClientRunner) -> dict[str, Any]:
    """Name, state, target, inputs, outputs, number of layers per kind, and what makes boxes of them, as data."""
    from headrace.hn import nms

    layers = hn_layers(runner)
    kinds: dict[str, int] = {}
    for layer in layers.values():
        kinds[layer["type"]] = kinds.get(layer["type"], 0) + 1
    ends = {
        end: [
            {"name": name, "shape": layer["output_shapes"][0], "original_names": layer["original_names"]}
            for name, layer in layers.items()
            if layer["type"] == f"{end}_layer"
        ]
        for end in ("input", "output")
    }
    return {
        "name": runner.model_name,
        "state": state_name(runner),
        "hw_arch": str(runner.hw_arch),
        "inputs": ends["input"],
        "outputs": ends["output"],
        "layers": dict(sorted(kinds.items())),
        **({} if runner.archive.nms is None else {"nms": nms.to_dict(runner.archive.nms)}),
    }


def summary_text(facts: Mapping[str, Any]) -> str:
    """:func:`summary` for people."""
    rows = [("network", str(facts["name"])), ("state", str(facts["state"])), ("target", str(facts["hw_arch"]))]
    for end in ("inputs", "outputs"):
        for item in facts[end]:
            source = ", ".join(item["original_names"])
            shape = "×".join("N" if size == -1 else str(size) for size in item["shape"])
            rows.append((end[:-1], f"{item['name']}  {shape}" + (f"  ({source})" if source else "")))
    rows.append(("layers", ", ".join(f"{count} {kind}" for kind, count in facts["layers"].items())))
    if "nms" in facts:
        rows.append(("boxes", f"{facts['nms']['meta_arch']}: {boxes_text(facts['nms'])}"))
    return table(rows)


def one_har(outputs: Outputs, option: str, given: Path | None) -> Callable[[ClientRunner, str], Path]:
    """Where the HAR of a command goes. A path that is given is judged now, a default one when the network is known.

    Returns:
        A function of the runner and the suffix of the default name ``<net><suffix>``, which gives the path.
    """
    from headrace.hn.archive import HAR

    if given is not None:
        outputs.add(option, given, HAR)
        outputs.check()

    def target(runner: ClientRunner, suffix: str) -> Path:
        if given is not None:
            return given
        path = outputs.add(option, Path(f"{runner.model_name}{suffix}"), HAR)
        outputs.check()
        return path

    return target


def save_optimized(
    runner: ClientRunner, outputs: Outputs, target: Path, calibration: Calibration, quiet: bool
) -> OptimizeReport:
    """Quantizes, saves the HAR, and returns the report.

    A network that is not accurate enough is saved too, to be looked at with `headrace profile`, and then reported.

    Raises:
        AccuracyError: an output is below ``calibration.min_snr``.
    """
    try:
        report = quantize(runner, calibration, quiet)
    except AccuracyError:
        if state_name(runner) == "quantized_model":
            outputs.write({target: runner.dump_har()})
            warn(f"the HAR was written all the same, to look at with `headrace profile {target}`")
        raise
    outputs.write({target: runner.dump_har()})
    return report


@dataclass(frozen=True)
class CompileOutput:
    """What `compile` and `build` print."""

    data: dict[str, Any]
    text: str


@dataclass(frozen=True)
class CompileFiles:
    """Where the results go; None is the default name in ``folder`` (made where it is not there), and no script.

    ``inputs`` are the files that the command reads, ``hef_option`` the option that names the HEF.
    """

    folder: Path | None = None
    hef: Path | None = None
    har: Path | None = None
    resolved_script: Path | None = None
    hef_option: str = "--hef-path"
    inputs: tuple[str | Path | None, ...] = ()
    force: bool = False

    def check(self) -> None:
        """Judge the paths that are given, before anything is opened."""
        self._outputs(self.hef, self.har).check()

    def outputs(self, network: str) -> tuple[Outputs, Path, Path]:
        """All outputs of a network, judged, and the paths of HEF and HAR."""
        folder = self.folder or Path()
        hef = self.hef if self.hef is not None else folder / f"{network}.hef"
        har = self.har if self.har is not None else folder / f"{network}_compiled.har"
        outputs = self._outputs(hef, har)
        outputs.check()
        return outputs, hef, har

    def _outputs(self, hef: Path | None, har: Path | None) -> Outputs:
        from headrace.hef.container import HEF
        from headrace.hn.archive import HAR
        from headrace.hn.outputs import RESOLVED_SCRIPT, Outputs

        outputs = Outputs(self.inputs, self.force)
        named = (
            (self.hef_option, hef, HEF),
            ("--output-har-path", har, HAR),
            ("--auto-model-script", self.resolved_script, RESOLVED_SCRIPT),
        )
        for option, path, kind in named:
            if path is not None:
                makes_folder = self.folder is not None and path.parent == self.folder
                outputs.add(option, path, kind, makes_folder=makes_folder)
        return outputs


def compile_to(
    runner: ClientRunner, calibration: Calibration, files: CompileFiles, quiet: bool, batch: int | None = None
) -> CompileOutput:
    """Quantizes when that has not been done, compiles, and writes the results; nothing is written on failure.

    Args:
        runner: with a network of any stage.
        calibration: for quantizing.
        files: where the results go.
        quiet: no progress bar.
        batch: frames between two switches of context; None: what the model script says, else 1.
    """
    from headrace.cli.report_text import accuracy_text, readable, speed_text
    from headrace.hn.outputs import resolved_script_bytes

    outputs, hef_path, har_path = files.outputs(runner.model_name)
    if state_name(runner) not in _FROZEN:
        quantize(runner, calibration, quiet)
    else:
        again = f"`headrace optimize` quantizes {runner.model_name} again"
        calibration.refuse("compile", "the network is quantized already, so nothing is calibrated", (again,))
    optimized = readable(lambda: reports.of(runner.archive).optimize)
    with progress("compile", quiet) as advance:
        hef = runner.compile(progress=advance, batch=batch)
    written = {hef_path: hef, har_path: runner.dump_har()}
    if files.resolved_script is not None:
        written[files.resolved_script] = resolved_script_bytes(resolved_script(runner))
    outputs.write(written)
    facts = summary(runner)
    made = reports.of(runner.archive)
    timing, compiled = made.timing, made.compile
    noise = optimized is not None and optimized.calibration.random
    data = {**facts, "hef": str(hef_path), "har": str(har_path), "bytes": len(hef)}
    data["device_simulated"] = replace(timing, stages=()).as_dict() if timing else {}
    data["compile"] = compiled.as_dict() if compiled else None
    data["calibration"] = {"frames": optimized.calibration.frames if optimized else None, "random": noise}
    text = accuracy_text(optimized)
    if noise:
        text = f"calibrated with random noise: the accuracy of this network is meaningless\n{text}"
    wrote = "\n".join(f"wrote {path}" for path in written)
    return CompileOutput(data, f"{summary_text(facts)}\n{text}{speed_text(timing)}{wrote}")


def resolved_script(runner: ClientRunner) -> str:
    """The runner's model script in canonical text."""
    from headrace.script import parse_script, resolve

    return resolve(parse_script(runner.model_script or ""))
