# SPDX-License-Identifier: Apache-2.0
"""The executor: modes, batches, intermediate layers, inputs, hostile networks."""

from __future__ import annotations

import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from headrace.emulator import Executor, exact, integer_ops
from headrace.errors import DataError, InputFileError, InternalError, UsageError
from headrace.hn import Network, output_quantization
from headrace.numerics.quantization import dequantize, quantize_input
from headrace.optimize import OptimizeOptions, optimize
from interpreters import integer_values
from random_graphs import GraphBuilder, random_frames, random_network


def quantized(seed: int = 3, layers: int = 7) -> tuple[Network, Network]:
    network = random_network(seed, layers)
    return network, optimize(network, random_frames(network, 8, seed), OptimizeOptions(min_snr=0, threads=1)).network


def all_names(network: Network) -> list[str]:
    return list(network.layers)


@pytest.mark.parametrize("batch", [1, 2, 16, 33])
def test_quantized_layers_equal_the_reference_for_every_batch_size(batch: int) -> None:
    network, q = quantized()
    frames = random_frames(network, 33, 9)
    want = integer_values(q, {k: quantize_input(v, output_quantization(q[k])) for k, v in frames.items()})
    got = Executor(q, "quantized").run(frames, all_names(q), batch_size=batch)
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_back_ends_agree(threads: int) -> None:
    network, q = quantized(11)
    frames = random_frames(network, 6, 1)
    want = Executor(q, "quantized", backend="matmul").run(frames, all_names(q))
    before = torch.get_num_threads()
    got = Executor(q, "quantized", threads=threads).run(frames, all_names(q))
    assert torch.get_num_threads() == before
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_streaming_codes_and_names_give_the_same_result() -> None:
    network, q = quantized()
    frames = random_frames(network, 7, 2)
    executor = Executor(q, "quantized")
    want = executor.run(frames)
    (name, data), out = next(iter(frames.items())), q.output_layers[0].name
    batches = ({name: data[i : i + 3]} for i in range(0, 7, 3))
    np.testing.assert_array_equal(np.concatenate([r[out] for r in executor.stream(batches)]), want[out])
    codes = {name.split("/")[-1]: quantize_input(data, output_quantization(q[name]))}
    np.testing.assert_array_equal(executor.run(codes)[out], want[out])
    source = q[out].original_names[0]
    np.testing.assert_array_equal(executor.run(frames, [source])[source], want[out])
    real = executor.run(frames, dequantize=True)[out]
    np.testing.assert_array_equal(real, dequantize(want[out], output_quantization(q[out])))


def test_no_frame_gives_empty_outputs() -> None:
    network, q = quantized()
    name = q.input_layers[0].name
    empty = np.zeros((0, *q[name].output_shape[1:]), np.float32)
    for mode, net in (("native", network), ("quantized", q)):
        result = Executor(net, mode).run({name: empty})
        assert all(value.shape[0] == 0 for value in result.values())


def test_tensors_are_freed_after_their_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder(1)
    x = b.input((8, 8, 3))
    for _ in range(12):
        x = b.convolution(x, 3, 3, same=True, activation="relu")
    b.output(x)
    executor = Executor(b.net, "native")
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []
    original = executor._compute

    def compute(layer: Any, inputs: Any, observer: Any) -> Any:
        result = original(layer, inputs, observer)
        made.append(weakref.ref(result[0]))
        alive.append(sum(1 for r in made if r() is not None))
        return result

    monkeypatch.setattr(executor, "_compute", compute)
    executor.run(random_frames(b.net, 4, 0))
    assert len(alive) == 13
    assert max(alive) <= 3


def test_the_self_check_notices_a_convolution_that_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder(1)
    b.output(b.convolution(b.input((8, 8, 3)), 4, 3, same=True, activation="relu"))
    q = optimize(b.net, random_frames(b.net, 8, 0), OptimizeOptions(min_snr=0)).network
    frames = random_frames(b.net, 2, 1)
    real = integer_ops.F.conv2d
    monkeypatch.setattr(integer_ops.F, "conv2d", lambda *a, **k: real(*a, **k) * (1 + 2**-12))
    with pytest.raises(InternalError, match="E-EMULATOR-INEXACT"):
        Executor(q, "quantized", backend="onednn").run(frames)
    Executor(q, "quantized", backend="matmul").run(frames)


def test_exact_arithmetic_restores_the_settings_of_torch() -> None:
    def settings() -> tuple[Any, ...]:
        read = getattr(torch._C, "_get_fp32_precision_getter", lambda *a: None)
        return torch._C._get_mkldnn_enabled(), torch._C._get_mkldnn_deterministic(), read("mkldnn", "all")

    before = settings()
    with exact.exact_arithmetic(), exact.exact_arithmetic():
        assert settings() != before
    assert settings() == before
    with pytest.raises(ZeroDivisionError), exact.exact_arithmetic():
        raise ZeroDivisionError
    assert settings() == before


def test_wrong_use_is_explained_with_every_problem_at_once() -> None:
    network, q = quantized()
    name = q.input_layers[0].name
    shape = q[name].output_shape[1:]
    with pytest.raises(UsageError, match="did you mean 'quantized'"):
        Executor(q, "quantised")
    with pytest.raises(UsageError, match="back end"):
        Executor(q, "quantized", backend="tpu")
    with pytest.raises(UsageError, match="batch size"):
        Executor(q, "quantized").run({name: np.zeros((1, *shape), np.float32)}, batch_size=0)
    with pytest.raises(UsageError, match="did you mean"):
        Executor(q, "quantized").run({name: np.zeros((1, *shape), np.float32)}, [q.output_layers[0].name + "x"])
    with pytest.raises(DataError) as caught:
        Executor(q, "quantized").run({"inptu_layer1": np.zeros((1, *shape), np.float32)})
    assert len(caught.value.diagnostics) == 2
    for bad in (np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, *shape), complex), np.zeros((1, *shape), object)):
        with pytest.raises(DataError):
            Executor(q, "quantized").run({name: bad})
    with pytest.raises(InputFileError):
        Executor(network, "quantized")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_parameters_give_coded_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network, q = quantized(seed)
    key = sorted(q.params)[int(rng.integers(0, len(q.params)))]
    value = q.params[key]
    damaged = [value[..., :-1], value.astype(np.float32), value[None], np.zeros(0, value.dtype), None]
    for replacement in damaged:
        broken = q.clone()
        if replacement is None:
            del broken.params[key]
        else:
            broken.params[key] = replacement
        try:
            Executor(broken, "quantized").run(random_frames(network, 1, 0), all_names(broken))
        except (InputFileError, InternalError) as error:
            assert error.diagnostics[0].code.startswith("E-")


def test_emulation_loads_no_native_module_of_ours() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from random_graphs import random_frames, random_network\n"
        "from headrace.emulator import Executor\n"
        "from headrace.optimize import OptimizeOptions, optimize\n"
        "n = random_network(1, 3); f = random_frames(n, 4, 1)\n"
        "Executor(optimize(n, f, OptimizeOptions(min_snr=0)).network, 'quantized').run(f)\n"
        "print([m for m in sys.modules if m.startswith('headrace') and ('runtime' in m or '_native' in m)])\n"
    )
    root = str(__import__("pathlib").Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
