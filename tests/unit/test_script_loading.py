# SPDX-License-Identifier: Apache-2.0
"""Loading a script onto a network: names looked up at once, names given, and what a new script drops."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from headrace.errors import HeadraceError, NotBuiltYetError, ScriptError
from headrace.hn import Network, archive
from headrace.hn.stages import COMPILE, OPTIMIZE_FULL_PRECISION
from headrace.runner import ClientRunner
from headrace.script import load_script, merge, parse_script, plan
from headrace.script.arguments import LAYER_KEYS
from headrace.script.effects import Bits
from headrace.script.fates import HINT
from headrace.script.naming import Finder
from headrace.script.vocabulary import FORMS
from layer_maker import make_layer
from made_network import network_for, real_scripts
from small_onnx import write_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    write_small(folder)
    runner = ClientRunner()
    runner.translate_onnx_model(folder / "small.onnx", "net")
    runner.save_har(folder / "net.har")
    runner.load_model_script("norm1 = normalization([0.1], [2])\n")
    runner.optimize(folder / "calibration.npy", min_snr=0)
    runner.save_har(folder / "q.har")
    return folder


def parsed(folder: Path) -> ClientRunner:
    return ClientRunner(har=folder / "net.har")


def quantized(folder: Path) -> ClientRunner:
    return ClientRunner(har=folder / "q.har")


# --- names are looked up ---------------------------------------------------------------------------------------------

#: One statement per command that takes layers, with a name in each place for them.
STATEMENTS = {
    "normalization": ["normalization([1], [2], NAME)"],
    "input_conversion": ["input_conversion(NAME, bgr_to_rgb)"],
    "resize_input": ["resize_input([8, 8], NAME)"],
    "change_output_activation": ["change_output_activation(NAME, sigmoid)"],
    "logits_layer": ["logits_layer(NAME, softmax)"],
    "buffers": ["buffers(NAME, conv1, 3)", "buffers(conv1, NAME, 3)"],
    "format_conversion": ["format_conversion(conv1, NAME, spatial_reshape, 1)"],
    "shape_splitter": ["shape_splitter(SPLIT_WIDTH, NAME, [conv1])", "shape_splitter(SPLIT_WIDTH, conv1, [NAME])"],
    "place": ["place(0, [conv1, NAME])"],
    "concat": ["concat([conv1, NAME], conv2)"],
    "shortcut": ["shortcut(conv1, [NAME])"],
}


def statements() -> list[str]:
    """A statement with ``NAME`` for every command and every argument that holds layers."""
    found: list[str] = []
    for row, form in FORMS.items():
        name, _, feature = row.partition("(")
        feature = feature.rstrip(")")
        if form.layers_at and row not in STATEMENTS:
            found.append(f"{name}(NAME)" if form.positional[1] != 0 else "")
        for key in sorted(LAYER_KEYS & set(form.keys or {})):
            found += [f"{name}({feature}, {key}=[conv1, NAME])", f"{name}({feature}, policy=disabled, {key}=NAME)"]
    found += [text for texts in STATEMENTS.values() for text in texts]
    return [text for text in found if text and "negative_exponent, policy" not in text]


@pytest.mark.parametrize("text", statements())
def test_every_command_looks_its_layers_up_at_once(text: str, folder: Path) -> None:
    network = parsed(folder).get_native_hn_model()
    for wrong, suggested in (("conv22", "conv2"), ("net/conv22", "net/conv2"), ("nothing_like_it", "")):
        line = f"\n  {text.replace('NAME', wrong)}"
        with pytest.raises(ScriptError) as caught:
            plan(parse_script(line, "my.alls"), network)
        (found,) = caught.value.diagnostics
        assert found.code == "E-SCRIPT-LAYER" or "input layer" in found.rule
        column = line.splitlines()[1].index(wrong) + 1
        assert found.where == f"my.alls:2:{column}"
        if suggested and "input layer" not in found.rule:
            assert repr(suggested) in found.levers[0]
            assert "conv1" in found.need
    if "NAME" in text and not text.startswith(("normalization", "input_conversion", "resize_input")):
        with pytest.raises(ScriptError, match="no layer has a name that this pattern fits"):
            plan(parse_script(text.replace("[NAME]", "NAME").replace("NAME", "{zzz*}")), network)


def test_right_names_are_found_however_they_are_written(folder: Path) -> None:
    network = parsed(folder).get_native_hn_model()
    for name in ("conv1", "net/conv1", "{conv1}", "{net/conv[1]}", "[conv1]", "/conv1"[1:], '"conv1"'):
        text = f"quantization_param({name}, precision_mode=a8_w8)"
        (asked,) = plan(parse_script(text), network).optimize_effects
        assert asked == Bits(("net/conv1",), 8, "")
    # Names of the source model, where no HN layer is called so.
    assert network["net/fc1"].original_names
    for original in network["net/fc1"].original_names:
        text = f'quantization_param("{original}", precision_mode=a8_w8)'
        (asked,) = plan(parse_script(text), network).optimize_effects
        assert isinstance(asked, Bits) and asked.layers[0].startswith("net/")


def test_suggestions_name_hn_layers_before_those_of_the_source() -> None:
    network = Network("n")
    network.add(make_layer("n/conv1", "conv", original_names=["/model/conv_a", "conv_11"]))
    with pytest.raises(ScriptError) as caught:
        plan(parse_script("quantization_param(conv11, precision_mode=a8_w8)"), network)
    assert caught.value.diagnostics[0].levers == ("did you mean 'conv1' or 'conv_11'?",)


def test_names_that_lines_without_effect_make_are_known_to_such_lines_only() -> None:
    network = Network("n")
    network.add(make_layer("n/conv1", "conv"))
    made = "conv1_a, conv1_b, out = defuse(conv1, 2)\n"
    hints = (
        "compilation_param(conv1_a, fps=3)\nshortcut(out, [conv1_d0])\nctx = context([conv1_a])\nctx.place(0, [out])\n"
    )
    assert len(plan(parse_script(made + hints), network).ignored) == 5
    with pytest.raises(ScriptError, match="named by line 1, which has no effect"):
        plan(parse_script(made + "quantization_param(conv1_a, precision_mode=a8_w8)"), network)
    with pytest.raises(ScriptError, match="no layer of this name"):
        plan(parse_script("shortcut(out, [conv1])\n" + made), network)


def test_text_given_directly_has_places_too(folder: Path) -> None:
    with pytest.raises(ScriptError) as caught:
        parsed(folder).load_model_script("# one\nquantization_param(no_such_layer, precision_mode=a8_w8)\n")
    assert caught.value.diagnostics[0].where == "model script:2:20"


def test_appended_lines_keep_the_places_of_their_own_file(folder: Path, tmp_path: Path) -> None:
    runner = parsed(folder)
    runner.load_model_script("# a comment\n# another\nset_seed(seed=1)\n")
    more = tmp_path / "more.alls"
    more.write_text("\nquantization_param(nothing_there, precision_mode=a8_w8)\n")
    with pytest.raises(ScriptError) as caught:
        runner.load_model_script(more, append=True)
    assert caught.value.diagnostics[0].where == "more.alls:2:20"
    assert runner.model_script == "# a comment\n# another\nset_seed(seed=1)\n"


def test_precisions_that_are_not_built_say_what_is(folder: Path) -> None:
    for mode in ("a8_w4", "a8_w4_a16", "a8_w4_a8", "a4_w4", "a16_w4", "a16_w16", "a16_w8", "something"):
        with pytest.raises(NotBuiltYetError) as caught:
            parsed(folder).load_model_script(f"quantization_param(conv1, precision_mode={mode})\n")
        (found,) = caught.value.diagnostics
        assert found.where == "model script:1:27" and mode in found.rule and "a8_w8_a16" in found.need


def test_sixteen_bits_where_a_reader_takes_eight_are_refused_by_place(folder: Path) -> None:
    runner = parsed(folder)
    runner.load_model_script("\nquantization_param(conv1, precision_mode=a8_w8_a16)\n")
    with pytest.raises(NotBuiltYetError) as caught:
        runner.optimize(folder / "calibration.npy")
    assert caught.value.diagnostics[0].where == "model script:2:27"
    assert "reads it, and reads 8 bits" in caught.value.diagnostics[0].rule
    assert runner.archive.quantized is None


# --- names are given -------------------------------------------------------------------------------------------------


def two_inputs(folder: Path) -> ClientRunner:
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Add", ["a", "b"], ["y"], "sum")]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3, 4, 4]) for n in ("a", "b", "y")]
    graph = helper.make_graph(nodes, "two", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    runner = ClientRunner()
    runner.translate_onnx_model(model.SerializeToString(), "two")
    return runner


@pytest.mark.parametrize("name", ["norm1", "net/norm1", "x"])
def test_normalization_has_the_name_that_the_script_gives_and_later_lines_find_it(name: str, folder: Path) -> None:
    runner = parsed(folder)
    runner.load_model_script(
        f"{name} = normalization([1, 2, 3], [4, 5, 6])\n"
        f"pre_quantization_optimization(activation_clipping, layers=[{name}], mode=manual, clipping_values=[-3, 4])\n"
        f"quantization_param({{{name[:-1]}*}}, precision_mode=a8_w8)\n"
    )
    runner.optimize(folder / "calibration.npy", min_snr=0)
    full = name if "/" in name else f"net/{name}"
    kinds = {layer.name: layer.kind for layer in runner.get_hn_model()}
    assert kinds[full] == "normalization" and list(kinds.values()).count("normalization") == 1
    assert runner.archive.reports["optimize"]["layers"][full]["scale"] == pytest.approx(7 / 255)


def test_names_for_several_inputs(folder: Path) -> None:
    runner = two_inputs(folder)
    runner.load_model_script("left, right = normalization([1], [2])\n")
    runner.optimize_full_precision()
    made = {layer.name: tuple(layer.inputs) for layer in runner.get_hn_model().of_kind("normalization")}
    assert made == {"two/left": ("two/input_layer1",), "two/right": ("two/input_layer2",)}
    one = two_inputs(folder)
    one.load_model_script("right = normalization([1], [2], input_layer2)\nn = normalization([3], [4], a)\n")
    one.optimize_full_precision()
    assert {x.name: x.inputs[0][-1] for x in one.get_hn_model().of_kind("normalization")} == {
        "two/right": "2", "two/n": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conv1 = normalization([1], [2])", "is taken"),
        ("net/conv1 = normalization([1], [2])", "is taken"),
        ("other/n = normalization([1], [2])", "belongs to another network"),
        ("a, b = normalization([1], [2])", "makes 1 layers here and has 2 names"),
        (
            "a = normalization([1], [2])\nb = normalization([1], [2])",
            "has a normalization already, made at model script:1",
        ),
        ("a = normalization([1, 2], [2, 3])", "2 channels"),
        ("a = normalization([1], [2], conv1)", "input layer"),
        ("quantization_param(a, precision_mode=a8_w8)\na = normalization([1], [2])", "line 2 makes it"),
    ],
)
def test_names_that_cannot_be_given(text: str, said: str, folder: Path) -> None:
    with pytest.raises(ScriptError, match=re.escape(said)) as caught:
        parsed(folder).load_model_script(text + "\n")
    assert all(re.match(r"model script:\d+:\d+$", d.where) for d in caught.value.diagnostics)


def test_names_that_a_script_gives_are_found_by_scripts_that_are_added(folder: Path, tmp_path: Path) -> None:
    clip = "pre_quantization_optimization(activation_clipping, layers=[scaled], mode=manual, clipping_values=[-3, 4])\n"
    runner = parsed(folder)
    runner.load_model_script("scaled = normalization([1, 2, 3], [4, 5, 6])\n")
    runner.load_model_script(clip, append=True)
    runner.optimize_full_precision()
    runner.save_har(tmp_path / "fp.har")
    # From the HAR, where the name stands in the script and in the network.
    again = ClientRunner(har=tmp_path / "fp.har")
    again.load_model_script("quantization_param({scal*}, precision_mode=a8_w8)\n", append=True)
    again.optimize(folder / "calibration.npy", min_snr=0)
    assert again.archive.reports["optimize"]["layers"]["net/scaled"]["scale"] == pytest.approx(7 / 255)
    # A quantized network keeps the layer, so a script without the line finds it too, and one more may be added.
    again.save_har(tmp_path / "q.har")
    for append in (False, True):
        last = ClientRunner(har=tmp_path / "q.har")
        last.load_model_script("compilation_param(scaled, fps=3)\n", append=append)
        assert last.archive.quantized is not None
        assert "net/scaled" in {layer.name for layer in last.archive.quantized}
    # Elsewhere the line is gone with the script it stood in.
    with pytest.raises(ScriptError, match="replaces makes it: load this one with append=True"):
        ClientRunner(har=tmp_path / "fp.har").load_model_script(clip)


def test_a_script_is_planned_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.script import current as module

    planned: list[object] = []

    def counting(script: Any, network: Any) -> Any:
        planned.append(script)
        return plan(script, network)

    monkeypatch.setattr(module, "plan", counting)
    runner = parsed(folder)
    runner.load_model_script("norm1 = normalization([0.1], [2])\n")
    runner.optimize(folder / "calibration.npy", min_snr=0)
    runner.compile()
    assert planned == []  # loading it made the plan
    runner.save_har(tmp_path / "compiled.har")
    again = ClientRunner(har=tmp_path / "compiled.har")
    again.compile()
    again.compile()
    assert len(planned) == 1


def test_the_archive_says_what_was_carried_out(folder: Path) -> None:
    runner = parsed(folder)
    runner.load_model_script("set_seed(seed=1)\n")
    runner.optimize_full_precision()
    assert runner.archive.resolved_script == "set_seed(seed=1)\n"
    more = "model_optimization_config(calibration, calibset_size=8)  # by hand\n"
    runner.load_model_script(more)
    runner.optimize(folder / "calibration.npy", min_snr=0)
    assert runner.archive.resolved_script == "model_optimization_config(calibration, calibset_size=8)\n"


# --- what a new script drops -----------------------------------------------------------------------------------------

NORMALIZATION = "norm1 = normalization([0.1], [2])\n"
KEEPS = [
    "",
    "# nothing\n",
    "performance_param(optimize_for_batch=8)\n",
    "context_switch_param(mode=enabled)\n",
    "resources_param(max_memory_utilization=0.9)\n",
    "allocator_param(timeout=3)\ncompilation_param(norm1, fps=0.0)\n",
    "post_quantization_optimization(finetune, policy=disabled)\nset_seed(seed=3)\n",
    NORMALIZATION,
    f"{NORMALIZATION}performance_param(optimize_for_batch=8)\n",
]
DROPS = [
    ("norm1 = normalization([0.2], [2])\n", "hailo_model"),
    ("norm2 = normalization([0.1], [2])\n", "hailo_model"),
    (f"{NORMALIZATION}quantization_param({{*}}, precision_mode=a8_w8)\n", "fp_optimized_model"),
    (f"{NORMALIZATION}pre_quantization_optimization(ew_add_fusing, policy=disabled)\n", "fp_optimized_model"),
    (f"{NORMALIZATION}model_optimization_flavor(optimization_level=0)\n", "fp_optimized_model"),
    ("quantization_param({*}, precision_mode=a8_w8)\n", "hailo_model"),
]


@pytest.mark.parametrize("text", KEEPS)
@pytest.mark.parametrize("append", [False, True])
def test_what_changes_no_number_keeps_the_quantized_network(text: str, append: bool, folder: Path) -> None:
    if append and "normalization" in text:
        return  # a second one is an error
    runner = quantized(folder)
    before = archive.members(runner.archive)["net.quantized.npz"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change = runner.load_model_script(text or "\n", append=append)
    assert change.redo in (None, COMPILE)
    assert runner.state.value == "quantized_model"  # type: ignore[union-attr]
    assert archive.members(runner.archive)["net.quantized.npz"] == before
    # What the network was quantized with still stands in the script, once.
    assert runner.model_script.count("normalization(") == 1
    again = ClientRunner()
    again._archive = runner.archive
    assert [step.layer_name for step in again._planned().passes] == ["norm1"]


@pytest.mark.parametrize(("text", "state"), DROPS)
def test_what_changes_numbers_drops_it_and_says_so(text: str, state: str, folder: Path) -> None:
    runner = quantized(folder)
    with pytest.warns(UserWarning, match="the quantized network is dropped"):
        runner.load_model_script(text)
    assert runner.state.value == state and runner.archive.quantized is None  # type: ignore[union-attr]
    assert runner.model_script == text


def test_the_command_line_follows_the_same_rule(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "s.alls"
    for text, drops in [(t, False) for t in KEEPS] + [(t, True) for t, _ in DROPS]:
        script.write_text(text)
        # Without calibration data a network that has to be quantized again cannot be compiled.
        status = run(["compile", str(folder / "q.har"), "--model-script", "s.alls"])
        told = capsys.readouterr().err
        assert (status != 0) == drops, (text, told)
        assert ("s.alls changes the numbers" in told and "dropped" in told) == drops, (text, told)


def test_a_compiled_program_is_dropped_only_by_what_the_compiler_reads(folder: Path) -> None:
    runner = quantized(folder)
    runner.compile()
    runner.load_model_script("set_seed(seed=1)\n")
    assert runner.hef is not None
    runner.load_model_script("performance_param(optimize_for_batch=4)\n")
    assert runner.hef is None and runner.archive.quantized is not None


def test_nothing_changes_where_a_script_is_refused(folder: Path) -> None:
    for text in (
        "nonsense(1)\n",
        "quantization_param(nix, precision_mode=a8_w8)\n",
        "change_output_activation(sigmoid)\n",
    ):
        runner = quantized(folder)
        with pytest.raises(HeadraceError):
            runner.load_model_script(text)
        assert runner.archive.quantized is not None and runner.model_script == NORMALIZATION


# --- real scripts ----------------------------------------------------------------------------------------------------


def test_real_scripts_on_a_network_with_their_names(reference: Path) -> None:
    """Every line of every script has one fate; what is said to act leaves a request for a stage."""
    scripts = real_scripts(reference)
    assert len(scripts) > 100
    for file in scripts:
        script = load_script(file)
        network = network_for(script)
        found = plan(script, network)
        told = [*found.supported, *found.anyway, *found.warnings, *found.refused, *found.ignored]
        assert len(told) == len(script.statements), file.name
        for line in found.supported:
            number = int(line.split(":")[0].removeprefix("line "))
            (command,) = [c for c in script.statements if c.line == number]
            alone = plan(parse_script(_with_names(script, command)), network)
            assert alone.passes or alone.optimize_effects or alone.compile_effects, f"{file.name}: {line}"
        wrong = _with_a_wrong_name(script)
        if wrong is not None:
            with pytest.raises(ScriptError, match="E-SCRIPT-LAYER"):
                plan(parse_script(wrong), network)


def _with_names(script: Any, command: Any) -> str:
    """One line of a script, after the lines that make layers."""
    from headrace.script.resolve import statement_text

    made = [c for c in script.statements if c.name == "normalization" and c.line < command.line and c is not command]
    return "\n".join(statement_text(c) for c in (*made, command))


def _with_a_wrong_name(script: Any) -> str | None:
    """The script with a line whose layer does not exist; None where no line that is no hint names one."""
    finder = Finder(None, script, [])
    for command in script.statements:
        form = FORMS.get(command.name)
        if form is not None and form.fate is not HINT and finder.find(command, form):
            return (
                f"{script.source.text}\n{command.name}(zz_no_such_layer, x)\n"
                if form.positional[1] > 1
                else (f"{script.source.text}\n{command.name}(zz_no_such_layer)\n")
            )
    return None


def test_merging_is_the_same_for_text_and_files(folder: Path) -> None:
    network = quantized(folder).get_native_hn_model()
    old, new = parse_script(NORMALIZATION), parse_script("performance_param(optimize_for_batch=4)\n")
    change = merge(old, new, network, append=False, frozen=True)
    assert change.redo is COMPILE
    assert change.script.source.text == f"{NORMALIZATION}performance_param(optimize_for_batch=4)\n"
    assert merge(old, new, network, append=False, frozen=False).redo is OPTIMIZE_FULL_PRECISION
    assert change.plan.passes[0].mean == (0.1,)
