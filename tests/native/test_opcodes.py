# SPDX-License-Identifier: Apache-2.0
"""Every opcode on every kernel set of this CPU equals a numpy int64 interpreter of the same records, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headrace.hef.microcode import Opcode, TensorRole
from native.programs import Array, Builder, interpret, output_size, requantization

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

SETS: list[str] = native.kernel_sets()
THREADS = (1, 2, 5)


def compare(builder: Builder, rng: np.random.Generator, frames: int = 2, threads: tuple[int, ...] = THREADS) -> None:
    """All layers, all kernel sets, all thread counts."""
    hef = builder.build()
    p = builder.program
    inputs: dict[str, Array] = {}
    for t in p.tensors:
        if t.role == int(TensorRole.INPUT):
            shape = (frames, t.height, t.width, t.channels)
            codes = rng.integers(0, 1 << (8 * t.element_bytes), shape)
            extreme = rng.random(shape) < 0.2  # the ends of the range are where sums and tables overflow
            top = (1 << (8 * t.element_bytes)) - 1
            codes = np.where(extreme, rng.choice([0, top], shape), codes)
            inputs[p.name_of(t)] = codes.astype(f"u{t.element_bytes}")
    want = [interpret(p, {name: value[i] for name, value in inputs.items()}) for i in range(frames)]
    for kernels in SETS:
        for count in threads:
            got = native.Device(None, count, kernels).load(hef).infer_all(inputs)
            for name in want[0]:
                expected = np.stack([w[name] for w in want])
                differing = int((got[name] != expected).sum())
                assert got[name].dtype == expected.dtype
                assert differing == 0, (
                    f"{name}, {kernels}, {count} threads: {differing} of {expected.size} bytes differ"
                )


def zero_of(rng: np.random.Generator, size: int = 1) -> int:
    top = (1 << (8 * size)) - 1
    return int(rng.choice([0, top, int(rng.integers(0, top + 1))]))


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    w = rng.integers(-128, 128, shape)
    return np.where(rng.random(shape) < 0.1, -128, w).astype(np.int8)


def window(rng: np.random.Generator, size: int, taps: int, stride: int, dilation: int) -> tuple[int, int]:
    """(padding before, output size) that the verifier accepts."""
    extent = (taps - 1) * dilation + 1
    while True:
        before, after = int(rng.integers(0, extent)), int(rng.integers(0, extent))
        out = output_size(size, before, after, taps, stride, dilation)
        if size + before + after >= extent and out >= 1 and (out - 1) * stride - before + extent - size < extent:
            return before, out


def geometry(rng: np.random.Generator, x: tuple[int, int, int]) -> tuple[dict[str, Any], tuple[int, int]]:
    fields: dict[str, Any] = {}
    out = []
    for axis, size in (("height", x[0]), ("width", x[1])):
        taps, stride, dilation = int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
        before, n = window(rng, size, taps, stride, dilation)
        fields |= {f"kernel_{axis}": taps, f"stride_{axis}": stride, f"dilation_{axis}": dilation}
        fields["pad_top" if axis == "height" else "pad_left"] = before
        out.append(n)
    return fields, (out[0], out[1])


def curve(rng: np.random.Generator, bits: int) -> np.ndarray[Any, Any]:
    """A table as an activation gives it: x * sigmoid(x) or tanh, saturating at either end or not."""
    x = np.linspace(-rng.uniform(2, 12), rng.uniform(1, 20), 1 << bits)
    y = x / (1 + np.exp(-x)) if rng.integers(0, 4) else np.tanh(x)
    return np.clip(np.rint(rng.uniform(2, 400) * y + rng.integers(0, 60)), 0, 255).astype(np.uint8)


def own_tables(rng: np.random.Generator, fields: dict[str, Any], channels: int) -> dict[str, Any]:
    """Now and then a smooth table, or several instead of the one and each channel's choice."""
    bits = fields.get("table_bits", 0)
    smooth = bits and rng.integers(0, 3)  # fast kernels know tables that are lines
    if smooth:
        fields["table"] = curve(rng, bits)
    if not bits or rng.integers(0, 2):
        return {}
    count = int(rng.integers(1, 9))
    tables = [curve(rng, bits) if smooth else rng.integers(0, 256, 1 << bits) for _ in range(count)]
    return {
        "table": np.concatenate(tables).astype(np.uint8),
        "table_count": count,
        "channel_table": rng.integers(0, count, channels).astype(np.uint8),
    }


def weight_zeros(rng: np.random.Generator, channels: int) -> Array:
    return rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)], channels).astype(np.int8)


def convolution(
    seed: int,
    x: tuple[int, int, int],
    cout: int,
    groups: int,
    size: int = 1,
    zeros: bool = False,
    wide: bool = False,
    **fixed: Any,
) -> None:
    """``zeros``: weights have zero points; ``wide``: operands have 16 bits."""
    rng = np.random.default_rng(seed)
    b = Builder()
    zx = zero_of(rng, 1 + wide)
    fields, (oh, ow) = geometry(rng, x)
    if fixed:
        fields = {"pad_top": 0, "pad_left": 0} | fixed
        kh, kw = fields.get("kernel_height", 1), fields.get("kernel_width", 1)
        sh, sw = fields.get("stride_height", 1), fields.get("stride_width", 1)
        oh = output_size(x[0], fields["pad_top"], fields["pad_top"], kh, sh, 1)
        ow = output_size(x[1], fields["pad_left"], fields["pad_left"], kw, sw, 1)
    residual = bool(rng.integers(0, 2))
    shape = (oh, ow, cout)
    inputs = [b.tensor("x", x, zx, TensorRole.INPUT, 1 + wide)]
    if residual:
        inputs.append(b.tensor("r", shape, zero_of(rng), TensorRole.INPUT))
    y = b.tensor("y", shape, 3, TensorRole.OUTPUT, size)
    w = weights(rng, (cout, fields.get("kernel_height", 1), fields.get("kernel_width", 1), x[2] // groups))
    largest = 65535.0 if wide else 255.0
    reach = float((np.abs(w.astype(np.int64)) + 128 * zeros).reshape(cout, -1).sum(1).max()) * largest + 2**20
    fields |= requantization(
        rng,
        max(reach / 8, 255.0),
        cout if rng.integers(0, 2) else 1,
        len(inputs),
        size,
        table_bits=int(rng.choice([0, 0, 9, 10, 11, 12, 14])),
    )
    if size == 1:
        fields |= own_tables(rng, fields, cout)
    limit = int(2**61 / (reach + 255))
    fields["multiplier"] = np.clip(fields["multiplier"], -limit, limit)
    bias = rng.integers(-(2**20), 2**20, cout).astype(np.int32)
    if zeros:
        fields["weight_zero"] = weight_zeros(rng, cout)
    b.kernel("y", Opcode.CONVOLUTION, inputs, y, groups=groups, weight=w, bias=bias, **fields)
    compare(b, rng)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_convolution(seed: int, size: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    x = (int(rng.integers(1, 12)), int(rng.integers(1, 30)), int(rng.integers(1, 20)))
    convolution(seed, x, int(rng.integers(1, 70)), 1, size)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_grouped_convolution(seed: int, size: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    groups = int(rng.integers(2, 6))
    x = (int(rng.integers(1, 9)), int(rng.integers(1, 17)), groups * int(rng.integers(1, 6)))
    convolution(seed, x, groups * int(rng.integers(1, 40)), groups, size)


@pytest.mark.parametrize(
    ("x", "cout", "fields"),
    [
        ((16, 16, 32), 64, {}),  # 1x1, read in place
        ((17, 15, 16), 48, {"stride_height": 2, "stride_width": 2}),
        ((1, 1, 500), 130, {}),  # fully connected
        ((4, 5, 24), 33, {"kernel_height": 4, "kernel_width": 5}),  # the window is the whole input
        ((32, 32, 3), 16, {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1}),
        ((9, 40, 64), 80, {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1}),
        ((64, 64, 8), 16, {"kernel_height": 1, "kernel_width": 7, "pad_left": 3}),
        # few channels: neighbouring output pixels share the lanes
        ((12, 24, 3), 8, {"kernel_height": 3, "kernel_width": 3, "stride_width": 2, "pad_top": 1, "pad_left": 1}),
        ((9, 16, 8), 8, {}),
        ((9, 16, 24), 4, {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1}),
        ((7, 32, 5), 2, {"kernel_width": 5, "pad_left": 2}),
        ((6, 48, 10), 1, {"stride_width": 3}),
        ((6, 10, 16), 5, {"kernel_width": 3, "pad_left": 1}),
    ],
)
def test_usual_convolutions(x: tuple[int, int, int], cout: int, fields: dict[str, Any]) -> None:
    convolution(5, x, cout, 1, **fields)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_convolution_with_zero_points_of_weights(seed: int, wide: bool) -> None:
    rng = np.random.default_rng(9000 + seed)
    groups = int(rng.integers(2, 5)) if seed % 2 else 1
    x = (int(rng.integers(1, 9)), int(rng.integers(1, 17)), groups * int(rng.integers(1, 9)))
    convolution(
        seed, x, groups * int(rng.integers(1, 40)), groups, 1 + seed % 2, zeros=seed % 3 != 0 or not wide, wide=wide
    )


@pytest.mark.parametrize(
    ("x", "cout", "fields"),
    [
        ((8, 8, 32), 64, {}),
        ((1, 1, 500), 130, {}),
        ((9, 20, 64), 80, {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1}),
        ((12, 24, 3), 8, {"kernel_height": 3, "kernel_width": 3, "stride_width": 2, "pad_top": 1, "pad_left": 1}),
    ],
)
def test_usual_convolutions_with_zero_points_of_weights(
    x: tuple[int, int, int], cout: int, fields: dict[str, Any]
) -> None:
    convolution(6, x, cout, 1, zeros=True, **fields)


@pytest.mark.parametrize(("zeros", "wide"), [(False, False), (True, False), (True, True), (False, True)])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_depthwise(seed: int, size: int, zeros: bool, wide: bool) -> None:
    rng = np.random.default_rng(3000 + seed)
    x = (int(rng.integers(1, 14)), int(rng.integers(1, 40)), int(rng.integers(1, 50)))
    b = Builder()
    fields, (oh, ow) = geometry(rng, x)
    shape = (oh, ow, x[2])
    inputs = [b.tensor("x", x, zero_of(rng, 1 + wide), TensorRole.INPUT, 1 + wide)]
    if seed % 2:
        inputs.append(b.tensor("r", shape, zero_of(rng), TensorRole.INPUT))
    y = b.tensor("y", shape, 0, TensorRole.OUTPUT, size)
    w = weights(rng, (fields["kernel_height"], fields["kernel_width"], x[2]))
    fields |= requantization(rng, 5000, x[2] if seed % 3 else 1, len(inputs), size, table_bits=10 if seed == 3 else 0)
    if wide:
        fields["multiplier"] = np.clip(fields["multiplier"], -(2**20), 2**20).astype(np.int32)
    if zeros:
        fields["weight_zero"] = weight_zeros(rng, x[2])
    bias = rng.integers(-5000, 5000, x[2]).astype(np.int32)
    b.kernel("y", Opcode.DEPTHWISE, inputs, y, weight=w, bias=bias, groups=x[2], **fields)
    compare(b, rng)


@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (5, 5), (7, 3), (2, 5), (1, 3), (4, 4)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [3, 8, 16, 40])
def test_usual_depthwise(taps: tuple[int, int], stride: int, channels: int) -> None:
    """Windows that kernel sets treat in their own ways: by groups of rows, or several pixels at once."""
    rng = np.random.default_rng(taps[0] * 100 + taps[1] * 10 + stride + channels)
    pad_top, pad_left = taps[0] // 2, taps[1] // 2
    width = int(rng.choice([1, 16, 29, 32])) * stride
    x = (int(rng.integers(taps[0], 9)), width, channels)
    oh, ow = (
        output_size(x[0], pad_top, pad_top, taps[0], stride, 1),
        output_size(width, pad_left, pad_left, taps[1], stride, 1),
    )
    b = Builder()
    inputs = [b.tensor("x", x, zero_of(rng), TensorRole.INPUT)]
    if rng.integers(0, 2):
        inputs.append(b.tensor("r", (oh, ow, channels), zero_of(rng), TensorRole.INPUT))
    y = b.tensor("y", (oh, ow, channels), 0, TensorRole.OUTPUT)
    bits = int(rng.choice([0, 0, 7, 8, 9, 10, 11, 12, 13]))
    fields = requantization(rng, 5000, channels, len(inputs), table_bits=bits)
    fields |= own_tables(rng, fields, channels)
    b.kernel(
        "y", Opcode.DEPTHWISE, inputs, y, weight=weights(rng, (*taps, channels)), groups=channels,
        bias=rng.integers(-5000, 5000, channels).astype(np.int32), kernel_height=taps[0], kernel_width=taps[1],
        stride_height=stride, stride_width=stride, pad_top=pad_top, pad_left=pad_left, **fields,
    )  # fmt: skip
    compare(b, rng)


@pytest.mark.parametrize("channels", [3, 16, 21, 50])
@pytest.mark.parametrize("opcode", [Opcode.CONVOLUTION, Opcode.DEPTHWISE])
@pytest.mark.parametrize("high_shift", [False, True])
def test_every_channel_its_own_table(channels: int, opcode: Opcode, high_shift: bool) -> None:
    rng = np.random.default_rng(channels + high_shift)
    b = Builder()
    inputs = [b.tensor("x", (4, 16, channels), 90, TensorRole.INPUT)]
    inputs += [b.tensor("r", (4, 16, channels), 30, TensorRole.INPUT)] if channels % 2 else []
    y = b.tensor("y", (4, 16, channels), 5, TensorRole.OUTPUT)
    # Without a spread of multipliers the index covers the table, so that a neighbour's table would be seen.
    fields = requantization(rng, 60000, channels, len(inputs), table_bits=10, tables=channels)
    fields["shift"] = np.full(channels, 36 if high_shift else 20, np.uint8)
    fields["multiplier"] = rng.integers(-(2**30), 2**30, (len(inputs), channels)).astype(np.int32)
    fields |= {"requantise_zero": 500, "requantise_low": 0, "requantise_high": 1023}
    fields["channel_table"] = rng.permutation(channels).astype(np.uint8)
    shape, groups = ((channels, 1, 1, channels), 1) if opcode == Opcode.CONVOLUTION else ((1, 1, channels), channels)
    bias = rng.integers(-500, 500, channels).astype(np.int32)
    b.kernel("y", opcode, inputs, y, weight=weights(rng, shape), bias=bias, groups=groups, **fields)
    compare(b, rng)


@pytest.mark.parametrize("bits", range(1, 15))
@pytest.mark.parametrize("high_shift", [False, True])
def test_tables_of_every_size(bits: int, high_shift: bool) -> None:
    rng = np.random.default_rng(bits)
    b = Builder()
    x = b.tensor("x", (3, 11, 21), 100, TensorRole.INPUT)
    y = b.tensor("y", (3, 11, 21), 0, TensorRole.OUTPUT)
    fields = requantization(rng, 256.0, 21, 1, 1, bits)
    fields["shift"] = np.full(21, 36 if high_shift else 20, np.uint8)
    fields["multiplier"] = rng.integers(-(2**30), 2**30, (1, 21)).astype(np.int32)
    fields |= {"requantise_zero": min(1 << (bits - 1), 2000), "requantise_low": 0, "requantise_high": (1 << bits) - 1}
    b.kernel(
        "y", Opcode.DEPTHWISE, [x], y, weight=weights(rng, (1, 1, 21)), bias=np.zeros(21, np.int32), groups=21, **fields
    )
    compare(b, rng)


BROADCASTS = [
    ((5, 7, 19), (5, 7, 19)),
    ((5, 7, 32), (1, 1, 32)),
    ((5, 7, 19), (1, 1, 1)),
    ((5, 7, 19), (5, 7, 1)),
    ((5, 1, 19), (1, 7, 19)),
    ((1, 1, 19), (6, 3, 19)),
    ((6, 9, 1), (6, 9, 1)),
    ((1, 1, 1), (1, 1, 1)),
]


@pytest.mark.parametrize("opcode", [Opcode.ELEMENTWISE_ADD, Opcode.ELEMENTWISE_MULTIPLY])
@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 2), (1, 2, 1), (2, 2, 2)], ids=str)
def test_elementwise(opcode: Opcode, shapes: Any, sizes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(hash((int(opcode), shapes, sizes)) % 2**32)
    b = Builder()
    out = tuple(max(p, q) for p, q in zip(*shapes, strict=True))
    inputs = [
        b.tensor(name, shape, zero_of(rng, size), TensorRole.INPUT, size)
        for name, shape, size in zip("xy", shapes, sizes, strict=False)
    ]
    z = b.tensor("z", (out[0], out[1], out[2]), 1, TensorRole.OUTPUT, sizes[2])
    add = opcode == Opcode.ELEMENTWISE_ADD
    reach = max(256.0 ** sizes[0], 256.0 ** sizes[1]) if add else 256.0 ** (sizes[0] + sizes[1])
    bits = int(rng.choice([0, 8, 11]))
    channels = out[2] if rng.integers(0, 2) else 1
    fields = requantization(rng, reach, channels, 2 if add else 1, sizes[2], bits)
    b.kernel("z", opcode, inputs, z, **fields)
    compare(b, rng, threads=(1, 5))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("bits", [0, 10])
@pytest.mark.parametrize("per_channel", [False, True])
def test_rescale(sizes: tuple[int, int], bits: int, per_channel: bool) -> None:
    rng = np.random.default_rng(sizes[0] * 100 + sizes[1] * 10 + bits + per_channel)
    shape = (6, 11, 21)
    b = Builder()
    x = b.tensor("x", shape, zero_of(rng, sizes[0]), TensorRole.INPUT, sizes[0])
    y = b.tensor("y", shape, 0, TensorRole.OUTPUT, sizes[1])
    fields = requantization(rng, 256.0 ** sizes[0], 21 if per_channel else 1, 1, sizes[1], bits)
    b.kernel("y", Opcode.RESCALE, [x], y, **fields)
    compare(b, rng)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_rescale_by_sign(sizes: tuple[int, int], seed: int) -> None:
    """One operand and two terms: the second is the negative part."""
    rng = np.random.default_rng(9000 + seed)
    shape = (6, 11, 21)
    b = Builder()
    x = b.tensor("x", shape, int(rng.integers(1, 255)), TensorRole.INPUT, sizes[0])
    y = b.tensor("y", shape, 0, TensorRole.OUTPUT, sizes[1])
    channels = 21 if seed % 2 else 1
    fields = requantization(rng, 256.0 ** sizes[0], channels, 2, sizes[1], int(rng.choice([0, 10])))
    b.kernel("y", Opcode.RESCALE, [x], y, **fields)
    compare(b, rng)


@pytest.mark.parametrize("channels", [3, 16, 40])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("opcode", [Opcode.CONVOLUTION, Opcode.DEPTHWISE])
def test_sums_by_sign(opcode: Opcode, seed: int, channels: int) -> None:
    rng = np.random.default_rng(9100 + seed)
    b = Builder()
    x = b.tensor("x", (7, 9, channels), int(rng.integers(1, 255)), TensorRole.INPUT)
    y = b.tensor("y", (7, 9, channels), 0, TensorRole.OUTPUT)
    dense = opcode == Opcode.CONVOLUTION
    w = weights(rng, (channels, 3, 3, channels) if dense else (3, 3, channels))
    reach = float(np.abs(w.astype(np.int64)).sum(axis=(1, 2, 3) if dense else (0, 1)).max()) * 255 + 2**12
    fields = requantization(rng, reach / 8, channels if seed % 2 else 1, 2, table_bits=int(rng.choice([0, 0, 9])))
    limit = int(2**60 / reach)
    fields["multiplier"] = np.clip(fields["multiplier"], -limit, limit)
    bias = rng.integers(-(2**12), 2**12, channels).astype(np.int32)
    window = {"kernel_height": 3, "kernel_width": 3, "pad_top": 1, "pad_left": 1}
    b.kernel("y", opcode, [x], y, groups=1 if dense else channels, weight=w, bias=bias, **window, **fields)
    compare(b, rng)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 2])
def test_pool_max(seed: int, size: int) -> None:
    rng = np.random.default_rng(4000 + seed)
    x = (int(rng.integers(4, 14)), int(rng.integers(4, 20)), int(rng.integers(1, 40)))
    b = Builder()
    fields, (oh, ow) = geometry(rng, x)
    fields |= {"dilation_height": 1, "dilation_width": 1}
    fields["pad_top"] %= fields["kernel_height"]
    oh = output_size(x[0], fields["pad_top"], 0, fields["kernel_height"], fields["stride_height"], 1)
    fields["pad_left"] %= fields["kernel_width"]
    ow = output_size(x[1], fields["pad_left"], 0, fields["kernel_width"], fields["stride_width"], 1)
    inp = b.tensor("x", x, 7, TensorRole.INPUT, size)
    y = b.tensor("y", (max(1, oh), max(1, ow), x[2]), 7, TensorRole.OUTPUT, size)
    b.kernel("y", Opcode.POOL_MAX, [inp], y, **fields)
    compare(b, rng)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("taps", "stride", "pad"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (5, 3, 2), (9, 1, 0)])
def test_pool_sum(size: int, taps: int, stride: int, pad: int) -> None:
    rng = np.random.default_rng(taps * 10 + stride)
    x = (9, 9, 37)
    n = output_size(9, pad, pad, taps, stride, 1)
    b = Builder()
    inp = b.tensor("x", x, zero_of(rng, size), TensorRole.INPUT, size)
    y = b.tensor("y", (n, n, 37), 0, TensorRole.OUTPUT, size)
    counts = np.arange(1, taps * taps + 1, dtype=np.uint32)
    fields = requantization(rng, 256.0**size * taps * taps, len(counts), 1, size)
    b.kernel(
        "y", Opcode.POOL_SUM, [inp], y, count=counts, kernel_height=taps, kernel_width=taps,
        stride_height=stride, stride_width=stride, pad_top=pad, pad_left=pad, **fields,
    )  # fmt: skip
    compare(b, rng)


@pytest.mark.parametrize("mask", range(1, 8))
@pytest.mark.parametrize("size", [1, 2])
def test_reductions(mask: int, size: int) -> None:
    rng = np.random.default_rng(mask)
    x = (4, 5, 6)
    out = tuple(1 if mask >> i & 1 else n for i, n in enumerate(x))
    b = Builder()
    inp = b.tensor("x", x, zero_of(rng, size), TensorRole.INPUT, size)
    top = b.tensor("max", (out[0], out[1], out[2]), 0, TensorRole.OUTPUT, size)
    b.kernel("max", Opcode.REDUCE_MAX, [inp], top, axis_mask=mask)
    for out_size in (1, 2):
        name = f"sum{out_size}"
        y = b.tensor(name, (out[0], out[1], out[2]), 5, TensorRole.OUTPUT, out_size)
        channels = out[2] if out_size == 2 else 1
        fields: dict[str, Any] = {
            "requantise_terms": 1, "requantise_channels": channels, "axis_mask": mask, "table_bits": 8,
            "multiplier": rng.integers(2**12, 2**15, (1, channels)).astype(np.int32),
            "shift": rng.integers(1, 16, channels).astype(np.uint8),
            "table": rng.integers(0, 65536, 256).astype(np.uint16),
            "requantise_zero": 5, "requantise_low": 2, "requantise_high": 256**out_size - 3,
        }  # fmt: skip
        b.kernel(name, Opcode.REDUCE_SUM_RECIPROCAL, [inp], y, **fields)
    compare(b, rng)


@pytest.mark.parametrize("size", [1, 2])
def test_moves(size: int) -> None:
    rng = np.random.default_rng(size)
    b = Builder()
    x = b.tensor("x", (6, 7, 10), 4, TensorRole.INPUT, size)

    def add(name: str, opcode: Opcode, inputs: list[int], shape: tuple[int, int, int], **fields: Any) -> int:
        y = b.tensor(name, shape, 4, TensorRole.OUTPUT, size)
        b.kernel(name, opcode, inputs, y, **fields)
        return y

    for i, p in enumerate([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]):
        shape = (6, 7, 10)
        code = p[0] | p[1] << 8 | p[2] << 16
        add(f"transpose{i}", Opcode.TRANSPOSE, [x], (shape[p[0]], shape[p[1]], shape[p[2]]), permutation=code)
    add("reshape", Opcode.RESHAPE, [x], (1, 1, 420))
    add("slice", Opcode.SLICE, [x], (3, 2, 4), start_height=1, start_width=2, start_channel=3, step_height=2,
        step_width=4, step_channel=2)  # fmt: skip
    add("crop", Opcode.SLICE, [x], (4, 5, 3), start_height=1, start_channel=7)
    add("pad", Opcode.PAD, [x], (9, 8, 15), start_height=2, start_width=1, start_channel=3, output_zero=200)
    add("rows", Opcode.CONCATENATE, [x, x], (12, 7, 10), axis=0)
    add("columns", Opcode.CONCATENATE, [x, x, x], (6, 21, 10), axis=1)
    add("channels", Opcode.CONCATENATE, [x, x], (6, 7, 20), axis=2)
    compare(b, rng)


@pytest.mark.parametrize(("shift", "multiplier"), [(1, 1), (1, -1), (62, 2**30), (62, -(2**30)), (31, 2**31 - 1)])
@pytest.mark.parametrize("zero", [-100, 0, 128])
def test_extreme_shifts(shift: int, multiplier: int, zero: int) -> None:
    rng = np.random.default_rng(1)
    b = Builder()
    x = b.tensor("x", (3, 5, 16), 255, TensorRole.INPUT)
    y = b.tensor("y", (3, 5, 24), 0, TensorRole.OUTPUT)
    b.kernel(
        "y", Opcode.CONVOLUTION, [x], y, weight=weights(rng, (24, 1, 1, 16)), bias=np.full(24, 2**30, np.int32),
        requantise_terms=1, requantise_channels=1, multiplier=np.full(1, multiplier, np.int32),
        shift=np.full(1, shift, np.uint8), requantise_zero=zero, requantise_high=255,
    )  # fmt: skip
    compare(b, rng)


def test_accumulators_at_the_edge_of_32_bits() -> None:
    """|bias| + sum |w| 255 is 2^31 - 1 exactly; the zero point folded into the bias wraps and comes back."""
    rng = np.random.default_rng(2)
    b = Builder()
    cin = 4096
    x = b.tensor("x", (1, 2, cin), 255, TensorRole.INPUT)
    y = b.tensor("y", (1, 2, 17), 0, TensorRole.OUTPUT)
    w = np.full((17, 1, 1, cin), -128, np.int8)
    bias = np.full(17, 2**31 - 1 - 128 * 255 * cin, np.int32)
    b.kernel(
        "y", Opcode.CONVOLUTION, [x], y, weight=w, bias=bias, requantise_terms=1, requantise_channels=1,
        multiplier=np.full(1, 1, np.int32), shift=np.full(1, 24, np.uint8), requantise_high=255,
    )  # fmt: skip
    compare(b, rng)


def test_a_chain_reuses_memory_and_keeps_every_layer() -> None:
    """A graph with a long-lived tensor, so that places in memory are reused while it lives."""
    rng = np.random.default_rng(6)
    b = Builder()
    last = first = b.tensor("x", (12, 13, 16), 9, TensorRole.INPUT)
    for i in range(8):
        y = b.tensor(f"c{i}", (12, 13, 16), 9)
        fields = requantization(rng, 20000, 16)
        b.kernel(
            f"c{i}", Opcode.CONVOLUTION, [last], y, weight=weights(rng, (16, 3, 3, 16)), kernel_height=3,
            kernel_width=3, pad_top=1, pad_left=1, bias=np.zeros(16, np.int32), **fields,
        )  # fmt: skip
        last = y
    z = b.tensor("z", (12, 13, 16), 9, TensorRole.OUTPUT)
    b.kernel("z", Opcode.ELEMENTWISE_ADD, [first, last], z, **requantization(rng, 255, 1, 2))
    compare(b, rng, frames=3)


def test_float_streams_follow_the_formula() -> None:
    b = Builder()
    x = b.tensor("x", (2, 3, 5), 17, TensorRole.INPUT, scale=0.1)
    y = b.tensor("y", (2, 3, 5), 17, TensorRole.OUTPUT, scale=0.1)
    b.kernel("y", Opcode.RESHAPE, [x], y)
    net = native.Device(None, 1, None).load(b.build())
    values = np.random.default_rng(0).normal(0, 20, (4, 2, 3, 5)).astype(np.float32)
    values.reshape(-1)[:6] = [0.05, 0.15, -0.25, np.inf, -np.inf, 1e30]
    scale = np.float32(0.1)
    with np.errstate(over="ignore"):
        codes = np.clip(np.rint(values / scale) + 17, 0, 255).astype(np.uint8)
    assert (net.infer({"x": codes})["y"] == codes).all()
    want = scale * (codes.astype(np.float32) - np.float32(17))
    got: Callable[..., Array] = net.infer_float({"x": values})["y"]
    assert (got == want).all()


@pytest.mark.parametrize("size", [1, 2])
def test_float_outputs_have_the_scale_of_their_channel(size: int) -> None:
    rng = np.random.default_rng(size)
    top = 256**size - 1
    scales = np.exp(rng.uniform(-12, 6, 7)).astype(np.float32)
    zeros = np.array([0, 1, top, -1, 300 - 2**16, 2**24 - 2**16, -(2**24) + 2**16], np.int32)
    b = Builder()
    x = b.tensor("x", (3, 2, 7), 0, TensorRole.INPUT, size)
    b.kernel("y", Opcode.RESHAPE, [x], b.tensor("y", (3, 2, 7), 0, TensorRole.OUTPUT, size, 1.0, (scales, zeros)))
    b.kernel("far", Opcode.RESHAPE, [x], b.tensor("far", (3, 2, 7), -976_000, TensorRole.OUTPUT, size, 3e-4))
    net = native.Device(None, 1, None).load(b.build())
    codes = rng.integers(0, top + 1, (4, 3, 2, 7)).astype(f"u{size}")
    codes.reshape(-1)[:2] = [0, top]
    assert (net.infer({"x": codes})["y"] == codes).all()
    got = net.infer_float({"x": 0.5 * codes.astype(np.float32)})
    assert (got["y"] == scales * (codes.astype(np.int32) - zeros).astype(np.float32)).all()
    assert (got["far"] == np.float32(3e-4) * (codes.astype(np.int32) + 976_000).astype(np.float32)).all()
    infos = {info["name"]: info for info in net.outputs}
    assert infos["y"]["channel_scales"] == tuple(scales.tolist())
    assert infos["y"]["channel_zero_points"] == tuple(zeros.tolist())
    assert (infos["y"]["scale"], infos["y"]["zero_point"]) == (0.0, 0)
    assert (infos["far"]["channel_scales"], infos["far"]["zero_point"]) == ((), -976_000)


@pytest.mark.parametrize("size", [1, 2])
def test_resize_and_blocks(size: int) -> None:
    rng = np.random.default_rng(size)
    b = Builder()
    x = b.tensor("x", (4, 6, 12), 7, TensorRole.INPUT, size)

    def add(name: str, opcode: Opcode, shape: tuple[int, int, int], **fields: Any) -> None:
        y = b.tensor(name, shape, 4, TensorRole.OUTPUT, size)
        b.kernel(name, opcode, [x], y, **fields)

    for axis in (0, 1):
        add(f"space{axis}", Opcode.DEPTH_TO_SPACE, (8, 12, 3), block=2, axis=axis)
        add(f"depth{axis}", Opcode.SPACE_TO_DEPTH, (2, 3, 48), block=2, axis=axis)
    rows, columns = np.sort(rng.integers(0, 4, 9)), np.sort(rng.integers(0, 6, 5))
    add(
        "near",
        Opcode.RESIZE_NEAREST,
        (9, 5, 12),
        row_table=rows.astype(np.uint32),
        column_table=columns.astype(np.uint32),
    )

    def table(out: int, n: int) -> Array:
        first = np.sort(rng.integers(0, n, out))
        return np.stack([first, np.minimum(first + 1, n - 1), rng.integers(0, 2049, out)], 1).astype(np.uint32)

    reach = (255 if size == 1 else 65535) << 22
    for channels in (1, 12):
        add(f"far{channels}", Opcode.RESIZE_BILINEAR, (7, 3, 12), row_table=table(7, 4), column_table=table(3, 6),
            **requantization(rng, reach, channels))  # fmt: skip
    compare(b, rng)
