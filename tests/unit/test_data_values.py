# SPDX-License-Identifier: Apache-2.0
"""One rule for element types, and telling values that a network was not calibrated for from ordinary ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo_data
from headrace.data.dtypes import as_codes, as_values, dtype_problem
from headrace.data.inputs import InputSpec, checked
from headrace.data.plausible import Expected, range_problem
from headrace.errors import DataError
from headrace.numerics.quantization import TensorQuantization, from_range

ml_dtypes = pytest.importorskip("ml_dtypes")
RNG = np.random.default_rng(3)
SMALL = RNG.integers(0, 100, (2, 4, 5, 3))
SPEC = InputSpec("x", (4, 5, 3))
NUMBERS = [
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float32,
    np.float64, np.longdouble, ">i2", ">i8", ">u2", ">f2", ">f4", ">f8", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
]  # fmt: skip


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@pytest.mark.parametrize("arrange", ["C", "F", "strided", "read-only"])
def test_numbers_of_any_type_are_values(kind: Any, arrange: str) -> None:
    with np.errstate(all="ignore"):
        array = SMALL.astype(kind)
    want = array.astype(np.float64).astype(np.float32)
    if arrange == "F":
        array = np.asfortranarray(array)
    elif arrange == "strided":
        array = np.repeat(array, 2, axis=1)[:, ::2]
    array.flags.writeable = arrange != "read-only"
    values = as_values(checked(SPEC, array))
    assert values.dtype == np.float32 and values.dtype.isnative and values.flags.c_contiguous
    np.testing.assert_array_equal(values, want)


@pytest.mark.parametrize(
    "array",
    [
        SMALL.astype(complex), SMALL.astype(str), SMALL.astype(bytes), SMALL.astype(object),
        SMALL.astype("datetime64[s]"), SMALL.astype("timedelta64[s]"), np.zeros((2, 4, 5, 3), "V2"),
        np.zeros((2, 4, 5, 3), [("a", "f4")]),
    ],
    ids=lambda a: str(a.dtype),
)  # fmt: skip
def test_everything_else_is_refused(array: Any) -> None:
    with pytest.raises(DataError) as caught:
        checked(SPEC, array)
    assert caught.value.code == "E-DATA-DTYPE"
    assert dtype_problem(array.dtype, "x") is not None


def test_bfloat16_that_a_file_forgot_gets_the_way_out() -> None:
    problem = dtype_problem(np.dtype("V2"), "x")
    assert problem is not None and "astype('float32')" in problem.levers[0]


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, np.float64(1e39), np.longdouble("1e400"), np.float16(np.inf)], ids=str
)
def test_values_that_are_no_float32(value: Any) -> None:
    array = np.zeros((300, 4, 5, 3), np.asarray(value).dtype)
    array[257, 1, 2, 0] = value
    with pytest.raises(DataError, match="frame 257"):
        checked(SPEC, array)


def test_codes_are_exact_or_refused() -> None:
    codes = as_codes(SMALL.astype(">f8"), np.dtype(np.uint8))
    assert codes is not None and codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, SMALL)
    for bad in (SMALL + 0.5, SMALL - 1000, SMALL + 200, np.full(3, np.nan), np.full(3, np.inf)):
        assert as_codes(bad, np.dtype(np.uint8)) is None


# --------------------------------------------------------------------------------------------- plausible values


def scenes(count: int = 12, size: int = 48) -> Any:
    """Smooth pictures 0 … 255 with noise, of unlike brightness, as whole numbers."""
    y, x = np.mgrid[:size, :size] / size
    frames = []
    for _ in range(count):
        phase, level, depth = RNG.random(3) * 6, RNG.uniform(60, 190), RNG.uniform(25, 70)
        waves = [np.sin(6 * x + phase[0]), np.sin(9 * y + phase[1]), np.sin(7 * (x + y) + phase[2])]
        frames.append(level + depth * np.stack(waves, -1) + RNG.normal(0, 4, (size, size, 3)))
    return np.clip(np.rint(frames), 0, 255)


RAW = scenes()
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
UNIT = RAW / 255
SIGNED = RAW / 127.5 - 1
STANDARD = (RAW - MEAN) / STD
FORMS = {"raw": RAW, "unit": UNIT, "signed": SIGNED, "standard": STANDARD}


def expected(form: str) -> Expected:
    data = FORMS[form]
    low, high = float(data.min()), float(data.max())
    return Expected(TensorQuantization(1.0, 0) if form == "raw" else from_range(low, high), low, high)


#: Given as the one, calibrated as the other: not to be told from pictures of less or a little more contrast.
ALIKE = {("unit", "signed"), ("unit", "standard"), ("signed", "standard"), ("standard", "signed")}


@pytest.mark.parametrize("given", FORMS)
@pytest.mark.parametrize("calibrated", FORMS)
def test_scaled_otherwise_is_found_and_the_same_is_not(given: str, calibrated: str) -> None:
    problem = range_problem("x", FORMS[given].astype(np.float32), expected(calibrated))
    if given == calibrated or (given, calibrated) in ALIKE:
        assert problem is None
        return
    assert problem is not None
    assert problem.code == ("E-DATA-NORMALIZED" if calibrated == "raw" else "E-DATA-RANGE")
    assert f"{FORMS[given].min():.4g}" in problem.got and f"{FORMS[calibrated].max():.4g}" in problem.need


def with_outliers(data: Any) -> Any:
    """One frame in twelve twice as bright as anything calibrated."""
    result = data.copy()
    result[5] *= 2
    return result


ORDINARY = {
    "fresh": scenes(),
    "integers": scenes().astype(np.int64),
    "a little beyond": RAW * 1.15,
    "over-exposed": np.clip(RAW + 60, 0, 255),
    "dark": np.rint(RAW * 0.04),
    "dark with fractions": RAW * 0.08,
    "black": np.zeros_like(RAW),
    "white": np.full_like(RAW, 255),
    "black with a few specks": np.where(RNG.random(RAW.shape) < 0.001, 3.0, 0.0),
    "resized with fractions": (RAW[:, ::2] + RAW[:, 1::2]) / 2,
    "one frame of outliers": with_outliers(RAW),
    "a single frame": RAW[:1],
    "an edge image": np.where(RAW > 128, 255.0, 0.0),
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("form", ["raw", "unit", "standard"])
def test_ordinary_data_raise_no_alarm(name: str, form: str) -> None:
    data = ORDINARY[name].astype(np.float64)
    scaled = {"raw": data, "unit": data / 255, "standard": (data - MEAN) / STD}[form]
    if form == "raw" and name == "integers":
        assert range_problem("x", ORDINARY[name], expected("raw")) is None
    assert range_problem("x", scaled.astype(np.float32), expected(form)) is None


def test_scaled_down_where_zero_is_in_the_middle() -> None:
    """Raw images less their mean: nothing is clipped, five codes are left."""
    centred = RAW - MEAN
    low, high = float(centred.min()), float(centred.max())
    fits = Expected(from_range(low, high), low, high)
    for given in (UNIT, SIGNED, STANDARD):
        problem = range_problem("x", given, fits)
        assert problem is not None and problem.code == "E-DATA-NORMALIZED"
    assert range_problem("x", centred, fits) is None


def test_vectors_are_judged_together() -> None:
    data = RNG.normal(0, 1, (200, 5))
    low, high = float(data.min()), float(data.max())
    fits = Expected(from_range(low, high), low, high)
    assert range_problem("x", RNG.normal(0, 1.2, (40, 5)), fits) is None
    assert range_problem("x", np.zeros((40, 5)), fits) is None
    assert range_problem("x", data * 30, fits) is not None
    assert range_problem("x", np.full((4, 5), 99.0), fits) is not None
    assert range_problem("x", np.zeros((1, 1)), Expected(TensorQuantization(1.0, 0), 0.0, 0.0)) is None


def test_sixteen_bits_are_judged_as_eight() -> None:
    """16-bit codes hide a wrong scale: 256 of them are left, and still it is 1/255 of the range."""
    fine = Expected(from_range(0.0, 255.0, 16), 0.0, 255.0)
    assert range_problem("x", UNIT, fine) is not None
    assert range_problem("x", RAW, fine) is None


def test_real_pictures_raise_no_alarm_one_by_one(zoo: Path) -> None:
    """Each of 2 × 300 test pictures by itself, against 64 others; and nearly each is found in another scaling."""
    scalings = {"raw": lambda a: a, "unit": lambda a: a / 255, "standard": lambda a: (a / 255 - 0.45) / 0.225}
    for calibration, test in (
        (zoo_data.cifar_calibration(zoo), zoo_data.cifar_test(zoo)[0]),
        (zoo_data.mnist_calibration(zoo), zoo_data.mnist_test(zoo)[0]),
    ):
        for name, scaled in scalings.items():
            data = scaled(calibration[:64].astype(np.float64))
            low, high = float(data.min()), float(data.max())
            fits = Expected(TensorQuantization(1.0, 0) if name == "raw" else from_range(low, high), low, high)
            for given, other in scalings.items():
                frames = other(test[:300].astype(np.float64))
                alarms = sum(range_problem("x", frames[i : i + 1], fits) is not None for i in range(300))
                if given == name or (given, name) in ALIKE:
                    assert alarms == 0, (name, given)
                else:
                    assert alarms >= 250, (name, given)  # MNIST is nearly 0 and 1: few values between them
