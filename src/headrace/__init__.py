# SPDX-License-Identifier: Apache-2.0
"""Headrace: an open dataflow compiler."""

__version__ = "0.1.0"
