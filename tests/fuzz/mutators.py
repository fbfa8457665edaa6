# SPDX-License-Identifier: Apache-2.0
"""Changes of files at random that know what the file is made of: fields of protobuf, words, members, values of JSON.

A case is a dictionary: the name of each file → its bytes; of one file the name is empty. All that is random comes from
the generator that is given, so that a number stands for a case.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

Case = dict[str, bytes]
Mutator = Callable[[random.Random, bytes], bytes]

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    65535,
    65536,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 62) + 1,
    (1 << 63) - 1,
    -(1 << 63),
    -(1 << 31),
    -2,
)
STRINGS = (
    b"",
    b"\0",
    b"x",
    b"../../../../etc/passwd",
    b"/dev/zero",
    b"\x1b]0;x\x07\x1b[2J",
    b"<script>",
    b"\xff\xfe",
    b"%s%n{0.__class__}",
    b"a/" * 600,
    b"n" * 70_000,
    "\u202e\u2028é".encode(),
    b"'\"\n\\",
)
REALS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e38, 1e-45, 0.5)


def plain(rng: random.Random, data: bytes) -> bytes:
    """Cut, bits flipped, bytes set, pieces removed, repeated or moved: whatever the file is."""
    if not data:
        return rng.randbytes(rng.randrange(64))
    out = bytearray(data)
    a, b = sorted((rng.randrange(len(out) + 1), rng.randrange(len(out) + 1)))
    near = min(b, a + rng.choice((1, 4, 16, 256)))
    match rng.randrange(8):
        case 0:
            del out[a:]
        case 1:
            for _ in range(rng.randint(1, 8)):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case 2:
            out[rng.randrange(len(out))] = rng.choice((0, 1, 2, 8, 0x0A, 0x12, 0x7F, 0x80, 0xFF))
        case 3:
            del out[a:near]
        case 4:
            out[a:a] = out[a:near] * rng.choice((1, 2, 50))
        case 5:
            out[a:near] = rng.randbytes(near - a)
        case 6:
            place = rng.randrange(len(out))
            out[place : place + 8] = struct.pack("<q", rng.choice(INTEGERS))
        case _:
            piece = out[a:near]
            place = rng.randrange(len(out))
            out[place : place + len(piece)] = piece
    return bytes(out)


def words(rng: random.Random, data: bytes) -> bytes:
    """Integers at their places changed: offsets and sizes of FlatBuffers and HDF5."""
    width, code = rng.choice(((1, "<B"), (2, "<H"), (4, "<I"), (4, "<I"), (8, "<Q")))
    if len(data) < 16 or rng.random() < 0.15:
        return plain(rng, data)
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        # Headers stand at the ends of these files, weights in between.
        span = rng.choice((len(out), min(len(out), 1024), min(len(out), 4096)))
        place = rng.randrange(span // width) * width
        place = len(out) - width - place if rng.random() < 0.4 else place
        old = struct.unpack_from(code, out, place)[0]
        new = rng.choice(
            (
                rng.choice(INTEGERS),
                rng.choice(INTEGERS),
                old + rng.choice((-4, -1, 1, 4, 8)),
                rng.randrange(len(out)),
                old * 2,
                struct.unpack_from(code, out, rng.randrange(span // width) * width)[0],
            )
        )
        struct.pack_into(code, out, place, new % (1 << (8 * width)))
    return bytes(out)


# --- protobuf ---------------------------------------------------------------------------------------------------------

_MOST_FIELDS = 20_000
Field = tuple[int, int, Any]  # number, wire type, value


def varint(number: int) -> bytes:
    number %= 1 << 64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
        if shift > 63:
            raise ValueError


def fields_of(data: bytes) -> list[Field] | None:
    """The fields of a message; None: these bytes are none."""
    out: list[Field] = []
    place = 0
    try:
        while place < len(data):
            key, place = _varint_at(data, place)
            number, wire = key >> 3, key & 7
            if not number or len(out) > _MOST_FIELDS:
                return None
            if wire == 0:
                value, place = _varint_at(data, place)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
                value, place = data[place : place + size], place + size
            elif wire == 2:
                size, place = _varint_at(data, place)
                value, place = data[place : place + size], place + size
            else:
                return None
            if place > len(data):
                return None
            out.append((number, wire, value))
    except (IndexError, ValueError):
        return None
    return out


def written(fields: list[Field]) -> bytes:
    out = bytearray()
    for number, wire, value in fields:
        out += varint(number << 3 | wire)
        out += varint(value) if wire == 0 else varint(len(value)) + value if wire == 2 else value
    return bytes(out)


def _texts(data: bytes, depth: int = 0) -> Iterator[bytes]:
    for _, wire, value in fields_of(data) or ():
        if wire == 2 and value:
            if len(value) < 40 and value.isascii() and value.decode().isprintable():
                yield value
            elif depth < 6 and len(value) < 1 << 20:
                yield from _texts(value, depth + 1)


def protobuf(rng: random.Random, data: bytes) -> bytes:
    """A message with a field changed, at any depth."""
    if rng.random() < 0.1:
        return plain(rng, data)
    return _message(rng, data, list(_texts(data)) or [b"x"], 0)


def _message(rng: random.Random, data: bytes, texts: list[bytes], depth: int) -> bytes:
    fields = fields_of(data)
    if not fields:
        return rng.choice(STRINGS) if rng.random() < 0.5 else plain(rng, data)
    at = rng.randrange(len(fields))
    number, wire, value = fields[at]
    looks_text = wire == 2 and value in texts
    if wire == 2 and not looks_text and depth < 12 and rng.random() < 0.85 and fields_of(value):
        fields[at] = (number, wire, _message(rng, value, texts, depth + 1))
        return written(fields)
    match rng.randrange(12):
        case 0:
            del fields[at]
        case 1:
            fields[at:at] = [fields[at]] * rng.choice((1, 1, 2, 300))
        case 2:
            other = rng.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        case 3:
            fields[at] = (rng.choice((number + 1, max(number - 1, 1), rng.randint(1, 30), 536870911)), wire, value)
        case 4:
            fields[at] = rng.choice(
                ((number, 0, 5), (number, 2, b""), (number, 5, b"\0" * 4), (number, 1, b"\xff" * 8))
            )
        case 5:  # a length that is not there
            return written(fields[:at]) + varint(number << 3 | 2) + varint(rng.choice(INTEGERS)) + written(fields[at:])
        case 6:  # a group, a message inside itself
            inner = written([fields[at]])
            for _ in range(rng.choice((3, 90, 300))):
                inner = varint(number << 3 | 2) + varint(len(inner)) + inner
            return written(fields[:at]) + inner + written(fields[at:])
        case _:
            fields[at] = (number, wire, _value(rng, wire, value, texts))
    return written(fields)


def _value(rng: random.Random, wire: int, value: Any, texts: list[bytes]) -> Any:
    if wire == 0:
        return rng.choice((*INTEGERS, value + 1, value - 1, rng.randrange(24)))
    if wire in (1, 5):
        kinds = ("<d", "<q") if wire == 1 else ("<f", "<i")
        if rng.random() < 0.5:
            return struct.pack(kinds[0], rng.choice(REALS))
        bits = 64 if wire == 1 else 32
        number = rng.choice(INTEGERS) % (1 << bits)
        return struct.pack(kinds[1], number - (1 << bits) if number >> (bits - 1) else number)
    if value in texts and rng.random() < 0.8:
        return rng.choice(texts)
    if len(value) % 8 == 0 and value and rng.random() < 0.5:  # packed numbers
        out = bytearray(value)
        struct.pack_into("<q", out, rng.randrange(len(value) // 8) * 8, rng.choice(INTEGERS))
        return bytes(out)
    return rng.choice(STRINGS) if rng.random() < 0.5 else plain(rng, value)


# --- JSON, text, archives ---------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0.5,
    -1e30,
    1e308,
    1e-320,
    "",
    "x",
    "\0",
    "é" * 300,
    "\x1b[2J",
    [],
    [1],
    [[1]],
    ["a"],
    [-1, 4, 4, 3],
    {},
    {"a": 1},
    10**30,
    "9" * 5000,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(value[key], (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def json_value(rng: random.Random, data: bytes) -> bytes:
    """JSON with a value, a name or the form changed."""
    try:
        return _json(rng, data)
    except RecursionError:
        return plain(rng, data)


def _json(rng: random.Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
        places = list(_places(value))
    except ValueError:
        places = []
    if not places or rng.random() < 0.1:
        return plain(rng, data)
    path = rng.choice(places)
    holder, last = _at(value, path[:-1]), path[-1]
    match rng.randrange(9):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, dict):
            holder[rng.choice((f"{last}x", "", "name", *holder))] = holder.pop(last)
        case 2:
            holder[last] = json.loads(json.dumps(_at(value, rng.choice(places))))
        case 3:
            depth = rng.choice((5, 90, 900))
            text = json.dumps(value).replace(json.dumps(holder[last]), "[" * depth + "]" * depth, 1)
            return text.encode()
        case 4 if isinstance(holder[last], str):  # also names of others: connections that make cycles
            texts = [_at(value, p) for p in places if isinstance(_at(value, p), str)]
            holder[last] = rng.choice((*texts, *(s.decode("utf-8", "replace") for s in STRINGS)))
        case 5 if isinstance(holder, list):
            holder[last:last] = [holder[last]] * rng.choice((1, 2, 300))
        case 6 if type(holder[last]) is int:
            holder[last] += rng.choice((-1, 1, 100))
        case 7:
            return (
                json.dumps(value).encode().replace(b": ", rng.choice((b": NaN, ", b":", b": -Infinity", b": 1e999")), 1)
            )
        case _:
            holder[last] = rng.choice((*_VALUES, *INTEGERS))
    return json.dumps(value).encode()


def text(rng: random.Random, data: bytes) -> bytes:
    """Words of a text removed, repeated, exchanged and replaced."""
    if rng.random() < 0.2:
        return plain(rng, data)
    found = re.findall(rb"\w+|\s+|[^\w\s]", data) or [b"x"]
    more = (b"(", b")", b"[", b"]", b"{", b"}", b"=", b",", b".", b"*", b"#", b"'", b"\n", b"-1", b"1e999", b"None")
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(found)), rng.randrange(len(found))
        match rng.randrange(5):
            case 0:
                found[at] = b""
            case 1:
                found[at] = found[other]
            case 2:
                found[at] *= rng.choice((2, 2, 500))
            case 3:
                found[at] = rng.choice(more) + found[at]
            case _:
                found[at] = rng.choice((*STRINGS, *(str(i).encode() for i in INTEGERS)))
    return b"".join(found)


def array(rng: random.Random, data: bytes) -> bytes:
    """A ``.npy``: its header is text with a length before it."""
    if len(data) < 16 or rng.random() < 0.3:
        return plain(rng, data)
    length = struct.unpack_from("<H", data, 8)[0]
    header = text(rng, data[10 : 10 + length])
    if rng.random() < 0.5:
        kind = rng.choice((b"<f4", b"|O", b"<U9", b"<M8[s]", b"<c16", b"|V99999999", b"<f2", b"|S1", b"[('a','<f4')]"))
        shape = rng.choice(
            (b"(5, 268435456)", b"(-1,)", b"()", b"(0, 9223372036854775807)", b"(1,)*9", b"(2, 4, 4, 3)")
        )
        header = b"{'descr': '" + kind + b"', 'fortran_order': False, 'shape': " + shape + b", }\n"
    size = len(header) if rng.random() < 0.8 else rng.choice(INTEGERS)
    return data[:8] + struct.pack("<H", size % 65536) + header + data[10 + length :]


def member(rng: random.Random, name: str, data: bytes) -> bytes:
    """A file of an archive, by what its name says it is."""
    suffix = name.rpartition(".")[2]
    kinds = {"json": json_value, "hn": json_value, "npy": array, "npz": archive, "h5": words, "onnx": protobuf}
    return kinds.get(suffix, plain)(rng, data)


def archive(rng: random.Random, data: bytes) -> bytes:
    """A zip with a member or its directory changed."""
    if rng.random() < 0.15:
        return words(rng, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            parts = [(info.filename, opened.read(info)) for info in opened.infolist()]
    except Exception:
        return plain(rng, data)
    if not parts:
        return plain(rng, data)
    at = rng.randrange(len(parts))
    name, content = parts[at]
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    match rng.randrange(9):
        case 0:
            del parts[at]
        case 1:
            parts[at] = (rng.choice(("../x", "/abs", "", name + "\x01", "a" * 3000, parts[0][0])), content)
        case 2:
            parts.insert(0, (name, plain(rng, content)))
        case 3:
            parts[at], method = (name, bytes(rng.choice((1 << 20, 8 << 20)))), zipfile.ZIP_DEFLATED
        case _:
            parts[at] = (name, member(rng, name, content))
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(out, "w", method) as made:
            for name, content in parts:
                made.writestr(zipfile.ZipInfo(name), content, method)
    whole = out.getvalue()
    if rng.random() < 0.1 and (place := whole.find(b"PK\1\2")) >= 0:  # sizes in the directory that are no truth
        whole = bytearray(whole)
        struct.pack_into("<I", whole, place + rng.choice((10, 16, 20, 24, 42)), rng.choice(INTEGERS) % (1 << 32))
        whole = bytes(whole)
    return whole


def one_of(kinds: dict[str, Mutator], default: Mutator) -> Callable[[random.Random, Case], Case]:
    """Changes one file of a case, each by the first kind whose word its name ends with."""

    def change(rng: random.Random, case: Case) -> Case:
        name = rng.choice(sorted(case))
        how = next((kind for suffix, kind in kinds.items() if name.endswith(suffix)), default)
        if len(case) > 1 and rng.random() < 0.04:
            return {n: d for n, d in case.items() if n != name}
        return case | {name: how(rng, case[name])}

    return change
