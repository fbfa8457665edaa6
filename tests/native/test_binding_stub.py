# SPDX-License-Identifier: Apache-2.0
"""The stub of the native module says what the module has: names, parameters, defaults, and what its dicts hold."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.hef.microcode import Opcode, TensorRole
from native.programs import Builder, add_pipeline, hef_of, in_shared_contexts

native = pytest.importorskip("headrace.runtime._native", reason="the native module is not built")

STUB = Path(__file__).resolve().parents[2] / "src" / "headrace" / "runtime" / "_native.pyi"
TREE = ast.parse(STUB.read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
DICTS = {name for name, node in CLASSES.items() if [ast.unparse(b) for b in node.bases] == ["TypedDict"]}
ALIASES = {"Array"}  # of the stub only


def functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def erased(annotation: ast.expr | None) -> str:
    """A type without its parameters and module, dicts of known keys as dict: as much as the module says of it."""
    assert annotation is not None
    if isinstance(annotation, ast.BinOp):
        return f"{erased(annotation.left)} | {erased(annotation.right)}"
    if isinstance(annotation, ast.Subscript):
        return erased(annotation.value)
    name = ast.unparse(annotation).rpartition(".")[2]
    return "dict" if name in DICTS else name


def signature(node: ast.FunctionDef) -> tuple[Any, ...]:
    """(parameters with their types, defaults, return type)."""
    arguments = node.args
    assert not arguments.posonlyargs and not arguments.kwonlyargs, f"{node.name}: every parameter has a name"
    parameters = [(a.arg, "" if a.arg == "self" else erased(a.annotation)) for a in arguments.args]
    return parameters, [ast.literal_eval(d) for d in arguments.defaults], erased(node.returns)


def said(function: Any) -> tuple[Any, ...]:
    """The same from the module: nanobind puts it in front of the description."""
    line = function.__doc__.splitlines()[0]
    (node,) = ast.parse(f"def {line}: ...").body
    assert isinstance(node, ast.FunctionDef)
    return signature(node)


def names(owner: Any) -> set[str]:
    return {name for name in vars(owner) if not name.startswith("_")}


def test_every_name_is_in_both() -> None:
    types_only = DICTS | ALIASES
    assigned = {
        t.id for node in TREE.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    assert set(CLASSES) | set(functions(TREE.body)) | assigned == names(native) | types_only


def test_functions_have_the_parameters_of_the_stub() -> None:
    for name, node in functions(TREE.body).items():
        assert signature(node) == said(getattr(native, name)), name


@pytest.mark.parametrize("name", ["Device", "Network"])
def test_classes_have_the_members_of_the_stub(name: str) -> None:
    cls, members = getattr(native, name), functions(CLASSES[name].body)
    assert set(members) - {"__init__"} == names(cls)
    for member, node in members.items():
        found = vars(cls)[member]
        if [ast.unparse(d) for d in node.decorator_list] == ["property"]:
            assert isinstance(found, property), member
            returned = found.__doc__.rpartition("-> ")[2].splitlines()[0]
            assert returned == erased(node.returns), member
        else:
            assert signature(node) == said(found), member


def fields(name: str) -> dict[str, str]:
    return {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for node in CLASSES[name].body
        if isinstance(node, ast.AnnAssign)
    }


def check_dict(value: dict[str, Any], name: str) -> None:
    """Keys and, as deep as the stub says, the types of the values."""
    wanted = fields(name)
    assert set(value) == set(wanted), name
    for key, annotation in wanted.items():
        check_value(value[key], ast.parse(annotation, mode="eval").body, f"{name}.{key}")


def check_value(value: Any, annotation: ast.expr, where: str) -> None:
    text = ast.unparse(annotation)
    if text in DICTS:
        check_dict(value, text)
    elif isinstance(annotation, ast.Subscript):
        assert type(value).__name__ == ast.unparse(annotation.value), where
        inside = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        several = len(inside) == 1 or ast.unparse(inside[-1]) == "..."
        assert several or len(inside) == len(value), where
        for i, element in enumerate(value):
            check_value(element, inside[0 if several else i], where)
    else:
        assert type(value).__name__ == text, where


def network(own: bool) -> Any:
    b = Builder()
    x = b.tensor("x", (2, 3, 4), 0, TensorRole.INPUT)
    for name in "abcde":
        y = b.tensor(name, (2, 3, 4), 0, TensorRole.INTERNAL)
        b.kernel(name, Opcode.RESHAPE, [x], y)
        x = y
    scales = (np.array([640, 0.25, 1, 3]), np.array([0, 128, -976000, 7])) if own else None
    b.kernel("z", Opcode.RESHAPE, [x], b.tensor("z", (2, 3, 4), 0, TensorRole.OUTPUT, channels=scales))
    b.build()
    add_pipeline(b.program)
    return native.Device(None, 1).load(hef_of(in_shared_contexts(b.program) if own else b.program))


@pytest.mark.parametrize("own", [False, True], ids=["plain", "scales per channel, contexts"])
def test_dicts_hold_what_the_stub_says(own: bool) -> None:
    net = network(own)
    net.set_host_profiling(True)
    net.infer({"x": np.zeros((2, 2, 3, 4), np.uint8)})
    for streams in (net.inputs, net.outputs):
        assert streams
        for stream in streams:
            check_dict(stream, "StreamInfo")
    assert net.outputs[0]["channel_scales"] or not own
    for layer in net.layers:
        check_dict(layer, "LayerInfo")
    assert net.host_profile()["frames"] == 2
    check_dict(net.host_profile(), "HostProfile")
    timing = net.timing()
    assert timing["stages"] and bool(timing["contexts"]) == own
    check_dict(timing, "Timing")


def test_errors_are_data() -> None:
    """Of a call and of a binding's own check: each part in its place, nothing to take apart."""
    with pytest.raises(native.NativeError) as caught:
        native.verify(b"")
    (problem,) = caught.value.problems
    assert caught.value.status == 91 and problem.code == "E-DEVICE-91"
    assert problem == native.Problem(
        "E-DEVICE-91", "HEF header", "invalid HEF header", "0 bytes", "at least 56 bytes", ""
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.status, again.problems, str(again)) == (91, caught.value.problems, str(caught.value))
    assert list(fields("Problem")) == list(native.Problem._fields)
    assert set(vars(caught.value)) == set(fields("NativeError"))
    net = network(False)
    with pytest.raises(native.NativeError) as caught:
        net.infer({"x": np.zeros((1, 2, 3, 5), np.uint8)})
    (problem,) = caught.value.problems
    assert problem.where == "input x" and problem.got == "(1, 2, 3, 5) of 8 bits"
    assert problem.need == "(batch, 2, 3, 4) uint8"


def test_a_run_that_is_cancelled_says_so_as_data() -> None:
    b = Builder()
    x = b.tensor("x", (256, 256, 16), 0, TensorRole.INPUT)
    b.kernel(
        "y",
        Opcode.TRANSPOSE,
        [x],
        b.tensor("y", (256, 256, 16), 0, TensorRole.OUTPUT),
        permutation=1 | 0 << 8 | 2 << 16,
    )
    net = native.Device(None, 1).load(b.build())
    ends: list[tuple[int, Any]] = []
    for _ in range(8):
        net.submit({"x": np.zeros((2, 256, 256, 16), np.uint8)}, False, lambda s, p, _o: ends.append((s, p)))
    net.cancel_all()
    assert len(ends) == 8
    cancelled = [problems for status, problems in ends if status == 1002]
    assert cancelled and all(status in (0, 1002) for status, _ in ends)
    for (problem,) in cancelled:
        assert isinstance(problem, native.Problem)
        assert (problem.code, problem.where) == ("E-DEVICE-1002", "job") and "closed before" in problem.rule
    assert all(problems == () for status, problems in ends if status == 0)
