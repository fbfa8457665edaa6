# SPDX-License-Identifier: Apache-2.0
"""Parsing with options as keywords."""

from __future__ import annotations

from typing import Any

from headrace.frontends import ParseOptions, parse
from headrace.frontends.parsing import ParseResult
from headrace.frontends.reader import Given


def parse_onnx(model: Given, net_name: str | None = None, **options: Any) -> ParseResult:
    """A network of an ONNX model, all of it on the device where nothing else is said."""
    options.setdefault("device_only", True)
    return parse(model, ParseOptions(net_name, framework="onnx", **options))


def parse_tflite(model: Given, net_name: str | None = None, **options: Any) -> ParseResult:
    """A network of a TFLite model, all of it on the device where nothing else is said."""
    options.setdefault("device_only", True)
    return parse(model, ParseOptions(net_name, framework="tensorflow", **options))
