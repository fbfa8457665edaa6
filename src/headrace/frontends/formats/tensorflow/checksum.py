# SPDX-License-Identifier: Apache-2.0
"""CRC-32C (Castagnoli), as the bundles of TensorFlow carry it, by lanes of a numpy array: Python has none."""

from __future__ import annotations

import functools

import numpy as np

from headrace.hn import Array

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
#: Bytes of a lane at least, and lanes at most: each step of all lanes is one call of numpy.
_LEAST_BYTES, _MOST_LANES = 256, 4096
_FEWEST_LANES = 16


def _byte_table() -> Array:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _byte_table()
_ROWS = [int(v) for v in _TABLE]
_BITS = np.arange(32, dtype=np.uint32)[:, None]


def _plain(data: bytes, state: int) -> int:
    for byte in data:
        state = (state >> 8) ^ _ROWS[(state ^ byte) & 0xFF]
    return state


def _product(matrix: Array, states: Array) -> Array:
    """A matrix over GF(2), its columns as uint32 [32], times states uint32 [n]."""
    return np.bitwise_xor.reduce(((states[None, :] >> _BITS) & 1) * matrix[:, None], axis=0).astype(np.uint32)


@functools.cache
def _behind(power: int) -> tuple[tuple[int, ...], ...]:
    """What 2^power bytes of zeros make of a state, as four tables by its bytes, the lowest first."""
    one = np.array([1 << i for i in range(32)], np.uint32)
    matrix = _TABLE[one & 0xFF] ^ (one >> np.uint32(8))
    for _ in range(power):
        matrix = _product(matrix, matrix)
    values = np.arange(256, dtype=np.uint32)
    return tuple(tuple(int(v) for v in _product(matrix, values << np.uint32(8 * i))) for i in range(4))


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of some bytes."""
    view = memoryview(data)
    power = _LEAST_BYTES.bit_length() - 1
    while len(view) >> power > _MOST_LANES:
        power += 1
    lanes = len(view) >> power
    if lanes < _FEWEST_LANES:
        return _plain(bytes(view), 0xFFFFFFFF) ^ 0xFFFFFFFF
    whole = lanes << power
    columns = np.frombuffer(view[:whole], np.uint8).reshape(lanes, 1 << power)
    states = np.zeros(lanes, np.uint32)
    states[0] = 0xFFFFFFFF
    for start in range(0, 1 << power, 4096):
        for row in np.ascontiguousarray(columns[:, start : start + 4096].T):
            states = _TABLE[(states ^ row) & 0xFF] ^ (states >> np.uint32(8))
    first, second, third, fourth = _behind(power)
    state = 0
    for lane in states.tolist():  # one lane behind the other
        state = first[state & 0xFF] ^ second[state >> 8 & 0xFF] ^ third[state >> 16 & 0xFF] ^ fourth[state >> 24] ^ lane
    return _plain(bytes(view[whole:]), state) ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """A checksum as it is stored beside what it is of."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


__all__ = ["crc32c", "masked"]
