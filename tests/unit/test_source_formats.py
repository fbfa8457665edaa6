# SPDX-License-Identifier: Apache-2.0
"""Which format a model is of: told by its content, whatever its name; and what is said where it is none."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("flatbuffers")
from onnx import helper  # noqa: E402

from frontend_oracle import model  # noqa: E402
from headrace.cli import main  # noqa: E402
from headrace.errors import InputFileError, NotBuiltYetError, UsageError  # noqa: E402
from headrace.frontends import ParseOptions, parse  # noqa: E402
from headrace.frontends.formats import READERS, is_model, reader_of  # noqa: E402
from headrace.frontends.reader import Source  # noqa: E402
from headrace.runner import ClientRunner  # noqa: E402
from keras_samples import sample  # noqa: E402
from small_tensorflow import SmallGraph  # noqa: E402
from small_tflite import SmallModel  # noqa: E402


def an_onnx() -> bytes:
    return model([helper.make_node("Relu", ["x"], ["y"])], [("x", [1, 3, 4, 4])], [("y", None)]).SerializeToString()


def a_tflite() -> bytes:
    m = SmallModel()
    return m.bytes(m.op("RELU", [m.input(1, 4, 4, 3, name="x")], [1, 4, 4, 3], name="y"))


def a_graph() -> bytes:
    g = SmallGraph()
    g.op("Relu", [g.input(1, 4, 4, 3)], name="y")
    return g.bytes()


def a_keras() -> bytes:
    return sample("conv2d.keras")


CONTENT = {"onnx": an_onnx, "tflite": a_tflite, "tensorflow": a_graph, "keras": a_keras}
OTHERS = {
    "gzip": gzip.compress(b"x"), "zip": b"PK\x03\x04" + b"\0" * 30, "png": b"\x89PNG\r\n\x1a\n", "json": b'{"a": 1}',
    "npy": b"\x93NUMPY\x01\0", "hef": b"\x01HEF" + b"\0" * 20, "pickle": b"\x80\x04\x95",
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)
def test_every_row_of_the_table_reads_what_it_sniffs(reader):
    data = CONTENT[reader.name]()
    assert reader_of(Source.of(data)) is reader
    assert [r.name for r in READERS if r.sniff(Source.of(data))] == [reader.name]
    assert reader.read(Source.of(data), ParseOptions()).facts["format"] == reader.name
    assert parse(data).network.output_layers


@pytest.mark.parametrize("name", ["net.onnx", "net.tflite", "net.pb", "net.bin", "net"])
@pytest.mark.parametrize("kind", CONTENT)
def test_the_name_does_not_decide(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(CONTENT[kind]())
    assert parse(path).report.as_dict()["source"]["format"] == kind
    assert is_model(path)


def test_a_model_given_to_the_method_of_another_framework(tmp_path):
    for name, data, method, other in (
        ("a.tflite", an_onnx(), ClientRunner.translate_tf_model, "translate_onnx_model"),
        ("b.onnx", a_tflite(), ClientRunner.translate_onnx_model, "translate_tf_model"),
    ):
        (tmp_path / name).write_bytes(data)
        for given in (tmp_path / name, data):
            with pytest.raises(InputFileError) as caught:
                method(ClientRunner(), given)
            problem = caught.value.diagnostics[0]
            assert caught.value.code == "E-PARSE-FORMAT"
            assert problem.got in ("an ONNX model", "a TFLite model")
            assert any(other in lever for lever in problem.levers)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("framework", [None, "onnx", "tensorflow"])
def test_files_of_other_kinds_are_named(kind, framework):
    with pytest.raises(InputFileError) as caught:
        parse(OTHERS[kind], ParseOptions(framework=framework))
    problem = caught.value.diagnostics[0]
    assert caught.value.code == "E-PARSE-FORMAT"
    assert problem.got and ".onnx" in problem.need + ".onnx" * (framework == "tensorflow")


def test_a_damaged_file_is_taken_for_what_it_is_called(tmp_path):
    for name, code in (("a.onnx", "E-ONNX-CORRUPT"), ("a.tflite", "E-TFLITE-CORRUPT"), ("a.bin", "E-PARSE-FORMAT")):
        for data in (b"", b"nothing of the kind"):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(InputFileError) as caught:
                parse(tmp_path / name)
            assert caught.value.code == code


def test_folders_and_formats_that_are_not_read(tmp_path):
    with pytest.raises(InputFileError) as caught:
        parse(tmp_path)
    assert caught.value.code == "E-PARSE-FORMAT"
    (tmp_path / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    with pytest.raises(NotBuiltYetError):
        parse(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(NotBuiltYetError) as unread:
        parse(tmp_path / "net.pt")
    assert any("onnx.export" in lever for lever in unread.value.diagnostics[0].levers)


def test_a_missing_file_is_missing_whatever_it_would_be(tmp_path):
    for name in ("none.onnx", "none.pb", "none"):
        with pytest.raises(InputFileError) as caught:
            parse(tmp_path / name)
        assert caught.value.code == "E-FILE-MISSING"


@pytest.mark.parametrize(
    "wrong",
    [
        {"net_name": "a/b"},
        {"input_shapes": {"x": "1,3"}},
        {"input_shapes": [1, 2.5]},
        {"start_node_names": "x"},
        {"end_node_names": [1]},
    ],
    ids=str,
)
def test_options_are_checked_when_they_are_made(wrong):
    with pytest.raises(UsageError):
        ParseOptions(**wrong)


def test_all_wrong_options_are_told_together():
    with pytest.raises(UsageError) as caught:
        ParseOptions("1", end_node_names="y", input_shapes={"x": [True]})
    assert [d.code for d in caught.value.diagnostics] == ["E-PARSE-NAME", "E-PARSE-SHAPES", "E-PARSE-NODE"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "frames.npy", np.zeros(3))
    with pytest.raises(SystemExit) as done:
        main(["parse", "frames.npy"])
    assert done.value.code == 3
    told = capsys.readouterr().err
    assert told.startswith("E-PARSE-FORMAT: frames.npy") and "NumPy" in told
