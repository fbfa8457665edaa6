# SPDX-License-Identifier: Apache-2.0
"""Networks rebuilt from public reports: every channel of every output, against onnxruntime, by its own spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.errors import AccuracyError
from headrace.hn import Array
from headrace.runner import ClientRunner, InferenceContext


def pictures(count: int, height: int, width: int, seed: int) -> Array:
    """Smooth pictures with some noise, float32 ``[N, 3, H, W]`` in 0 … 1."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 3, height // 8, width // 8))
    smooth = np.kron(coarse, np.ones((1, 1, 8, 8)))
    return (0.85 * smooth + 0.15 * rng.random((count, 3, height, width))).astype(np.float32)


def source_outputs(path: Path, frames: Array) -> list[Array]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    results = [session.run(None, {name: frames[i : i + 1]}) for i in range(len(frames))]
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def optimized(cases: Path, case: str, calibration: Array) -> ClientRunner:
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(str(cases / "public" / case / "model.onnx"), "net")
    runner.optimize(calibration)
    return runner


def test_boxes_and_scores_in_one_output(cases: Path) -> None:
    case = "08-boxes-and-scores-in-one"
    runner = optimized(cases, case, pictures(24, 160, 160, 0))
    frames = pictures(8, 160, 160, 1)
    (want,) = source_outputs(cases / "public" / case / "model.onnx", frames)  # [8, 10, 400]
    with runner.infer_context(InferenceContext.SDK_QUANTIZED) as context:
        got = np.asarray(runner.infer(context, frames)).reshape(8, 400, 10).transpose(0, 2, 1)
    error = np.sqrt(np.square(got - want).mean(axis=(0, 2))) / want.std(axis=(0, 2))
    assert error.max() < 0.08, error


def test_a_map_far_from_zero(cases: Path) -> None:
    case = "41-kelvin-map"
    runner = optimized(cases, case, pictures(24, 64, 64, 0))
    frames = pictures(8, 64, 64, 1)
    (want,) = source_outputs(cases / "public" / case / "model.onnx", frames)
    with runner.infer_context(InferenceContext.SDK_QUANTIZED) as context:
        got = np.asarray(runner.infer(context, frames)).reshape(want.shape)
    assert np.sqrt(np.square(got - want).mean()) < 0.05 * want.std()


def test_a_wide_softmax_is_right_or_refused(cases: Path) -> None:
    case = "35-softmax-row-8400"
    try:
        runner = optimized(cases, case, pictures(4, 480, 1120, 0))
    except AccuracyError as error:
        assert "E-OPTIMIZE-SNR" in str(error)
        return
    frames = pictures(2, 480, 1120, 1)
    heat, where = source_outputs(cases / "public" / case / "model.onnx", frames)
    with runner.infer_context(InferenceContext.SDK_QUANTIZED) as context:
        got = runner.infer(context, frames)
    for wanted, found in zip((heat, where), got, strict=True):
        assert np.sqrt(np.square(np.asarray(found).reshape(wanted.shape) - wanted).mean()) < 0.3 * wanted.std()


def npz(path: Path) -> dict[str, Array]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    ("case", "worst"),
    [
        pytest.param("03-crnn-bilstm", 0.04, marks=pytest.mark.slow),
        ("11-siamese-tracker", 0.04),
        ("16-conv3d-video", 0.04),
        ("16b-r2plus1d-1x3x3", 0.04),
    ],
)
def test_sequences_templates_and_clips(cases: Path, case: str, worst: float) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = cases / "public" / case
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(str(folder / "model.onnx"), "net")
    test = npz(folder / "test.npz")
    frames = test if len(test) > 1 else next(iter(test.values()))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    count = len(next(iter(test.values())))
    rows = [session.run(None, {k: v[i : i + 1] for k, v in test.items()})[0] for i in range(count)]
    want = np.concatenate(rows).astype(np.float64)
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        native = np.asarray(runner.infer(context, frames)).reshape(want.shape)
    assert np.abs(native - want).max() < 1e-4 * np.ptp(want)
    runner.optimize(npz(folder / "calib.npz"))
    with runner.infer_context(InferenceContext.SDK_QUANTIZED) as context:
        quantized = np.asarray(runner.infer(context, frames)).reshape(want.shape)
    assert np.sqrt(np.square(quantized - want).mean()) < worst * want.std()


#: Networks that take minutes to optimize on a busy machine.
_LONG = {"03-crnn-bilstm", "12-minilm", "13-dinov2-small"}
#: Sizes that a file leaves open.
_SHAPES = {"12-minilm": {"input_ids": [1, 16], "attention_mask": [1, 16]}}
#: Root mean square error against onnxruntime, in spreads of the output; 0.05 where nothing else stands.
_ERRORS = {"10-fixed-batch-8": 0.08, "13-dinov2-small": 0.1}


def _frames(value: Array | list[Array]) -> list[Array]:
    """An output of several frames, which may be lists of different lengths, frame by frame."""
    return [np.asarray(part, np.float64).reshape(-1) for part in value]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if case in _LONG else [])
        for case in (
            "02-gridsample-constant-grid",
            "03-crnn-bilstm",
            "05-qdq-from-onnxruntime",
            "07-argmax-head",
            "10-fixed-batch-8",
            "11-siamese-tracker",
            "12-minilm",
            "13-dinov2-small",
            "16-conv3d-video",
            "16b-r2plus1d-1x3x3",
            "25-einsum-mask-head",
            "27-uint8-nhwc-preprocess-inside",
            "28-nms-inside",
            "29-identity-and-constant-outputs",
            "42-attention-mask-input",
        )
    ],
)
def test_the_whole_model_gives_the_outputs_of_its_file(cases: Path, case: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = cases / "public" / case
    inputs, calibration = (dict(np.load(folder / f"{name}.npz")) for name in ("test", "calib"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    count = len(next(iter(inputs.values())))
    fixed = session.get_inputs()[0].shape[0]
    at_once = fixed if isinstance(fixed, int) else 1
    runs = [session.run(None, {k: v[i : i + at_once] for k, v in inputs.items()}) for i in range(0, count, at_once)]
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(str(folder / "model.onnx"), "net", net_input_shapes=_SHAPES.get(case))
    runner.optimize(calibration)
    runner.compile()
    data = inputs if len(inputs) > 1 else next(iter(inputs.values()))

    def outputs(context: InferenceContext) -> dict[str, list[Array]]:
        found = runner.infer(context, data, whole=True)
        several = found if len(names) > 1 else [found]
        return {name: _frames(value) for name, value in zip(names, several, strict=True)}

    native, quantized, device = (
        outputs(context)
        for context in (InferenceContext.SDK_NATIVE, InferenceContext.SDK_QUANTIZED, InferenceContext.SDK_HAILO_HW)
    )
    for i, name in enumerate(names):
        results = [np.asarray(run[i], np.float64) for run in runs]
        whole = at_once == 1 or results[0].ndim == 0
        want = [frame.reshape(-1) for result in results for frame in ([result] if whole else result)]
        every = np.concatenate(want)
        spread, wide = every.std() or 1.0, np.ptp(every) or 1.0
        limit = 5e-3 if case.startswith("05") else 1e-4  # of a quantized file: its own noise
        mine, codes, real = native[name], quantized[name], device[name]
        for frame, expected in enumerate(want):
            assert mine[frame].shape == expected.shape, name
            assert np.abs(mine[frame] - expected).max(initial=0) <= limit * wide, name
            np.testing.assert_array_equal(real[frame], codes[frame])
        if case == "07-argmax-head":
            assert np.mean(np.concatenate(codes) == every) > 0.99
        elif case != "28-nms-inside":  # which boxes are chosen hangs on single codes
            error = float(np.sqrt(np.square(np.concatenate(codes)[: every.size] - every).mean()))
            assert error <= _ERRORS.get(case, 0.05) * spread, (name, error / spread)
