# SPDX-License-Identifier: Apache-2.0
"""From what was measured to one quantisation per tensor: which share a scale, and which range it spans."""
