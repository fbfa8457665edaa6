# SPDX-License-Identifier: Apache-2.0
"""``ClientRunner``: the stages in one object, with the names people know. The only module that knows every stage.

Heavy packages are imported inside the methods that need them, so that importing this module is cheap.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import __version__
from headrace.data.calibration import load_calibration
from headrace.data.notes import Notes
from headrace.data.pictures import picture_facts
from headrace.errors import AccuracyError, HeadraceError
from headrace.hn import Array, Network, archive, json_format
from headrace.hn.archive import Archive
from headrace.hn.stages import COMPILE, OPTIMIZE, OPTIMIZE_FULL_PRECISION, PARSE, Stage, State
from headrace.inference import (
    Inference,
    InferenceContext,
    calibration_frames,
    postprocess_of,
    predictions,
    simulate,
)
from headrace.known_arguments import check_arguments
from headrace.script import Change, ScriptPlan, load_script
from headrace.script.current import CurrentScript
from headrace.targets import Target, archived_target, is_built_in, load_target

if TYPE_CHECKING:
    from headrace.frontends.options import ParseOptions
    from headrace.reports.optimize import OptimizeReport

Progress = Callable[[int, int, str], None]
States = State


class ClientRunner:
    """A network on its way from a model file to a HEF.

    Args:
        hw_arch: target name or path of a target file; a HAR's own target when ``None`` and ``har`` is given.
        har: path of a HAR of any state to start from.

    Raises:
        UsageError, InputFileError: there is no such target, or its file breaks rules; or see :meth:`load_har`.
    """

    def __init__(self, hw_arch: str | None = None, har: str | os.PathLike[str] | None = None) -> None:
        self._archive: Archive | None = None
        self._script = CurrentScript()
        self._target: Target | None = None if hw_arch is None else load_target(hw_arch, "hw_arch")
        self._inference: Inference | None = None
        self._device_ids: Sequence[str] | None = None
        if har is not None:
            self.load_har(har)

    # --- state ---------------------------------------------------------------------------------------------------

    @property
    def archive(self) -> Archive:
        if self._archive is None:
            raise archive.need(None, PARSE)
        return self._archive

    @property
    def state(self) -> State | str:
        return "uninitialized" if self._archive is None else self._archive.state

    @property
    def model_name(self) -> str:
        return self.archive.name

    @property
    def target(self) -> Target:
        """The device that the network is for."""
        return self._target or load_target("hailo8")

    @property
    def hw_arch(self) -> str:
        """The target's name."""
        return self.target.name

    @property
    def model_script(self) -> str:
        return self.archive.model_script

    @property
    def parse_report(self) -> dict[str, Any]:
        return self.archive.reports.get("parse", {})

    @property
    def hef(self) -> bytes | None:
        return self.archive.hef

    def _network(self, after: Stage) -> Network:
        return archive.network_after(self.archive, after)

    def _begin(self, stage: Stage) -> None:
        """Drop what a stage and those after it made, because it runs again or something before it changed."""
        archive.forget(self.archive, stage)
        self._inference = None

    def _finish(self, stage: Stage, **facts: Any) -> None:
        """Note that a stage has run, and the script that it was run with."""
        self._script.note(self.archive)
        self.archive.state = stage.state
        self.archive.history = [h for h in self.archive.history if h.get("stage") != stage.name]
        self.archive.history.append({"stage": stage.name, "headrace": __version__, **facts})

    # --- parse ---------------------------------------------------------------------------------------------------

    def translate_onnx_model(
        self,
        model: str | os.PathLike[str] | bytes,
        net_name: str | None = None,
        start_node_names: Sequence[str] | None = None,
        end_node_names: Sequence[str] | None = None,
        net_input_shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
        progress: Progress | None = None,
        device_only: bool = False,
        input_values: Mapping[str, object] | None = None,
        **others: object,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Parse an ONNX model.

        Args:
            model: path or bytes.
            net_name: network name; the file's name by default.
            start_node_names, end_node_names: cut the graph at these nodes.
            net_input_shapes: shapes of inputs with open sizes, by input name, or one shape for a single input.
            device_only: refuse what cannot be on the device; without it the host runs that (docs/guide/host.md).
            input_values: values that inputs always have, by name: numbers, truth values or nested lists of them; the
                inputs become constants.
            others: known from another toolchain. ``disable_rt_metadata_extraction=True`` asks for what happens anyway;
                what is not done is refused by name (:mod:`headrace.known_arguments`).

        Returns:
            The HN as a dict and the parameters.

        Raises:
            InputFileError, UnsupportedModelError: with all problems at once.
            UsageError, NotBuiltYetError: an argument is not known, or asks for what is not done.
        """
        check_arguments(self.translate_onnx_model, others)
        from headrace.frontends import ParseOptions

        starts, ends, values = start_node_names or (), end_node_names or (), input_values or {}
        asked = ParseOptions(net_name, starts, ends, net_input_shapes, "onnx", device_only, values)
        return self._translate(model, asked, progress)

    def translate_tf_model(
        self,
        model_path: str | os.PathLike[str] | bytes,
        net_name: str | None = None,
        start_node_names: Sequence[str] | None = None,
        end_node_names: Sequence[str] | None = None,
        tensor_shapes: Mapping[str, Sequence[int]] | Sequence[int] | None = None,
        progress: Progress | None = None,
        device_only: bool = False,
        signature: str | None = None,
        input_values: Mapping[str, object] | None = None,
        **others: object,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Parse a model of TensorFlow's: TFLite, a frozen graph, a checkpoint, a SavedModel, a Keras file.

        Args:
            model_path: path or bytes; of a checkpoint or SavedModel the folder, or any of its files.
            net_name: network name; the file's name by default.
            start_node_names, end_node_names: cut the graph at these operators; TFLite's are named by the tensors that
                they make.
            tensor_shapes: shapes (N, H, W, C) of inputs with open sizes, by input name, or one for a single input.
            device_only: as for :meth:`translate_onnx_model`.
            signature: of a SavedModel, which of its signatures; ``serving_default``, or the only one, by default.
            input_values: as for :meth:`translate_onnx_model`.
            others: as for :meth:`translate_onnx_model`.

        Returns:
            The HN as a dict and the parameters.

        Raises:
            InputFileError, UnsupportedModelError: with all problems at once.
            NotBuiltYetError: a graph as text, or an argument that asks for what is not done.
        """
        check_arguments(self.translate_tf_model, others)
        from headrace.frontends import ParseOptions

        starts, ends, values = start_node_names or (), end_node_names or (), input_values or {}
        asked = ParseOptions(net_name, starts, ends, tensor_shapes, "tensorflow", device_only, values, signature)
        return self._translate(model_path, asked, progress)

    def _translate(
        self, model: str | os.PathLike[str] | bytes, options: ParseOptions, progress: Progress | None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        from headrace.frontends import parse

        if progress is not None:
            options = replace(options, progress=functools.partial(_told_translating, progress))
        result = parse(model, options)
        self._script = CurrentScript()
        self._archive = Archive(result.network.name, hw_arch=self.hw_arch, native=result.network)
        self._archive.whole, self._archive.nms = result.whole, result.nms
        self.archive.reports["parse"] = result.report.as_dict()
        self._note_target()
        self._inference = None
        self._finish(
            PARSE,
            start_node_names=list(options.start_node_names),
            end_node_names=list(options.end_node_names),
            input_shapes=options.named_shapes or options.only_shape,
            **({"device_only": True} if options.device_only else {}),
            **({"input_values": options.plain_values} if options.input_values else {}),
            **({"signature": options.signature} if options.signature is not None else {}),
        )
        return self.get_hn(), self.get_params()

    # --- model script --------------------------------------------------------------------------------------------

    def load_model_script(self, script: str | os.PathLike[str], append: bool = False) -> Change:
        """Take a model script (path or text); it is checked now and acted on by the stages that follow.

        Only what changes numbers drops a quantized network (:mod:`headrace.script.changes`); then a warning says so.

        Args:
            script: path, or text.
            append: add the lines to those of the script before.

        Returns:
            What it does: the script that counts now, what becomes of its lines, and the earliest stage dropped.

        Raises:
            ScriptError: it does not parse, or names a layer that is not there; NotBuiltYetError: it asks for something
                that is not built yet. Nothing changes then.
        """
        frozen = self.archive.quantized is not None
        source = load_script(script if isinstance(script, str) else Path(script))
        change = self._script.take(self.archive, source, script, append)
        if change.redo is not None:
            self._begin(change.redo)
        if frozen and self.archive.quantized is None:
            text = f"{source.source.name} changes the numbers of the network: the quantized network is dropped"
            warnings.warn(text, stacklevel=2)
        return change

    def _planned(self) -> ScriptPlan:
        """What the script asks of the network; see :meth:`headrace.script.current.CurrentScript.planned`."""
        return self._script.planned(self.archive)

    # --- optimize ------------------------------------------------------------------------------------------------

    def optimize_full_precision(self, calib_data: object = None, **others: object) -> None:
        """Carry out the model-modification commands of the script on the float network.

        Args:
            calib_data: not looked at: what these commands do follows from the script alone.
            others: ``work_dir``: no scratch files are written.

        Raises:
            ScriptError, NotBuiltYetError: as :meth:`load_model_script`.
        """
        from headrace.optimize import optimize_full_precision

        del calib_data
        check_arguments(self.optimize_full_precision, others)

        planned = self._planned()
        self._begin(OPTIMIZE_FULL_PRECISION)
        network, records = optimize_full_precision(self._network(PARSE), planned.passes)
        self.archive.fp_optimized = network
        self.archive.reports["script"] = planned.report().as_dict()
        self._finish(OPTIMIZE_FULL_PRECISION, changes=records)

    def optimize(
        self,
        calib_data: Any = None,
        min_snr: float = 10.0,
        calibration_size: int | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
        resize: str | None = None,
        channels: str | None = None,
        random: bool = False,
        requantize: bool = False,
        **others: object,
    ) -> dict[str, Any]:
        """Quantize to int8 and freeze the arithmetic.

        Args:
            calib_data: array, dict, path (``.npy``, ``.npz``, picture, folder of pictures), iterable or data set of
                frames or batches, or a callable that returns one of these. For the network's inputs or, by name, for
                the file's where the host has steps before the device. ``None``: the model was quantized already.
            min_snr: dB that every output must reach against float; 0 disables the check.
            calibration_size, batch_size: use only the first frames, most in flight; win over the script's.
            resize, channels: of pictures; as for :func:`headrace.data.calibration.load_calibration`.
            random: the data are noise, for trying the flow: report, HAR and HEF say so from then on.
            requantize: a model that was quantized already starts afresh from its float meaning.
            others: ``work_dir``: no scratch files are written. ``data_type="auto"``: what data are is seen from them.

        Returns:
            The report (also in the HAR).

        Raises:
            DataError: unusable data; AccuracyError: an output is below ``min_snr`` (the result is kept in the runner).
        """
        from headrace.optimize import OptimizeOptions, OptimizeResult, optimize

        check_arguments(self.optimize, others)
        if self.archive.fp_optimized is None:
            self.optimize_full_precision()
        network = self._network(OPTIMIZE_FULL_PRECISION)
        plain = OptimizeOptions(min_snr=min_snr, threads=threads, requantize=requantize)
        options = self._planned().optimize_options(plain)
        wins = {"calibration_size": calibration_size, "batch": batch_size}
        options = replace(options, **{key: value for key, value in wins.items() if value is not None})
        options.check()
        limit, notes = options.calibration_size, Notes()
        data = calibration_frames(self.archive, calib_data, resize, channels, limit, notes)
        self._begin(OPTIMIZE)
        failure: AccuracyError | None = None
        try:
            result = optimize(network, data, options, progress)
        except AccuracyError as error:
            failure, kept = error, error.result
            if not isinstance(kept, OptimizeResult):
                raise
            result = kept
        report = replace(result.report, warnings=(*notes.lines(), *result.report.warnings))
        self._keep_quantized(result.network, report, min_snr, options.seed, random, resize, channels)
        if failure is not None:
            raise failure
        return self.archive.reports["optimize"]

    def _keep_quantized(
        self, network: Network, report: OptimizeReport, min_snr: float, seed: int, random: bool, *pictures: str | None
    ) -> None:
        """What ``optimize`` made, and the line of the archive's history that says how."""
        if random:
            report = _marked_random(network, report)
        self.archive.quantized = network
        self.archive.reports["optimize"] = report.as_dict()
        self._finish(
            OPTIMIZE,
            min_snr=min_snr,
            calibration_frames=report.calibration.frames,
            **({"calibration": "random noise"} if random else {}),
            seed=seed,
            **picture_facts(*pictures),
        )

    # --- compile -------------------------------------------------------------------------------------------------

    def compile(self, progress: Progress | None = None, batch: int | None = None) -> bytes:
        """Compile the quantized network; returns the bytes of the HEF.

        Args:
            progress: called with steps done, steps in all, and what comes next.
            batch: frames between two switches, for a network that needs several contexts; wins over the model script's
                ``performance_param(optimize_for_batch=…)``. Without either it is 1.

        Raises:
            CapacityError: it does not fit the target; the error carries the report.
            UsageError: the batch is out of range.
        """
        from headrace.compiler import CompileOptions, carried, compile_network

        network, target = self._network(OPTIMIZE), self.target
        options = self._planned().compile_options(CompileOptions())
        if batch is not None:
            options = replace(options, batch=batch)
        result = compile_network(network, target, options, progress, carried(self.archive, network))
        self._begin(COMPILE)
        self._note_target()
        self.archive.hef = result.hef
        self.archive.reports["schedule"] = result.schedule.as_dict()
        self.archive.reports["compile"] = result.report.as_dict()
        self.archive.reports["timing"] = simulate(result.hef)
        self._finish(COMPILE, hw_arch=target.name)
        return result.hef

    # --- infer ---------------------------------------------------------------------------------------------------

    @contextmanager
    def infer_context(
        self, context: InferenceContext, device_ids: Sequence[str] | None = None, **others: object
    ) -> Generator[InferenceContext]:
        """``with runner.infer_context(InferenceContext.SDK_QUANTIZED) as ctx: runner.infer(ctx, data)``.

        Args:
            context: what to execute.
            device_ids: of :func:`headrace.runtime.scan`, one: the device that runs the HEF, for SDK_HAILO_HW only.
                Without it there is a device for the target of the HEF.
            others: known from another toolchain; what is not done is refused by name.

        Raises:
            UsageError, NotBuiltYetError: an argument is not known, or asks for what is not done.
        """
        check_arguments(self.infer_context, others)
        before, self._device_ids = self._device_ids, device_ids
        try:
            yield InferenceContext(context)
        finally:
            self._device_ids = before

    def infer(
        self,
        context: InferenceContext,
        dataset: Any,
        batch_size: int | None = None,
        data_count: int | None = None,
        quantized_io: bool = False,
        source_layout: bool = False,
        whole: bool = False,
        boxes: bool | None = None,
    ) -> Any:
        """Run the network on a data set.

        Args:
            context: what to execute.
            dataset: as for :meth:`optimize`; numbers of any type are real values, never codes.
            batch_size: frames at a time; no result depends on it. Without it the emulator takes 8, the device chooses.
            data_count: only the first frames; an iterable may be endless then.
            quantized_io: give codes instead of float32 (quantized and device contexts). Inputs are values all the same.
            source_layout: give outputs in the source file's layout and shape (NCHW, say) instead of HN's (NHWC).
            whole: run the whole model: the file's inputs, in its layout, to its outputs, with the steps of the host.
            boxes: give a detector's boxes instead of its outputs; without it where ``nms_postprocess`` stands in the
                model script and neither codes nor the source's layout are asked for.

        Returns:
            float32 ``[N, …]`` for one output, a list in output order for several. Boxes: for each frame float32
            ``[boxes, 6]``, best first: top, left, bottom, right as parts of the frame, score, class.

        Raises:
            DataError: unusable data, NaN and infinity among them.
            UsageError: codes of a float context, or layers of the device that are no outputs.

        Warns:
            DataWarning: the values cannot be what the network was calibrated for; remarks about pictures.
        """
        outputs: dict[str, Any]
        if boxes is None:
            boxes = self._planned().boxes is not None and not (quantized_io or source_layout or whole)
        postprocess = postprocess_of(self.archive, quantized_io or source_layout or whole) if boxes else None
        if whole:
            how = InferenceContext(context)
            outputs = self._executing().whole(how, dataset, batch_size, data_count, quantized_io, self._device_ids)
        else:
            outputs = self.infer_layers(context, dataset, None, batch_size, data_count, quantized_io)
        if postprocess is not None:
            return postprocess.detect(outputs)
        if source_layout and not whole:
            layers = self._network(PARSE).output_layers
            arranged = zip(outputs, outputs.values(), layers, strict=True)
            outputs = {name: layer.boundary.to_source(value, layer.output_shape) for name, value, layer in arranged}
        values = list(outputs.values())
        return values[0] if len(values) == 1 else values

    def infer_layers(
        self,
        context: InferenceContext,
        dataset: Any,
        layers: Sequence[str] | None = None,
        batch_size: int | None = None,
        data_count: int | None = None,
        quantized_io: bool = False,
    ) -> dict[str, Array]:
        """As :meth:`infer`, with the result of any layers by HN or original name; all outputs by default."""
        return self._executing().run(
            InferenceContext(context), dataset, layers, batch_size, data_count, quantized_io, self._device_ids
        )

    def _executing(self) -> Inference:
        if self._inference is None:
            self._inference = Inference(self.archive)
        return self._inference

    # --- look, save, load ----------------------------------------------------------------------------------------

    def profile(self, runtime_data: object = None, hef_filename: object = None, **others: object) -> dict[str, Any]:
        """Per-layer and whole-network figures for the state the network is in, as data.

        Args:
            runtime_data, hef_filename: not built yet, and refused.
            others: known from another toolchain; ``should_use_logical_layers=True`` asks for what happens anyway.

        Raises:
            UsageError, NotBuiltYetError: an argument is not known, or asks for what is not done.
        """
        from headrace.profiler import profile

        check_arguments(self.profile, {"runtime_data": runtime_data, "hef_filename": hef_filename, **others})
        return profile(self.archive, self.target).as_dict()

    def get_hn(self) -> dict[str, Any]:
        """The HN of the latest stage as a dict."""
        return json_format.to_dict(self._latest())

    get_hn_dict = get_hn

    def get_hn_model(self) -> Network:
        return self._latest()

    def get_native_hn_model(self) -> Network:
        return self._network(PARSE)

    def get_params(self) -> dict[str, Array]:
        """Parameters of the native network."""
        return dict(self._network(PARSE).params)

    def get_params_translated(self) -> dict[str, Array]:
        """Integer parameters of the quantized network."""
        return dict(self._network(OPTIMIZE).params)

    def get_params_fp_optimized(self) -> dict[str, Array]:
        return dict(self._network(OPTIMIZE_FULL_PRECISION).params)

    def _latest(self) -> Network:
        a = self.archive
        network = a.quantized or a.fp_optimized or a.native
        if network is None:
            raise archive.need(a, PARSE)
        return network

    def dump_har(self) -> bytes:
        """The HAR as bytes."""
        return archive.dump(self.archive)

    def save_har(self, path: str | os.PathLike[str], force: bool = False) -> str:
        """Write the HAR atomically; returns its digest. What stands there and is no HAR is only replaced by force."""
        return archive.save(self.archive, path, force)

    def load_har(self, har: str | os.PathLike[str]) -> None:
        """Start from a HAR of any state; its target counts where the runner was given none.

        Raises:
            InputFileError: the file is missing, corrupt, for an unknown target, or a layer in it breaks its own rules.
        """
        from headrace.hn.parameters import check_archive

        loaded = archive.load(har)
        check_archive(loaded)
        own = loaded.reports.get("target")
        target = self._target or archived_target(loaded.hw_arch, own, f"{har}: target of the HAR")
        self._archive, self._target, self._script = loaded, target, CurrentScript()
        if loaded.hef is None:
            self._note_target()
        self._inference = None

    def _note_target(self) -> None:
        """The archive says what it is for; a target that is not built in goes along, so that the HAR needs no other."""
        self.archive.hw_arch = self.target.name
        self.archive.reports.pop("target", None)
        if not is_built_in(self.target):
            self.archive.reports["target"] = self.target.as_dict()


def _told_translating(progress: Progress, done: int, total: int) -> None:
    progress(done, total, "translating")


def _marked_random(network: Network, report: OptimizeReport) -> OptimizeReport:
    """The report of a network calibrated with noise; what is made of the network reads so in it."""
    network.net_params["random_calibration"] = report.calibration.frames
    warning = "CALIBRATED WITH RANDOM NOISE: THE ACCURACY OF THE RESULT IS MEANINGLESS"
    calibration = replace(report.calibration, random=True)
    return replace(report, calibration=calibration, warnings=(warning, *report.warnings))


__all__ = ["ClientRunner", "HeadraceError", "InferenceContext", "States", "load_calibration", "predictions", "simulate"]
