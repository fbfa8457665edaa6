# SPDX-License-Identifier: Apache-2.0
"""The installed library, found by CMake, from C and C++; and its exported names."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headrace.hef.microcode import Opcode, TensorRole
from headrace.targets import load_target
from native.conftest import ROOT
from native.programs import Builder, add_pipeline, hef_of

C_SOURCE = r"""
#include <headrace/headrace.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char** argv) {
  headrace_version version = {sizeof version};
  if (argc != 2 || headrace_get_version(&version) != HEADRACE_SUCCESS || version.abi != HEADRACE_ABI_VERSION) return 1;
  headrace_device* device = NULL;
  headrace_network* network = NULL;
  headrace_device_options options = {sizeof options, "hailo8", NULL, 2, 0};
  if (headrace_device_open(&options, &device) != HEADRACE_SUCCESS) return 2;
  if (headrace_network_load_file(device, "/does/not/exist", &network) != HEADRACE_OPEN_FILE_FAILURE) return 3;
  if (strstr(headrace_last_error(), "/does/not/exist") == NULL) return 4;
  headrace_diagnostic d = {sizeof d};
  if (headrace_diagnostic_count() != 1 || headrace_diagnostic_at(0, &d) != HEADRACE_SUCCESS) return 30;
  if (strcmp(d.code, "E-DEVICE-13") || strcmp(d.where, "/does/not/exist")) return 31;
  if (strcmp(d.rule, "the file cannot be opened") || *d.got == '\0' || strcmp(d.need, "a readable HEF")) return 32;
  if (*d.lever != '\0' || headrace_diagnostic_at(1, &d) != HEADRACE_NOT_FOUND) return 33;
  d.struct_size = 0;
  if (headrace_diagnostic_at(0, &d) != HEADRACE_INVALID_ARGUMENT || headrace_diagnostic_count() != 1) return 34;
  if (strstr(headrace_last_error(), "/does/not/exist") == NULL) return 35; /* asking changes nothing */
  if (headrace_network_load_file(device, argv[1], &network) != HEADRACE_SUCCESS) return 5;
  headrace_device_close(device); /* the network lives on */
  headrace_stream_info info = {sizeof info};
  if (headrace_network_stream(network, HEADRACE_INPUT, 0, &info) != HEADRACE_SUCCESS) return 6;
  if (headrace_network_stream(network, HEADRACE_INPUT, 1, &info) != HEADRACE_NOT_FOUND) return 7;
  uint8_t in[2 * 24], out[2 * 24];
  for (int i = 0; i < 48; ++i) in[i] = (uint8_t)(i * 5);
  headrace_buffer input = {"x", in, sizeof in}, output = {"y", out, sizeof out};
  if (headrace_network_infer(network, 2, &input, 1, &output, 1) != HEADRACE_SUCCESS) return 8;
  if (memcmp(in, out, sizeof in) != 0) return 9;
  input.size = 3;
  if (headrace_network_infer(network, 2, &input, 1, &output, 1) != HEADRACE_INVALID_ARGUMENT) return 10;
  input.name = "z";
  if (headrace_network_infer(network, 2, &input, 1, &output, 1) != HEADRACE_NOT_FOUND) return 11;
  if (headrace_network_infer(network, 2, NULL, 0, &output, 1) != HEADRACE_INVALID_ARGUMENT) return 12;
  if (headrace_network_infer(NULL, 2, NULL, 0, NULL, 0) != HEADRACE_INVALID_ARGUMENT) return 13;
  if (headrace_network_stream(network, HEADRACE_OUTPUT, 0, &info) != HEADRACE_SUCCESS || info.scale != 0.5f) return 21;
  if (info.channel_scales != NULL || info.channel_zero_points != NULL) return 22;
  if (headrace_network_stream(network, HEADRACE_OUTPUT, 1, &info) != HEADRACE_SUCCESS || info.scale != 0) return 23;
  if (info.channels != 4 || info.channel_scales == NULL || info.channel_zero_points == NULL) return 24;
  float reals[24], parts[24];
  for (int i = 0; i < 24; ++i) reals[i] = 0.5f * (float)(i * 5);
  headrace_buffer real_input = {"x", reals, sizeof reals}, parts_output = {"parts", parts, sizeof parts};
  if (headrace_network_infer_float(network, 1, &real_input, 1, &parts_output, 1) != HEADRACE_SUCCESS) return 25;
  for (int i = 0; i < 24; ++i) {
    if (parts[i] != info.channel_scales[i % 4] * (float)(i * 5 - info.channel_zero_points[i % 4])) return 26;
  }
  /* A caller built against the header from before has a shorter struct, behind which nothing is written. */
  memset(&info, 0x55, sizeof info);
  info.struct_size = offsetof(headrace_stream_info, channel_scales);
  if (headrace_network_stream(network, HEADRACE_OUTPUT, 1, &info) != HEADRACE_SUCCESS || info.channels != 4) return 27;
  if (((unsigned char*)&info.channel_scales)[0] != 0x55) return 28;
  headrace_timing timing = {sizeof timing};
  if (headrace_network_timing(network, &timing, NULL, 0) != HEADRACE_SUCCESS || timing.fps <= 0) return 14;
  headrace_version empty = {0};
  if (headrace_get_version(&empty) != HEADRACE_INVALID_ARGUMENT) return 15;
  uint64_t taken[8], frames = 9;
  const size_t layers = headrace_network_layer_count(network);
  if (layers > 8 || headrace_network_set_host_profiling(network, 1) != HEADRACE_SUCCESS) return 16;
  if (headrace_network_host_profile(network, taken, layers, &frames) != HEADRACE_SUCCESS || frames != 0) return 17;
  input.name = "x";
  input.size = sizeof in;
  if (headrace_network_infer(network, 2, &input, 1, &output, 1) != HEADRACE_SUCCESS) return 18;
  if (headrace_network_host_profile(network, taken, layers, &frames) != HEADRACE_SUCCESS || frames != 2) return 19;
  if (headrace_network_host_profile(network, taken, layers + 1, &frames) != HEADRACE_INVALID_ARGUMENT) return 20;
  headrace_network_close(network);
  puts("c works");
  return 0;
}
"""

CPP_SOURCE = r"""
#include <headrace/headrace.hpp>
#include <cstdio>
int main(int, char** argv) {
  auto wrong = headrace::VirtualDevice::open("hailo8", 0, "no such set");
  if (wrong || wrong.error().status != HEADRACE_INVALID_ARGUMENT) return 1;
  const headrace::Diagnostic& why = wrong.error().diagnostics.at(0);
  if (why.code != "E-DEVICE-2" || why.where != "kernels" || why.got != "no such set") return 9;
  const std::string folder = argv[2];
  for (const std::string arch : {"hailo10h", "hailo15h"}) {
    auto one = headrace::VirtualDevice::open(arch.c_str());
    for (const std::string program : {"hailo10h", "hailo15h"}) {
      if (!one->load_file(folder + "/" + program + ".hef")) return 10;
      auto adopts = headrace::VirtualDevice::open();
      if (!adopts->load_file(folder + "/" + arch + ".hef")) return 11;
      if (!adopts->load_file(folder + "/" + program + ".hef") || adopts->arch() != arch) return 12;
    }
    auto refused = headrace::VirtualDevice::open("hailo8")->load_file(folder + "/" + arch + ".hef");
    if (refused || refused.error().status != HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE) return 13;
    const headrace::Diagnostic& need = refused.error().diagnostics.at(0);
    if (need.got != arch || need.need != "hailo8 or hailo8l") return 14;
  }
  auto other = headrace::VirtualDevice::open("hailo15h");
  if (other->load_file(argv[1]).error().status != HEADRACE_HEF_NOT_COMPATIBLE_WITH_DEVICE) return 2;
  auto device = headrace::VirtualDevice::open();
  auto network = device->load_file(argv[1]);
  if (!network || device->arch() != "hailo8" || network->name() != "net") return 3;
  const auto streams = network->streams(HEADRACE_OUTPUT);
  if (streams.size() != 2 || streams[0].frame_bytes() != 24) return 4;
  if (!streams[0].channel_scales.empty() || streams[1].channel_scales != std::vector<float>{640, 0.25f, 1, 3}) return 7;
  if (streams[1].channel_zero_points != std::vector<int32_t>{0, 128, -976000, 7}) return 8;
  std::vector<float> in(24, 1.5f), out(24);
  const auto done = network->infer_float(1, {{"x", in.data(), 96}}, {{"y", out.data(), 96}});
  if (!done || out != in) return 5;
  if (!network->timing()) return 6;
  std::puts("c++ works");
}
"""

PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C CXX)
find_package(headrace 0.1 REQUIRED)
add_executable(c_user main.c)
add_executable(cpp_user main.cpp)
target_link_libraries(c_user PRIVATE headrace::headrace)
target_link_libraries(cpp_user PRIVATE headrace::headrace)
"""


def run(*command: object) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def library(native_build: Callable[..., Path]) -> Path:
    return native_build("headrace")


@pytest.mark.slow
@pytest.mark.timeout(300, func_only=True)
def test_an_installed_library_serves_c_and_cpp(library: Path, tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (2, 3, 4), 0, TensorRole.INPUT)
    b.kernel("y", Opcode.RESHAPE, [x], b.tensor("y", (2, 3, 4), 0, TensorRole.OUTPUT))
    own = np.array([640, 0.25, 1, 3]), np.array([0, 128, -976000, 7])
    b.kernel("parts", Opcode.RESHAPE, [x], b.tensor("parts", (2, 3, 4), 0, TensorRole.OUTPUT, channels=own))
    b.build()
    add_pipeline(b.program)
    (tmp_path / "net.hef").write_bytes(hef_of(b.program))
    for target in ("hailo10h", "hailo15h"):  # each runs the other's, and a hailo8 neither
        (tmp_path / f"{target}.hef").write_bytes(small(target))
    prefix, user = tmp_path / "prefix", tmp_path / "user"
    run("cmake", "--install", library, "--prefix", prefix)
    user.mkdir()
    (user / "main.c").write_text(C_SOURCE)
    (user / "main.cpp").write_text(CPP_SOURCE)
    (user / "CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", user / "build")
    assert run(user / "build" / "c_user", tmp_path / "net.hef").strip() == "c works"
    assert run(user / "build" / "cpp_user", tmp_path / "net.hef", tmp_path).strip() == "c++ works"
    installed = next(prefix.rglob("libheadrace.so"))
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", installed).splitlines()]
    assert names and all(n.startswith(("headrace_", "HEADRACE_1")) for n in names), names


def test_the_binding_checks_its_arrays() -> None:
    native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    b = Builder()
    x = b.tensor("x", (2, 3, 4), 0, TensorRole.INPUT)
    b.kernel("y", Opcode.RESHAPE, [x], b.tensor("y", (2, 3, 4), 0, TensorRole.OUTPUT))
    net = native.Device(None, 1, None).load(b.build())
    good = np.zeros((3, 2, 3, 4), np.uint8)
    bad = {
        "dtype": good.astype(np.float32),
        "shape": good[:, :1],
        "rank": good[0],
        "kind": [1, 2, 3],
    }
    for what, value in bad.items():
        with pytest.raises(native.NativeError) as error:
            net.infer({"x": value})
        assert error.value.status == 2, what
        assert error.value.problems[0].need, what
    with pytest.raises(native.NativeError) as error:
        net.infer({"z": good})
    assert error.value.status == 61
    with pytest.raises(native.NativeError) as error:
        net.infer({})
    assert error.value.status == 2
    assert net.infer({"x": good[:0]})["y"].shape == (0, 2, 3, 4)
    read_only = good.copy()
    read_only.flags.writeable = False
    assert net.infer({"x": read_only})["y"].shape == (3, 2, 3, 4)
    turned = np.arange(72, dtype=np.uint8).reshape(3, 2, 4, 3).transpose(0, 1, 3, 2)  # copied into order
    assert (net.infer({"x": turned})["y"] == turned).all()


def test_a_forced_kernel_set_is_named_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    for name in native.kernel_sets():
        monkeypatch.setenv("HEADRACE_KERNELS", name)
        assert native.Device().kernels == name
    known = {path.stem for path in (ROOT / "native" / "src" / "kernels" / "sets").glob("*.cpp")}
    missing = known - set(native.kernel_sets())
    assert set(native.kernel_sets()) < known  # no processor has the sets of two architectures
    for name in (*sorted(missing), "no such set"):
        monkeypatch.setenv("HEADRACE_KERNELS", name)
        with pytest.raises(native.NativeError) as error:
            native.Device()
        (problem,) = error.value.problems
        assert (error.value.status, problem.where, problem.got) == (2, "HEADRACE_KERNELS", name)
        assert ("this CPU does not have" in problem.rule) == (name in known)
        assert problem.need.endswith(": " + ", ".join(native.kernel_sets()))
    with pytest.raises(native.NativeError):
        native.Device(None, 100000, None)


def test_one_device_runs_several_programs_from_several_threads() -> None:
    native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    from concurrent.futures import ThreadPoolExecutor

    nets = []
    device = native.Device("hailo8", 3, None)
    for order in (0 | 1 << 8 | 2 << 16, 1 | 0 << 8 | 2 << 16, 0 | 1 << 8 | 2 << 16):
        b = Builder("hailo8l" if not nets else "hailo8")
        x = b.tensor("x", (16, 16, 4), 0, TensorRole.INPUT)
        y = b.tensor("y", (16, 16, 4), 0, TensorRole.OUTPUT)
        b.kernel("y", Opcode.TRANSPOSE, [x], y, permutation=order)
        nets.append(device.load(b.build()))
    data = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 4)).astype(np.uint8)
    want = [data, data.transpose(0, 2, 1, 3), data]
    with ThreadPoolExecutor(6) as pool:
        jobs = [(i % 3, pool.submit(nets[i % 3].infer, {"x": data})) for i in range(60)]
        for which, job in jobs:
            assert (job.result()["y"] == want[which]).all()
    del device
    assert (nets[0].infer({"x": data})["y"] == data).all()


def small(target: str) -> bytes:
    """A HEF for a target."""
    b = Builder(target, load_target(target).runs)
    x = b.tensor("x", (1, 1, 4), 0, TensorRole.INPUT)
    b.kernel("y", Opcode.RESHAPE, [x], b.tensor("y", (1, 1, 4), 0, TensorRole.OUTPUT))
    return b.build()


def test_a_device_refuses_another_target() -> None:
    native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    with pytest.raises(native.NativeError) as error:
        native.Device("hailo8l").load(small("hailo8"))
    assert error.value.status == 93
    device = native.Device()
    assert device.arch == ""
    device.load(small("hailo8"))
    assert device.arch == "hailo8"


@pytest.mark.parametrize(("device", "other"), [("hailo10h", "hailo15h"), ("hailo15h", "hailo10h")])
def test_hailo10h_and_hailo15h_run_each_others_programs(device: str, other: str) -> None:
    """As their files promise, whether the device is named or adopts its target; a hailo8 runs neither."""
    native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")
    x = {"x": np.arange(4, dtype=np.uint8).reshape(1, 1, 1, 4)}
    adopted = native.Device()
    adopted.load(small(device))
    for opened in (native.Device(device), adopted):
        assert (opened.load(small(other)).infer(x)["y"] == x["x"]).all()
        assert opened.arch == device
    with pytest.raises(native.NativeError) as error:
        native.Device("hailo8").load(small(device))
    (problem,) = error.value.problems
    assert (error.value.status, problem.got, problem.need) == (93, device, "hailo8 or hailo8l")
