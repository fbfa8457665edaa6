# SPDX-License-Identifier: Apache-2.0
"""Every command and every block of code in the documents runs, in order, in a folder with the files that they name."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from document_files import FILES
from headrace.cli.app import run
from headrace.runner import ClientRunner
from headrace.script import parse_script
from headrace.targets import load_target
from small_onnx import small_model
from small_tflite import SmallModel

ROOT = Path(__file__).resolve().parents[2]
SIZE = 224


class Block(NamedTuple):
    document: str
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^```([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: found.start()].count("\n") + 1
            yield Block(path.relative_to(ROOT).as_posix(), line, found[1].strip(), found[2])


BLOCKS = list(blocks())
#: Languages that are tested, and those for what is no code (diagrams, formulas, what an error looks like).
TESTED = ("console", "python", "c", "cpp", "cmake", "alls", "json", "toml")
#: Commands that are not Headrace's, and how they are known to be right.
ELSEWHERE = {
    "git clone <this repository> headrace && cd headrace": "nothing to clone in a test",
    "source .venv/bin/activate": "the test runs in an environment",
    "python bench/speed.py resnet56": "takes other toolchains",
    "headrace parse silero_vad.onnx --tensor-shapes input=[1,576] state=[2,1,128] --input-values sr=16000": (
        "a file of the zoo: tests/unit/test_frontend_branches.py parses it"
    ),
}
#: Commands that are there to be refused.
REFUSED = {"headrace parse detector.onnx --device-only"}


def test_every_block_says_what_it_is() -> None:
    unknown = [f"{b.document}:{b.line} [{b.language}]" for b in BLOCKS if b.language not in (*TESTED, "text")]
    assert unknown == [], "name the language of a block, or `text` where it is none"
    assert {b.language for b in BLOCKS} >= {"console", "python", "c", "cpp", "alls"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the documents name as given."""
    import onnx

    folder = tmp_path_factory.mktemp("documents")
    onnx.save(small_model(size=SIZE), folder / "model.onnx")
    tflite = SmallModel()
    (folder / "model.tflite").write_bytes(tflite.bytes(tflite.op("RELU", [tflite.input(1, 8, 8, 3)], (1, 8, 8, 3))))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, SIZE, SIZE, 3)).astype(np.uint8)
    for name, value in (("images", images), ("calibration", images), ("frames", images[:4]), ("frame", images[:1])):
        np.save(folder / f"{name}.npy", value)
    (folder / "photos").mkdir()
    for i in range(2):
        Image.fromarray(images[i, :150]).save(folder / "photos" / f"{i}.jpg")
    (folder / "net.alls").write_text("norm = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])\n")
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(folder / "model.onnx", "net")
    runner.save_har(folder / "net.har")
    runner.load_model_script(folder / "net.alls")
    runner.optimize(images, min_snr=0)
    runner.save_har(folder / "net_optimized.har")
    hef = runner.compile()
    runner.save_har(folder / "net_compiled.har")
    for name in ("net.hef", "model.hef"):
        (folder / name).write_bytes(hef)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    shutil.copytree(prepared, work)
    monkeypatch.chdir(work)
    return work


def of(document: str, *languages: str) -> list[Block]:
    return [b for b in BLOCKS if b.document == document and b.language in languages]


def documents_with(*languages: str) -> list[str]:
    return sorted({b.document for b in BLOCKS if b.language in languages})


# --- commands ----------------------------------------------------------------------------------------------------


def targets_of_make() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", documents_with("console"))
def test_commands(document: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FILES.get(document, lambda place: None)(folder)
    for block in of(document, "console"):
        for line in block.text.splitlines():
            if not line.startswith("$ "):
                continue
            command = re.sub(r"\s+#.*$", "", line[2:]).strip()
            place = f"{document}:{block.line}: {command}"
            words = shlex.split(command) if "<" not in command else []
            if command in ELSEWHERE:
                continue
            if words[0] == "make":
                assert words[1] in targets_of_make(), place
                continue
            assert words[0] == "headrace", f"{place}: not a command of ours, and not known to be right"
            measured = words[1] in ("build", "optimize") and any("calib" in word for word in words)
            status = run([*words[1:], *(["--min-snr", "0"] if measured else [])])
            assert (status != 0) == (command in REFUSED), f"{place}\n{capsys.readouterr().err}"


# --- Python ------------------------------------------------------------------------------------------------------


def names_for(document: str, folder: Path) -> dict[str, Any]:
    """What the blocks of a document take as given."""
    images = np.load(folder / "images.npy")
    names: dict[str, Any] = {"images": images, "calibration_images": images, "frames": images[:2], "frame": images[0]}
    names["data"] = (folder / "net.hef").read_bytes()
    if document in ("docs/guide/optimization.md", "docs/guide/calibration.md"):
        names["runner"] = ClientRunner(hw_arch="hailo8")
        names["runner"].translate_onnx_model(folder / "model.onnx", "net")
    return names


@pytest.mark.parametrize("document", documents_with("python"))
def test_python(document: str, folder: Path) -> None:
    FILES.get(document, lambda place: None)(folder)
    names = names_for(document, folder)
    for block in of(document, "python"):
        text = block.text.replace(
            "runner.optimize(calibration_images)", "runner.optimize(calibration_images, min_snr=0)"
        )
        text = text.replace("min_snr=10", "min_snr=0")
        exec(compile("\n" * block.line + text, document, "exec"), names)
    if document == "README.md":
        (device,) = names["outputs"].values()
        assert np.array_equal(device, names["predicted"])


def test_the_example_of_the_run_time_runs(folder: Path) -> None:
    import headrace.runtime as runtime

    example = re.search(r"::\n\n(.*?)\nor in one line ``(.*?)``", runtime.__doc__ or "", re.DOTALL)
    assert example is not None
    output = runtime.HEF("net.hef").get_output_vstream_infos()[0]
    frame = np.load("frame.npy")[0].astype(np.float32)
    names: dict[str, Any] = {"frame": frame, "frames": frame[None], "result": np.empty(output.shape, np.float32)}
    lines = [line.removeprefix("    ") for line in example[1].splitlines()]
    text = "\n".join(lines).replace(
        "model.output()", "model.input().set_format_type(FormatType.FLOAT32)\n    model.output()", 1
    )
    exec(text, names)
    one_line = eval(f"runtime.run{example[2].removeprefix('headrace.runtime.run')}", names | {"runtime": runtime})
    (value,) = one_line.values()
    assert np.array_equal(value[0].reshape(-1), names["result"].reshape(-1))


# --- scripts and data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "alls"], ids=lambda b: f"{b.document}:{b.line}")
def test_model_scripts(block: Block, folder: Path) -> None:
    assert parse_script(block.text)
    runner = ClientRunner(har=folder / "net.har")
    runner.load_model_script(block.text)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("json", "toml")], ids=lambda b: b.document)
def test_formats(block: Block, prepared: Path, tmp_path: Path) -> None:
    if block.language == "toml":
        (tmp_path / "mine.toml").write_text(block.text)
        assert load_target(str(tmp_path / "mine.toml")).name == tomllib.loads(block.text)["name"]
        return
    shown = json.loads(block.text)
    if block.document == "docs/formats/hn.md":
        real = ClientRunner(har=prepared / "net.har").get_hn()
        assert set(shown) <= set(real)
        (layer,) = shown["layers"].values()
        assert set(layer) <= set(real["layers"]["net/conv1"])
        assert set(layer["params"]) <= set(real["layers"]["net/conv1"]["params"])


# --- C and C++ ---------------------------------------------------------------------------------------------------

C = """
#include <headrace/headrace.h>
#include <stdio.h>
#include <stdlib.h>
@FUNCTIONS@
int main(void) {
  const size_t frames = 2;
  void* pixels = calloc(frames, 224 * 224 * 3);
  void* user = NULL;
@BLOCKS@
  headrace_network_close(network);
  headrace_device_close(device);
  free(pixels);
  free(codes);
  return (int)status;
}
"""
CPP = """
#include <headrace/headrace.hpp>
#include <cstdio>
#include <string>
static int fail(const std::string& text) { std::puts(text.c_str()); return 1; }
int main() {
  const size_t frames = 2;
  std::vector<uint8_t> given(frames * 224 * 224 * 3);
  void* pixels = given.data();
@BLOCKS@
  return done ? 0 : fail(done.error().text);
}
"""


def library() -> Path:
    """The installed headers and library of this environment."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "headrace" / "_sdk"
    if not folder.is_dir():
        assert os.environ.get("CI", "").lower() != "true", "CI has to have installed the package"
        pytest.skip("the package is not installed in this environment")
    return folder


@pytest.mark.parametrize(("language", "suffix", "compiler"), [("c", ".c", "cc"), ("cpp", ".cpp", "c++")])
def test_c_and_cpp(language: str, suffix: str, compiler: str, folder: Path) -> None:
    sdk = library()
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    text = "".join(b.text for b in of("docs/runtime-c-api.md", language))
    functions = "\n".join(line for line in text.splitlines() if line.startswith("static "))
    body = "\n".join(line for line in text.splitlines() if not line.startswith("static "))
    source = folder / f"main{suffix}"
    source.write_text((C if language == "c" else CPP).replace("@FUNCTIONS@", functions).replace("@BLOCKS@", body))
    command = [compiler, "-Wall", "-Werror", "-Wno-unused-parameter", str(source), f"-I{sdk}/include", f"-L{sdk}/lib"]
    command += [
        "-lheadrace",
        f"-Wl,-rpath,{sdk}/lib",
        "-o",
        str(folder / "main"),
        *(["-std=c++17"] * (language == "cpp")),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(folder / "main")], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cmake(tmp_path: Path) -> None:
    """The lines are those of tests/native/test_c_api.py, which builds with them."""
    (block,) = of("docs/runtime-c-api.md", "cmake")
    project = (ROOT / "tests" / "native" / "test_c_api.py").read_text()
    package, link = block.text.splitlines()
    assert package.removesuffix(" REQUIRED)") in project
    assert "PRIVATE headrace::headrace)" in link
    assert "PRIVATE headrace::headrace)" in project
