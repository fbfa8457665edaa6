# SPDX-License-Identifier: Apache-2.0
"""The commands of the compiler against a stand-in for the stages: which are run, with what, and what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import headrace.runner
from headrace.cli.app import run
from headrace.errors import AccuracyError, CapacityError, Diagnostic
from headrace.hef.container import HefDescription, StreamDescription, write_hef
from headrace.hn import archive
from headrace.script import load_script, plan
from made_reports import optimize_report, output_accuracy, parse_report, timing_report

HN = {
    "name": "net",
    "layers": {
        "net/input_layer1": {"type": "input_layer", "output_shapes": [[-1, 4, 4, 3]], "original_names": ["x"]},
        "net/conv1": {"type": "conv", "output_shapes": [[-1, 4, 4, 8]], "original_names": ["c"]},
        "net/output_layer1": {"type": "output_layer", "output_shapes": [[-1, 8]], "original_names": ["\x1b[31my"]},
    },
}


_STREAMS = [StreamDescription(f"net/{d}", d, 1, 1, 1, 1, 1.0, 0) for d in ("input", "output")]
SMALL_HEF = write_hef(HefDescription("net", tuple(_STREAMS)), b"program")


class FakeRunner:
    """Notes the calls; a HAR's name says its state."""

    calls: list[tuple[Any, ...]] = []
    fail: dict[str, Exception] = {}
    model_name = "net"
    model_script = ""
    target = "the target"
    parse_report = parse_report(["input 'z' is not used"]).as_dict()
    archive = SimpleNamespace(
        name="net",
        native=None,
        whole=None,
        nms=None,
        reports={"parse": parse_report, "timing": timing_report(123.4, 5.0, "net/fc1").as_dict()},
    )

    def __init__(self, hw_arch: str | None = None, har: Any = None) -> None:
        self.hw_arch = hw_arch or "hailo8"
        self.state = "uninitialized" if har is None else Path(har).stem
        self._note("open", har is not None, hw_arch)

    def _note(self, name: str, *arguments: Any) -> None:
        FakeRunner.calls.append((name, *arguments))
        if name in FakeRunner.fail:
            raise FakeRunner.fail[name]

    def translate_onnx_model(self, path: str, net_name: str | None, **options: Any) -> None:
        options.pop("progress")
        self._note("parse", path, net_name, options)
        self.state = "hailo_model"

    def load_model_script(self, script: Path, append: bool = False) -> Any:
        news = plan(load_script(script))
        news.check()
        self.model_script = script.read_text()
        self._note("script")
        return SimpleNamespace(news=news)

    def optimize_full_precision(self, calib_data: Any = None) -> None:
        self._note("full_precision")
        self.state = "fp_optimized_model"

    def optimize(
        self,
        data: Any,
        min_snr: float,
        progress: Any,
        resize: Any = None,
        channels: Any = None,
        random: bool = False,
        requantize: bool = False,
    ) -> dict[str, Any]:
        progress(1, 2, "x")
        self.state = "quantized_model"
        self._note("optimize", data, min_snr)
        outputs = {"net/fc1": output_accuracy(33.21), "net/fc2": output_accuracy(None)}
        report = optimize_report(outputs, ["noise"] * random + ["odd data"], random=random).as_dict()
        self.archive.reports["optimize"] = report
        return report

    def compile(self, progress: Any, batch: int | None = None) -> bytes:
        progress(1, 0, "")
        self._note("compile")
        self.state = "compiled_model"
        return SMALL_HEF

    def get_hn(self) -> dict[str, Any]:
        return HN

    def dump_har(self) -> bytes:
        self._note("save")
        return archive.dump(archive.Archive("net"))


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(headrace.runner, "ClientRunner", FakeRunner)
    monkeypatch.setattr(FakeRunner, "calls", [])
    monkeypatch.setattr(FakeRunner, "fail", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a")  # what a file is, its content says before it is translated
    return tmp_path


def names() -> list[str]:
    return [call[0] for call in FakeRunner.calls]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "m.onnx")


@pytest.mark.parametrize("command", [["parse"], ["parser", "onnx"]])
def test_parse(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--net-name", "n", "--end-node-names", "a", "b", "--tensor-shapes", "x=[1,3,4,4]", "-y"]
    options += ["--input-values", "sr=16000", "k=[1, 0.5]"]
    assert run([*command, "m.onnx", *options, "--parsing-report-path", "r.json"]) == 0
    expected = {
        "start_node_names": None,
        "end_node_names": ["a", "b"],
        "device_only": False,
        "net_input_shapes": {"x": [1, 3, 4, 4]},
        "input_values": {"sr": 16000, "k": [1, 0.5]},
    }
    assert FakeRunner.calls[1] == ("parse", "m.onnx", "n", expected)
    assert files(tmp_path) == ["net.har", "r.json"]
    text, err = capsys.readouterr()
    assert "warning: input 'z' is not used" in err
    assert "net/input_layer1  N×4×4×3  (x)" in text
    assert "\x1b" not in text


def test_parse_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["parse", "m.onnx", "--json", "--har-path", "o.har"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["har"], data["state"], data["layers"]) == (
        "o.har",
        "hailo_model",
        {"conv": 1, "input_layer": 1, "output_layer": 1},
    )
    assert data["report"]["source_nodes"] == 3


def test_optimize(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimize", "hailo_model.har", "--calib-set-path", "c.npy", "--min-snr", "12"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"net/fc1 +33.2 dB\nnet/fc2 +exact\n", captured.out)
    assert "warning: odd data" in captured.err
    assert FakeRunner.calls == [("open", True, None), ("optimize", "c.npy", 12.0), ("save",)]
    assert (
        run(["optimize", "m.onnx", "--calib-set-path", "c.npy", "--output-har-path", "o.har", "--hw-arch", "hailo8l"])
        == 0
    )
    assert names()[3:] == ["open", "parse", "optimize", "save"]
    assert FakeRunner.calls[3] == ("open", False, "hailo8l")
    assert files(tmp_path) == ["net_optimized.har", "o.har"]


def test_full_precision_only() -> None:
    assert run(["optimize", "hailo_model.har", "--full-precision-only"]) == 0
    assert names() == ["open", "full_precision", "save"]


def test_random_calibration_warns_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimize", "hailo_model.har", "--use-random-calib-set", "--calib-random-max", "255", "--json"]) == 0
    captured = capsys.readouterr()
    assert "MEANINGLESS" in captured.err
    json.loads(captured.out)
    (_name, data, min_snr) = FakeRunner.calls[1]
    assert min_snr == 0
    assert data["net/input_layer1"].shape == (64, 4, 4, 3)
    assert 200 < data["net/input_layer1"].max() < 255


@pytest.mark.parametrize("options", [[], ["--use-random-calib-set", "--calib-set-path", "c.npy"]])
def test_calibration_data_is_needed_once(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimize", "hailo_model.har", *options]) == 2
    assert "E-CALIBRATION-MISSING" in capsys.readouterr().err
    assert run(["compile", "hailo_model.har", *options]) == 2
    assert "save" not in names()


def test_an_inaccurate_har_is_kept_and_the_exit_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FakeRunner.fail["optimize"] = AccuracyError(Diagnostic("E-SNR", "net/conv1", "too noisy"))
    assert run(["optimize", "hailo_model.har", "--calib-set-path", "c.npy"]) == 7
    assert files(tmp_path) == ["net_optimized.har"]
    assert "headrace profile net_optimized.har" in capsys.readouterr().err
    assert run(["build", "m.onnx", "--calib-set", "c.npy"]) == 7
    assert files(tmp_path) == ["net_optimized.har"]


@pytest.mark.parametrize(
    ("state", "stages"),
    [("hailo_model", ["optimize", "compile"]), ("quantized_model", ["compile"]), ("compiled_model", ["compile"])],
)
def test_compile_runs_what_is_missing(
    state: str, stages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--calib-set-path", "c.npy"] if "optimize" in stages else []
    assert run(["compiler", f"{state}.har", *data, "--auto-model-script", "a.alls"]) == 0
    assert names() == ["open", *stages, "save"]
    assert files(tmp_path) == ["a.alls", "net.hef", "net_compiled.har"]
    assert (tmp_path / "net.hef").read_bytes() == SMALL_HEF
    assert "device speed (simulated): 123.4 frames/s, latency 5.000 ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compile", "quantized_model.har", "--calib-set-path", "c.npy"], "--calib-set-path: the network is quantized"),
        (["compile", "compiled_model.har", "--min-snr", "3"], "--min-snr: the network is quantized already"),
        (["compile", "hailo_model.har", "--hef-path", "a.hef", "--output-har-path", "a.har", "--output-dir", "d"],
         "--output-dir: both results have paths"),
        (["optimize", "hailo_model.har", "--full-precision-only", "--calib-set", "c.npy", "--resize", "crop"],
         "--calib-set-path, --resize: nothing is calibrated"),
        (["optimize", "hailo_model.har", "--calib-set", "c.npy", "--calib-random-max", "3"], "this is about random"),
        (["optimize", "hailo_model.har", "--use-random-calib-set", "--min-snr", "20"], "--min-snr: the accuracy of"),
        (["build", "m.onnx", "--use-random-calib-set", "--min-snr", "20"], "--min-snr: the accuracy of what"),
    ],
)  # fmt: skip
def test_options_that_would_have_no_effect_are_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == []


def test_options_that_ask_for_what_happens_anyway_change_nothing(tmp_path: Path) -> None:
    noise = ["optimize", "hailo_model.har", "--use-random-calib-set"]
    for plain, idle in (
        (["parse", "m.onnx"], ["-y", "--disable-onnx-simplifier", "--disable-rt-metadata-extraction"]),
        (noise, ["--work-dir", "scratch", "--min-snr", "0"]),
    ):
        told: list[object] = []
        for arguments in (plain, [*plain, *idle]):
            FakeRunner.calls = []
            assert run(arguments) == 0
            told.append(repr(FakeRunner.calls))
        assert told[0] == told[1], idle
    assert files(tmp_path) == ["net.har", "net_optimized.har"]


def test_build_writes_beside_the_hef(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "m.onnx", "--calib-set", "c.npy", "-o", "out/x.hef", "--json"]) == 0
    assert names() == ["open", "parse", "optimize", "compile", "save"]
    assert files(tmp_path) == ["out/net_compiled.har", "out/x.hef"]
    assert json.loads(capsys.readouterr().out)["hef"] == "out/x.hef"


def test_nothing_is_written_when_a_stage_fails(tmp_path: Path) -> None:
    for stage, error, status in (
        ("compile", CapacityError(Diagnostic("E-FIT", "net", "no")), 8),
        ("compile", KeyboardInterrupt(), 130),
        ("optimize", KeyboardInterrupt(), 130),
        ("parse", KeyboardInterrupt(), 130),
        ("parse", RecursionError(), 70),
    ):
        FakeRunner.fail = {stage: error}  # type: ignore[dict-item]
        assert run(["build", "m.onnx", "--calib-set", "c.npy", "-o", "out/x.hef"]) == status
        assert files(tmp_path) == []


def test_model_scripts_are_reported_and_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "s.alls"
    script.write_text(
        "n = normalization([1], [2])\nallocator_param(timeout=3)\nperformance_param(fps=3)\nbuffers(a, b, 2)\n"
    )
    assert run(["optimize", "hailo_model.har", "--calib-set-path", "c.npy", "--model-script", "s.alls"]) == 0
    err = capsys.readouterr().err
    assert "s.alls:3:19: performance_param: fps=3 is not built yet" in err
    assert "s.alls: without effect on this device: line 2: allocator_param(timeout=3): it steers another" in err
    assert "(and 1 more lines)" in err
    assert names() == ["open", "script", "optimize", "save"]
    script.write_text("change_output_activation(conv1, sigmoid)\n")
    assert run(["optimize", "hailo_model.har", "--calib-set-path", "c.npy", "--model-script", "s.alls"]) == 11
    script.write_text("nomalization([1], [2])\n")
    assert run(["optimize", "hailo_model.har", "--calib-set-path", "c.npy", "--model-script", "s.alls"]) == 5
    assert run(["optimize", "hailo_model.har", "--calib-set-path", "c.npy", "--model-script", "none.alls"]) == 3


def test_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import headrace.profiler

    def report(archive: Any, target: Any) -> Any:
        assert (archive, target) == (FakeRunner.archive, "the target")
        return SimpleNamespace(as_dict=lambda: {"name": "net", "state": "quantized_model"})

    monkeypatch.setattr(headrace.profiler, "profile", report)
    monkeypatch.setattr(headrace.profiler, "render_text", lambda report: f"text of {report.as_dict()['state']}")
    assert run(["profile", "quantized_model.har"]) == 0
    assert capsys.readouterr().out == "text of quantized_model\n"
    assert run(["profiler", "quantized_model.har", "--json", "--no-browser", "--out-path", "r.txt"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "net", "state": "quantized_model"}
    assert (tmp_path / "r.txt").read_text() == "text of quantized_model\n"
    assert run(["profile", "quantized_model.har", "--out-path", "r.json"]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["state"] == "quantized_model"
