# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic: the normative reference of docs/numerics.md."""
