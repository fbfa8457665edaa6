# SPDX-License-Identifier: Apache-2.0
"""From the source graph to HN in layers: the builder emits, operands are read and checked, compositions are small
networks of layers, and a handler translates an operator with them. Importing the package registers all handlers.
"""

from headrace.frontends.to_hn import handlers
from headrace.frontends.to_hn.builder import Builder
from headrace.frontends.to_hn.operands import SourceNode
from headrace.frontends.to_hn.registry import HANDLERS, Result

__all__ = ["HANDLERS", "Builder", "Result", "SourceNode", "handlers"]
