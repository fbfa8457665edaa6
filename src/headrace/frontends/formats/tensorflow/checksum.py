# SPDX-License-Identifier: Apache-2.0
"""CRC-32C (Castagnoli), as the bundles of TensorFlow carry it, by lanes of a numpy array: Python has none."""

from __future__ import annotations

import numpy as np

from headrace.hn import Array

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
#: Below this, one lane; above, so many that each step is worth a call of numpy.
_MOST_LANES = 1 << 14
_LEAST_BYTES = 64


def _byte_table() -> Array:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _byte_table()
_ROWS = [int(v) for v in _TABLE]


def _plain(data: bytes, state: int) -> int:
    for byte in data:
        state = (state >> 8) ^ _ROWS[(state ^ byte) & 0xFF]
    return state


def _product(matrix: Array, states: Array) -> Array:
    """A matrix over GF(2), its columns as uint32 [32], times states uint32 [n]."""
    out = np.zeros_like(states)
    for bit in range(32):
        out ^= np.where(states >> np.uint32(bit) & 1, matrix[bit], np.uint32(0)).astype(np.uint32)
    return out


def _zeros_operator(count: int) -> Array:
    """What ``count`` bytes of zeros do to a state, as the columns of a matrix."""
    one = np.array([1 << i for i in range(32)], np.uint32)
    step = _TABLE[one & 0xFF] ^ (one >> np.uint32(8))
    result = one
    while count:
        if count & 1:
            result = _product(step, result)
        step = _product(step, step)
        count >>= 1
    return result


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of some bytes."""
    view = memoryview(data)
    lanes = min(len(view) // _LEAST_BYTES, _MOST_LANES)
    if lanes < 16:
        return _plain(bytes(view), 0xFFFFFFFF) ^ 0xFFFFFFFF
    lanes = 1 << (lanes.bit_length() - 1)
    each = len(view) // lanes
    whole = lanes * each
    columns = np.frombuffer(view[:whole], np.uint8).reshape(lanes, each)
    states = np.zeros(lanes, np.uint32)
    states[0] = 0xFFFFFFFF
    for start in range(0, each, 4096):
        part = np.ascontiguousarray(columns[:, start : start + 4096].T)
        for row in part:
            states = _TABLE[(states ^ row) & 0xFF] ^ (states >> np.uint32(8))
    operator = _zeros_operator(each)
    while len(states) > 1:  # a pair of neighbours is one lane of twice the length
        states = _product(operator, states[0::2]) ^ states[1::2]
        operator = _product(operator, operator)
    return _plain(bytes(view[whole:]), int(states[0])) ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """A checksum as it is stored beside what it is of."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


__all__ = ["crc32c", "masked"]
