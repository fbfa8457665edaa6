# SPDX-License-Identifier: Apache-2.0
"""Operations recognized in source graphs that write them out, one pattern per file."""

from headrace.frontends.patterns.by_sign import BySign
from headrace.frontends.patterns.gelu import GELU
from headrace.frontends.patterns.gelu_tanh import GELUTanh
from headrace.frontends.patterns.hard_sigmoid import HardSigmoid
from headrace.frontends.patterns.hard_swish import HardSwish
from headrace.frontends.patterns.mish import Mish
from headrace.frontends.patterns.pattern import Match, NoMatch, Pattern, apply_patterns
from headrace.frontends.patterns.silu import SiLU
from headrace.frontends.patterns.softplus import Softplus
from headrace.frontends.patterns.two_slopes import TwoSlopes

#: In order of trial at each node.
PATTERNS: tuple[Pattern, ...] = (
    HardSwish(), SiLU(), GELU(), GELUTanh(), Softplus(), Mish(), HardSigmoid(), BySign(), TwoSlopes(),
)  # fmt: skip

__all__ = ["PATTERNS", "Match", "NoMatch", "Pattern", "apply_patterns"]
