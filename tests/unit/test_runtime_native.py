# SPDX-License-Identifier: Apache-2.0
"""The Python run time on the real native library: a small program, every way in and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import DataWarning, DeviceError
from headrace.hef import microcode as isa
from headrace.hef.container import HefDescription, StreamDescription, write_hef
from headrace.numerics.quantization import TensorQuantization, dequantize, quantize_input
from headrace.runtime import (
    FormatType,
    HailoRTHEFNotCompatibleWithDevice,
    HailoRTInvalidHEFException,
    VDevice,
    kernel_sets,
    run,
    simulate,
    verify,
)
from headrace.runtime.native import native_module
from headrace.targets.description import list_targets, load_target

pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

NET = "nét"  # names need not be ASCII
INPUT = StreamDescription(f"{NET}/input_layer1", "input", 6, 5, 4, 1, 0.37, 9, original_names=("x",))
WIDE = StreamDescription(f"{NET}/output_layer1", "output", 6, 5, 4, 2, 0.01, 300)
FLAT = StreamDescription(f"{NET}/output_layer2", "output", 1, 1, 4, 1, 0.37, 9, order="NC")
M, S = 77_000_001, 24  # 16-bit output: about 4.6 codes per input code
QUANTIZATIONS = {s.name: TensorQuantization(s.scale, s.zero_point, 8 * s.data_bytes) for s in (INPUT, WIDE, FLAT)}


def program(target_name: str = "hailo8") -> isa.Program:
    """Input -> rescale to 16 bits -> output 1; input -> maximum over space -> output 2. By name or target file."""
    values = load_target(target_name).as_dict()
    made = isa.Program(target=isa.TargetRecord())
    for name, _, _ in isa.TargetRecord.layout()[4:]:
        setattr(made.target, name, values[name])
    made.set_target_texts(values["name"], values["runs"])
    for role, stream in ((1, INPUT), (2, WIDE), (2, FLAT)):
        made.tensors.append(
            isa.TensorRecord(
                *made.add_string(stream.name), stream.height, stream.width, stream.features, stream.data_bytes, role, 0,
                stream.zero_point, stream.scale,
            )
        )  # fmt: skip
    made.kernels = [
        isa.KernelRecord(
            *made.add_string(f"{NET}/activation1"), isa.Opcode.RESCALE, 0, 0, 1, 1,
            multiplier_offset=made.add_constant(np.array([[M]], np.int32)),
            shift_offset=made.add_constant(np.array([S], np.uint8)),
            requantise_terms=1, requantise_channels=1, requantise_zero=300, requantise_low=0, requantise_high=65535,
        ),
        isa.KernelRecord(
            *made.add_string(f"{NET}/reduce_max1"), isa.Opcode.REDUCE_MAX, 0, 1, 1, 2,
            axis_mask=isa.AxisMask.HEIGHT | isa.AxisMask.WIDTH,
        ),
    ]  # fmt: skip
    made.operands = [0, 0]
    made.contexts = [isa.ContextRecord(0, 2)]
    made.stages = [
        isa.StageRecord(kernel=i, controllers=1, subclusters=1, rows=rows, engine_cycles_per_row=20,
                        input_bytes_per_frame=120, output_bytes_per_frame=out)
        for i, rows, out in ((0, 6, 240), (1, 1, 4))
    ]  # fmt: skip
    made.buffers = [
        isa.BufferRecord(0, 0, 0, 2), isa.BufferRecord(0, 1, 0, 8),
        isa.BufferRecord(1, isa.NONE, 0, 2), isa.BufferRecord(2, isa.NONE, 0, 2),
    ]  # fmt: skip
    return made


def hef(target_name: str = "hailo8", **changes: Any) -> bytes:
    streams = tuple(changes.pop("streams", (INPUT, WIDE, FLAT)))
    return write_hef(HefDescription(NET, streams), isa.encode(program(target_name)))


def expected(x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    scaled = 300 + (((x.astype(np.int64) - 9) * M + (1 << (S - 1))) >> S)
    return {WIDE.name: np.clip(scaled, 0, 65535).astype(np.uint16), FLAT.name: x.max((1, 2))}


def data(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, 4), np.uint8)


@pytest.mark.parametrize("kernels", [None, *kernel_sets()])
@pytest.mark.parametrize("threads", [1, 3])
def test_codes_in_codes_out(kernels: str | None, threads: int) -> None:
    verify(hef())
    for batch in (1, 2, 33):
        x = data(batch, batch)
        out = run(hef(), x, output_type=FormatType.AUTO, kernels=kernels, threads=threads)
        for name, value in expected(x).items():
            assert out[name].dtype == value.dtype
            assert np.array_equal(out[name], value), name


def test_native_conversion_is_the_reference_conversion() -> None:
    """All-float runs convert in the library, mixed ones in numpy; both are the rule of docs/numerics.md."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((4, 6, 5, 4)) * 60).astype(np.float32)
    x.reshape(-1)[:9] = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0, 0.37 * 0.5, 0.37 * 1.5]
    x[1] = np.float32(0.37) * (rng.integers(-20, 20, (6, 5, 4)) + np.float32(0.5))  # ties
    codes = quantize_input(x, QUANTIZATIONS[INPUT.name])
    with VDevice() as device:
        model = device.create_infer_model(hef())
        for stream in (*model.inputs, *model.outputs):
            stream.set_format_type(FormatType.FLOAT32)
        with model.configure() as configured:  # buffers are not looked into: NaN and infinity have codes too
            converted = configured.infer({INPUT.name: x})
    for out in (converted, run(hef(), codes)):
        for name, value in expected(codes).items():
            real = dequantize(value, QUANTIZATIONS[name])
            assert out[name].dtype == np.float32
            assert np.array_equal(out[name], real.reshape(out[name].shape)), name
    x.reshape(-1)[:5] = 0  # which `run` would refuse
    codes = quantize_input(x, QUANTIZATIONS[INPUT.name])
    with pytest.warns(DataWarning):  # far outside of what calibration saw
        mixed = run(hef(), x, output_type=FormatType.AUTO)
    assert all(np.array_equal(mixed[n], v.reshape(mixed[n].shape)) for n, v in expected(codes).items())


def test_bindings_layers_and_time() -> None:
    x = data(3)
    with VDevice(threads=2) as device:
        assert device.arch == ""
        model = device.create_infer_model(hef())
        with model.configure() as configured:
            assert device.arch == "hailo8"
            listed = [
                configured.create_bindings(
                    {"input_layer1": f}, {WIDE.name: np.empty(WIDE.shape, np.uint16), FLAT.name: np.empty(4, np.uint8)}
                )
                for f in x
            ]
            configured.run_async(listed[:2]).wait(5000)
            configured.run(listed[2], 5000)
            for i, bindings in enumerate(listed):
                assert np.array_equal(bindings.output(WIDE.name).get_buffer(), expected(x)[WIDE.name][i])
                assert np.array_equal(bindings.output(FLAT.name).get_buffer(), expected(x)[FLAT.name][i].reshape(4))
            layers = configured.infer_layers({"x": x})
            assert np.array_equal(layers[f"{NET}/activation1"], expected(x)[WIDE.name])
            assert configured.timing() == simulate(hef())
            assert configured.timing()["fps"] > 0


def accepts(arch: str | Path | None, programs: Sequence[str]) -> list[bool]:
    """Whether one device loads each program in turn."""
    found: list[bool] = []
    with VDevice(arch=arch, threads=1) as device:
        for name in programs:
            try:
                with device.create_infer_model(hef(name)).configure():
                    found.append(True)
            except HailoRTHEFNotCompatibleWithDevice as error:
                assert error.status == 93
                got, need = (f"{word}:" in str(error) for word in ("got", "need"))
                assert got and need
                found.append(False)
    return found


@pytest.mark.parametrize("name", list_targets())
def test_a_target_runs_exactly_the_programs_that_its_file_names(name: str) -> None:
    """By name, by adopting the target of its own program, by id, and with the native library's own table."""
    promised = [other == name or other in load_target(name).runs for other in list_targets()]
    assert accepts(name, list_targets()) == promised
    assert accepts(None, [name, *list_targets()]) == [True, *promised]
    for other, good in zip(list_targets(), promised, strict=True):
        device = native_module().Device(name, 1)
        if good:
            device.load(hef(other))
        else:
            with pytest.raises(native_module().NativeError) as caught:
                device.load(hef(other))
            assert caught.value.status == 93
    if "hailo8l" in load_target(name).runs:
        assert np.array_equal(
            run(hef("hailo8l"), data(1), arch=name, output_type=FormatType.AUTO)[FLAT.name], data(1).max((1, 2))
        )


def test_a_users_target_says_what_it_runs(tmp_path: Path) -> None:
    """A file of one's own, given to the device or travelling in a program; nothing built in names it."""
    text = resources.files("headrace.targets").joinpath("hailo8l.toml").read_text()
    for name, runs in (("mine", '["hailo15h", "yours"]'), ("yours", "[]")):
        (tmp_path / f"{name}.toml").write_text(
            text.replace('name = "hailo8l"', f'name = "{name}"').replace("runs = []", f"runs = {runs}")
        )
    mine, yours = (str(tmp_path / f"{name}.toml") for name in ("mine", "yours"))
    programs = [mine, yours, "hailo15h", "hailo10h", "hailo8l"]
    assert accepts(mine, programs[1:]) == [True, True, False, False]
    assert accepts(None, programs) == [True, True, True, False, False]
    assert accepts(yours, programs) == [False, True, False, False, False]
    # By name alone the library knows nothing of it until a program for it comes.
    device = native_module().Device("mine", 1)
    with pytest.raises(native_module().NativeError, match="another target"):
        device.load(hef(yours))
    device.load(hef(mine))
    device.load(hef(yours))


@pytest.mark.parametrize(("offset", "length"), [(2**32 - 1, 1), (0, 2**32 - 1), (0, 20000)])
def test_damaged_lists_of_targets_are_refused(offset: int, length: int) -> None:
    broken = program()
    broken.strings += bytes(100) if length < 20000 else b"x" * 30000
    broken.target.runs_offset, broken.target.runs_length = offset, length
    with pytest.raises(DeviceError, match="text is not valid"):
        verify(write_hef(HefDescription(NET, (INPUT, WIDE, FLAT)), isa.encode(broken)))


def test_damage_is_refused() -> None:
    streams = (INPUT, WIDE, StreamDescription(FLAT.name, "output", 1, 1, 4, 1, 0.5, 9, order="NC"))
    with pytest.raises(HailoRTInvalidHEFException, match="differ"):
        run(hef(streams=streams), data(1))
    broken = program()
    broken.kernels[0].output = 77
    with pytest.raises(DeviceError) as caught:
        verify(write_hef(HefDescription(NET, (INPUT, WIDE, FLAT)), isa.encode(broken)))
    assert caught.value.status == 26
    assert "activation1" in str(caught.value)
    with pytest.raises(DeviceError):
        VDevice(kernels="sse1")
