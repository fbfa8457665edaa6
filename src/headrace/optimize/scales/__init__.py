# SPDX-License-Identifier: Apache-2.0
"""From what was measured to one quantization per tensor: which share a scale, and which range it spans."""
