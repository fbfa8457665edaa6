# SPDX-License-Identifier: Apache-2.0
"""The model-script language against real scripts, random scripts and hostile ones."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.compiler import CompileOptions
from headrace.errors import HeadraceError, InputFileError, NotBuiltYetError, ScriptError
from headrace.optimize import OptimizeOptions
from headrace.passes.insert_normalization import InsertNormalization
from headrace.script import Name, Patterns, Script, Statement, load_script, parse_script, plan, resolve
from headrace.script.commands.modification import Normalization
from headrace.script.parser import MAX_PROBLEMS
from headrace.script.plan import ScriptPlan
from headrace.script.tokens import MAX_SCRIPT_BYTES, SourceText
from headrace.script.vocabulary import COMMANDS, FAMILIES, FORMS


def only(text: str) -> Statement:
    (statement,) = parse_script(text).statements
    return statement


# --- grammar -----------------------------------------------------------------------------------------------------


def test_every_real_script_parses_and_resolves(reference: Path) -> None:
    files = sorted((reference / "model_scripts").glob("*.alls"))
    assert len(files) > 100
    for file in files:
        text = file.read_text()
        script = load_script(file)
        # An independent count: statements in these files stand on one line and have one call each.
        lines = [line for line in text.splitlines() if re.match(r"\s*[^#\s]", line)]
        joined = sum(line.count("(") - line.count(")") for line in lines)
        assert joined == 0
        assert 0 < len(script.statements) <= len(lines)
        if all(line.count("(") == 1 for line in lines):
            assert len(script.statements) == len(lines), file.name
        canonical = resolve(script)
        assert parse_script(canonical).statements == script.statements
        assert resolve(parse_script(canonical)) == canonical


def test_every_real_script_has_a_plan(reference: Path) -> None:
    for file in sorted((reference / "model_scripts").glob("*.alls")):
        script = load_script(file)
        fate = plan(script)
        # Nothing vanishes: each command is acted on, refused, warned about or listed as ignored.
        told = sum(map(len, (fate.supported, fate.anyway, fate.refused, fate.warnings, fate.ignored)))
        assert told == len(script.statements)
        calls = len(re.findall(r"^[^#\n]*=\s*normalization\(", file.read_text(), re.MULTILINE))
        assert sum(isinstance(one, Normalization) for one in fate.commands) == calls


def test_forms_of_a_statement() -> None:
    assert only("a(1, x, y=2.5e-1)  # comment") == Statement("a", "", (), (1, Name("x")), {"y": 0.25})
    assert only("n/c1, n/c2 = defuse(n/c, 2)").targets == ("n/c1", "n/c2")
    assert only("{} = f()").targets == ()
    assert only("{a, b} = f()").targets == ("a", "b")
    assert only("ctx.place(c, [l1,l2,])") == Statement("place", "ctx", (), (Name("c"), (Name("l1"), Name("l2"))))
    assert only("a(\n 1, # one\n [2,\n3]\n)").positional == (1, (2, 3))
    assert only("a({conv[0-9]*, {*}"[:-4] + "dw?})").positional == (Patterns(("conv[0-9]*", "dw?")),)
    assert only("a({conv[1,2]})").positional == (Patterns(("conv[1,2]",)),)
    assert only("a(True, false, None, none)").positional == (True, False, None, Name("none"))
    assert only("a(x_1.6gf/conv79, -3, .5, 1., +2)").positional == (Name("x_1.6gf/conv79"), -3, 0.5, 1.0, 2)
    assert only(r"""a("C:\data\x", 'it\'s')""").positional == (r"C:\data\x", "it's")
    assert not isinstance(only('a("x")').positional[0], Name)
    assert parse_script("").statements == () == parse_script("\n# only this\n\n").statements
    assert [c.line for c in parse_script("\ufeffa()\r\n\r\n b()\r\n").statements] == [1, 3]


@pytest.mark.parametrize(
    ("text", "place", "caret_under"),
    [
        ("a()\nfoo", "2:4", ""),
        ("a(1 2)", "1:5", "2)"),
        ("a(b=1, b=2)", "1:8", "b=2"),
        ("a(b=1, 2)", "1:8", "2)"),
        ("a([1, 2)", "1:8", ")"),
        ("a(1))", "1:5", ")"),
        ("a(conv*)", "1:7", "*)"),
        ("a(1e999)", "1:3", "1e999"),
        ('a("x', "1:3", '"x'),
        ("a({x", "1:3", "{x"),
        ("a(1) b(2)", "1:6", "b(2)"),
        ("x = ", "1:5", ""),
        ("x = y = a()", "1:7", "= a()"),
        ("a(\x1b[31m)", "1:3", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_problems_point_at_their_place(text: str, place: str, caret_under: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(text, "my.alls")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.where == f"my.alls:{place}"
    lines = str(diagnostic).splitlines()
    caret = next(i for i, line in enumerate(lines) if line.strip() == "^")
    assert lines[caret - 1][lines[caret].index("^") :].startswith(caret_under)
    assert "\x1b" not in str(diagnostic)


def test_problems_are_collected_and_later_lines_still_read() -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script("a(\x00)\nb(1)\nc(1 1)\nfoo\nd(=)\n")
    assert [d.where.split(":")[1] for d in caught.value.diagnostics] == ["1", "3", "4", "5"]


def test_missing_bracket_names_the_line_that_opened_it() -> None:
    with pytest.raises(ScriptError, match="line 1 is still open"):
        parse_script("n = normalization([1, 2, 3], [4, 5, 6]\nquantization_param({*}, precision_mode=a8_w8)\n")


def test_long_lines_are_shown_around_the_place() -> None:
    text = "a(" + ", ".join(f"x{i}" for i in range(500)) + " !)"
    with pytest.raises(ScriptError) as caught:
        parse_script(text)
    lines = str(caught.value).splitlines()
    assert max(map(len, lines)) < 160
    assert lines[1][lines[2].index("^")] == "!"


# --- hostile input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a(" + "[" * 100_000,
        "a(" * 100_000,
        "(" * 100_000,
        "x" * 100_000 + "()",
        "a(" + "9" * 100_000 + ")",
        "{" * 50_000,
        "a(\n" * 50_000,
        ")\n" * 50_000,
        "a({" + "x," * 100_000 + "})",
        "\x00" * 100_000,
        '"' * 100_001,
        "\ud800(1)",
    ],
)
def test_hostile_text_ends_in_few_problems_quickly(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(ScriptError) as caught:
        parse_script(text)
    assert len(caught.value.diagnostics) <= MAX_PROBLEMS
    assert time.monotonic() - start < 5


def test_size_is_limited(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="too large"):
        parse_script("#" * (MAX_SCRIPT_BYTES + 1))
    with pytest.raises(ScriptError, match="too many commands"):
        parse_script("a()\n" * 100_001)
    big = tmp_path / "big.alls"
    big.write_bytes(b"#" * (MAX_SCRIPT_BYTES + 1))
    with pytest.raises(InputFileError, match="E-FILE-TOO-LARGE"):
        load_script(big)


@given(st.text(alphabet="ab1 .=,()[]{}'\"\\#\n*/-_\x00é", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_parses_or_is_a_script_error(text: str) -> None:
    try:
        script = parse_script(text)
    except ScriptError:
        return
    assert parse_script(resolve(script)).statements == script.statements
    try:
        plan(script)
    except ScriptError as error:
        assert error.diagnostics


# --- canonical text ----------------------------------------------------------------------------------------------

_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}(/[a-z][a-z0-9_]{0,5})?", fullmatch=True).filter(
    lambda n: n.lower() not in ("true", "false") and n != "None"
)
_keys = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
_patterns = st.lists(st.from_regex(r"[a-z]{1,4}[*?]?", fullmatch=True), max_size=3).map(lambda p: Patterns(tuple(p)))
_texts = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" \t"), max_size=8)
_scalars = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    _names.map(Name),
    _patterns,
    _texts,
)
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
_statements = st.builds(
    Statement,
    name=_keys,
    method_of=st.one_of(st.just(""), _keys),
    targets=st.lists(_names, max_size=3).map(tuple),
    positional=st.lists(_values, max_size=3).map(tuple),
    keyword=st.dictionaries(_keys, _values, max_size=3),
)


@given(st.lists(_statements, max_size=4))
@settings(max_examples=60, deadline=None)
def test_resolve_and_parse_are_inverse(statements: list[Statement]) -> None:
    script = Script(SourceText("", ""), tuple(statements))
    text = resolve(script)
    again = parse_script(text)
    assert again.statements == script.statements
    assert [type(v) for c in again.statements for v in c.positional] == [
        type(v) for c in statements for v in c.positional
    ]
    assert resolve(again) == text


# --- plan --------------------------------------------------------------------------------------------------------


def test_normalization_is_acted_on() -> None:
    fate = plan(parse_script("\nnet/n1 = normalization([1, 2.5], [3, 4], net/input_layer1)\n"))
    (norm,) = fate.commands
    assert isinstance(norm, Normalization)
    assert (norm.mean, norm.std, norm.input_layer) == ((1.0, 2.5), (3.0, 4.0), "net/input_layer1")
    assert fate.passes == (InsertNormalization((1.0, 2.5), (3.0, 4.0), "net/input_layer1", "net/n1"),)
    fate.check()


@pytest.mark.parametrize(
    "arguments",
    ["[1], [0]", "[1, 2], [3]", "[], []", "1, 2", "[a], [b]", "[1], [True]", "[1], [2], 3", "[1]", "[1], [2], a, b"],
)
def test_unusable_normalization_is_refused(arguments: str) -> None:
    with pytest.raises(ScriptError) as caught:
        plan(parse_script(f"n = normalization({arguments})"))
    assert caught.value.diagnostics[0].where.startswith("model script:1:5")


def test_statements_that_change_numerics_are_refused_together() -> None:
    text = (
        "change_output_activation(conv1, sigmoid)\nquantization_param(conv1, precision_mode=a16_w16)\nset_seed(seed=1)"
    )
    fate = plan(parse_script(text))
    with pytest.raises(NotBuiltYetError) as caught:
        fate.check()
    assert [d.where.split(":")[1] for d in caught.value.diagnostics] == ["1", "2"]
    assert fate.anyway == ("line 3: set_seed(seed=1): nothing here draws random numbers",)


def test_asking_for_what_happens_anyway_is_said_to_be_so() -> None:
    text = (
        "quantization_param({*}, use_16bit_bias=True)\n"
        "model_optimization_config(compression_params, auto_4bit_weights_ratio=0)\n"
        "pre_quantization_optimization(weights_clipping, layers={*}, mode=disabled)\n"
        "quantization_param({*})\n"
    )
    fate = plan(parse_script(text))
    assert [line.rpartition(": ")[2] for line in fate.anyway] == [
        "biases have 32 bits, and no weight is clipped",
        "all weights have 8 bits",
        "they have 8 bits",
        "it asks for nothing",
    ]
    assert not fate.warnings and not fate.supported
    fate.check()


def test_hints_are_ignored_and_improvements_warned_about() -> None:
    text = "c = context([conv1])\nc.place(0, [conv1])\nallocator_param(whatever=1)\n"
    text += "post_quantization_optimization(finetune, epochs=2)"
    fate = plan(parse_script(text))
    assert len(fate.ignored) == 3
    assert [d.code for d in fate.warnings] == ["W-SCRIPT-NOT-BUILT"]
    assert set(fate.report().as_dict()) == {
        "supported",
        "done_anyway",
        "not_built_yet",
        "refused",
        "ignored_on_this_device",
    }


@pytest.mark.parametrize(
    ("text", "code", "suggestion"),
    [
        ("normalisation([1], [1])", "E-SCRIPT-COMMAND", "'normalization'"),
        ("post_quantization_optimization(fintune)", "E-SCRIPT-FEATURE", "'finetune'"),
        ("quantization_param({*}, precison_mode=a8_w8)", "E-SCRIPT-ARGUMENT", "'precision_mode'"),
        ("ctx = context([a])\nctxx.place(0, [a])", "E-SCRIPT-HANDLE", "'ctx'"),
        ("ctx = context([a])\nctx.plac(0, [a])", "E-SCRIPT-COMMAND", "'place'"),
    ],
)
def test_unknown_names_get_suggestions(text: str, code: str, suggestion: str) -> None:
    with pytest.raises(ScriptError) as caught:
        plan(parse_script(text))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert suggestion in diagnostic.levers[0]


def test_unknown_statements_are_reported_together() -> None:
    with pytest.raises(ScriptError) as caught:
        plan(parse_script("foo(1)\nbar(2)\n"))
    assert len(caught.value.diagnostics) == 2


def test_every_command_of_the_reference_is_known(reference: Path) -> None:
    table = (reference / "model-script.md").read_text().split("### Frequency: every keyword")[0]
    forms = re.findall(r"^\| `([a-z0-9_]+)(?:\(([a-z_]+)\))?` \|", table, re.MULTILINE)
    assert len(forms) > 60
    for name, feature in forms:
        assert name in COMMANDS
        assert not feature or feature in FAMILIES[name]


def test_every_argument_of_the_reference_is_known(reference: Path) -> None:
    text = (reference / "model-script.md").read_text().split("### Frequency: every keyword")[1]
    for heading, body in re.findall(r"^\*\*`([a-z0-9_()]+)`\*\*\n((?:- .*\n)+)", text, re.MULTILINE):
        form = FORMS[heading]
        for key in re.findall(r"^- `([a-z0-9_]+)`", body, re.MULTILINE):
            assert form.keys is None or key in form.keys, f"{heading}: {key}"


# --- reading -----------------------------------------------------------------------------------------------------


def test_load_from_text_and_files(tmp_path: Path) -> None:
    file = tmp_path / "s.alls"
    file.write_bytes("a()\r\n".encode("utf-8-sig"))
    assert load_script(file).statements == load_script(str(file)).statements == load_script("a()").statements
    assert load_script("").statements == ()


def test_unreadable_files_are_coded_errors(tmp_path: Path) -> None:
    (tmp_path / "latin.alls").write_bytes(b"a(\xff)")
    for path in (tmp_path / "none.alls", tmp_path, tmp_path / "latin.alls", "no\0where"):
        with pytest.raises(HeadraceError) as caught:
            load_script(path)
        assert isinstance(caught.value, InputFileError)
        assert caught.value.code in ("E-SCRIPT-FILE", "E-FILE-MISSING", "E-FILE-READ")


# --- commands that steer optimize ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        (
            "model_optimization_flavor(optimization_level=0)",
            {"equalization": True, "bias_correction": False, "weight_rounding": False},
        ),
        (
            "model_optimization_flavor(optimization_level=1, compression_level=0, batch_size=4)",
            {"equalization": True, "bias_correction": True, "weight_rounding": True, "batch": 4},
        ),
        (
            "model_optimization_flavor(optimization_level=-100)",
            {
                "equalization": False,
                "bias_correction": False,
                "weight_rounding": False,
                "calibrator": "minmax",
                "output_bits": 8,
            },
        ),
        (
            "post_quantization_optimization(bias_correction, policy=enabled)\n"
            "model_optimization_flavor(optimization_level=0)",
            {"equalization": True, "bias_correction": True, "weight_rounding": False},
        ),
        ("pre_quantization_optimization(equalization, policy=disabled)", {"equalization": False}),
        ("pre_quantization_optimization(equalization)", {"equalization": True}),
        (
            "model_optimization_config(calibration, batch_size=2, calibset_size=64)",
            {"batch": 2, "calibration_size": 64},
        ),
    ],
)
def test_optimization_commands_become_options(text: str, options: dict[str, Any]) -> None:
    fate = plan(parse_script(text))
    assert fate.optimize_options(OptimizeOptions()) == OptimizeOptions(**options)
    assert not fate.warnings
    fate.check()


def test_activation_clipping_is_read() -> None:
    fate = plan(
        parse_script(
            "pre_quantization_optimization(activation_clipping, layers=[conv1, {dw*}], mode=percentile, "
            "clipping_values=[0.01, 99.7])\n"
            "pre_quantization_optimization(activation_clipping, layers={conv2}, mode=manual, clipping_values=[-1, 6])\n"
            "pre_quantization_optimization(activation_clipping, layers={*}, mode=disabled)\n"
        )
    )
    found = [(c.layers, c.mode, c.values) for c in fate.optimize_options(OptimizeOptions()).clippings]
    assert found[:2] == [(("conv1", "dw*"), "percentile", (0.01, 99.7)), (("conv2",), "manual", (-1.0, 6.0))]
    assert found[2][:2] == (("*",), "disabled")
    assert len(fate.supported) == 3


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("model_optimization_flavor(optimization_level=7)", "-100 … 4"),
        ("model_optimization_flavor(optimization_level=True)", "-100 … 4"),
        ("model_optimization_flavor(optimization_level=-1)", "-100, 0, 1, 2, 3, 4"),
        ("model_optimization_config(calibration, calibset_size=0)", "1 … 16777216"),
        ("pre_quantization_optimization(equalization, policy=enabeld)", "'enabled'"),
        ("pre_quantization_optimization(activation_clipping, layers={*}, mode=percentil)", "'percentile'"),
        ("pre_quantization_optimization(activation_clipping, layers={*}, mode=manual)", "low < high"),
        ("pre_quantization_optimization(activation_clipping, layers=3, clipping_values=[0, 99])", "[conv1, conv2]"),
        ("pre_quantization_optimization(activation_clipping, layers={*}, clipping_values=[0, 101])", "per cent"),
        ("pre_quantization_optimization(activation_clipping, layers={*}, clipping_values=[2, 1])", "per cent"),
        ("pre_quantization_optimization(activation_clipping, layers={*}, clipping_values=[1])", "per cent"),
    ],
)
def test_unusable_optimization_statements_are_explained(text: str, need: str) -> None:
    with pytest.raises(ScriptError) as caught:
        plan(parse_script(text))
    (diagnostic,) = caught.value.diagnostics
    assert need in f"{diagnostic.need} {' '.join(diagnostic.levers)}"
    assert diagnostic.where.startswith("model script:1:")


def test_parts_that_are_not_built_are_warned_about_once_per_command() -> None:
    fate = plan(
        parse_script(
            "model_optimization_flavor(optimization_level=4, compression_level=2)\n"
            "performance_param(compiler_optimization_level=max, fps=3)\n"
        )
    )
    assert [d.code for d in fate.warnings] == ["W-SCRIPT-NOT-BUILT"] * 2
    assert [d.rule.partition(" is not built")[0] for d in fate.warnings] == [
        "model_optimization_flavor: optimization_level=4, compression_level=2",
        "performance_param: compiler_optimization_level=max, fps=3",
    ]
    assert fate.optimize_options(OptimizeOptions()) == OptimizeOptions()


def plan_text(text: str) -> ScriptPlan:
    return plan(parse_script(text))


def test_batch_is_read_and_checked() -> None:
    assert plan_text("performance_param(fps=3)").compile_options(CompileOptions()) == CompileOptions()
    fate = plan_text("performance_param(optimize_for_batch=8)\nperformance_param(optimize_for_batch=16, fps=3)")
    assert fate.compile_options(CompileOptions()) == CompileOptions(batch=16)
    assert len(fate.supported) == 1
    assert [d.rule.partition(";")[0] for d in fate.warnings] == [
        "performance_param: fps=3 is not built yet and is left out"
    ]
    for bad in ("0", "-1", "65537", "1.5", "True", "max", "[8]"):
        with pytest.raises(ScriptError, match="optimize_for_batch is not a whole number in its range"):
            plan_text(f"performance_param(optimize_for_batch={bad})")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("model_optimization_config(calibration, batch_size=2)\n", "", True),
        ("pre_quantization_optimization(equalization, policy=disabled, layers=[conv1])\n", "", False),
        ("context_switch_param(mode=enabled)\ncontext_switch_param(mode=automatic)\n", "", True),
        ("resources_param(max_utilization=0.5)\nresources_param(max_memory_utilization=0.7)\n",
         "context_switch_param(max_memory_utilization=0.7, max_compute_utilization=0.5, max_control_utilization=0.5)\n",
         True),
        ("quantization_param(a, precision_mode=a8_w8)\nquantization_param(b, precision_mode=a8_w8_a16)\n",
         "quantization_param(b, precision_mode=a8_w8_a16)\nquantization_param(a, precision_mode=a8_w8)\n", False),
        ("post_quantization_optimization(bias_correction, layers=[a])\n"
         "post_quantization_optimization(bias_correction, policy=disabled)\n",
         "post_quantization_optimization(bias_correction, policy=disabled)\n", True),
    ],
)  # fmt: skip
def test_scripts_that_ask_for_the_same_are_the_same(one: str, other: str, same: bool) -> None:
    """Later lines win, whatever they replace; what only takes an earlier line back leaves nothing."""
    last = "model_optimization_config(calibration, batch_size=4)\n"
    asked = [plan_text(text + last) for text in (one, other)]
    effects = [(found.optimize_effects, found.compile_effects) for found in asked]
    assert (effects[0] == effects[1]) == same
    if same:
        options = [(a.optimize_options(OptimizeOptions()), a.compile_options(CompileOptions())) for a in asked]
        assert options[0] == options[1]
