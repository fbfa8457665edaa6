# SPDX-License-Identifier: Apache-2.0
"""The parts of a model that stay on the host (none yet: a network that would need one is refused when parsed)."""
