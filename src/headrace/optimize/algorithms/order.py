# SPDX-License-Identifier: Apache-2.0
"""The optimization algorithms, in the order of their turns.

Ranges first, for they give the first trial. Gains for channels change what ranges see, so they come before biases are
corrected on them; scale moves between layers are judged after that (they gain before it, and may lose after: decision
6). Sixteen bits and copies are paid for by the device, and are tried when what is free has been. Weights are rounded
for what there is at the end.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.optimize.algorithms.activation_ranges import ActivationRanges
from headrace.optimize.algorithms.algorithm import Algorithm
from headrace.optimize.algorithms.bias_correction import BiasCorrection
from headrace.optimize.algorithms.channel_copies import ChannelCopies
from headrace.optimize.algorithms.channel_scales import ChannelScales
from headrace.optimize.algorithms.equalization import Equalization
from headrace.optimize.algorithms.output_precision import OutputPrecision
from headrace.optimize.algorithms.weight_rounding import WeightRounding

ALGORITHMS: tuple[Algorithm, ...] = (
    ActivationRanges(),
    ChannelScales(),
    BiasCorrection(),
    Equalization(),
    OutputPrecision(),
    ChannelCopies(),
    WeightRounding(),
)


#: Switches that reports have had from the first, in whose order they stay there; further ones come behind.
_FIRST_REPORTED = ("equalization", "weight_rounding", "bias_correction")


def switches(algorithms: Iterable[Algorithm]) -> tuple[str, ...]:
    """Names of the options that turn algorithms off, each once, in the order of reports."""
    found = dict.fromkeys(one.switch for one in algorithms if one.switch)
    first = [name for name in _FIRST_REPORTED if name in found]
    return (*first, *(name for name in found if name not in first))


__all__ = ["ALGORITHMS", "switches"]
