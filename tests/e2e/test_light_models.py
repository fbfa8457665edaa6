# SPDX-License-Identifier: Apache-2.0
"""The classical networks of the onnx package, on both targets: same bytes, times that agree, seconds to compile.

Their files have the architecture only (weights are ConstantOfShape); deterministic random weights take their place, and
then deterministic random integers. Local response normalization, which no target has, becomes the identity.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
native = pytest.importorskip("headrace.runtime._native")

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CONTEXTS = {
    ("resnet50", "hailo8"): 1,
    ("resnet50", "hailo8l"): 3,
    ("squeezenet", "hailo8"): 1,
    ("squeezenet", "hailo8l"): 1,
    ("inception_v1", "hailo8"): 1,
    ("inception_v1", "hailo8l"): 2,
}


def filled(name: str, path: Path) -> Path:
    """The model with weights, at ``path``."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(0)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    kept: list[Any] = []
    norms: dict[str, str] = {}
    for node in model.graph.node:
        for i, source in enumerate(node.input):
            node.input[i] = norms.get(source, source)
        if node.op_type == "LRN":
            norms[node.output[0]] = node.input[0]
        elif node.op_type == "ConstantOfShape":
            shape = [int(v) for v in shapes[node.input[0]]]
            fan_in = max(1, int(np.prod(shape[1:])))
            value = rng.normal(0, np.sqrt(2 / fan_in), shape) if len(shape) > 1 else rng.uniform(0.5, 1, shape) * 0.1
            model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), node.output[0]))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module", params=["resnet50", "squeezenet", "inception_v1"])
def quantized(request: Any, tmp_path_factory: Any) -> tuple[str, Any, dict[str, Any], dict[str, Any]]:
    """(name, quantized network, one frame of codes, every layer's codes by the quantized emulator)."""
    from compiler_support import freeze, random_codes
    from headrace.emulator import Executor
    from headrace.passes.decompose_softmax import DecomposeSoftmax
    from headrace.passes.fuse_elementwise_add import FuseElementwiseAdd
    from headrace.passes.rewriting import run_passes
    from headrace.runner import ClientRunner

    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(filled(request.param, tmp_path_factory.mktemp("light") / "m.onnx"), request.param)
    network = runner.archive.native
    assert network is not None
    run_passes(network, (DecomposeSoftmax(), FuseElementwiseAdd()))
    made = freeze(network)
    codes = random_codes(made, 1)
    names = [layer.name for layer in made if layer.kind not in ("input_layer", "output_layer")]
    return request.param, made, codes, Executor(made, "quantized").run(codes, names, batch_size=1, dequantize=False)


@pytest.mark.parametrize("arch", ["hailo8", "hailo8l"])
def test_light_models(quantized: Any, arch: str) -> None:
    from headrace.compiler import compile_network
    from headrace.targets import load_target

    name, network, codes, want = quantized
    started = time.process_time()
    result = compile_network(network, load_target(arch))
    took = time.process_time() - started
    assert compile_network(network, load_target(arch)).hef == result.hef
    loaded = native.Device(None, threads=2).load(result.hef)
    got = loaded.infer_all(codes)
    different = {n: int((np.asarray(got[n]).reshape(want[n].shape) != want[n]).sum()) for n in want}
    assert not any(different.values())
    assert any(len(np.unique(v)) > 16 for v in want.values())
    played = loaded.timing()
    for layer, stage in zip(result.schedule.layers, played["stages"], strict=True):
        assert layer.cycles == pytest.approx(stage["busy_cycles"], rel=0.1)
    figures = result.report.figures
    whole = figures.whole
    print(
        f"{name} on {arch}: {figures.contexts} contexts, compiled in {took:.1f} s, closed form {whole.fps} fps, "
        f"simulated {played['fps']:.3f} fps, {whole.gap_percent} % above the lower bound"
    )
    assert took < 10
    assert whole.fps == pytest.approx(played["fps"], rel=0.05)
    assert whole.latency_ms == pytest.approx(played["latency_ms"], rel=0.05)
    assert figures.contexts == CONTEXTS[name, arch]
