# SPDX-License-Identifier: Apache-2.0
"""What every pass has to leave alone, checked after each one where ``HEADRACE_VERIFY_PASSES=1`` (as in all tests)."""

from __future__ import annotations

import os
import zlib

import numpy as np

from headrace.errors import Diagnostic, InternalError
from headrace.hn import Array, Layer, Network

SWITCH = "HEADRACE_VERIFY_PASSES"


def is_on() -> bool:
    """Whether the environment asks for it: it costs a copy of the layers and a reading of all parameters per pass."""
    return os.environ.get(SWITCH, "") not in ("", "0")


class Verification:
    """A network before a pass, to be compared with what the pass left.

    A pass keeps the network's name, the names, order and shapes of its inputs and outputs and the arrays it was given
    (it replaces arrays, it never writes into one); and it has changed something exactly when it returns a record.
    """

    def __init__(self, network: Network, name: str) -> None:
        self._pass = name
        self._before = network.clone()
        self._sums = {key: _checksum(value) for key, value in network.params.items()}

    def check(self, after: Network, changes: int) -> None:
        """Compare.

        Args:
            after: the network that the pass has changed in place.
            changes: number of records that the pass returned.

        Raises:
            InternalError: with everything that the pass should have left alone.
        """
        before = self._before
        kept = (
            ("the network's name", before.name, after.name),
            ("the inputs", _interface(before.input_layers), _interface(after.input_layers)),
            ("the outputs", _interface(before.output_layers), _interface(after.output_layers)),
        )
        problems = [self._problem(what, new, old) for what, old, new in kept if old != new]
        written = [key for key, value in before.params.items() if _checksum(value) != self._sums[key]]
        problems += [self._problem(f"the array {key}", "other values", "a new array") for key in written]
        if bool(changes) == _same(before, after):
            got, need = ("no change", "no record") if changes else ("a change", "a record for each change")
            problems.append(self._problem("what it records", f"{changes} records and {got}", need))
        if problems:
            raise InternalError(problems)

    def _problem(self, what: str, got: object, need: object) -> Diagnostic:
        where = f"{self._before.name}, pass {self._pass}"
        return Diagnostic("E-PASS", where, f"the pass does not keep {what}", str(got)[:300], str(need)[:300])


def _interface(layers: list[Layer]) -> list[tuple[str, tuple[int, ...]]]:
    return [(layer.name, layer.output_shape) for layer in layers]


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data)


def _same(a: Network, b: Network) -> bool:
    """Whether two networks have the same layers in the same order, the same array objects and the same facts."""
    same = list(a.layers) == list(b.layers) and a.net_params == b.net_params
    return same and all(_facts(x) == _facts(y) and _arrays(x) == _arrays(y) for x, y in zip(a, b, strict=True))


def _facts(layer: Layer) -> tuple[object, ...]:
    values = [(value.shape, value.wish, value.quantization, value.calibrated) for value in layer.results]
    return layer.operation, layer.inputs, layer.original_names, values, layer.clamp, layer.accumulator_bits, layer.kept


def _arrays(layer: Layer) -> dict[str, int]:
    return {key: id(array) for key, array in layer.params.items()}
