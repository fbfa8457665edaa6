# SPDX-License-Identifier: Apache-2.0
"""Which function translates which operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.frontends.layout import View
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.operands import SourceNode
from headrace.hn import Array
from headrace.hn.registering import entering

#: What a source value is: known now, or a tensor of the device.
Result = View | Array
#: Gives the node's results, one per output; raises Unsupported for what it does not translate, and nothing else.
Handler = Callable[[Builder, SourceNode], Sequence[Result]]
HANDLERS: dict[str, Handler] = {}


def handles(*operators: str) -> Callable[[Handler], Handler]:
    """Register a function as the translation of operators of the default domain."""
    return entering(HANDLERS, operators)
