# SPDX-License-Identifier: Apache-2.0
"""What turns the raw outputs of detectors into boxes and their average precision: outside the compiler, on purpose."""
