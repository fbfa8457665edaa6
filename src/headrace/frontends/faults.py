# SPDX-License-Identifier: Apache-2.0
"""Where our own functions meet what a file states: a refusal is about the file, anything else is a fault of ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from headrace.errors import HeadraceError, internal_error
from headrace.frontends.graph import Unsupported
from headrace.frontends.layout import LayoutError
from headrace.layers.attributes import AttributeRuleError


@contextmanager
def faults_at(place: str) -> Generator[None]:
    """What goes wrong inside, other than by a refusal, is a fault of ours at this place.

    Raises:
        Unsupported: as it is, or for a rule of the layer that a node would become.
        LayoutError, HeadraceError, MemoryError: as they are.
        InternalError: anything else: a rule of ours that should have refused something by name let it through.
    """
    try:
        yield
    except AttributeRuleError as rule:
        raise Unsupported(f"{rule.rule} (got {str(rule.got)[:200]})", str(rule.need)) from None
    except (Unsupported, LayoutError, HeadraceError, MemoryError):
        raise
    except Exception as error:
        raise internal_error(place, error) from error
