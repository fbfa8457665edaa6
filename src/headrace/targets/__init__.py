# SPDX-License-Identifier: Apache-2.0
"""Device descriptions: one TOML file per target and its dataclass."""

from headrace.targets.description import (
    Target,
    archived_target,
    is_built_in,
    list_targets,
    load_target,
    parse_target,
    target_of,
)

__all__ = ["Target", "archived_target", "is_built_in", "list_targets", "load_target", "parse_target", "target_of"]
