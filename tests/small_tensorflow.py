# SPDX-License-Identifier: Apache-2.0
"""Small TensorFlow files written here: graphs, functions, SavedModels, and the bundles of checkpoints."""

from __future__ import annotations

import struct

import numpy as np

from headrace.frontends.formats.tensorflow.bundle import slice_key
from headrace.frontends.formats.tensorflow.checksum import crc32c, masked
from headrace.frontends.formats.tensorflow.schema import (
    TYPES,
    BundleEntryMessage,
    BundleHeaderMessage,
    GraphMessage,
    MetaGraphMessage,
    SavedModelMessage,
)
from headrace.frontends.formats.tensorflow.table import MAGIC

NUMBERS = {name: number for number, name in TYPES.items()}


def set_shape(message, shape):
    if shape is None:
        message.unknown = True
        return
    message.SetInParent()
    for size in shape:
        message.dims.add(size=-1 if size is None else size)


def set_tensor(message, array):
    array = np.asarray(array)
    if array.dtype.kind in "SUO":
        message.dtype = NUMBERS["string"]
        set_shape(message.shape, array.shape)
        message.strings.extend(s.encode() if isinstance(s, str) else s for s in array.reshape(-1).tolist())
        return
    message.dtype = NUMBERS[str(array.dtype)]
    set_shape(message.shape, array.shape)
    message.content = np.ascontiguousarray(array).tobytes()


class Kind(str):
    """The name of an element type, as an attribute."""


class Shape(tuple):
    """A shape, as an attribute."""


class Function(str):
    """The name of a function, as an attribute."""


def set_value(value, given):
    if isinstance(given, bool):
        value.b = given
    elif isinstance(given, int | np.integer):
        value.i = int(given)
    elif isinstance(given, float):
        value.f = given
    elif isinstance(given, Kind):
        value.type = NUMBERS[given]
    elif isinstance(given, Function):
        value.function.name = given
    elif isinstance(given, str):
        value.s = given.encode()
    elif isinstance(given, np.ndarray):
        set_tensor(value.tensor, given)
    elif isinstance(given, Shape) or given is None:
        set_shape(value.shape, given)
    elif isinstance(given, list) and given and isinstance(given[0], Kind):
        value.list.type.extend(NUMBERS[k] for k in given)
    elif isinstance(given, list) and given and isinstance(given[0], Shape):
        value.list.SetInParent()
        for shape in given:
            set_shape(value.list.shapes.add(), shape)
    elif isinstance(given, list) and given and isinstance(given[0], str):
        value.list.s.extend(s.encode() for s in given)
    elif isinstance(given, list) and given and isinstance(given[0], float):
        value.list.f.extend(given)
    else:
        value.list.SetInParent()
        value.list.i.extend(given)


class Nodes:
    """Nodes of a graph or of a function, written one after the other."""

    def __init__(self, messages):
        self.messages = messages
        self.count = 0

    def op(self, op, inputs=(), name=None, **attributes):
        """One node; returns its name. ``T`` is float32 unless another type is given, or ``T=None`` for none."""
        self.count += 1
        name = name or f"{op.strip('_')}_{self.count}"
        node = self.messages.add(name=name, op=op)
        node.inputs.extend(inputs)
        for key, given in ({"T": Kind("float32")} | attributes).items():
            if key == "T" and given is None:
                continue
            entry = node.attributes.add(key=key)
            set_value(entry.value, given)
        return name

    def const(self, array, name=None):
        array = np.asarray(array)
        kind = Kind("string" if array.dtype.kind in "SUO" else str(array.dtype))
        return self.op("Const", name=name, T=None, dtype=kind, value=array)

    def ints(self, *values, name=None):
        return self.const(np.array(values, np.int32), name)

    def int(self, value):
        return self.const(np.array(value, np.int32))

    def input(self, *shape, name="x", kind="float32"):
        return self.op("Placeholder", name=name, T=None, dtype=Kind(kind), shape=Shape(shape))


class SmallGraph(Nodes):
    """A graph, its functions, and the bytes of its file."""

    def __init__(self, producer=1000):
        self.message = GraphMessage()
        self.message.versions.producer = producer
        super().__init__(self.message.nodes)

    def function(self, name, arguments, results):
        """A function of float tensors; ``results``: name of an output → tensor inside. Returns where its nodes go."""
        made = self.message.library.functions.add()
        made.signature.name = name
        for argument in arguments:
            made.signature.inputs.add(name=argument, dtype=1)
        for key, tensor in results.items():
            made.signature.outputs.add(name=key, dtype=1)
            made.results.add(key=key, value=tensor)
        return Nodes(made.nodes)

    def bytes(self):
        return self.message.SerializeToString()

    def meta(self, restore="", tags=("serve",), signatures=None):
        meta = MetaGraphMessage()
        meta.info.tags.extend(tags)
        meta.graph.CopyFrom(self.message)
        meta.saver.filename, meta.saver.restore, meta.saver.version = "save/Const:0", restore, 2
        for name, (inputs, outputs) in (signatures or {}).items():
            entry = meta.signatures.add(key=name)
            for side, names in ((entry.value.inputs, inputs), (entry.value.outputs, outputs)):
                for key, tensor in names.items():
                    side.add(key=key).value.name = tensor
        return meta

    def saved(self, inputs, outputs, restore=""):
        """The bytes of ``saved_model.pb`` with one signature."""
        saved = SavedModelMessage(schema_version=1)
        saved.meta_graphs.add().CopyFrom(self.meta(restore, signatures={"serving_default": (inputs, outputs)}))
        return saved.SerializeToString()


# --- bundles ----------------------------------------------------------------------------------------------------------


def varint(number):
    out = bytearray()
    while True:
        out.append((number & 0x7F) | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def block(rows, kind=0, pack=bytes):
    """A block of entries, each with its whole key, and its trailer; ``pack`` compresses it."""
    body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in rows)
    body = pack(body + struct.pack("<II", 0, 1)) + bytes([kind])
    return body + struct.pack("<I", masked(crc32c(body)))


def table(rows, kind=0, pack=bytes):
    """The bytes of an index with these rows, all in one block."""
    data = block(sorted(rows.items()), kind, pack)
    meta_at, meta = len(data), block([])
    index_at, index = meta_at + len(meta), block([(b"\xff", varint(0) + varint(len(data) - 5))])
    footer = varint(meta_at) + varint(len(meta) - 5) + varint(index_at) + varint(len(index) - 5)
    return data + meta + index + footer.ljust(40, b"\0") + MAGIC


def bundle_rows(values, parts=None):
    """Rows of the index and the bytes of the data of some arrays; ``parts``: name → [(extents, array)]."""
    header = BundleHeaderMessage(shards=1)
    rows, data = {b"": header.SerializeToString()}, b""

    def entry(array):
        nonlocal data
        raw = np.ascontiguousarray(array).tobytes()
        made = BundleEntryMessage(
            dtype=NUMBERS[str(array.dtype)], offset=len(data), size=len(raw), crc=masked(crc32c(raw))
        )
        set_shape(made.shape, array.shape)
        data += raw
        return made

    for name, array in values.items():
        rows[name.encode()] = entry(np.asarray(array)).SerializeToString()
    for name, pieces in (parts or {}).items():
        whole = BundleEntryMessage(dtype=1)
        sizes = [max(e[i][0] + e[i][1] for e, _ in pieces) for i in range(len(pieces[0][0]))]
        set_shape(whole.shape, sizes)
        for extents, array in pieces:
            made = whole.slices.add()
            for start, length in extents:
                made.extents.add(start=start, length=length)
            rows[slice_key(name, extents)] = entry(np.asarray(array)).SerializeToString()
        rows[name.encode()] = whole.SerializeToString()
    return rows, data


def write_bundle(prefix, values, parts=None):
    rows, data = bundle_rows(values, parts)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".index").write_bytes(table(rows))
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)


def write_checkpoint(folder, graph, values, restore="", name="model.ckpt", parts=None):
    """The files that a Saver writes; returns the prefix."""
    prefix = folder / name
    write_bundle(prefix, values, parts)
    prefix.with_name(name + ".meta").write_bytes(graph.meta(restore).SerializeToString())
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "/elsewhere/{name}"\n')
    return prefix
