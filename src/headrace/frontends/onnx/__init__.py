# SPDX-License-Identifier: Apache-2.0
"""Reading ONNX files into the source graph."""
