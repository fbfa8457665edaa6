# SPDX-License-Identifier: Apache-2.0
"""Whatever the file says, the device answers with an error or runs; it never crashes, hangs or reads out of bounds."""

from __future__ import annotations

import copy
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.hef.microcode import NONE, KernelRecord, Opcode, Program, TensorRole
from native.programs import Builder, add_pipeline, hef_of, in_shared_contexts, requantization

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

ROOT = Path(__file__).resolve().parents[2]
INTERESTING = [0, 1, 2, 3, 7, 8, 15, 16, 17, 64, 127, 128, 255, 256, 65535, 65536, 2**24, 2**24 + 1, 2**30, 2**31 - 1,
               2**31, 2**32 - 2, 2**32 - 1, 2**40, 2**63, 2**64 - 1, -1, -2, -128, -(2**31)]  # fmt: skip
LIMITS = {"u8": (0, 2**8), "u16": (0, 2**16), "u32": (0, 2**32), "u64": (0, 2**64), "i32": (-(2**31), 2**31)}


def every_opcode() -> Program:
    """One program with all opcodes, stages and buffers; small, so that thousands of variants run."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.tensor("x", (8, 6, 8), 10, TensorRole.INPUT)

    own = np.linspace(0.1, 2, 202), np.arange(202) * 1000 - 9

    def add(name: str, opcode: Opcode, inputs: list[int], shape: tuple[int, int, int], **more: Any) -> int:
        end = name == "end"
        role = TensorRole.OUTPUT if end else TensorRole.INTERNAL
        y = b.tensor(name, shape, 10, role, channels=own if end else None)
        b.kernel(name, opcode, inputs, y, **more)
        return y

    w = rng.integers(-128, 128, (12, 3, 3, 8)).astype(np.int8)
    pads = {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1}
    conv = add("conv", Opcode.CONVOLUTION, [x], (8, 6, 12), weight=w, bias=np.zeros(12, np.int32), **pads,
               **requantization(rng, 20000, 12, table_bits=9, tables=2),
               channel_table=np.arange(12, dtype=np.uint8) % 2)  # fmt: skip
    dw = add("dw", Opcode.DEPTHWISE, [conv, conv], (8, 6, 12), weight=w[0, :, :, 0:1].repeat(12, 2),
             bias=np.zeros(12, np.int32), **pads, **requantization(rng, 5000, 12, 2))  # fmt: skip
    mul = add("mul", Opcode.ELEMENTWISE_MULTIPLY, [dw, conv], (8, 6, 12), **requantization(rng, 65025, 1))
    ew = add("add", Opcode.ELEMENTWISE_ADD, [mul, conv], (8, 6, 12), **requantization(rng, 500, 1, 2))
    rs = add("rescale", Opcode.RESCALE, [ew], (8, 6, 12), **requantization(rng, 255, 12, 2))
    mx = add("max", Opcode.POOL_MAX, [rs], (4, 3, 12), kernel_height=2, kernel_width=2, stride_height=2, stride_width=2)
    av = add("sum", Opcode.POOL_SUM, [mx], (4, 3, 12), count=np.arange(1, 10, dtype=np.uint32), **pads,
             **requantization(rng, 2300, 9))  # fmt: skip
    cat = add("cat", Opcode.CONCATENATE, [av, mx], (4, 3, 24), axis=2)
    cut = add("cut", Opcode.SLICE, [cat], (2, 2, 6), start_height=1, start_channel=3, step_channel=3)
    pad = add("pad", Opcode.PAD, [cut], (4, 4, 8), start_height=1, start_width=1, start_channel=1, output_zero=9)
    tr = add("turn", Opcode.TRANSPOSE, [pad], (8, 4, 4), permutation=2 | 0 << 8 | 1 << 16)
    flat = add("flat", Opcode.RESHAPE, [tr], (1, 1, 128))
    deep = add("deep", Opcode.SPACE_TO_DEPTH, [pad], (2, 2, 32), block=2, axis=1)
    wide = add("wide", Opcode.DEPTH_TO_SPACE, [deep], (4, 4, 8), block=2)
    near = add("near", Opcode.RESIZE_NEAREST, [wide], (5, 3, 8), row_table=np.array([0, 1, 1, 2, 3], np.uint32),
               column_table=np.array([0, 2, 3], np.uint32))  # fmt: skip
    mix = np.array([[0, 1, 5], [1, 2, 2048], [2, 2, 0]], np.uint32)
    far = add("far", Opcode.RESIZE_BILINEAR, [near], (3, 3, 8), row_table=mix, column_table=mix,
              **requantization(rng, 255 << 22, 8))  # fmt: skip
    flat2 = add("flat2", Opcode.RESHAPE, [far], (1, 1, 72))
    top = add("top", Opcode.REDUCE_MAX, [flat], (1, 1, 1), axis_mask=4)
    rec = add("rec", Opcode.REDUCE_SUM_RECIPROCAL, [flat], (1, 1, 1), axis_mask=4, table_bits=6, requantise_terms=1,
              requantise_channels=1,
              multiplier=np.full((1, 1), 300, np.int32), shift=np.full(1, 9, np.uint8), requantise_high=255,
              table=np.arange(64, dtype=np.uint16) * 900)  # fmt: skip
    add("end", Opcode.CONCATENATE, [top, rec, flat, flat2], (1, 1, 202), axis=2)
    add_pipeline(b.program, 16)
    b.build()
    return b.program


def shared_contexts() -> Program:
    """The same in three contexts, whose stages share controllers in runs of three."""
    return in_shared_contexts(every_opcode())


def records_of(p: Program) -> Iterator[tuple[str, Any]]:
    yield "target", p.target
    for name in ("tensors", "contexts", "kernels", "stages", "buffers"):
        for i, record in enumerate(getattr(p, name)):
            yield f"{name}[{i}]", record


def one_field_at_a_time(base: Program, step: int = 1, start: int = 0) -> Iterator[tuple[str, Program]]:
    """Programs with one field set to one interesting value; every ``step``-th of them."""
    count = 0
    for place, record in records_of(base):
        for f in fields(record):
            limits = LIMITS.get(f.metadata["kind"])
            original = getattr(record, f.name)
            values = [float("nan"), float("inf"), 0.0, -1.0, 1e-40] if limits is None else INTERESTING
            near = [] if limits is None else [original - 1, original + 1, original * 2]
            for value in dict.fromkeys([*values, *near]):
                if value == original or (limits and not limits[0] <= value < limits[1]):
                    continue
                count += 1
                if count % step != start % step:
                    continue
                setattr(record, f.name, value)
                yield f"{place}.{f.name} = {value}", base
                setattr(record, f.name, original)


def several_fields(base: Program, seed: int, count: int) -> Iterator[tuple[str, Program]]:
    """Programs with one to four random fields set, so that one value may excuse another."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        p = copy.deepcopy(base)
        records = [r for _, r in records_of(p)]
        for _ in range(int(rng.integers(1, 5))):
            record = records[int(rng.integers(len(records)))]
            f = fields(record)[int(rng.integers(len(fields(record))))]
            limits = LIMITS.get(f.metadata["kind"])
            if limits is None:
                continue
            value = int(rng.choice(np.array(INTERESTING, dtype=object)))
            value = value if rng.integers(2) else getattr(record, f.name) + int(rng.integers(-3, 4))
            setattr(record, f.name, min(max(value, limits[0]), limits[1] - 1))
        if rng.integers(4) == 0 and p.operands:
            p.operands[int(rng.integers(len(p.operands)))] = int(rng.integers(0, len(p.tensors) + 2))
        if rng.integers(4) == 0:
            at = int(rng.integers(len(p.constants)))
            p.constants[at : at + 8] = rng.integers(0, 256, len(p.constants[at : at + 8])).astype(np.uint8).tobytes()
        yield f"seed {seed}, case {i}", p


def outcome(hef: bytes) -> int:
    try:
        native.verify(hef)
    except native.NativeError as error:
        assert all(p.rule for p in error.problems)
        return int(error.status)
    return 0


@pytest.mark.parametrize("base", [every_opcode, shared_contexts])
def test_the_base_program_runs(base: Callable[[], Program]) -> None:
    p = base()
    assert {Opcode(k.opcode) for k in p.kernels} == set(Opcode)
    net = native.Device().load(hef_of(p))
    assert len(net.infer_all({"x": np.zeros((1, 8, 6, 8), np.uint8)})) == len(p.kernels)
    assert net.timing()["fps"] > 0


@pytest.mark.parametrize(("base", "step"), [(every_opcode, 7), (shared_contexts, 31)])
def test_one_field_at_a_time_gives_a_status(base: Callable[[], Program], step: int) -> None:
    seen = {outcome(hef_of_raw(p)) for _, p in one_field_at_a_time(base(), step)}
    assert seen <= {0, 2, 7, 26, 91, 92, 93}
    assert 26 in seen


_CONTAINER: list[bytes] = []


def hef_of_raw(p: Program) -> bytes:
    """The HEF of a broken program: the microcode of a sound file is exchanged, lengths and CRC made right."""
    import zlib

    from headrace.hef.container import read_hef
    from headrace.hef.microcode import encode

    if not _CONTAINER:
        _CONTAINER.append(hef_of(every_opcode()))
    sound = _CONTAINER[0]
    old = read_hef(sound).microcode
    code = encode(p)
    proto_size = struct.unpack_from(">I", sound, 8)[0]
    proto = bytearray(sound[28 : 28 + proto_size])
    # The resource's size field is a varint of fixed length as long as the sizes need equally many bytes.
    before, after = varint(len(old)), varint(len(code))
    assert len(before) == len(after) and proto.count(before) >= 1
    at = proto.rindex(before, 0, proto.rindex(b"headrace.microcode"))
    proto[at : at + len(before)] = after
    body = bytes(proto) + code
    return struct.pack(">IIIIQI", 0x01484546, 1, proto_size, zlib.crc32(body), len(code), 0) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda h: h[:27], 91),
        (lambda h: h[:-1], 91),
        (lambda h: h + b"\0", 91),
        (lambda h: b"\1HEG" + h[4:], 92),
        (lambda h: h[:4] + struct.pack(">I", 3) + h[8:], 92),
        (lambda h: h[:-1] + bytes([h[-1] ^ 1]), 91),
        (lambda h: h[:12] + b"\0\0\0\0" + h[16:], 91),
    ],
)
def test_container_errors_have_the_known_numbers(change: Any, status: int) -> None:
    assert outcome(change(hef_of(every_opcode()))) == status


def test_every_truncation_is_refused() -> None:
    hef = hef_of(every_opcode())
    for size in range(0, len(hef), 13):
        assert outcome(hef[:size]) in (91, 92)


def broken(change: Any) -> str:
    p = every_opcode()
    kernels: dict[str, KernelRecord] = {p.name_of(k): k for k in p.kernels}
    change(p, kernels)
    with pytest.raises(native.NativeError) as error:
        native.verify(hef_of_raw(p))
    return str(error.value)


def own_scale(p: Program, form: str, value: float, which: str = "scales_offset") -> None:
    at = getattr(p.tensors[-1], which) + 4 * 201
    p.constants[at : at + 4] = struct.pack(form, value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p, k: setattr(k["conv"], "pad_top", 3), "window rows does not give the output size"),
        (lambda p, k: (setattr(k["max"], "dilation_height", 40), setattr(k["max"], "pad_top", 9)), "misses the input"),
        (lambda p, k: setattr(k["conv"], "weight_offset", len(p.constants) - 5), "weights lie outside CONSTANTS"),
        (lambda p, k: setattr(k["conv"], "table_bits", 8), "the clamp bounds are not valid"),
        (lambda p, k: setattr(k["conv"], "table_count", 1), "a channel's table does not exist"),
        (lambda p, k: setattr(k["conv"], "table_count", 257), "the number of tables is not valid"),
        (lambda p, k: setattr(k["conv"], "table_count", 256), "table entries lie outside CONSTANTS"),
        (
            lambda p, k: setattr(k["conv"], "channel_table_offset", len(p.constants) - 11),
            "tables lie outside CONSTANTS",
        ),
        (lambda p, k: setattr(k["conv"], "channel_table_offset", NONE), "the number of tables is not valid"),
        (lambda p, k: setattr(k["rescale"], "channel_table_offset", 0), "cannot have tables of their own here"),
        (lambda p, k: setattr(k["rescale"], "table_count", 2), "the number of tables is not valid"),
        (lambda p, k: setattr(k["add"], "requantise_low", -1), "the clamp bounds are not valid"),
        (lambda p, k: setattr(k["cut"], "step_channel", 5), "the slice leaves the input"),
        (lambda p, k: setattr(k["turn"], "permutation", 0x020202), "the permutation is not valid"),
        (lambda p, k: setattr(k["sum"], "requantise_channels", 8), "is not listed"),
        (lambda p, k: p.operands.__setitem__(0, k["end"].output), "nothing has written before"),
        (lambda p, k: setattr(k["dw"], "output", k["conv"].output), "its output is written already"),
        (lambda p, k: setattr(p.stages[0], "controllers", 200), "more layer controllers than the target has"),
        (
            lambda p, k: (setattr(p.tensors[1], "height", 2**24), setattr(p.tensors[1], "width", 2**10)),
            "more memory than this device may use",
        ),
        (lambda p, k: setattr(p.contexts[0], "kernel_count", 3), "they do not cover the kernels"),
        (lambda p, k: setattr(p.buffers[0], "capacity_rows", 0), "it holds no row"),
        (
            lambda p, k: setattr(k["conv"], "weight_zero_offset", len(p.constants) - 1),
            "zero points of the weights lie outside CONSTANTS",
        ),
        (lambda p, k: own_scale(p, "<f", 0.0), "the scale is not a positive, normal number"),
        (lambda p, k: own_scale(p, "<f", -1.0), "the scale is not a positive, normal number"),
        (lambda p, k: own_scale(p, "<f", float("nan")), "the scale is not a positive, normal number"),
        (lambda p, k: own_scale(p, "<f", float("inf")), "the scale is not a positive, normal number"),
        (lambda p, k: own_scale(p, "<f", 1e-40), "the scale is not a positive, normal number"),
        (lambda p, k: own_scale(p, "<i", 2**24, "zeros_offset"), "the zero point is out of range"),
        (lambda p, k: own_scale(p, "<i", -(2**31), "zeros_offset"), "the zero point is out of range"),
        (lambda p, k: setattr(p.tensors[-1], "zeros_offset", NONE), "channels lie outside CONSTANTS"),
        (lambda p, k: setattr(p.tensors[-1], "scales_offset", len(p.constants) - 800), "lie outside CONSTANTS"),
        (lambda p, k: setattr(p.tensors[-1], "role", 0), "only outputs have a scale per channel"),
        (
            lambda p, k: (setattr(p.tensors[1], "scales_offset", 0), setattr(p.tensors[1], "zeros_offset", 0)),
            "only outputs have a scale per channel",
        ),
        (lambda p, k: setattr(p.tensors[1], "zero_point", 256), "the zero point is not a code"),
        (
            lambda p, k: (setattr(p.tensors[1], "role", 2), setattr(p.tensors[1], "zero_point", 256)),
            "it computes with a tensor whose channels differ, or whose zero point is no code",
        ),
    ],
)
def test_the_verifier_says_what_is_wrong(change: Any, text: str) -> None:
    assert text in broken(change)


def test_accumulator_and_shift_bounds_are_proven() -> None:
    def wide_bias(p: Program, k: dict[str, KernelRecord]) -> None:
        at = k["conv"].bias_offset
        p.constants[at : at + 4] = struct.pack("<i", 2**31 - 1)

    def shift(value: int) -> Any:
        return lambda p, k: p.constants.__setitem__(k["conv"].shift_offset, value)

    assert "may not fit 32 bits" in broken(wide_bias)
    assert "shift is out of range" in broken(shift(0))
    assert "shift is out of range" in broken(shift(63))


SANITIZED = ("-DHEADRACE_SANITIZE=ON", "-DHEADRACE_SOAK=ON", "-DHEADRACE_FUZZ_DRIVER=ON")


@pytest.fixture(scope="module")
def sanitized_driver(native_build: Callable[..., Path]) -> Path:
    """The fuzz driver with address and undefined-behaviour sanitizers."""
    given = os.environ.get("HEADRACE_FUZZ_DRIVER")
    if given:
        return Path(given)
    return native_build("fuzz_hef", *SANITIZED) / "fuzz_hef"


def batch(path: Path, cases: Iterator[tuple[str, Program]]) -> int:
    count = 0
    with path.open("wb") as out:
        for _, program in cases:
            hef = hef_of_raw(program)
            out.write(struct.pack("<I", len(hef)) + hef)
            count += 1
    return count


@pytest.mark.slow
@pytest.mark.timeout(2400, func_only=True)
def test_hostile_programs_under_sanitizers(tmp_path: Path, sanitized_driver: Path) -> None:
    """Every field of every record, and random combinations; what is accepted runs a frame and its timing."""
    base, shared = every_opcode(), shared_contexts()
    files = [tmp_path / name for name in ("single", "several", "contexts", "shared")]
    counts = [batch(files[0], one_field_at_a_time(base)), batch(files[1], several_fields(base, 1, 3000))]
    # What differs in the second program: contexts, stages and buffers.
    changes = (c for c in one_field_at_a_time(shared, 3) if c[0].startswith(("contexts", "stages", "buffers")))
    counts += [batch(files[2], changes), batch(files[3], several_fields(shared, 2, 1000))]
    assert counts[0] > 10000 and counts[2] > 2500
    for kernels in native.kernel_sets():
        env = os.environ | {"HEADRACE_KERNELS": kernels}
        result = subprocess.run(
            [str(sanitized_driver), "--batch", *map(str, files)], env=env, capture_output=True, text=True, timeout=1800
        )
        assert result.returncode == 0, result.stderr[-4000:]
        assert result.stdout.strip() == "done"


@pytest.mark.slow
@pytest.mark.timeout(2400, func_only=True)
def test_hostile_configurations_of_boxes_under_sanitizers(tmp_path: Path, native_build: Callable[..., Path]) -> None:
    """Changed values of JSON, and what is left of it when bytes are changed; what is accepted makes boxes."""
    pytest.importorskip("onnx")
    from fuzz.targets import case_of

    with (tmp_path / "cases").open("wb") as out:
        for index in range(20000):
            data = case_of("nms", 5, index)[""]
            out.write(struct.pack("<I", len(data)) + data)
    command = [str(native_build("fuzz_nms", *SANITIZED) / "fuzz_nms"), "--batch", str(tmp_path / "cases")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.strip() == "done"
