# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets: one for each reader of untrusted files (docs/decisions/0045-fuzz-targets.md).

``python -m fuzz`` in ``tests/`` lists them, ``make fuzz TARGET=onnx SECONDS_EACH=600`` runs one.
"""
