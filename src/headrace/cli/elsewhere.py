# SPDX-License-Identifier: Apache-2.0
"""Commands that people know from other tools of this kind: what does their job here today, or that nothing does yet."""

from __future__ import annotations

from headrace.errors import Diagnostic, HeadraceError, NotBuiltYetError, UsageError

#: Command → (whether something here does its job, what to say).
_ELSEWHERE: dict[str, tuple[bool, str, tuple[str, ...]]] = {
    "analyze-noise": (
        True,
        "the noise of every layer is measured by optimize and kept in the HAR",
        ("headrace profile NET_optimized.har", "headrace profile NET_optimized.har --json"),
    ),
    "visualizer": (False, "graphs are not drawn yet", ("headrace profile NET.har lists the layers",)),
    "params-csv": (
        False,
        "parameters are not written as CSV yet",
        ("headrace har extract NET.har writes them as .npz, which NumPy reads",),
    ),
    "join": (
        False,
        "networks cannot be joined yet",
        ("join the models before parsing, for example with onnx.compose",),
    ),
    "run2": (
        False,
        "running several networks side by side is not built for the command line yet",
        ("headrace run NET.hef runs one", "in Python, one headrace.runtime.VDevice takes several networks"),
    ),
    "monitor": (False, "watching devices in use is not built yet", ("headrace benchmark NET.hef --by-layer",)),
    "fw-control": (
        True,
        "a virtual device has no firmware",
        ("headrace devices says what devices there are", "headrace hef info NET.hef says what a HEF needs"),
    ),
    "har-onnx-rt": (False, "HEFs cannot be wrapped as ONNX models yet", ("headrace run NET.hef",)),
    "tb": (False, "summaries for TensorBoard are not built", ("headrace profile NET.har",)),
    "tutorial": (True, "the guide is text", ("read docs/guide/getting-started.md", "make demo runs everything once")),
    "dfc-studio": (False, "the Studio is not built yet", ("headrace profile NET.har",)),
    "runtime-profiler": (False, "traces of the run time are not built yet", ("headrace benchmark NET.hef --by-layer",)),
    "measure-power": (False, "power is not modelled", ()),
    "measure-nnc-performance": (True, "benchmark measures this", ("headrace benchmark NET.hef",)),
    "mem-req": (
        True,
        "what a network takes of the device's memory stands in the profile",
        ("headrace profile NET_compiled.har",),
    ),
    "logs": (True, "there are no device logs", ("--log-file FILE on any command",)),
    "eval": (
        False,
        "accuracy on labelled data is not measured by a command yet",
        ("headrace run NET.hef writes outputs",),
    ),
}
_SAME = {
    "analyse-noise": "analyze-noise", "visualize": "visualizer", "visualise": "visualizer", "studio": "dfc-studio",
    "fw-config": "fw-control", "fw-update": "fw-control", "fw-logger": "logs", "ssb-update": "fw-control",
    "sensor-config": "fw-control", "udp-rate-limiter": "fw-control",
}  # fmt: skip

NAMES = frozenset(_ELSEWHERE) | frozenset(_SAME)


def error_for(name: str) -> HeadraceError:
    """What to say to somebody who types a command of :data:`NAMES`."""
    there, rule, levers = _ELSEWHERE[_SAME.get(name, name)]
    kind = UsageError if there else NotBuiltYetError
    code = "E-CLI-ELSEWHERE" if there else "E-CLI-NOT-BUILT"
    return kind(Diagnostic(code, f"headrace {name}", rule, levers=levers))


__all__ = ["NAMES", "error_for"]
