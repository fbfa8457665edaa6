# SPDX-License-Identifier: Apache-2.0
"""Frames from what people have: one reader for calibration, `run`, ``infer`` and the Python run time.

Needs neither torch nor onnx; pictures need Pillow.
"""
