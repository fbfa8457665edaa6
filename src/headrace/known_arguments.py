# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``ClientRunner`` that people know from another toolchain: what is said of each that does nothing here.

An argument acts or is refused. It passes without effect only where its value asks for what happens anyway.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import Diagnostic, HeadraceError, NotBuiltYetError, UsageError, unknown_name
from headrace.text import shortened

_ANYTHING = object()
_SHOWN = 80


@dataclass(frozen=True)
class KnownArgument:
    """One argument.

    Attributes:
        rule: what is not done, as a sentence.
        levers: what to do instead.
        same: values that ask for what happens anyway.
    """

    rule: str
    levers: tuple[str, ...]
    same: tuple[object, ...] = ()

    def asks_for_nothing(self, value: object) -> bool:
        """Whether a value asks for what happens anyway."""
        return value is None or any(
            one is _ANYTHING or (type(one) is type(value) and one == value) for one in self.same
        )


_METADATA = KnownArgument(
    "what is cut off the source model is not kept for the run time yet",
    ("run it beside the network, for example with ONNX Runtime",),
    (True,),
)
_LEAVE_OUT = "leave the argument out"
_SCRATCH = KnownArgument("no scratch files are written", (_LEAVE_OUT,), (_ANYTHING,))
_DATA_TYPE = KnownArgument("what data are is seen from them", (_LEAVE_OUT,), ("auto",))

#: Method → argument → what is said of it.
ARGUMENTS: dict[str, dict[str, KnownArgument]] = {
    "translate_onnx_model": {
        "disable_rt_metadata_extraction": _METADATA,
        "augmented_path": KnownArgument(
            "the source model is not written with the network's tensors yet",
            ("get_hn() has the source names of every layer: original_names",),
        ),
        "net_input_format": KnownArgument(
            "the layout of inputs follows from the graph", (_LEAVE_OUT, "parse_report says what was found")
        ),
    },
    "translate_tf_model": {"disable_rt_metadata_extraction": _METADATA},
    "optimize_full_precision": {"data_type": _DATA_TYPE, "work_dir": _SCRATCH},
    "optimize": {"data_type": _DATA_TYPE, "work_dir": _SCRATCH},
    "infer_context": {
        "nms_score_threshold": KnownArgument(
            "boxes are not selected inside the network yet", ("select them from the outputs, by score",)
        ),
        "custom_infer_config": KnownArgument(
            "the emulator has one way of computing, which is the device's",
            ("SDK_NATIVE and SDK_FP_OPTIMIZED are float, SDK_QUANTIZED is exact",),
        ),
    },
    "profile": {
        "should_use_logical_layers": KnownArgument(
            "the report is by layers of the network, not by parts on the device", (_LEAVE_OUT,), (True,)
        ),
        "runtime_data": KnownArgument(
            "measurements of a run are not read yet", ("headrace benchmark NET.hef --by-layer measures this computer",)
        ),
        "hef_filename": KnownArgument(
            "a HEF is not joined with a HAR of an earlier state yet",
            ("profile the HAR that compile() and save_har() leave", "headrace hef info NET.hef"),
        ),
    },
}


def check_arguments(method: Callable[..., Any], given: Mapping[str, object]) -> None:
    """Judge the arguments of a call that the method itself does not act on.

    Args:
        method: of ``ClientRunner``.
        given: by name.

    Raises:
        UsageError: there is no argument of a name. NotBuiltYetError: it asks for something that is not done.
    """
    known = ARGUMENTS.get(method.__name__, {})
    own = [name for name, one in inspect.signature(method).parameters.items() if one.kind is not one.VAR_KEYWORD]
    unknown: list[Diagnostic] = []
    refused: list[Diagnostic] = []
    for name, value in given.items():
        one = known.get(name)
        if one is None:
            names = [*(n for n in own if n != "self"), *known]
            unknown.append(unknown_name("E-RUNNER-ARGUMENT", "argument", name, names, method.__name__))
        elif not one.asks_for_nothing(value):
            got = shortened(repr(value), _SHOWN)
            refused.append(
                Diagnostic("E-RUNNER-ARGUMENT", f"{method.__name__}({name}=…)", one.rule, got, levers=one.levers)
            )
    if unknown or refused:
        kind: type[HeadraceError] = UsageError if unknown else NotBuiltYetError
        raise kind([*unknown, *refused])
