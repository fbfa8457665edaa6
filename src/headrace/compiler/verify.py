# SPDX-License-Identifier: Apache-2.0
"""What must hold of every program before it leaves the compiler, checked on the bytes read again.

The device verifies the same and more at load. Here a broken rule is our mistake.
"""

from __future__ import annotations

from collections.abc import Iterator

from headrace.errors import Diagnostic, InternalError
from headrace.hef.kernel import Role
from headrace.hef.microcode import NONE, Program, TensorRole, decode, encode


def verify(program: Program) -> bytes:
    """Encode, read again and check.

    Returns:
        The encoded program.

    Raises:
        InternalError: a structural invariant does not hold.
    """
    data = encode(program)
    again = decode(data)
    broken = [*_round_trip(program, again), *_dataflow(again), *_resources(again), *_contexts(again), *_edges(again)]
    if broken:
        raise InternalError(broken)
    return data


def _problem(where: str, rule: str, got: object, need: object) -> Diagnostic:
    return Diagnostic("E-COMPILE-VERIFY", where, rule, str(got), str(need))


def _round_trip(program: Program, again: Program) -> Iterator[Diagnostic]:
    if encode(again) != encode(program):
        yield _problem("program", "reading the bytes again gives another program", "other bytes", "the same")


def _dataflow(p: Program) -> Iterator[Diagnostic]:
    written = [t.role == TensorRole.INPUT for t in p.tensors]
    for kernel in p.kernels:
        where = p.name_of(kernel)
        unread = [p.name_of(p.tensors[t]) for t in p.inputs_of(kernel) if not written[t]]
        if unread:
            yield _problem(where, "it reads tensors that nothing has written", unread, "earlier kernels' outputs")
        if written[kernel.output]:
            yield _problem(where, "its output is written twice", p.name_of(p.tensors[kernel.output]), "once")
        written[kernel.output] = True
        for role in Role:
            offset = role.read(kernel)
            if offset != NONE and offset >= len(p.constants):
                yield _problem(where, "a constant lies outside the constants", offset, f"below {len(p.constants)}")


def _resources(p: Program) -> Iterator[Diagnostic]:
    t = p.target
    limits = {
        "controllers": t.controllers_per_cluster * t.clusters,
        "subclusters": t.subclusters_per_cluster * t.clusters,
        "memory_units": t.memory_units_per_cluster * t.clusters,
    }
    for number in range(len(p.contexts)):
        for name, limit in limits.items():
            used = sum(getattr(s, name) for s in p.stages if p.kernels[s.kernel].context == number)
            if used > limit:
                where = f"stages of context {number}"
                yield _problem(where, f"they use more {name} than the target has", used, limit)
    for i, stage in enumerate(p.stages):
        owner = p.stages[i - stage.shares]
        if stage.shares and (
            owner.shares or owner.controllers != 1 or stage.controllers or owner.cluster != stage.cluster
        ):
            yield _problem(p.name_of(p.kernels[stage.kernel]), "it cannot share that controller", stage, owner)
    if [s.kernel for s in p.stages] != list(range(len(p.kernels))):
        yield _problem("stages", "every kernel has one stage", len(p.stages), len(p.kernels))
    for stage in p.stages:
        if stage.cluster >= t.clusters or stage.rows != p.tensors[p.kernels[stage.kernel].output].height:
            yield _problem(
                p.name_of(p.kernels[stage.kernel]), "its stage is not valid", stage, "a cluster, the output's rows"
            )


def _crossing(p: Program) -> list[int]:
    """Tensors that one context writes and a later one reads."""
    home = {k.output: k.context for k in p.kernels}
    found = {t: None for k in p.kernels for t in p.inputs_of(k) if home.get(t, k.context) != k.context}
    return list(found)


def _contexts(p: Program) -> Iterator[Diagnostic]:
    """Contexts cover the kernels in order, and their cut tensors are those of the graph."""
    home = {k.output: k.context for k in p.kernels}
    next_kernel = 0
    for number, context in enumerate(p.contexts):
        mine = p.kernels[next_kernel : next_kernel + context.kernel_count]
        if context.first_kernel != next_kernel or any(k.context != number for k in mine) or not mine:
            yield _problem(f"context {number}", "its kernels do not follow the context before", context, next_kernel)
        next_kernel += context.kernel_count
        entering = {t: None for k in mine for t in p.inputs_of(k) if home.get(t, number) != number}
        leaving = [t for t in _crossing(p) if home[t] == number]
        sums = tuple(
            sum(r.height * r.width * r.channels * r.element_bytes for r in (p.tensors[t] for t in tensors)
                if r.role == TensorRole.INTERNAL)
            for tensors in (entering, leaving)
        )  # fmt: skip
        if sums != (context.cut_input_bytes, context.cut_output_bytes):
            yield _problem(f"context {number}", "its cut bytes are not those of the graph", context, sums)
    if next_kernel != len(p.kernels):
        yield _problem("contexts", "they do not cover the kernels", next_kernel, len(p.kernels))


def _edges(p: Program) -> Iterator[Diagnostic]:
    edges = {(t, i, j) for i, k in enumerate(p.kernels) for j, t in enumerate(p.inputs_of(k))}
    edges |= {(i, NONE, 0) for i, t in enumerate(p.tensors) if t.role == TensorRole.OUTPUT}
    edges |= {(t, NONE, 0) for t in _crossing(p)}
    have = [(b.tensor, b.consumer, b.operand) for b in p.buffers]
    if sorted(have) != sorted(edges):
        yield _problem("buffers", "every edge has one buffer", len(have), len(edges))
    for buffer in p.buffers:
        if buffer.capacity_rows < 1:
            yield _problem(
                p.name_of(p.tensors[buffer.tensor]), "a buffer holds no row", buffer.capacity_rows, "at least 1"
            )
