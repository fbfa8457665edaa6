# SPDX-License-Identifier: Apache-2.0
"""Small TFLite files written here, LiteRT as their oracle, and the parsed network beside it."""

from __future__ import annotations

import numpy as np

from headrace.frontends.formats.tflite.schema import ACTIVATIONS, OPERATORS, OPTIONS, PADDINGS, TYPES

_PREPEND = {
    "i8": "Int8", "u8": "Uint8", "bool": "Bool", "i32": "Int32", "u32": "Uint32", "u64": "Uint64", "f32": "Float32",
    "padding": "Int8", "activation": "Int8", "i64": "Int64",
}  # fmt: skip


class SmallModel:
    """Tensors and operators, and the bytes of their file."""

    def __init__(self):
        self.tensors, self.operators, self.inputs, self.outputs = [], [], [], []
        self.more_graphs = 0
        self.graphs = []  # that operators call: the first one has number 1
        self.count = 0

    def tensor(self, shape, kind="float32", data=None, name=None, scale=None, zero=None, axis=0, **more):
        self.tensors.append(
            dict(shape=list(shape), kind=kind, data=data, scale=scale, zero=zero, axis=axis, **more)
            | {"name": name if name is not None else f"t{len(self.tensors)}"}
        )
        return len(self.tensors) - 1

    def input(self, *shape, kind="float32", **more):
        self.inputs.append(self.tensor(shape, kind, **more))
        return self.inputs[-1]

    def constant(self, array, name=None, **more):
        array = np.asarray(array)
        return self.tensor(array.shape, str(array.dtype), array.tobytes(), name, **more)

    def ints(self, values):
        return self.constant(np.array(values, np.int32))

    def op(self, operator, inputs, shape, kind="float32", outputs=None, name=None, **options):
        """One operator; ``shape`` is that of its result (any rank-right shape: LiteRT computes the true one)."""
        made = outputs if outputs is not None else [self.tensor(shape, kind, name=name)]
        self.operators.append((operator, list(inputs), made, options))
        return made[0] if outputs is None else made

    # --- writing ----------------------------------------------------------------------------------------------

    def _vector(self, b, values, dtype):
        return b.CreateNumpyVector(np.asarray(values, dtype))

    def _tables(self, b, offsets):
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return b.EndVector()

    def _table(self, b, fields):
        """fields: slot → (kind, value); offsets have kind "offset"."""
        b.StartObject(max(fields, default=0) + 1)
        for slot, (kind, value) in fields.items():
            if kind == "offset":
                b.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                getattr(b, f"Prepend{_PREPEND[kind]}Slot")(slot, value, None)
        return b.EndObject()

    def _options(self, b, operator, given):
        spec = OPTIONS.get(operator)
        if spec is None:
            assert not given, given
            return None
        unknown = set(given) - set(spec.fields)
        assert not unknown, unknown
        fields = {}
        for name, field in spec.fields.items():
            if name not in given:
                continue
            value = given[name]
            lists = {"i32s": np.int32, "i64s": np.int64, "f32s": np.float32}
            if field.kind in lists:
                fields[field.slot] = ("offset", self._vector(b, value, lists[field.kind]))
                continue
            if field.kind == "text":
                fields[field.slot] = ("offset", b.CreateString(value))
                continue
            names = {"padding": PADDINGS, "activation": ACTIVATIONS}.get(field.kind)
            fields[field.slot] = (field.kind, names.index(value) if names else value)
        return spec, self._table(b, fields)

    def _sparsity(self, b, order, blocks, levels):
        """levels: a size where all indices occur, or (segments, indices)."""
        made = []
        for level in levels:
            if isinstance(level, int):
                made.append(self._table(b, {0: ("i8", 0), 1: ("i32", level)}))
                continue
            kinds = {np.dtype(np.int32): 1, np.dtype(np.uint16): 2, np.dtype(np.uint8): 3}
            lists = [(kinds[v.dtype], self._table(b, {0: ("offset", self._vector(b, v, v.dtype))})) for v in level]
            fields = {0: ("i8", 1)}
            for slot, (kind, table) in zip((2, 4), lists, strict=True):
                fields |= {slot: ("u8", kind), slot + 1: ("offset", table)}
            made.append(self._table(b, fields))
        parts = [self._vector(b, order, np.int32), self._vector(b, blocks, np.int32), self._tables(b, made)]
        return self._table(b, {slot: ("offset", part) for slot, part in enumerate(parts)})

    def sparse(self, array, block=1, indices=np.uint8):
        """A constant stored by its first dimension, then the places on the last that are not zero, in blocks of it."""
        rows = array.reshape(array.shape[0], -1, block)
        used = np.any(rows != 0, axis=2)
        segments = np.concatenate([[0], np.cumsum(used.sum(1))]).astype(np.int32)
        levels = [array.shape[0], *[1] * (array.ndim - 2), (segments, np.nonzero(used)[1].astype(indices))]
        order = [*range(array.ndim), *([array.ndim] if block > 1 else [])]
        record = {"order": order, "blocks": [array.ndim - 1] if block > 1 else [], "levels": levels}
        record["levels"] += [block] if block > 1 else []
        return self.tensor(array.shape, str(array.dtype), rows[used].tobytes(), sparsity=record)

    def _graph(self, b, names, first=1):
        """names: of all operators of the file; first: number of the buffer of the first tensor."""
        tensors = []
        for index, t in enumerate(self.tensors):
            fields = {
                0: ("offset", self._vector(b, t["shape"], np.int32)),
                1: ("i8", TYPES.index(t["kind"])),
                2: ("u32", index + first if t["data"] is not None else 0),
                3: ("offset", b.CreateString(t["name"])),
            }
            if t["scale"] is not None:
                zero = t["zero"] if t["zero"] is not None else [0] * len(t["scale"])
                scale, zero = self._vector(b, t["scale"], np.float32), self._vector(b, zero, np.int64)
                fields[4] = (
                    "offset",
                    self._table(b, {2: ("offset", scale), 3: ("offset", zero), 6: ("i32", t["axis"])}),
                )
            if "signature" in t:
                fields[7] = ("offset", self._vector(b, t["signature"], np.int32))
            if t.get("variable"):
                fields[5] = ("bool", True)
            if "sparsity" in t:
                fields[6] = ("offset", self._sparsity(b, **t["sparsity"]))
            tensors.append(self._table(b, fields))
        operators = []
        for operator, inputs, outputs, given in self.operators:
            fields = {
                0: ("u32", names.index(operator)),
                1: ("offset", self._vector(b, inputs, np.int32)),
                2: ("offset", self._vector(b, outputs, np.int32)),
            }
            if "custom" in given:
                fields[5] = ("offset", b.CreateByteVector(given["custom"]))
            options = None if "custom" in given else self._options(b, operator, given)
            if options is not None:
                slot = 11 if options[0].second else 3
                fields |= {slot: ("u8", options[0].number), slot + 1: ("offset", options[1])}
            operators.append(self._table(b, fields))
        fields = {
            0: ("offset", self._tables(b, tensors)),
            1: ("offset", self._vector(b, self.inputs, np.int32)),
            2: ("offset", self._vector(b, self.outputs, np.int32)),
            3: ("offset", self._tables(b, operators)),
        }
        return self._table(b, fields)

    def bytes(self, *outputs):
        if outputs:
            self.outputs = list(outputs)
        import flatbuffers

        b = flatbuffers.Builder(1024)
        buffers = [self._table(b, {})]
        every = [self, *self.graphs]
        for t in (t for g in every for t in g.tensors):
            data = t["data"] or b""
            b.StartVector(1, len(data), 16)
            b.head -= len(data)
            b.Bytes[b.head : b.head + len(data)] = data
            buffers.append(self._table(b, {0: ("offset", b.EndVector())}))
        names = list(dict.fromkeys(o[0] for g in every for o in g.operators))
        starts = np.cumsum([1, *(len(g.tensors) for g in every)])
        graphs = [g._graph(b, names, int(start)) for g, start in zip(every, starts, strict=False)]
        codes = []
        for name in names:
            custom = name.startswith("CUSTOM:")
            number = OPERATORS.index("CUSTOM") if custom else OPERATORS.index(name)
            fields = {0: ("i8", min(number, 127)), 3: ("i32", number), 2: ("i32", 1)}
            if custom:
                fields[1] = ("offset", b.CreateString(name[7:]))
            codes.append(self._table(b, fields))
        graphs += [self._graph(b, names) for _ in range(self.more_graphs)]
        root = self._table(
            b,
            {
                0: ("u32", 3),
                1: ("offset", self._tables(b, codes)),
                2: ("offset", self._tables(b, graphs)),
                4: ("offset", self._tables(b, buffers)),
            },
        )
        b.Finish(root, b"TFL3")
        return bytes(b.Output())


# --- the oracle ----------------------------------------------------------------------------------------------------


def litert_outputs(data, feeds):
    """Outputs of LiteRT by tensor name, one frame at a time, from inputs by tensor name."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data, num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    interpreter.allocate_tensors()
    results = {d["name"]: [] for d in interpreter.get_output_details()}
    for frame in range(len(next(iter(feeds.values())))):
        interpreter.reset_all_variables()
        for d in interpreter.get_input_details():
            interpreter.set_tensor(d["index"], feeds[d["name"]][frame : frame + 1])
        interpreter.invoke()
        for d in interpreter.get_output_details():
            results[d["name"]].append(interpreter.get_tensor(d["index"]).copy())
    return {name: np.concatenate(frames) for name, frames in results.items()}


def run_source(source, feeds, whole=False):
    """The source graph itself as an ONNX model in onnxruntime, frame by frame: what the words mean before any layer.

    ``whole``: all at once, whose first dimension is no batch.
    """
    import onnx
    import onnx_ir as ir

    from frontend_oracle import session

    graph, seen = source.graph, {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value.const_value is not None and id(value) not in seen:
                if value.producer() is not None:  # folded while reading: a constant that kept its maker
                    fresh = ir.Value(name=None)
                    fresh.const_value = value.const_value
                    value.replace_all_uses_with(fresh)
                    value = fresh
                seen[id(value)] = value
                value.name = f"constant{len(seen)}"
                value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)
                graph.register_initializer(value)
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    proto.opset_import.append(onnx.helper.make_opsetid("", 21))
    runtime = session(proto.SerializeToString())
    names = [o.name for o in runtime.get_outputs()]
    if whole:
        return dict(zip(names, runtime.run(None, feeds), strict=True))
    results = {name: [] for name in names}
    for frame in range(len(next(iter(feeds.values())))):
        single = {name: array[frame : frame + 1] for name, array in feeds.items()}
        for name, array in zip(names, runtime.run(None, single), strict=True):
            results[name].append(array)
    return {name: np.concatenate(frames) for name, frames in results.items()}


def uniform_feeds(data, frames=2, low=-1.0, high=1.0, seed=0):
    """float32 noise for every input of a file, by tensor name."""
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(seed)
    details = Interpreter(model_content=data).get_input_details()
    return {d["name"]: rng.uniform(low, high, (frames, *d["shape"][1:])).astype(np.float32) for d in details}


def worst_difference(network, data, feeds, run):
    """The largest difference between ``run(network, feeds)`` and LiteRT over all outputs, relative to its range."""
    expected, got = litert_outputs(data, feeds), run(network, feeds)
    assert sorted(expected) == sorted(got)
    worst = 0.0
    for name, want in expected.items():
        found = got[name].reshape(want.shape) if got[name].size == want.size else got[name]
        assert found.shape == want.shape, (name, found.shape, want.shape)
        assert np.isfinite(want).all() and np.ptp(want) > 0, f"{name} says nothing"
        worst = max(worst, float(np.abs(found - want).max() / np.ptp(want)))
    return worst
