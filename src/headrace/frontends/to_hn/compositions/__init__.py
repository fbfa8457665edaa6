# SPDX-License-Identifier: Apache-2.0
"""Small networks of layers that several handlers make their operators of."""
