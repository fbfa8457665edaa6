# SPDX-License-Identifier: Apache-2.0
"""Every command and every value of the vocabulary: what acts is shown to act, and what does not to change nothing.

The table of the vocabulary (`headrace.script.vocabulary.fate_table`) decides what has to be shown: a row that acts
needs a proof below, every other row is tried as it is.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection import heads
from headrace.errors import CapacityError, NotBuiltYetError
from headrace.optimize import OptimizeOptions
from headrace.runner import ClientRunner, InferenceContext
from headrace.script import parse_script, plan
from headrace.script.fates import SEVERITY, Fate
from headrace.script.plan import ScriptPlan
from headrace.script.vocabulary import FAMILIES, FORMS, fate_table
from headrace.targets import load_target

pytest.importorskip("headrace.runtime._native")

FRAMES = np.random.default_rng(5).normal(0.2, 1.0, (24, 3, 12, 12)).astype(np.float32)


def model() -> Any:
    """Two chained convolutions, two sums that join convolutions, an output map, and a softmax behind a pool."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    r = np.random.default_rng(3)
    weights: list[Any] = []

    def weight(name: str, *shape: int) -> str:
        value = r.normal(0, 1.2 / np.sqrt(np.prod(shape[1:]) or 1), shape) * np.geomspace(0.05, 1, shape[0]).reshape(
            -1, *([1] * (len(shape) - 1))
        )
        weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(name: str, source: str, inputs: int, outputs: int) -> Any:
        names = [source, weight(f"{name}_w", outputs, inputs, 3, 3), weight(f"{name}_b", outputs)]
        return helper.make_node("Conv", names, [name], f"node_{name}", pads=[1] * 4)

    nodes = [
        conv("c1", "x", 3, 8),
        helper.make_node("Relu", ["c1"], ["r1"]),
        conv("c2", "r1", 8, 8),
        helper.make_node("Relu", ["c2"], ["r2"]),
        conv("c3", "r2", 8, 8),
        helper.make_node("Add", ["c3", "r2"], ["a1"], "node_a1"),
        helper.make_node("Relu", ["a1"], ["r3"]),
        conv("c4", "r3", 8, 8),
        helper.make_node("Add", ["c4", "r3"], ["a2"], "node_a2"),
        conv("map", "a2", 8, 4),
        helper.make_node("GlobalAveragePool", ["a2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", weight("fc_w", 5, 8), weight("fc_b", 5)], ["fc"], "node_fc", transB=1),
        helper.make_node("Softmax", ["fc"], ["prob"], "node_softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("map", "prob")],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    return onnx.shape_inference.infer_shapes(made).SerializeToString()


@functools.cache
def network() -> ClientRunner:
    """The parsed network; never changed."""
    runner = ClientRunner()
    runner.translate_onnx_model(model(), "tiny")
    return runner


def started(text: str = "", hw_arch: str | None = None) -> ClientRunner:
    """A runner with the parsed network and a script."""
    runner = ClientRunner(hw_arch=hw_arch)
    runner.translate_onnx_model(model(), "tiny")
    if text:
        runner.load_model_script(text + "\n")
    return runner


@functools.cache
def optimized(text: str = "") -> ClientRunner:
    """A quantized network; never changed by the tests that share it."""
    runner = started(text)
    runner.optimize(FRAMES, min_snr=0)
    return runner


def report(text: str = "") -> dict[str, Any]:
    return optimized(text).archive.reports["optimize"]


def algorithms(text: str, name: str) -> list[dict[str, Any]]:
    return [d for d in report(text)["algorithms"] if d["name"] == name]


def output_types(text: str) -> list[str]:
    values = optimized(text).infer(InferenceContext.SDK_QUANTIZED, FRAMES[:1], quantized_io=True)
    return [str(value.dtype) for value in values]


def scale(text: str, layer: str) -> float:
    return report(text)["layers"][f"tiny/{layer}"]["scale"]


def options(text: str) -> OptimizeOptions:
    return plan(parse_script(text), network().get_native_hn_model()).optimize_options(OptimizeOptions())


@functools.cache
def compiled(text: str, hw_arch: str | None = None) -> dict[str, Any]:
    runner = started(text, hw_arch)
    runner.optimize(FRAMES, min_snr=0)
    runner.compile()
    return runner.archive.reports["compile"]


def small_target(folder: Path) -> str:
    own = {**load_target("hailo8l").as_dict(), "name": "little", "clusters": 1, "controllers_per_cluster": 6}
    own["memory_units_per_cluster"] = 16
    file = folder / "little.toml"
    file.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in own.items()))
    return str(file)


# --- what acts: one proof per row ----------------------------------------------------------------------------------

Proof = Callable[[Path, pytest.MonkeyPatch], None]
PROOFS: dict[tuple[str, str], Proof] = {}
_PRE, _POST, _CONFIG = "pre_quantization_optimization", "post_quantization_optimization", "model_optimization_config"


def shows(row: str, *whats: str) -> Callable[[Proof], Proof]:
    def keep(proof: Proof) -> Proof:
        PROOFS.update({(row, what): proof for what in whats})
        return proof

    return keep


@shows("normalization", "")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    runner = started("norm1 = normalization([1, 2, 3], [4, 5, 6])")
    runner.optimize_full_precision()
    raw = FRAMES[:2] * 5 + 2
    given = (raw - np.array([1, 2, 3]).reshape(1, 3, 1, 1)) / np.array([4, 5, 6]).reshape(1, 3, 1, 1)
    got = runner.infer(InferenceContext.SDK_FP_OPTIMIZED, raw)
    wanted = started().infer(InferenceContext.SDK_NATIVE, given.astype(np.float32))
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(got, wanted, strict=True))


@shows(f"{_PRE}(equalization)", "", "policy=disabled")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    assert algorithms("", "equalization")
    assert algorithms(f"{_PRE}(equalization)", "equalization")
    off = f"{_PRE}(equalization, policy=disabled)"
    for name in ("equalization", "channel-scales", "channel-copies"):
        assert not algorithms(off, name)
    one = f"{_PRE}(equalization, policy=disabled, layers=[conv2])"
    chains = [d["chain"] for d in algorithms("", "equalization") if "chain" in d]
    left = [d["chain"] for d in algorithms(one, "equalization") if "chain" in d]
    assert any("tiny/conv2" in chain for chain in chains)
    assert not any("tiny/conv2" in chain for chain in left)
    only = f"{off}\n{_PRE}(equalization, policy=enabled, layers=[conv1, conv2])"
    assert [d["chain"] for d in algorithms(only, "equalization") if "chain" in d] == [["tiny/conv1", "tiny/conv2"]]


@shows(f"{_PRE}(ew_add_fusing)", "policy=disabled")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def sums(text: str) -> list[str]:
        quantized = optimized(text).archive.quantized
        assert quantized is not None
        return [layer.name for layer in quantized.of_kind("ew_add")]

    assert sums("") == []
    assert sums(f"{_PRE}(ew_add_fusing, policy=disabled)") == ["tiny/ew_add1", "tiny/ew_add2"]
    assert sums(f"{_PRE}(ew_add_fusing, policy=disabled, layers=[ew_add2])") == ["tiny/ew_add2"]
    both = f"{_PRE}(ew_add_fusing, policy=disabled)\n{_PRE}(ew_add_fusing, policy=enabled, layers={{*1}})"
    assert sums(both) == ["tiny/ew_add2"]


@shows(f"{_PRE}(activation_clipping)", "", "policy=disabled", "mode=disabled")
@shows("quantization_param", "activation_clipping_mode", "activation_clipping_values", "force_range_out")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    clipped = f"{_PRE}(activation_clipping, layers={{conv1}}, mode=manual, clipping_values=[0, 1])"
    assert scale(clipped, "conv1") == pytest.approx(1 / 255)
    percent = f"{_PRE}(activation_clipping, layers=[conv1], clipping_values=[0, 90])"
    assert scale(percent, "conv1") < scale("", "conv1")
    whole = scale(f"{_PRE}(equalization, policy=disabled)", "conv1")
    for line in (f"{_PRE}(activation_clipping, policy=disabled)", f"{_PRE}(activation_clipping, mode=disabled)"):
        text = f"{clipped}\n{line}\n{_PRE}(equalization, policy=disabled)"
        assert scale(text, "conv1") == whole
    keys = "activation_clipping_mode=manual, activation_clipping_values=[0, 1]"
    for line in (f"quantization_param(conv1, {keys})", "quantization_param(conv1, force_range_out=[0, 1])"):
        assert scale(line, "conv1") == pytest.approx(1 / 255)
    # A sum that joined a convolution, and a softmax that became four layers, are found under the names they had.
    assert scale("quantization_param(ew_add2, force_range_out=[-3, 5])", "conv4") == pytest.approx(8 / 255)


@shows("quantization_param", *(f"precision_mode={mode}" for mode in ("a8_w8", "a8_w8_a8", "a8_w8_a16")))
@shows("quantization_param", *(f"precision_mode={mode}" for mode in ("a16_w16", "a16_w8", "a16_w8_a16")))
@shows(f"{_CONFIG}(globals)", "output_16bit")
@shows(f"{_POST}(mix_precision_search)", "policy=disabled")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    wide, narrow = ["uint16"] * 2, ["uint8"] * 2
    # The optimizer itself widens outputs where that is measured to help, so 8 bits have to be asked for to be sure.
    assert output_types("") != narrow
    for mode in ("a8_w8", "a8_w8_a8"):
        assert output_types(f"quantization_param({{*}}, precision_mode={mode})") == narrow
    assert output_types(f"{_CONFIG}(globals, output_16bit=disabled)") == narrow
    assert output_types(f"{_POST}(mix_precision_search, policy=disabled)") == narrow
    for mode in ("a8_w8_a16", "a16_w16", "a16_w8", "a16_w8_a16"):
        assert output_types(f"quantization_param({{output_layer*}}, precision_mode={mode})") == wide
    assert output_types(f"{_CONFIG}(globals, output_16bit=enabled)") == wide
    eight = "quantization_param({*}, precision_mode=a8_w8)\n"
    one = f"{eight}quantization_param(output_layer1, precision_mode=a16_w16)"
    assert output_types(one) == ["uint16", "uint8"]
    assert output_types(f"quantization_param(output_layer1, precision_mode=a16_w16)\n{eight}") == narrow
    # By name of the layer, HN or original, and where a fused layer stands for it.
    assert output_types(f"{eight}quantization_param(node_softmax, precision_mode=a8_w8_a16)")[1] == "uint16"


@shows(f"{_POST}(bias_correction)", "", "policy=disabled")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def layers(text: str) -> set[str]:
        return {d["layer"] for d in algorithms(text, "bias-correction") if d["layer"]}

    every = layers("")
    assert {"tiny/conv1", "tiny/conv2"} < every
    assert layers(f"{_POST}(bias_correction, policy=enabled)") == every
    assert layers(f"{_POST}(bias_correction, policy=disabled)") == set()
    assert layers(f"{_POST}(bias_correction, policy=disabled, layers=[conv1])") == every - {"tiny/conv1"}
    off = "model_optimization_flavor(optimization_level=0)\n"
    assert layers(f"{off}{_POST}(bias_correction, policy=enabled, layers={{conv2}})") == {"tiny/conv2"}


@shows(f"{_POST}(adaround)", "policy=disabled")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    from headrace.optimize.algorithms import weight_rounding as rounding

    # The decision tells how many layers were rounded so.
    def rounded(text: str) -> list[str]:
        runner = started(text)
        runner.optimize(FRAMES, min_snr=0)
        found = runner.archive.reports["optimize"]["algorithms"]
        return [d["reason"].partition(" ")[0] for d in found if d["name"] == rounding.WeightRounding.name]

    (whole,) = rounded("")
    assert rounded(f"{_POST}(adaround, policy=disabled)") == []
    assert rounded(f"{_POST}(adaround, policy=disabled, layers=[conv1])") == [str(int(whole) - 1)]


@shows("model_optimization_flavor", "optimization_level")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    nothing = "model_optimization_flavor(optimization_level=-100)"
    assert {d["name"] for d in report(nothing)["algorithms"]} == {"activation-ranges"}
    assert output_types(nothing) == ["uint8"] * 2
    zero = {d["name"] for d in report("model_optimization_flavor(optimization_level=0)")["algorithms"]}
    assert "equalization" in zero and not {"bias-correction", "weight-rounding"} & zero
    assert report("model_optimization_flavor(optimization_level=1)")["options"] == report("")["options"]


@shows("model_optimization_flavor", "batch_size")
@shows(f"{_CONFIG}(calibration)", "batch_size")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    # Frames in flight bound memory; results never depend on them.
    assert options("model_optimization_flavor(batch_size=3)") == OptimizeOptions(batch=3)
    assert options(f"{_CONFIG}(calibration, batch_size=5)") == OptimizeOptions(batch=5)


@shows(f"{_CONFIG}(calibration)", "calibset_size")
@shows(f"{_CONFIG}(checker_cfg)", "dataset_size")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    assert report(f"{_CONFIG}(calibration, calibset_size=7)")["calibration"]["frames"] == 7
    assert report(f"{_CONFIG}(checker_cfg, dataset_size=5)")["calibration"]["snr_frames"] == 5
    assert report("")["calibration"]["snr_frames"] == len(FRAMES)


@shows("context_switch_param", "mode=enabled", "mode=disabled")
@shows("performance_param", "optimize_for_batch")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    assert compiled("")["contexts"] == compiled("context_switch_param(mode=allowed)")["contexts"] == 1
    several = compiled("context_switch_param(mode=enabled)\nperformance_param(optimize_for_batch=4)")
    assert several["contexts"] >= 2 and several["batch"] == 4
    little = small_target(folder)
    assert compiled("", little)["contexts"] >= 2
    with pytest.raises(CapacityError) as caught:
        compiled("context_switch_param(mode=disabled)", little)
    assert "one context is asked for (model script:1:22)" in str(caught.value)
    assert any(row["exceeded"] for row in caught.value.report["resources"])
    assert compiled("context_switch_param(mode=disabled)")["contexts"] == 1


_SHARES = {"control": "controllers", "compute": "subclusters", "memory": "memory_units"}


@shows("resources_param", *(f"max_{key}_utilization" for key in _SHARES), "max_utilization")
@shows("context_switch_param", *(f"max_{key}_utilization" for key in _SHARES), "max_utilization")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    whole = compiled("")["limits"]
    for command in ("resources_param", "context_switch_param"):
        for key, resource in _SHARES.items():
            limits = compiled(f"{command}(max_{key}_utilization=0.5)")["limits"]
            changed = {name for name in limits if limits[name] < whole[name]}
            assert changed == {resource}
        limits = compiled(f"{command}(max_utilization=0.5)")["limits"]
        assert {name for name in limits if limits[name] < whole[name]} == set(_SHARES.values())


@shows("nms_postprocess", "")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    runner = ClientRunner()
    runner.translate_onnx_model(heads.yolov8().model.SerializeToString(), "detector")
    found = runner.archive.nms
    runner.load_model_script("nms_postprocess(meta_arch=yolov8, engine=cpu, nms_scores_th=0.4)\n")
    assert found is not None and runner.archive.nms == replace(found, score_threshold=0.4)


def test_every_row_that_acts_has_a_proof() -> None:
    acting = {(row, what) for row, what, fate in fate_table() if fate is Fate.ACTS}
    # Keys that only say where or how much belong to the proof of their command.
    parameters = {(row, what) for row, what in acting if what in ("layers", "clipping_values", "policy", "mode")}
    assert acting - parameters == {key for key in PROOFS if key in acting}
    # A policy that turns off what acts is shown with it.
    assert all(what in ("policy=disabled", "mode=disabled") for row, what in PROOFS if (row, what) not in acting)


@pytest.mark.parametrize("proof", list(dict.fromkeys(PROOFS.values())), ids=lambda p: next(
    f"{row}:{what}" for (row, what), known in PROOFS.items() if known is p
))  # fmt: skip
def test_what_acts(proof: Proof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof(tmp_path, monkeypatch)


# --- what does not ---------------------------------------------------------------------------------------------------

#: Values that have to stand before the keys.
VALUES = {
    "quantization_param": "conv1",
    "resize_input": "[8, 8], input_layer1",
    "input_conversion": "bgr_to_rgb",
    "change_output_activation": "conv1, sigmoid",
    "logits_layer": "conv1, softmax",
    "remove_node": "conv1",
    "convert_to_dense": "conv1",
    "network_group": "[tiny]",
    "buffers": "conv1, conv2",
    "format_conversion": "conv1, conv2, spatial_reshape, 1",
    "shape_splitter": "SPLIT_WIDTH, conv1, [conv2]",
    "place": "0, [conv1]",
    "compilation_param": "{conv*}",
    "defuse": "conv1, 2",
}
SAMPLES = {
    "mode": {"equalization": "kernel_equalization", "weights_clipping": "manual", "context_switch_param": "manual"},
    "fps": "30",
    "seed": "3",
    "compression_level": "2",
    "batch_size": "4",
    "use_16bit_bias": "True",
}


def line(row: str, what: str) -> str:
    """A statement for one row of the table."""
    name, _, feature = row.partition("(")
    feature = feature.rstrip(")")
    low = FORMS[row].positional[0]
    values = feature or VALUES.get(row, "conv1" if low else "")
    key, equals, value = what.partition("=")
    if key and not equals:
        sample = SAMPLES.get(key, "enabled")
        value = sample.get(feature or row, "enabled") if isinstance(sample, dict) else sample
    layers = ", layers=[conv1]" if key != "layers" and "layers" in (FORMS[row].keys or {}) else ""
    argument = f"{key}={'[conv1]' if key == 'layers' else value}" if key else ""
    return f"{name}({', '.join(filter(None, (values, argument)))}{layers if feature else ''})"


OTHERS = [(row, what, fate) for row, what, fate in fate_table() if fate is not Fate.ACTS]


def asks_for_nothing(fate: ScriptPlan) -> bool:
    # Enabling what is on anyway is no request that changes anything.
    settled = fate.optimize_options(OptimizeOptions()) == OptimizeOptions()
    return settled and not (fate.passes or fate.compile_effects)


@pytest.mark.parametrize(("row", "what", "fate"), OTHERS, ids=[f"{row}:{what}" for row, what, _ in OTHERS])
def test_what_does_not_act_is_told_as_it_is(row: str, what: str, fate: Fate) -> None:
    text = line(row, what)
    base = FORMS[row].fate
    whole = min(
        fate, fate if FORMS[row].by_keys or what in ("policy=disabled", "mode=disabled") else base, key=SEVERITY.index
    )
    found = plan(parse_script(text), network().get_native_hn_model())
    told = {
        Fate.ANYWAY: found.anyway,
        Fate.HINT: found.ignored,
        Fate.LEFT_OUT: found.warnings,
        Fate.REFUSED: found.refused,
        Fate.ACTS: found.supported,
    }
    lines = told.pop(whole)
    assert len(lines) == 1 and not any(told.values()), text
    if fate is Fate.REFUSED:
        with pytest.raises(NotBuiltYetError, match="model script:1:"):
            found.check()
    elif base is not Fate.ACTS or FORMS[row].by_keys:
        assert asks_for_nothing(found), text
    if whole in (Fate.ANYWAY, Fate.HINT):
        assert ": " in str(lines[0]).partition(": ")[2], "no reason is given"
    elif whole is Fate.ACTS:
        assert f"(without {what.partition('=')[0]}=" in str(lines[0])


def test_lines_that_do_not_act_change_no_byte() -> None:
    """All of them in one script: the same quantized network and the same executable as without a script."""
    idle = (Fate.ANYWAY, Fate.HINT, Fate.LEFT_OUT)
    acting = ("pre_quantization_optimization(activation_clipping)", "nms_postprocess")  # whatever else they say
    lines = [line(row, what) for row, what, fate in OTHERS if fate in idle and row not in acting]
    plain, told = started(), started("\n".join(lines))
    for runner in (plain, told):
        runner.optimize(FRAMES, min_snr=0)
        runner.compile()
    assert len(lines) > 80
    assert told.hef == plain.hef


def test_every_feature_is_in_the_table() -> None:
    rows = {row for row, _, _ in fate_table()}
    assert rows == set(FORMS)
    assert {name for name, features in FAMILIES.items() if features} == {_PRE, _POST, _CONFIG}


# --- the documentation -----------------------------------------------------------------------------------------------


def test_the_documentation_shows_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    import script_tables

    text = script_tables.PAGE.read_text(encoding="utf-8")
    assert text == script_tables.page(text), "run tools/script_tables.py"


def test_every_argument_that_is_read_is_documented() -> None:
    for form in FORMS.values():
        for key, one in (form.arguments or {}).items():
            assert bool(one.doc) == (form.reads is not None and key in {f.name for f in fields(form.reads)}), key
