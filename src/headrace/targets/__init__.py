# SPDX-License-Identifier: Apache-2.0
"""Device descriptions: one TOML file per target and its dataclass."""
