# SPDX-License-Identifier: Apache-2.0
"""Operations of ``keras.ops`` in ONNX words, one file per family; importing the package registers all converters."""

from headrace.frontends.formats.keras.operations import elementwise, shape, tensorflow, written_out

__all__ = ["elementwise", "shape", "tensorflow", "written_out"]
