# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``ClientRunner``: each acts, is refused by name, or asks for what happens anyway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli.app import run
from headrace.errors import DeviceError, HeadraceError, NotBuiltYetError, UsageError
from headrace.known_arguments import ARGUMENTS
from headrace.runner import ClientRunner, InferenceContext
from small_onnx import write_small

Call = Callable[[ClientRunner, dict[str, Any]], object]
FRAMES = np.random.default_rng(2).random((4, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arguments")
    write_small(folder)
    runner = ClientRunner()
    runner.translate_onnx_model(folder / "small.onnx", "net")
    runner.optimize(folder / "calibration.npy", min_snr=0)
    runner.compile()
    runner.save_har(folder / "c.har")
    return folder


def compiled(folder: Path) -> ClientRunner:
    return ClientRunner(har=folder / "c.har")


def calls(folder: Path) -> dict[str, Call]:
    def infer_context(runner: ClientRunner, given: dict[str, Any]) -> None:
        with runner.infer_context(InferenceContext.SDK_QUANTIZED, **given):
            pass

    return {
        "translate_onnx_model": lambda r, given: r.translate_onnx_model(folder / "small.onnx", "net", **given),
        "translate_tf_model": lambda r, given: r.translate_tf_model(folder / "small.tflite", "net", **given),
        "optimize_full_precision": lambda r, given: r.optimize_full_precision(**given),
        "optimize": lambda r, given: r.optimize(folder / "calibration.npy", 0, **given),
        "infer_context": infer_context,
        "profile": lambda r, given: r.profile(**given),
    }


@pytest.mark.parametrize(("method", "argument"), [(m, a) for m, known in ARGUMENTS.items() for a in known])
def test_what_is_not_done_is_refused_by_name(method: str, argument: str, folder: Path) -> None:
    known = ARGUMENTS[method][argument]
    if known.asks_for_nothing("something"):
        return
    with pytest.raises(NotBuiltYetError) as caught:
        calls(folder)[method](compiled(folder), {argument: "something"})
    (found,) = caught.value.diagnostics
    assert argument in found.where and found.levers == known.levers


@pytest.mark.parametrize("method", sorted(ARGUMENTS))
def test_misspelt_arguments_get_suggestions(method: str, folder: Path) -> None:
    argument = next(iter(ARGUMENTS[method]))
    with pytest.raises(UsageError, match="there is no argument of this name") as caught:
        calls(folder)[method](compiled(folder), {argument[:-1]: 1})
    assert argument in caught.value.diagnostics[0].levers[0]


def test_what_asks_for_what_happens_anyway_changes_no_byte(folder: Path) -> None:
    plain, told = ClientRunner(), ClientRunner()
    plain.translate_onnx_model(folder / "small.onnx", "net")
    told.translate_onnx_model(folder / "small.onnx", "net", disable_rt_metadata_extraction=True, augmented_path=None)
    assert plain.dump_har() == told.dump_har()
    plain.optimize_full_precision()
    told.optimize_full_precision(calib_data=object(), work_dir="scratch")
    assert plain.dump_har() == told.dump_har()
    plain.optimize(folder / "calibration.npy", 0)
    told.optimize(folder / "calibration.npy", 0, work_dir="scratch", data_type="auto")
    assert plain.dump_har() == told.dump_har()
    assert plain.profile() == told.profile(None, None, should_use_logical_layers=True)


def test_the_device_that_is_named_is_the_one_that_runs(folder: Path) -> None:
    runner = compiled(folder)
    wanted = runner.infer(InferenceContext.SDK_QUANTIZED, FRAMES)
    with runner.infer_context(InferenceContext.SDK_HAILO_HW, device_ids=["virtual:hailo8"]) as context:
        assert np.array_equal(runner.infer(context, FRAMES, batch_size=3), wanted)
    hardware, emulator = InferenceContext.SDK_HAILO_HW, InferenceContext.SDK_QUANTIZED
    elsewhere = pytest.raises(DeviceError, match="virtual:hailo8")
    with runner.infer_context(hardware, device_ids=["0000:01:00.0"]) as context, elsewhere:
        runner.infer(context, FRAMES)
    assert np.array_equal(runner.infer(hardware, FRAMES), wanted)
    none = pytest.raises(UsageError, match="only SDK_HAILO_HW runs on a device")
    with runner.infer_context(emulator, device_ids=["virtual:hailo8"]) as context, none:
        runner.infer(context, FRAMES)


def test_codes_of_a_float_network_are_refused(folder: Path) -> None:
    for context in (InferenceContext.SDK_NATIVE, InferenceContext.SDK_FP_OPTIMIZED):
        with pytest.raises(UsageError, match="a float network has no codes"):
            compiled(folder).infer(context, FRAMES, quantized_io=True)


def test_members_beside_the_resolved_script_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ["har", "extract", str(folder / "c.har"), "--auto-model-script-path", str(tmp_path / "s.alls")]
    for idle in (["net.hef"], ["--output-dir", str(tmp_path)]):
        assert run([*script, *idle]) == 2
        assert f"{idle[0]}: only the resolved script is written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_has_not_run_says_what_to_call(folder: Path) -> None:
    runner = ClientRunner()
    with pytest.raises(UsageError, match=r"call translate_onnx_model\(\.\.\.\) or load_har\(\.\.\.\) first"):
        runner.get_hn()
    runner.translate_onnx_model(folder / "small.onnx", "net")
    needed: list[tuple[Callable[[], object], str]] = [
        (lambda: runner.infer(InferenceContext.SDK_FP_OPTIMIZED, FRAMES), r"call optimize_full_precision\(\) first"),
        (lambda: runner.infer(InferenceContext.SDK_QUANTIZED, FRAMES), r"call optimize\(calib_data\) first"),
        (runner.compile, r"call optimize\(calib_data\) first"),
        (lambda: runner.infer(InferenceContext.SDK_HAILO_HW, FRAMES), r"call compile\(\) first"),
    ]
    for call, lever in needed:
        with pytest.raises(HeadraceError, match=lever):
            call()
