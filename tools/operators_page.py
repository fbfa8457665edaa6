# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/operators.md: what is translated, from which format, with each limit in the words of its check.

The registries say which operators there are, the checks in the handlers what they need, and the backend node tests of
the installed onnx package (``--measure``: some minutes) what comes of each.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import onnx

from headrace.frontends.fold import EVALUATORS
from headrace.frontends.formats.keras import layers as keras_layers
from headrace.frontends.formats.keras import operations as keras_operations
from headrace.frontends.formats.keras.build import LAYERS as KERAS
from headrace.frontends.formats.keras.build import OPERATIONS as KERAS_OPERATIONS
from headrace.frontends.formats.onnx.functions import NEVER as _NEVER
from headrace.frontends.formats.tensorflow import operators as tensorflow_operators
from headrace.frontends.formats.tensorflow.build import CONVERTERS as TENSORFLOW
from headrace.frontends.formats.tflite import operators as tflite_operators
from headrace.frontends.formats.tflite.build import CONVERTERS as TFLITE
from headrace.frontends.to_hn import HANDLERS
from headrace.frontends.translate import RANDOM

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "operators.md"
COUNTS = ROOT / "docs" / "reference" / "operator-tests.json"

_FORMATS = "headrace.frontends.formats"
#: Of a call: what puts the operator of an activation in the place of its name.
_METHODS = ("activation", "activated")
#: Moves and sizes that stand around what an operator is.
_GLUE = frozenset({
    "Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Range", "Reshape",
    "Shape", "Size", "Slice", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
_WORDS = (
    "What the converter may emit, with the limits that the ONNX table gives for each; `in part`: some forms of the",
    "operator need one that the device does not have, which then runs on the host. A row without words makes no node:",
    "it is known when the file is read, handed through, or refused with a reason.",
)


def _words(node: ast.expr | None) -> str:
    """A text of the source, with … for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_words(v) if isinstance(v, ast.Constant) else "…" for v in node.values)
    return ""


def limits(function: Any) -> list[str]:
    """What the checks of a handler need, each once, in their order."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Unsupported", "MixesFrames"):
            needs = _words(node.args[1]) if len(node.args) > 1 else ""
            reason = _words(node.args[0]) if node.args else ""
            text = f"needs {needs}" if needs else f"not: {reason}"
            if needs or reason.strip("…"):
                found[text.replace("|", "\\|")] = None
    return list(found)


def _measured(kind: str = "operators") -> dict[str, dict[str, int]]:
    return json.loads(COUNTS.read_text()).get(kind, {}) if COUNTS.exists() else {}


def _tests(counts: dict[str, int]) -> str:
    if not counts:
        return ""
    others = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items()) if reason != "passes")
    return f"{counts.get('passes', 0)} of {sum(counts.values())}" + (f" ({others})" if others else "")


def _on_host(name: str) -> str:
    """Whether the host runs an operator of ONNX: onnxruntime has a kernel of it, or ONNX defines it by others."""
    if name in RANDOM:
        return "no: random numbers"
    facts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    if name in facts.get("kernels", ()) or _defined(name):
        return "yes"
    return "no: onnxruntime has no kernel of it" if onnx.defs.has(name) else "no: of no standard domain"


def _defined(name: str) -> bool:
    """Whether the standard defines an operator by others."""
    schema = onnx.defs.get_schema(name) if onnx.defs.has(name) else None
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _kernels() -> list[str]:
    """Operators of the standard domain of which onnxruntime has a kernel for processors."""
    state: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found = state.get_all_opkernel_def()
    named = {d.op_name for d in found if not d.domain and d.provider == "CPUExecutionProvider"}
    return sorted(named | {"Constant"})  # which it takes for a weight


def emitted(function: Any, name: str, deep: bool = False, seen: set[int] | None = None) -> set[str]:
    """Operators of ONNX that a converter may emit for an operator: names in its code, in what it calls, in tables."""
    seen = set() if seen is None else seen
    code = getattr(function, "__code__", None)
    if code is None or id(code) in seen or not str(getattr(function, "__module__", "")).startswith(_FORMATS):
        return set()
    seen.add(id(code))
    found, used = set(_texts(code)), [*code.co_names]
    reached = [function.__globals__[n] for n in used if n in function.__globals__]
    reached += [
        getattr(m, n)
        for m in reached
        if inspect.ismodule(m) and m.__name__.startswith(_FORMATS)
        for n in used
        if hasattr(m, n)
    ]
    calls = function.__globals__.get("Operation", function.__globals__.get("LayerCall"))
    reached += [getattr(calls, n) for n in used if deep and n in _METHODS and hasattr(calls, n)]
    reached += [cell.cell_contents for cell in function.__closure__ or ()]
    for thing in reached:
        if isinstance(thing, dict):
            entry = thing.get(name, thing.get(name.removeprefix("STABLEHLO_"), ()))
            for part in entry if isinstance(entry, tuple) else [entry]:
                found |= {part} if isinstance(part, str) else emitted(part, name, deep, seen)
        elif isinstance(thing, str):
            found.add(thing)
        else:
            found |= emitted(thing, name, deep, seen)
    return {t for t in found if t in HANDLERS or t in EVALUATORS or onnx.defs.has(t)}


def _same_name(name: str) -> set[str]:
    """The operator of ONNX that is called alike, for a table of functions that is reached by name alone."""
    plain = name.replace("_", "").lower()
    return {n for n in HANDLERS if n.lower() == plain}


def _texts(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from (t for t in constant if isinstance(t, str))
        elif isinstance(constant, CodeType):
            yield from _texts(constant)


def _known(name: str) -> bool:
    """Whether an operator of ONNX is translated, computed when it is known, or put in words of others."""
    return name in HANDLERS or name in EVALUATORS or (_defined(name) and name not in _NEVER)


def _constant_only(name: str) -> bool:
    """Whether an operator is computed where all it reads is known, and else not on the device."""
    return name in EVALUATORS and name not in HANDLERS and not (_defined(name) and name not in _NEVER)


def _converted(table: dict[str, Any]) -> Iterator[str]:
    """Rows of a format that is said in ONNX's words."""
    for name in sorted(table):
        words = emitted(table[name], name) or _same_name(name) or emitted(table[name], name, deep=True)
        main = {w for w in words if w not in _GLUE} or words
        missing = sorted(w for w in main if not _known(w))
        stage = "" if not words else "yes" if not missing else "no" if len(missing) == len(main) else "in part"
        if main and all(_constant_only(word) for word in main):
            stage = "constants"
        names = ", ".join(f"`{w}`" for w in sorted(main))
        why = [f"not on the device: {', '.join(f'`{w}`' for w in missing)}"] if missing else []
        host = {_on_host(w) for w in main} or {"yes"}
        there = "yes" if host == {"yes"} else "; ".join(sorted(host - {"yes"}))
        limit = "; ".join([*why, *limits(table[name])])
        yield f"| `{name}` | {names} | {stage} | {stage} | {stage} | {there} | {limit} |"


def _rows() -> Iterator[str]:
    measured, host = _measured(), _measured("host")
    for name in sorted(HANDLERS.keys() | EVALUATORS.keys() | measured.keys()):
        if name in HANDLERS:
            cells = ["yes", "yes", "yes", "; ".join(limits(HANDLERS[name]))]
        elif name in EVALUATORS:
            cells = ["constants", "constants", "constants", ""]
        elif measured.get(name, {}).get("passes"):
            cells = ["by others", "by others", "by others", ""]
        else:
            reasons = sorted(r for r in measured[name] if r != "passes")
            cells = ["no", "no", "no", f"not: {', '.join(reasons)}"]
        count = host.get(name, {}).get("host", 0)
        tests = _tests(measured.get(name, {})) + (f", {count} more with the host" if count else "")
        yield "| " + " | ".join([f"`{name}`", *cells[:3], _on_host(name), cells[3], tests]) + " |"


def page() -> str:
    """The page as Markdown."""
    assert tflite_operators  # importing the packages registers their converters
    assert tensorflow_operators
    assert keras_layers
    assert keras_operations
    facts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    lines = [
        "# Supported operators",
        "",
        "Generated by `tools/operators_page.py` from the registries and from what their checks say; do not edit.",
        "",
        "An operator that is translated runs in every stage: native, quantized and on the device. `constants`:",
        "computed when the file is read, where all operands are known; `by others`: the standard's definition stands",
        "in its place. On the host runs what onnxruntime has a kernel of, in every format, and what such define.",
        "The last column counts the backend node tests of the onnx package whose numbers come out right without the",
        "host, why the others are not on the device, and how many of them pass with the host.",
        "",
    ]
    if facts:
        lines += [facts["summary"], ""]
    lines += ["## ONNX", "", "| operator | native | quantized | device | host | limits | node tests |",
              "|---|---|---|---|---|---|---|", *_rows(), ""]  # fmt: skip
    for title, table in (
        ("TFLite", TFLITE),
        ("TensorFlow", TENSORFLOW),
        ("Keras, layers", KERAS),
        ("Keras, operations", KERAS_OPERATIONS),
    ):
        lines += [f"## {title}", "", *_WORDS, "",
                  "| operator | in ONNX's words | native | quantized | device | host | limits of its own |",
                  "|---|---|---|---|---|---|---|", *_converted(table), ""]  # fmt: skip
    return "\n".join(lines)


def measure() -> dict[str, Any]:
    """Counts of the node tests by operator, on the device and of whole models, and what they come to."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
    from backend_nodes import HOST, OTHER, PASSES, WRONG, all_cases, host_verdict, verdict

    operators: dict[str, Counter[str]] = defaultdict(Counter)
    host: dict[str, Counter[str]] = defaultdict(Counter)
    floats, passed, whole, right = 0, 0, 0, 0
    for case in all_cases():
        result = verdict(case).result
        operators[case.operator][result] += 1
        whole, right = whole + 1, right + (result == PASSES)
        if case.is_float and case.operator not in OTHER and not case.name.startswith("test_training"):
            floats, passed = floats + 1, passed + (result == PASSES)
        if result != PASSES:
            there = host_verdict(case)
            host[case.operator][there.result] += 1
            result = WRONG if WRONG in (result, there.result) else result
        if result == WRONG:
            print("wrong:", case.name, flush=True)
    reasons = sum(host.values(), Counter[str]())
    served, wrong = reasons.pop(HOST, 0), reasons.pop(WRONG, 0)
    summary = (
        f"Of {whole} node tests (those of definitions written out left out) {right} pass without the host and "
        f"{served} more with it; {sum(reasons.values())} are refused with a coded reason: "
        f"{', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))}. Wrong: {wrong}. Of the "
        f"{floats} whose tensors are all real, finite numbers (operators of training and of a preview left out) "
        f"{passed} pass without the host, {100 * passed / floats:.1f} %."
    )
    return {"summary": summary, "floats": [passed, floats], "all": [right, whole],
            "kernels": _kernels(), "operators": {k: dict(sorted(operators[k].items())) for k in sorted(operators)},
            "host": {k: dict(sorted(host[k].items())) for k in sorted(host)}}  # fmt: skip


if __name__ == "__main__":
    if "--measure" in sys.argv[1:]:
        COUNTS.write_text(json.dumps(measure(), indent=1) + "\n")
    PAGE.write_text(page())
