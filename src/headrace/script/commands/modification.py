# SPDX-License-Identifier: Apache-2.0
"""Commands that change the float network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from headrace.hn.stages import OPTIMIZE_FULL_PRECISION
from headrace.script.arguments import Argument, InputLayer, Numbers, argument, keys, required
from headrace.script.fates import ANYWAY, REFUSED
from headrace.script.forms import Form, ModificationCommand, Resolving, acts, idle

if TYPE_CHECKING:
    from headrace.passes import Pass

MAX_CHANNELS = 65536
_CHANNELS = Numbers(MAX_CHANNELS)


@acts("normalization", makes_layers=True)
@dataclass(frozen=True)
class Normalization(ModificationCommand):
    """``name = normalization(mean, std[, input_layer])``: the device computes ``(x − mean) / std`` per channel.

    Attributes:
        inputs: the inputs it follows by HN name, and the names of the new layers (None: the next free one); where no
            network is known, what the script says of them.
    """

    mean: tuple[float, ...] = required(_CHANNELS, "one per channel, in the units of the input", 0)
    std: tuple[float, ...] = required(_CHANNELS, "as long as `mean`, none of them 0", 1)
    input_layer: str | None = argument(
        InputLayer(), None, "the input that it follows; without it there is one for every input", position=2
    )
    inputs: tuple[tuple[str | None, str | None], ...] = ()

    def resolved(self, resolving: Resolving) -> Self | None:
        """Checked against the network, with its layers' names known to later lines."""
        if len(self.mean) != len(self.std):
            rule = f"normalization has {len(self.mean)} means and {len(self.std)} standard deviations"
            resolving.bad(rule, "one of each per channel")
            return None
        if any(value == 0 for value in self.std):
            resolving.bad("a standard deviation is 0, and it divides", "numbers other than 0")
            return None
        inputs = resolving.finder.normalize(self.statement, self.input_layer, len(self.mean))
        return None if inputs is None else dataclasses.replace(self, inputs=inputs)

    def passes(self) -> tuple[Pass, ...]:
        """One for every input."""
        from headrace.passes.insert_normalization import InsertNormalization

        return tuple(InsertNormalization(self.mean, self.std, layer, name) for layer, name in self.inputs)


def _refused(
    row: str, arguments: tuple[Argument, ...] | None = (), positional: tuple[int, int] = (0, 64), layers_at: str = ""
) -> Form:
    return idle(row, OPTIMIZE_FULL_PRECISION, REFUSED, arguments, positional=positional, layers_at=layers_at)


FORMS: tuple[Form, ...] = (
    Normalization.form,
    _refused("input_conversion", keys("emulator_support"), (1, 2), "*-"),
    _refused("resize", keys("resize_shapes resize_method engine pixels_mode"), (0, 2), "0"),
    _refused("resize_input", keys("resize_method engine"), (1, 2), "1"),
    _refused("yuv_to_rgb", (), (0, 1), "0"),
    _refused("transpose", (), (0, 1), "0"),
    _refused("change_output_activation", keys("activation"), (1, 2), "*-"),
    _refused("logits_layer", keys("engine"), (2, 4), "0"),
    _refused("remove_node", (), (1, 1), "0"),
    _refused("convert_to_dense", (), (1, 1), "0"),
    _refused("set_kv_cache_global_params", keys("prefill_size cache_size")),
    _refused("set_input_mask_to_softmax"),
    _refused("llm_modifications", None),
    idle(
        "set_seed",
        OPTIMIZE_FULL_PRECISION,
        ANYWAY,
        keys("seed"),
        positional=(0, 1),
        note="nothing here draws random numbers",
    ),
)
