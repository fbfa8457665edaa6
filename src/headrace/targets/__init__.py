# SPDX-License-Identifier: Apache-2.0
"""Device descriptions: one TOML file per target and its dataclass."""

from headrace.targets.description import Target, list_targets, load_target, parse_target, target_of

__all__ = ["Target", "list_targets", "load_target", "parse_target", "target_of"]
