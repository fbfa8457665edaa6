# SPDX-License-Identifier: Apache-2.0
"""Ways to come nearer to float, one file each."""
