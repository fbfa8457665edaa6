# SPDX-License-Identifier: Apache-2.0
"""The spectrum in front of an audio network goes to the host by itself; learned layers of the same form do not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from onnx import TensorProto, helper, numpy_helper

from frontend_oracle import session
from headrace.cli.app import run
from headrace.cli.report_text import placement_text
from headrace.errors import UnsupportedModelError
from headrace.frontends.audio_front import LEVER, STANDARDIZES, WHY, spectrum_nodes
from headrace.frontends.formats.onnx import OnnxReader
from headrace.frontends.options import ParseOptions
from headrace.frontends.parsing import _folded
from headrace.frontends.reader import Source
from headrace.hn.whole import DeviceStep, OnnxStep
from headrace.reports.parse import ParseReport
from headrace.runner import ClientRunner, InferenceContext
from small_tensorflow import SmallGraph
from small_tflite import SmallModel

N = helper.make_node
SAMPLES, FRAMES, WINDOW, HOP, MELS = 512, 15, 64, 32, 8
BINS = WINDOW // 2 + 1


def window() -> np.ndarray[Any, Any]:
    return np.hanning(WINDOW + 1)[:WINDOW].astype(np.float32)


def waves(count: int = BINS) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Cosines and sines ``[WINDOW, count]``."""
    angles = 2 * np.pi * np.outer(np.arange(WINDOW), np.arange(count)) / WINDOW
    return np.cos(angles).astype(np.float32), -np.sin(angles).astype(np.float32)


def mel() -> np.ndarray[Any, Any]:
    centers = np.linspace(1, BINS - 2, MELS)
    return np.maximum(0, 1 - np.abs(np.arange(BINS)[:, None] - centers) / 4).astype(np.float32)


class Graph:
    """An ONNX network of one sound ``[1, SAMPLES]``; each method adds a node and gives its tensor."""

    def __init__(self, opset: int = 17, shape: tuple[int, ...] = (1, SAMPLES)) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.opset, self.shape = opset, shape

    def const(self, array: Any) -> str:
        name = f"k{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Inputs that are no names are constants."""
        names = [x if isinstance(x, str) else self.const(x) for x in inputs]
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(N(kind, names, [name], name=name, **attributes))
        return name

    def network(self, x: str, rows: int = FRAMES, width: int = MELS) -> bytes:
        """Two learned layers over ``[1, rows, width]``, and the file."""
        rng = np.random.default_rng(5)
        x = self.op("Reshape", x, np.array([1, 1, rows, width]))
        x = self.op("Conv", x, rng.normal(0, 0.3, (8, 1, 3, 3)).astype(np.float32), pads=[1] * 4)
        x = self.op("Flatten", self.op("GlobalAveragePool", self.op("Relu", x)))
        return self.file(self.op("MatMul", x, rng.normal(0, 0.5, (8, 4)).astype(np.float32)), 4)

    def file(self, x: str, *sizes: int) -> bytes:
        info = helper.make_tensor_value_info
        ends = [info("sound", TensorProto.FLOAT, self.shape)], [info(x, TensorProto.FLOAT, [1, *sizes])]
        graph = helper.make_graph(self.nodes, "g", *ends, self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return made.SerializeToString()

    def frames(self) -> str:
        """Windows of the sound, cut as keras does and weighted: ``[1, FRAMES, WINDOW]``."""
        parts = self.op("Reshape", "sound", np.array([1, SAMPLES // HOP, HOP]))
        places = np.arange(FRAMES)[:, None] + np.arange(WINDOW // HOP)
        cut = self.op("Reshape", self.op("Gather", parts, places, axis=1), np.array([1, FRAMES, WINDOW]))
        return self.op("Mul", cut, window())

    def rows(self) -> str:
        return self.op("Reshape", "sound", np.array([1, 1, SAMPLES]))

    def squares(self, a: str, b: str) -> str:
        return self.op("Add", self.op("Mul", a, a), self.op("Pow", b, np.float32(2)))


# --- front ends -------------------------------------------------------------------------------------------------------


def by_products() -> bytes:
    """As the keyword transformer's: products by cosines and by sines, root, mel, limit, logarithm, cosines again."""
    g, (c, s) = Graph(), waves()
    x = g.frames()
    power = g.op("Sqrt", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)))
    x = g.op("Log", g.op("Max", g.op("MatMul", power, mel()), np.float32(1e-12)))
    dct = np.cos(np.pi * np.outer(np.arange(MELS) + 0.5, np.arange(MELS)) / MELS).astype(np.float32)
    return g.network(g.op("Mul", g.op("MatMul", x, dct), np.linspace(0.5, 1, MELS).astype(np.float32)))


def by_convolutions() -> bytes:
    """As nnAudio's, with emphasis of high frequencies before; no mel matrix, and the root inside of the logarithm."""
    g, (c, s) = Graph(), waves()
    x = g.op("Conv", g.rows(), np.array([[[-0.97, 1.0, 0.0]]], np.float32), pads=[1, 1])
    kernels = [(part * window()[:, None]).T[:, None].astype(np.float32) for part in (c, s)]
    parts = [g.op("Conv", x, kernel, strides=[HOP]) for kernel in kernels]
    x = g.op("Log", g.op("Sqrt", g.op("Add", g.squares(*parts), np.float32(1e-8))))
    return g.network(g.op("Transpose", x, perm=[0, 2, 1]), FRAMES, BINS)


def by_one_convolution() -> bytes:
    """Cosines, then sines, in one kernel; 10·log10 and the loudest 80 dB, as torchaudio's AmplitudeToDB."""
    g, (c, s) = Graph(), waves()
    kernel = (np.concatenate([c, s], 1) * window()[:, None]).T[:, None].astype(np.float32)
    both = g.op("Conv", g.rows(), kernel, strides=[HOP])
    halves = [
        g.op("Slice", both, np.array([a]), np.array([b]), np.array([1])) for a, b in ((0, BINS), (BINS, 2 * BINS))
    ]
    x = g.op("MatMul", mel().T.copy(), g.squares(*halves))
    x = g.op("Mul", g.op("Log", g.op("Clip", x, np.float32(1e-10))), np.float32(10 / np.log(10)))
    x = g.op("Max", x, g.op("Sub", g.op("ReduceMax", x, axes=[1, 2], keepdims=1), np.float32(80)))
    return g.network(g.op("Transpose", x, perm=[0, 2, 1]))


def in_turn() -> bytes:
    """A cosine and its sine beside each other, squared and summed at once; the file takes whole numbers' range."""
    g, (c, s) = Graph(), waves()
    x = g.op("Div", g.frames(), np.float32(32768))
    both = g.op("MatMul", x, np.stack([c, s], 2).reshape(WINDOW, 2 * BINS))
    pairs = g.op("Reshape", both, np.array([1, FRAMES, BINS, 2]))
    power = g.op("ReduceSumSquare", pairs, axes=[3], keepdims=0)
    return g.network(g.op("Log", g.op("Add", g.op("MatMul", power, mel()), np.float32(1e-6))))


def by_stft() -> bytes:
    """ONNX's operator, as torch exports it; its magnitudes without the last frame, squared, as Whisper's."""
    g = Graph()
    x = g.op("STFT", "sound", np.array(HOP), window(), np.array(WINDOW), onesided=1)
    x = g.op("Slice", x, np.array([0]), np.array([FRAMES - 1]), np.array([1]))
    magnitude = g.op("ReduceL2", x, axes=[3], keepdims=0)
    power = g.op("MatMul", g.op("Pow", magnitude, np.float32(2)), mel())
    return g.network(g.op("Log", g.op("Clip", power, np.float32(1e-10))), FRAMES - 1)


def by_dft() -> bytes:
    """ONNX's transform of rows, and a cubic root in place of the logarithm."""
    g = Graph(opset=17)
    x = g.op("Unsqueeze", g.frames(), np.array([3]))
    power = g.op("ReduceSumSquare", g.op("DFT", x, axis=2, onesided=1), axes=[3], keepdims=0)
    return g.network(g.op("Pow", g.op("MatMul", power, mel()), np.float32(1 / 3)))


FRONTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "products": (by_products, "log"), "convolutions": (by_convolutions, "log"),
    "one convolution": (by_one_convolution, "log"), "in turn": (in_turn, "log"), "STFT": (by_stft, "log"),
    "DFT": (by_dft, "pow"),
}  # fmt: skip


def found(data: bytes) -> dict[str, str]:
    return spectrum_nodes(_folded(OnnxReader().read(Source.of(data), ParseOptions())).source)


def parsed(data: bytes, **options: Any) -> ClientRunner:
    runner = ClientRunner("hailo8")
    runner.translate_onnx_model(data, "net", **options)
    return runner


def sounds(count: int = 4) -> np.ndarray[Any, Any]:
    """Tones that fade by 60 dB, one sound a row."""
    rng, t = np.random.default_rng(2), np.arange(SAMPLES)
    tones = [np.sin(2 * np.pi * f * t) * 10 ** (-3 * t / SAMPLES) for f in rng.uniform(0.02, 0.4, count)]
    return (np.stack(tones) + rng.normal(0, 1e-4, (count, SAMPLES))).astype(np.float32)


@pytest.mark.parametrize("name", FRONTS)
def test_the_host_has_what_leads_to_the_logarithm(name: str) -> None:
    make, last = FRONTS[name]
    data = make()
    runner = parsed(data)
    whole = runner.archive.whole
    assert [type(step) for step in whole.steps] == [OnnxStep, DeviceStep]
    (taken,) = whole.device.takes
    assert taken.tensor.startswith(f"{last}_")
    placed = [n for n in runner.parse_report["placement"] if n["place"] == "host"]
    assert {n["node"] for n in placed} == set(found(data)), "these, and nothing that they lead to"
    assert any(n["reason"] == WHY for n in placed)
    given = sounds()
    want = np.concatenate([session(data).run(None, {"sound": row[None]})[0] for row in given])
    got = runner.infer(InferenceContext.SDK_NATIVE, {"sound": given}, whole=True)
    assert np.abs(got - want).max() <= 1e-4 * np.ptp(want)


@pytest.mark.parametrize("name", ["products", "convolutions"])
def test_quantized_it_is_as_float_and_on_the_device_it_is_not(name: str) -> None:
    data, given, snr = FRONTS[name][0](), sounds(8), {}
    want = np.concatenate([session(data).run(None, {"sound": row[None]})[0] for row in given])
    for device_only in (False, True):
        runner = parsed(data, device_only=device_only)
        assert (len(runner.archive.whole.steps) == 1) == device_only
        runner.optimize({"sound": sounds(16)} if not device_only else sounds(16), min_snr=0)
        got = runner.infer(InferenceContext.SDK_QUANTIZED, {"sound": given}, whole=True)
        snr[device_only] = 10 * np.log10(np.square(want).sum() / np.square(got - want).sum())
    assert snr[False] > 25 and snr[False] > snr[True] + 6, snr


def test_why_and_what_moves_it_are_told_and_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "words.onnx"
    path.write_bytes(by_products())
    assert run(["parse", str(path), "--explain", "log_12"]) == 0
    told = capsys.readouterr().out
    assert WHY in told and f"to move it: {LEVER}" in told
    report = ParseReport.from_dict(parsed(by_products()).parse_report, "parse")
    assert WHY in placement_text(report) and LEVER in placement_text(report)
    assert any("--device-only keeps all on the device" in warning for warning in report.warnings)
    option = LEVER.partition(",")[0]
    assert run(["parse", str(path), "--har-path", str(tmp_path / "net.har"), option, "--json"]) == 0
    placed = json.loads(capsys.readouterr().out)["report"]["placement"]
    assert {node["place"] for node in placed} <= {"device", "folded"}


def test_what_is_named_is_on_the_device() -> None:
    data = by_products()
    first = onnx.load_from_string(data).graph.node[0].name
    whole = parsed(data, start_node_names=[first]).archive.whole
    assert [type(step) for step in whole.steps] == [DeviceStep]


def test_no_lever_is_offered_where_not_all_of_the_file_can_be_there() -> None:
    """ONNX's STFT is no layer: ``--device-only`` would refuse the file."""
    report = ParseReport.from_dict(parsed(by_stft()).parse_report, "parse")
    here = [node for node in report.placement if node.reason == WHY]
    assert here and not any(node.rewrite for node in here)
    with pytest.raises(UnsupportedModelError, match="STFT cannot be translated"):
        parsed(by_stft(), device_only=True)


def test_a_file_that_is_a_spectrum_alone_stays_on_the_device() -> None:
    g, (c, s) = Graph(), waves()
    x = g.frames()
    x = g.op("Log", g.op("Add", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)), np.float32(1e-6)))
    data = g.file(x, FRAMES, BINS)
    assert found(data)
    assert [type(step) for step in parsed(data).archive.whole.steps] == [DeviceStep]


# --- behind the logarithm ---------------------------------------------------------------------------------------------


def standardized(rotated: bool) -> bytes:
    """Each of the features divided by its deviation over the frames, as torch writes it; cepstra, or not."""
    g, (c, s) = Graph(), waves()
    x = g.frames()
    power = g.op("MatMul", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)), mel())
    x = g.op("Log", g.op("Add", power, np.float32(1e-6)))
    if rotated:
        dct = np.cos(np.pi * np.outer(np.arange(MELS) + 0.5, np.arange(MELS)) / MELS).astype(np.float32)
        x = g.op("MatMul", x, dct)
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[1]))
    count = g.op("Cast", g.op("Gather", g.op("Shape", x), np.array(1)), to=TensorProto.FLOAT)
    variance = g.op("Mul", g.op("ReduceMean", g.op("Mul", centred, centred), axes=[1]), count)
    variance = g.op("Div", variance, g.op("Sub", count, np.float32(1)))
    x = g.op("Div", centred, g.op("Add", g.op("Sqrt", variance), np.float32(1e-5)))
    return g.network(g.op("Mul", x, np.float32(0.5)))


@pytest.mark.parametrize("rotated", [False, True])
def test_a_deviation_is_computed_where_the_logarithm_is(rotated: bool) -> None:
    data = standardized(rotated)
    runner = parsed(data)
    (taken,) = runner.archive.whole.device.takes
    last = next(n for n in reversed(runner.parse_report["placement"]) if n["place"] == "host")
    assert taken.tensor == last["node"] and last["operator"] == "Div" and last["reason"] == STANDARDIZES
    given = sounds()
    want = np.concatenate([session(data).run(None, {"sound": row[None]})[0] for row in given])
    got = runner.infer(InferenceContext.SDK_NATIVE, {"sound": given}, whole=True)
    assert np.abs(got - want).max() <= 1e-4 * np.ptp(want)


def test_scaling_by_the_largest_value_is_a_layer() -> None:
    """As Basic Pitch's: measured to lose nothing in 8 bits."""
    g, (c, s) = Graph(), waves()
    x = g.frames()
    x = g.op("Log", g.op("Add", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)), np.float32(1e-6)))
    x = g.op("Sub", x, g.op("ReduceMin", x, axes=[1, 2]))
    data = g.network(g.op("Div", x, g.op("ReduceMax", x, axes=[1, 2])), FRAMES, BINS)
    (taken,) = parsed(data).archive.whole.device.takes
    assert taken.tensor.startswith("log_") and set(found(data).values()) == {WHY}


def test_a_learned_layer_ends_what_is_looked_at() -> None:
    """Layer norms in the network behind the logarithm are the device's."""
    g, (c, s) = Graph(), waves()
    x = g.frames()
    x = g.op("Log", g.op("Add", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)), np.float32(1e-6)))
    x = g.op("MatMul", x, np.random.default_rng(7).normal(0, 0.2, (BINS, MELS)).astype(np.float32))
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[2]))
    deviation = g.op("Sqrt", g.op("Add", g.op("ReduceMean", g.op("Mul", centred, centred), axes=[2]), np.float32(1e-5)))
    assert set(found(g.network(g.op("Div", centred, deviation))).values()) == {WHY}


def test_sounds_given_to_the_device_alone_are_told_of_the_whole_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("headrace.runtime._native")
    path, hef, data = tmp_path / "words.onnx", tmp_path / "words.hef", tmp_path / "sounds.npy"
    path.write_bytes(by_products())
    np.save(data, sounds(8))
    assert run(["build", str(path), "--calib-set-path", str(data), "--min-snr", "0", "-o", str(hef), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["run", str(hef), "--input-files", str(data)]) == 6
    assert "--whole --input-files sound=FILE" in capsys.readouterr().err
    assert run(["run", str(hef), "--whole", "--input-files", f"sound={data}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["shape"] == [8, 4]


# --- what only looks like one -----------------------------------------------------------------------------------------


def learned(seed: int, outputs: int = 40) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.2, (WINDOW, outputs)).astype(np.float32)


def shallow() -> bytes:
    """ShallowConvNet: learned convolution, squares, mean pool, limit, logarithm."""
    g = Graph()
    x = g.op("Conv", g.rows(), learned(0).T[:, None], strides=[4])
    x = g.op("AveragePool", g.op("Mul", x, x), kernel_shape=[8], strides=[8])
    return g.network(g.op("Log", g.op("Clip", x, np.float32(1e-6))), 40, 14)


def learned_pairs() -> bytes:
    """Squares of two learned filters, of equal norm and at right angles, added."""
    g = Graph()
    a, b = learned(1), learned(2)
    b -= a * (a * b).sum(0) / (a * a).sum(0)
    b *= np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    x = g.frames()
    power = g.squares(g.op("MatMul", x, a), g.op("MatMul", x, b))
    return g.network(g.op("Log", g.op("Add", power, np.float32(1e-6))), FRAMES, 40)


def behind_learned() -> bytes:
    """A transform of what a learned layer made is no front end."""
    g, (c, s) = Graph(), waves()
    x = g.op("MatMul", g.frames(), learned(3, WINDOW))
    x = g.op("Log", g.op("Add", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)), np.float32(1e-6)))
    return g.network(x, FRAMES, BINS)


def log_softmax() -> bytes:
    g = Graph()
    x = g.op("MatMul", g.frames(), learned(4, MELS))
    e = g.op("Exp", g.op("Sub", x, g.op("ReduceMax", x, axes=[2])))
    return g.network(g.op("Log", g.op("Div", e, g.op("ReduceSum", e, np.array([2])))))


def focal() -> bytes:
    """(1 − p)² log p."""
    g = Graph()
    p = g.op("Sigmoid", g.op("MatMul", g.frames(), learned(5, MELS)))
    left = g.op("Pow", g.op("Sub", np.float32(1), p), np.float32(2))
    return g.network(g.op("Mul", left, g.op("Log", p)))


def softplus() -> bytes:
    g = Graph()
    x = g.op("MatMul", g.frames(), learned(6, MELS))
    return g.network(g.op("Log", g.op("Add", g.op("Exp", x), np.float32(1))))


def log_variance() -> bytes:
    """The logarithm of each row's variance, and the row divided by its root."""
    g = Graph()
    x = g.frames()
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[2]))
    variance = g.op("ReduceMean", g.op("Mul", centred, centred), axes=[2])
    x = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, np.float32(1e-5))))
    x = g.op("Add", x, g.op("Log", g.op("Add", variance, np.float32(1e-5))))
    return g.network(x, FRAMES, WINDOW)


def no_logarithm() -> bytes:
    """Magnitudes as they are: learned layers read their large values."""
    g, (c, s) = Graph(), waves()
    x = g.frames()
    x = g.op("Sqrt", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s)))
    return g.network(g.op("MatMul", x, mel()))


OTHERS = [shallow, learned_pairs, behind_learned, log_softmax, focal, softplus, log_variance, no_logarithm]


@pytest.mark.parametrize("make", OTHERS, ids=lambda make: make.__name__)
def test_what_only_looks_like_a_spectrum(make: Callable[[], bytes]) -> None:
    assert found(make()) == {}


def test_a_spectrum_that_the_file_is_given() -> None:
    """Its logarithm stays where it is: the sound's part of the work was done before."""
    g = Graph(shape=(1, FRAMES, BINS))
    assert found(g.network(g.op("Log", g.op("Max", g.op("MatMul", "sound", mel()), np.float32(1e-9))))) == {}


# --- hostile ----------------------------------------------------------------------------------------------------------


def test_constants_that_are_no_numbers_make_no_spectrum() -> None:
    g, (c, s) = Graph(), waves()
    x = g.frames()
    c[3:] = np.nan
    assert found(g.network(g.op("Log", g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s))), FRAMES, BINS)) == {}


def test_many_logarithms_of_long_chains_take_no_time() -> None:
    """Each root's walk would go through all before it: the steps of one file are bounded."""
    g, (c, s) = Graph(), waves()
    x = g.frames()
    x = g.squares(g.op("MatMul", x, c), g.op("MatMul", x, s))
    for _ in range(2000):
        x = g.op("Pow", x, np.float32(0.3))
    begin = time.process_time()
    assert found(g.network(x, FRAMES, BINS))
    assert time.process_time() - begin < 10


# --- another family ---------------------------------------------------------------------------------------------------


def test_tflite_s_transform() -> None:
    m = SmallModel()
    x = m.input(1, FRAMES, 1, WINDOW)
    x = m.op("MUL", [x, m.constant(window())], [1, FRAMES, 1, WINDOW])
    lines = m.op("RFFT2D", [x, m.ints([1, WINDOW])], [1, FRAMES, 1, BINS], "complex64")
    x = m.op("COMPLEX_ABS", [lines], [1, FRAMES, 1, BINS])
    x = m.op("MUL", [x, x], [1, FRAMES, 1, BINS])
    x = m.op("FULLY_CONNECTED", [x, m.constant(mel().T.copy()), -1], [1, FRAMES, 1, MELS], keep_num_dims=True)
    x = m.op("LOG", [m.op("ADD", [x, m.constant(np.float32(1e-6))], [1, FRAMES, 1, MELS])], [1, FRAMES, 1, MELS])
    weights = np.random.default_rng(0).normal(0, 0.3, (4, 3, 1, MELS)).astype(np.float32)
    y = m.op("CONV_2D", [x, m.constant(weights), -1], [1, FRAMES, 1, 4], padding="SAME", stride_h=1, stride_w=1)
    runner = ClientRunner("hailo8")
    runner.translate_tf_model(m.bytes(y), "net")
    placed = {n["operator"]: n["place"] for n in runner.parse_report["placement"]}
    assert {op for op, place in placed.items() if place == "host"} == {
        "MUL", "RFFT2D", "COMPLEX_ABS", "FULLY_CONNECTED", "ADD", "LOG",
    }  # fmt: skip
    assert placed["CONV_2D"] == "device"


def test_a_spectrogram_that_is_an_operator_of_ours() -> None:
    """TensorFlow's AudioSpectrogram, with mel matrix and logarithm of the file's own; Mfcc has these within."""
    g = SmallGraph()
    x = g.op("DecodeWav", [g.input(name="wav", kind="string")], T=None, desired_samples=SAMPLES, desired_channels=1)
    x = g.op("AudioSpectrogram", [x], T=None, window_size=WINDOW, stride=HOP, magnitude_squared=True)
    x = g.op("BatchMatMulV2", [x, g.const(mel())])
    x = g.op("Log", [g.op("AddV2", [x, g.const(np.float32(1e-6))])])
    weights = np.random.default_rng(0).normal(0, 0.3, (3, 3, 1, 4)).astype(np.float32)
    x = g.op("Reshape", [x, g.ints(1, FRAMES, MELS, 1)])
    g.op("Conv2D", [x, g.const(weights)], name="y", strides=[1, 1, 1, 1], padding="SAME")
    runner = ClientRunner("hailo8")
    runner.translate_tf_model(g.bytes(), "net")
    host = {n["operator"] for n in runner.parse_report["placement"] if n["place"] == "host"}
    assert host == {"DecodeWav", "AudioSpectrogram", "BatchMatMulV2", "AddV2", "Log"}
    (taken,) = runner.archive.whole.device.takes
    assert taken.tensor.startswith("Log_")
