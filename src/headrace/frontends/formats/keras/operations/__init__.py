# SPDX-License-Identifier: Apache-2.0
"""Operations of ``keras.ops`` in ONNX words, one file per family; importing the package registers all converters."""

from headrace.frontends.formats.keras.operations import elementwise, more, shape, tensorflow

__all__ = ["elementwise", "more", "shape", "tensorflow"]
