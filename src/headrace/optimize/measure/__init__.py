# SPDX-License-Identifier: Apache-2.0
"""Figures of how a quantised network differs from float, and of how much noise its outputs bear."""
