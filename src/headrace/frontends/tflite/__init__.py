# SPDX-License-Identifier: Apache-2.0
"""TFLite files into the source graph: a bounds-checked reader, and each operator said in ONNX words."""
