# SPDX-License-Identifier: Apache-2.0
"""Small HDF5 files written here: the format's oldest form, as h5py writes it by default."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_NOTHING = (1 << 64) - 1


def _padded(data, size=8):
    return data + b"\0" * (-len(data) % size)


class _Writer:
    def __init__(self, attributes, packed, brain):
        self.out = bytearray(96)
        self.attributes, self.packed, self.brain = attributes, packed, brain

    def put(self, data):
        position = len(self.out)
        self.out += _padded(data)
        return position

    # --- messages -----------------------------------------------------------------------------------------------

    def datatype(self, dtype, brain=False):
        order = 1 if dtype.byteorder == ">" else 0
        if dtype.kind == "S":
            return struct.pack("<B3xI", 0x13, dtype.itemsize)
        if dtype.kind in "iu" and not brain:
            signed = 8 if dtype.kind == "i" else 0
            return struct.pack("<BBxxIHH", 0x10, order | signed, dtype.itemsize, 0, 8 * dtype.itemsize)
        exponent, mantissa = {2: (5, 10), 4: (8, 23), 8: (11, 52)}[dtype.itemsize] if not brain else (8, 7)
        size = 8 * dtype.itemsize
        bias = (1 << (exponent - 1)) - 1
        head = struct.pack("<BBBxI", 0x11, 0x20 | order, size - 1, dtype.itemsize)
        return head + struct.pack("<HHBBBBI", 0, size, mantissa, exponent, 0, mantissa, bias)

    def dataspace(self, shape):
        return struct.pack("<BBB5x", 1, len(shape), 0) + struct.pack(f"<{len(shape)}Q", *shape)

    def attribute(self, name, value):
        name = name.encode() + b"\0"
        if isinstance(value, str) and len(value) > 1000:  # in a heap of the file
            text = value.encode()
            heap = struct.pack("<HHIQ", 1, 1, 0, len(text)) + _padded(text)
            address = self.put(b"GCOL" + struct.pack("<B3xQ", 1, 16 + len(heap)) + heap)
            kind = struct.pack("<BBxxI", 0x19, 1, 16) + struct.pack("<B3xI", 0x13, 1)
            shape, data = (), struct.pack("<IQI", len(text), address, 1)
        else:
            array = np.array([v.encode() for v in value] if isinstance(value, list) else value.encode())
            kind, shape, data = self.datatype(array.dtype), array.shape, array.tobytes()
        space = self.dataspace(shape)
        head = struct.pack("<BxHHH", 1, len(name), len(kind), len(space))
        return head + _padded(name) + _padded(kind) + _padded(space) + data

    def header(self, messages):
        body = b""
        for kind, data in messages:
            data = _padded(data)
            body += struct.pack("<HHB3x", kind, len(data), 0) + data
        return self.put(struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body)

    # --- objects ------------------------------------------------------------------------------------------------

    def dataset(self, path, array):
        brain = path in self.brain
        messages = [(1, self.dataspace(array.shape)), (3, self.datatype(array.dtype, brain))]
        if self.packed and array.ndim:
            rows = -(-array.shape[0] // 2)
            chunk, keys = (rows, *array.shape[1:]), []
            for start in range(0, array.shape[0], rows):
                part = np.zeros(chunk, array.dtype)
                given = array[start : start + rows]
                part[: len(given)] = given
                mixed = np.frombuffer(part.tobytes(), np.uint8).reshape(-1, array.itemsize).T.tobytes()
                data = zlib.compress(mixed, 9)
                at = struct.pack(f"<{array.ndim + 1}Q", start, *[0] * array.ndim)
                keys.append((struct.pack("<II", len(data), 0) + at, self.put(data)))
            body = b"".join(key + struct.pack("<Q", address) for key, address in keys) + keys[0][0]
            tree = self.put(b"TREE" + struct.pack("<BBHQQ", 1, 0, len(keys), _NOTHING, _NOTHING) + body)
            sizes = struct.pack(f"<{array.ndim + 1}I", *chunk, array.itemsize)
            filters = struct.pack("<BB6x", 1, 2) + struct.pack("<HHHHII", 2, 0, 0, 1, array.itemsize, 0)
            filters += struct.pack("<HHHHII", 1, 0, 0, 1, 9, 0)
            messages += [(8, struct.pack("<BBBQ", 3, 2, array.ndim + 1, tree) + sizes), (11, filters)]
        else:
            data = array.tobytes()
            messages.append((8, struct.pack("<BBQQ", 3, 1, self.put(data), len(data))))
        return self.header(messages)

    def group(self, path, tree):
        names, entries = bytearray(8), b""
        for name in sorted(tree):
            child, below = tree[name], f"{path}/{name}".strip("/")
            address = self.group(below, child) if isinstance(child, dict) else self.dataset(below, child)
            entries += struct.pack("<QQII16x", len(names), address, 0, 0)
            names += _padded(name.encode() + b"\0")
        data = self.put(bytes(names))
        heap = self.put(b"HEAP" + struct.pack("<B3xQQQ", 0, len(names), _NOTHING, data))
        node = self.put(b"SNOD" + struct.pack("<BxH", 1, len(tree)) + entries)
        key = struct.pack("<QQQ", 0, node, 0)
        index = self.put(b"TREE" + struct.pack("<BBHQQ", 0, 0, 1, _NOTHING, _NOTHING) + key)
        own = [(12, self.attribute(k, v)) for k, v in self.attributes.get(path, {}).items()]
        return self.header([(17, struct.pack("<QQ", index, heap)), *own])


def hdf5(arrays, attributes=None, packed=False, brain=frozenset()):
    """The bytes of a file.

    Args:
        arrays: path → array.
        attributes: path of a group ("" is the root) → name → text, or list of texts.
        packed: chunks, shuffled and compressed, two per array.
        brain: paths whose two-byte integers are bits of bfloat16.
    """
    tree = {}
    for path, array in arrays.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = np.asarray(array)
    writer = _Writer(attributes or {}, packed, brain)
    root = writer.group("", tree)
    head = b"\x89HDF\r\n\x1a\n" + struct.pack("<BBBxBBBxHHI", 0, 0, 0, 0, 8, 8, 4, 16, 0)
    head += struct.pack("<QQQQ", 0, _NOTHING, len(writer.out), _NOTHING)
    head += struct.pack("<QQII16x", 0, root, 0, 0)
    writer.out[: len(head)] = head
    return bytes(writer.out)
