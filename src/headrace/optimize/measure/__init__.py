# SPDX-License-Identifier: Apache-2.0
"""Figures of how a quantized network differs from float, and of how much noise its outputs bear."""
