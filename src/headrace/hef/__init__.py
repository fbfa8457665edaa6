# SPDX-License-Identifier: Apache-2.0
"""The executable: container, description schema, instruction set and its listing."""
