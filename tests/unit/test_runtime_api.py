# SPDX-License-Identifier: Apache-2.0
"""The Python run time, on a stand-in for the native module: what it checks, converts, queues and refuses."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from headrace.errors import DeviceError, InputFileError, NotBuiltYetError
from headrace.hef import microcode as isa
from headrace.hef.container import HefDescription, StreamDescription, write_hef
from headrace.numerics.quantization import dequantize, quantize_input
from headrace.runtime import (
    HEF,
    FormatOrder,
    FormatType,
    HailoRTException,
    HailoRTHEFNotCompatibleWithDevice,
    HailoRTInvalidHEFException,
    HailoRTInvalidOperationException,
    HailoRTNotFoundException,
    HailoRTStreamAborted,
    HailoRTTimeout,
    HailoSchedulingAlgorithm,
    Status,
    VDevice,
    run,
    scan,
    simulate,
)
from headrace.runtime.infos import quantization

STREAMS = (
    StreamDescription("net/input_layer1", "input", 4, 5, 3, 1, 0.5, 10, original_names=("image:0",)),
    StreamDescription("net/output_layer1", "output", 4, 5, 3, 1, 0.25, 20, original_names=("probs",)),
    StreamDescription("net/output_layer2", "output", 1, 1, 3, 2, 2.0, 1000, order="NC"),
)


class Problem(NamedTuple):
    code: str
    where: str
    rule: str
    got: str
    need: str
    lever: str


def problem(where: str, rule: str, got: str = "", need: str = "") -> Problem:
    return Problem("E-DEVICE-0", where, rule, got, need, "")


class NativeError(Exception):
    def __init__(self, status: int, *problems: Problem) -> None:
        super().__init__(status, problems)
        self.status, self.problems = status, problems


class FakeNetwork:
    """output_layer1 = 255 - input; output_layer2 = 1000 + sum over space."""

    name = "net"

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.calls: list[int] = []
        self.worker = ThreadPoolExecutor(1)
        self.worker_id = 0
        self.futures: list[Any] = []

    @staticmethod
    def _infos(direction: str) -> list[dict[str, Any]]:
        return [
            {"name": s.name, "height": s.height, "width": s.width, "channels": s.features,
             "element_bytes": s.data_bytes, "scale": s.scale, "zero_point": s.zero_point,
             "channel_scales": s.channel_scales, "channel_zero_points": s.channel_zero_points}
            for s in STREAMS if s.direction == direction
        ]  # fmt: skip

    @property
    def inputs(self) -> list[dict[str, Any]]:
        return self._infos("input")

    @property
    def outputs(self) -> list[dict[str, Any]]:
        return self._infos("output")

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x = inputs["net/input_layer1"]
        assert x.dtype == np.uint8
        assert x.flags.c_contiguous
        assert x.shape[1:] == (4, 5, 3)
        self.device.gate.wait(10)
        self.calls.append(len(x))
        if (x == 255).all():
            raise NativeError(8, problem("device", "all ones", "255", "less"))
        total = 1000 + x.astype(np.uint16).sum((1, 2), keepdims=True, dtype=np.uint16)
        return {"net/output_layer1": 255 - x, "net/output_layer2": total}

    def infer_float(self, inputs: dict[str, Any]) -> dict[str, Any]:
        codes = {s.name: quantize_input(inputs[s.name], quantization(s)) for s in STREAMS if s.direction == "input"}
        results = self.infer(codes)
        return {s.name: dequantize(results[s.name], quantization(s)) for s in STREAMS if s.direction == "output"}

    def infer_all(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"net/conv1": inputs["net/input_layer1"]}

    def timing(self) -> dict[str, Any]:
        return {"fps": 12.5}

    def set_queue_size(self, frames: int) -> None:
        assert 1 <= frames <= 65536

    def submit(self, inputs: dict[str, Any], floats: bool, done: Any) -> None:
        """As the native queue: in order, `done` once, on another thread or on the one that cancels."""

        def run() -> None:
            self.worker_id = threading.get_ident()
            try:
                results = (self.infer_float if floats else self.infer)(inputs)
            except NativeError as error:
                done(error.status, error.problems, {})
            else:
                done(0, (), results)

        future = self.worker.submit(run)
        future.add_done_callback(lambda f: done(1002, (problem("job", "cancelled"),), {}) if f.cancelled() else None)
        self.futures.append(future)

    def cancel_all(self) -> None:
        waiting = threading.get_ident() != self.worker_id
        for future in reversed(self.futures):
            future.cancel()
        for future in self.futures if waiting else []:
            if not future.cancelled():
                future.result()


class FakeDevice:
    def __init__(self, arch: str | None, threads: int = 0, kernels: str | None = None, runs: str | None = None) -> None:
        if kernels not in (None, "generic"):
            raise NativeError(2, problem("kernels", "this CPU has not got them", "x", "generic"))
        self.arch, self.threads, self.kernels = arch or "", threads or 2, kernels or "generic"
        self.gate = threading.Event()
        self.gate.set()

    def load(self, data: bytes) -> FakeNetwork:
        assert data[:4] == b"\x01HEF"
        if self.arch == "hailo8l":
            raise NativeError(93, problem("HEF", "compiled for another target", "hailo8", "hailo8l"))
        return FakeNetwork(self)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("headrace.runtime._native")
    module.__dict__.update(
        NativeError=NativeError,
        Device=FakeDevice,
        kernel_sets=lambda: ["generic"],
        library_version=lambda: "0.1.0",
        verify=lambda data: None,
    )
    monkeypatch.setitem(sys.modules, "headrace.runtime._native", module)


def hef_bytes(streams: tuple[StreamDescription, ...] = STREAMS) -> bytes:
    program = isa.Program(target=isa.TargetRecord(clusters=8))
    program.set_target_texts("hailo8", ["hailo8l"])
    return write_hef(HefDescription("net", streams, bottleneck_fps=99.5), isa.encode(program))


def frames(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).integers(0, 200, (count, 4, 5, 3), np.uint8)


def reals(codes: np.ndarray[Any, Any], stream: StreamDescription) -> np.ndarray[Any, Any]:
    return np.float32(stream.scale) * (codes.astype(np.float32) - np.float32(stream.zero_point))


def says(error: BaseException, *parts: str) -> None:
    for part in parts:
        assert part in str(error), f"{part!r} not in:\n{error}"


# ---------------------------------------------------------------------------------------------------------- HEF


def test_hef_queries(tmp_path: Path) -> None:
    path = tmp_path / "net.hef"
    path.write_bytes(hef_bytes())
    hef = HEF(str(path))
    assert hef.path == str(path)
    assert HEF(path.read_bytes()).path is None
    assert hef.get_network_group_names() == ["net"]
    assert hef.get_networks_names("net") == ["net/net"]
    assert not hef.get_network_groups_infos()[0].is_multi_context
    assert [i.name for i in hef.get_input_vstream_infos()] == ["net/input_layer1"]
    info = hef.get_output_vstream_infos("net/net")[1]
    assert (info.shape, info.format.type, info.format.order) == ((3,), FormatType.UINT16, FormatOrder.NC)
    assert (info.quant_info.qp_scale, info.quant_info.qp_zp) == (2.0, 1000)
    assert hef.get_output_stream_infos()[1].shape == (1, 1, 3)
    assert [i.sys_index for i in hef.get_all_stream_infos()] == [0, 1, 2]
    assert hef.get_sorted_output_names() == ["net/output_layer1", "net/output_layer2"]
    assert hef.bottleneck_fps() == 99.5
    assert hef.get_vstream_name_from_original_name("probs") == "net/output_layer1"
    assert hef.get_original_names_from_vstream_name("net/input_layer1") == ["image:0"]
    assert hef.get_vstream_names_from_stream_name("net/input_layer1") == ["net/input_layer1"]
    for call in (lambda: hef.get_networks_names("nett"), lambda: hef.get_vstream_name_from_original_name("prob")):
        with pytest.raises(HailoRTNotFoundException) as caught:
            call()
        says(caught.value, "did you mean")
        assert caught.value.status == 61


def test_bad_hefs_are_device_and_input_file_errors(tmp_path: Path) -> None:
    data = hef_bytes()
    for source, status in ((tmp_path / "absent.hef", 13), (b"abc", 91), (b"\x7fELF" * 20, 92), (data[:-1], 91)):
        with pytest.raises(HailoRTInvalidHEFException) as caught:
            HEF(source)
        assert isinstance(caught.value, InputFileError)
        assert isinstance(caught.value, HailoRTException)
        assert caught.value.status == status
        assert caught.value.exit_code == 3
    with pytest.raises(DeviceError) as other:
        HEF(5)  # type: ignore[arg-type]
    assert other.value.status == Status.INVALID_ARGUMENT


def test_import_needs_no_torch_onnx_or_native_library() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'headrace.runtime._native'): sys.modules[name] = None\n"
        "import headrace.runtime as r\n"
        "assert len(r.scan()) == 5 and r.scan()[0].kernel_sets == ()\n"
        "assert r.HEF(bytes.fromhex(sys.stdin.read())).get_network_group_names() == ['net']\n"
        "try: r.VDevice()\n"
        "except r.DeviceError as e: assert e.status == 74 and 'make setup' in str(e)\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], input=hef_bytes().hex(), text=True, check=True)


# ------------------------------------------------------------------------------------------------------- devices


def test_scan() -> None:
    found = {d.arch: d for d in scan()}
    assert found["hailo8"].device_id == "virtual:hailo8"
    assert found["hailo8"].kernel_sets == ("generic",)
    assert found["hailo8l"].clusters == 4
    assert found["hailo8"].as_dict()["runs"] == ["hailo8l"]


def test_opening() -> None:
    params = VDevice.create_params()
    params.scheduling_algorithm = HailoSchedulingAlgorithm.ROUND_ROBIN
    with VDevice(params, device_ids=["virtual:hailo8"], threads=3, kernels="generic") as device:
        assert (device.arch, device.threads, device.kernels) == ("hailo8", 3, "generic")
        assert device.get_physical_devices_ids() == ["virtual:hailo8"]
    with pytest.raises(HailoRTInvalidOperationException, match="released"):
        device.create_infer_model(hef_bytes())
    device.release()
    with pytest.raises(HailoRTInvalidOperationException), device:
        pass


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"arch": "hailo8x"}, ["did you mean 'hailo8'"]),
        ({"arch": "absent.toml"}, ["cannot be read"]),
        ({"device_ids": ["virtual:hailo9"]}, ["there is no device", "virtual:hailo8"]),
        ({"device_ids": ["virtual:hailo8", "virtual:hailo8l"]}, ["not built yet"]),
        ({"device_ids": ["virtual:hailo8"], "arch": "hailo8l"}, ["different targets"]),
        ({"threads": -1}, ["threads is out of range", "-1"]),
        ({"threads": True}, ["threads is out of range"]),
        ({"kernels": "avx9"}, ["this CPU has not got them", "got:", "generic"]),
    ],
)
def test_opening_refused(arguments: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(DeviceError) as caught:
        VDevice(**arguments)
    says(caught.value, *parts)
    assert caught.value.status


def test_other_target_and_what_is_not_built() -> None:
    with VDevice(arch="hailo8l") as device:
        with pytest.raises(HailoRTHEFNotCompatibleWithDevice) as caught:
            device.create_infer_model(hef_bytes()).configure()
        assert caught.value.status == 93
        says(caught.value, "another target", "hailo8l")
        with pytest.raises(NotBuiltYetError):
            device.configure(HEF(hef_bytes()))
        with pytest.raises(HailoRTNotFoundException):
            device.create_infer_model(hef_bytes(), "nt")
    params = VDevice.create_params()
    params.device_count = 2
    with pytest.raises(DeviceError):
        VDevice(params)


def test_description_that_differs_from_the_program_is_refused() -> None:
    changed = (*STREAMS[:2], StreamDescription("net/output_layer2", "output", 1, 1, 3, 2, 4.0, 1000, order="NC"))
    with VDevice() as device, pytest.raises(HailoRTInvalidHEFException, match="differ"):
        device.create_infer_model(hef_bytes(changed)).configure()


# ---------------------------------------------------------------------------------------------------- infer model


def test_formats() -> None:
    with VDevice() as device:
        model = device.create_infer_model(hef_bytes())
        assert model.input_names == ["net/input_layer1"]
        assert model.output_names == ["net/output_layer1", "net/output_layer2"]
        assert model.input().shape == (4, 5, 3)
        assert model.output("output_layer2").shape == (3,)
        assert model.output("probs").name == "net/output_layer1"
        assert model.output("net/output_layer2").format.type == FormatType.UINT16
        assert not model.output("probs").is_nms
        assert model.input().quant_infos[0].qp_scale == 0.5
        model.input().set_format_type(FormatType.FLOAT32)
        assert model.input().dtype == np.float32
        model.input().set_format_order(FormatOrder.NHWC)
        with pytest.raises(NotBuiltYetError):
            model.input().set_format_order(FormatOrder.NCHW)
        for kind in (FormatType.UINT16, 9, "FLOAT32"):
            with pytest.raises(DeviceError, match="UINT8 or FLOAT32"):
                model.input().set_format_type(kind)  # type: ignore[arg-type]
        with pytest.raises(DeviceError, match="several output streams"):
            model.output()
        with pytest.raises(HailoRTNotFoundException, match="did you mean 'net/output_layer1'"):
            model.output("net/output_layer11")
        for size in (-1, 1.5, True, 1 << 20):
            with pytest.raises(DeviceError, match="batch size"):
                model.set_batch_size(size)  # type: ignore[arg-type]


def test_run_with_bindings_of_codes() -> None:
    x = frames(5)
    with VDevice() as device:
        model = device.create_infer_model(hef_bytes())
        model.set_batch_size(2)
        with model.configure() as configured:
            listed = [
                configured.create_bindings(
                    {"net/input_layer1": frame},
                    {"output_layer1": np.empty((4, 5, 3), np.uint8), "output_layer2": np.empty((1, 3), np.uint16)},
                )
                for frame in x
            ]
            configured.run(listed, timeout=5000)
            assert configured._network.calls == [2, 2, 1]
            for frame, bindings in zip(x, listed, strict=True):
                assert (bindings.output("output_layer1").get_buffer() == 255 - frame).all()
                expected = 1000 + frame.sum((0, 1), dtype=np.uint16)
                assert (bindings.output("output_layer2").get_buffer()[0] == expected).all()
            configured.run(listed[0])  # one bindings, no list


@pytest.mark.parametrize("all_float", [True, False])
def test_run_with_bindings_of_reals(all_float: bool) -> None:
    real = np.linspace(-9, 130, 60, dtype=np.float32).reshape(4, 5, 3)
    real[0, 0, 0] = np.inf
    codes = np.clip(np.rint(real / np.float32(0.5)) + 10, 0, 255).astype(np.uint8)
    with VDevice() as device:
        model = device.create_infer_model(hef_bytes())
        for stream in (*model.inputs, *model.outputs)[: 3 if all_float else 2]:
            stream.set_format_type(FormatType.FLOAT32)
        with model.configure() as configured:
            out = [np.empty((4, 5, 3), np.float32), np.empty(3, np.float32 if all_float else np.uint16)]
            bindings = configured.create_bindings({"": real}, dict(zip(model.output_names, out, strict=True)))
            configured.run(bindings)
            assert (out[0] == reals(255 - codes, STREAMS[1])).all()
            sums = 1000 + codes.sum((0, 1), dtype=np.uint16)
            assert (out[1] == (reals(sums, STREAMS[2]) if all_float else sums)).all()


@pytest.mark.parametrize(
    ("buffer", "parts"),
    [
        ([[1]], ["not a numpy array", "list"]),
        (np.zeros((5, 4, 3), np.uint8), ["wrong shape", "(5, 4, 3)", "(4, 5, 3) uint8"]),
        (np.zeros((3, 4, 5), np.uint8), ["wrong shape", "channels first"]),
        (np.zeros((2, 4, 5, 3), np.uint8), ["wrong shape", "one per frame"]),
        (np.zeros((4, 5, 3), np.float32), ["wrong element type", "float32", "FormatType.FLOAT32"]),
        (np.zeros((4, 3, 5), np.uint8).swapaxes(1, 2), ["not contiguous", "ascontiguousarray"]),
    ],
)
def test_buffers_that_do_not_fit(buffer: Any, parts: list[str]) -> None:
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:
        with pytest.raises(DeviceError) as caught:
            configured.create_bindings().input().set_buffer(buffer)
        assert caught.value.status == Status.INVALID_ARGUMENT
        says(caught.value, "got:", "need:", *parts)


def test_all_buffer_problems_come_together() -> None:
    frozen = np.zeros((4, 5, 3), np.uint8)
    frozen.flags.writeable = False
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:
        with pytest.raises(DeviceError) as caught:
            configured.create_bindings({"input_layer": frozen}, {"probs": frozen, "net/output_layer2": np.zeros(4)})
        assert len(caught.value.diagnostics) == 4
        says(caught.value, "did you mean", "cannot be written", "wrong shape", "wrong element type")
        with pytest.raises(HailoRTInvalidOperationException) as missing:
            configured.run([configured.create_bindings({"": frozen})])
        assert len(missing.value.diagnostics) == 2
        says(missing.value, "no buffer is set", "frame 0 of 1")
        for wrong in ([], [1], "x"):
            with pytest.raises(DeviceError, match="no bindings"):
                configured.run(wrong)  # type: ignore[arg-type]
        with pytest.raises(HailoRTInvalidOperationException):
            configured.create_bindings().output("probs").get_buffer()


def test_bindings_of_another_format_are_refused() -> None:
    with VDevice() as device:
        model = device.create_infer_model(hef_bytes())
        with model.configure() as plain:
            bindings = plain.create_bindings(
                {"": frames(1)[0]}, {"probs": np.empty((4, 5, 3), np.uint8), "output_layer2": np.empty(3, np.uint16)}
            )
            plain.run(bindings)
            model.output("probs").set_format_type(FormatType.FLOAT32)
            with model.configure() as floating, pytest.raises(DeviceError, match="other formats"):
                floating.run(bindings)


# ------------------------------------------------------------------------------------------------------- async


def filled(configured: Any, frame: np.ndarray[Any, Any]) -> Any:
    return configured.create_bindings(
        {"": frame}, {"probs": np.empty((4, 5, 3), np.uint8), "output_layer2": np.empty(3, np.uint16)}
    )


def test_async_jobs_callbacks_and_queue() -> None:
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:
        size = configured.get_async_queue_size()
        gate = device._device.gate
        gate.clear()
        seen: list[Any] = []
        listed = [filled(configured, f) for f in frames(size)]
        jobs = [configured.run_async(listed[:-1], lambda info: seen.append(info.exception))]
        jobs.append(configured.run_async([listed[-1]], lambda info: seen.append(info.exception)))
        with pytest.raises(HailoRTInvalidOperationException, match="queue is full"):
            configured.run_async(listed[0])
        with pytest.raises(HailoRTTimeout):
            configured.wait_for_async_ready(timeout_ms=20)
        with pytest.raises(HailoRTTimeout) as late:
            jobs[0].wait(20)
        assert late.value.status == 4
        gate.set()
        for job in jobs:
            job.wait(5000)
        configured.wait_for_async_ready(timeout_ms=5000, frames_count=size)
        assert seen == [None, None]
        with pytest.raises(DeviceError, match="ever hold"):
            configured.wait_for_async_ready(frames_count=size + 1)


def test_a_failed_run_says_so_everywhere() -> None:
    ones = np.full((4, 5, 3), 255, np.uint8)
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:
        seen: list[Any] = []
        job = configured.run_async(filled(configured, ones), lambda info: seen.append(info.exception))
        with pytest.raises(DeviceError) as caught:
            job.wait()
        says(caught.value, "all ones", "got:", "255", "need:", "less")
        assert caught.value.status == 8
        assert seen == [caught.value]
        with pytest.raises(DeviceError):
            configured.run(filled(configured, ones))
        configured.run(filled(configured, ones - 1))  # still usable


def test_a_callback_that_raises_or_shuts_down_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:

        def raising(info: Any) -> None:
            raise RuntimeError("mine")

        configured.run_async(filled(configured, frames(1)[0]), raising).wait()
        configured.run_async(filled(configured, frames(1)[0]), lambda info: configured.shutdown()).wait()
        end = time.monotonic() + 5
        while not configured._closing and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises(HailoRTInvalidOperationException):
            configured.run(None)  # type: ignore[arg-type]
    assert "mine" in caplog.text


def test_shutdown_finishes_the_run_and_cancels_the_rest() -> None:
    device = VDevice()
    configured = device.create_infer_model(hef_bytes()).configure()
    gate = device._device.gate
    gate.clear()
    first, second = (configured.run_async(filled(configured, f)) for f in frames(2))
    threading.Timer(0.1, gate.set).start()
    device.release()
    first.wait()
    with pytest.raises(HailoRTStreamAborted):
        second.wait()
    for call in (
        configured.create_bindings, configured.timing, configured.wait_for_async_ready, configured.activate,
        lambda: configured.infer({"": frames(1)}), lambda: configured.set_scheduler_priority(1),
    ):  # fmt: skip
        with pytest.raises(HailoRTInvalidOperationException, match="shut down"):
            call()
    configured.shutdown()


def test_many_threads_share_a_model() -> None:
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:
        wrong: list[int] = []

        def work(seed: int) -> None:
            x = frames(seed + 1)
            for _ in range(10):
                if not (configured.infer({"input_layer1": x})["net/output_layer1"] == 255 - x).all():
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


# --------------------------------------------------------------------------------------------------- whole batches


def test_infer_checks_names_shapes_and_types() -> None:
    with VDevice() as device, device.create_infer_model(hef_bytes()).configure() as configured:
        assert configured.infer({"image:0": frames(130)})["net/output_layer1"].shape == (130, 4, 5, 3)
        assert configured._network.calls == [64, 64, 2]
        assert list(configured.infer_layers({"image:0": frames(2)})) == ["net/conv1"]
        assert configured.timing() == {"fps": 12.5}
        for inputs, part in (
            ({}, "an input is missing"),
            ({"x": frames(1)}, "there is no input stream"),
            ({"image:0": frames(1), "input_layer1": frames(1)}, "given twice"),
            ({"image:0": frames(1)[0]}, "shape does not fit"),
            ({"image:0": frames(1)[:0]}, "at least one frame"),
            ({"image:0": frames(1).astype(np.int8)}, "element type"),
            ({"image:0": 5}, "not a numpy array"),
        ):
            with pytest.raises(DeviceError, match=part):
                configured.infer(inputs)


def test_one_line_run() -> None:
    data, x = hef_bytes(), frames(3)
    out = run(data, {"input_layer1": x}, output_type=FormatType.AUTO)
    assert list(out) == ["net/output_layer1", "net/output_layer2"]
    assert (out["net/output_layer1"] == 255 - x).all()
    assert out["net/output_layer2"].shape == (3, 3)
    real = reals(x, STREAMS[0])
    for given in (real, real.astype(np.float64), real.transpose(0, 3, 1, 2)):
        assert (run(data, given)["net/output_layer1"] == reals(255 - x, STREAMS[1])).all()
    whole = np.rint(real).clip(0, 120)
    for kind in (np.int64, np.int8, np.dtype(">i4"), np.float16):
        assert (run(data, whole.astype(kind))["net/output_layer1"] == run(data, whole)["net/output_layer1"]).all(), kind
    single = run(data, x[0], output_type=FormatType.AUTO)
    assert (single["net/output_layer1"] == 255 - x[0]).all()
    assert single["net/output_layer2"].shape == (3,)
    assert simulate(data) == {"fps": 12.5}
    for inputs, part in (
        ({}, "no input is given"),
        (x[:0], "there is no frame"),
        (x.astype(complex), "not real numbers"),
        (np.where(x < 9, np.nan, real), "NaN"),
        (np.where(x < 9, np.inf, real), "infinity"),
        (np.zeros((2, 7, 5, 3), np.uint8), "(2, 7, 5, 3)"),
        ([[1, 2], [3]], "not an array"),
        ({"inptu_layer1": x}, "did you mean"),
    ):
        with pytest.raises(DeviceError) as caught:
            run(data, inputs)  # type: ignore[arg-type]
        says(caught.value, part)
