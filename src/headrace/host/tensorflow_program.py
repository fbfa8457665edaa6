# SPDX-License-Identifier: Apache-2.0
"""A program for an interpreter that has TensorFlow, and need not have Headrace: a model's tensors, asked for by name.

It is started by :mod:`headrace.host.tensorflow_runtime` with the model's kind and place, and then answers one JSON
object a line, arrays in ``.npz`` files. Nothing of Headrace is imported here.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FED = frozenset({"Placeholder", "PlaceholderV2"})
#: Where data come in that nothing feeds by itself; fed where the network starts with them.
_STARTS = frozenset({"PlaceholderWithDefault", "IteratorGetNext", "OneShotIteratorGetNext", "QueueDequeueV2",
                     "QueueDequeueManyV2", "QueueDequeueUpToV2"})  # fmt: skip


class _Graph:
    """A graph of TensorFlow 1 in a session: frozen, a checkpoint's, or a SavedModel's.

    ``keys`` are names that a signature gives tensors. A tensor of an inlined function is found by the end of its name
    where only one has it.
    """

    def __init__(self, tf: Any, session: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        self._tf, self._session, self._graph = tf, session, session.graph
        self._inputs, self._keys = dict(inputs), {**inputs, **outputs}
        self._ends: dict[str, list[str]] | None = None

    def tensor(self, name: str) -> Any:
        """The tensor of a name, or None."""
        name = self._keys.get(name, name)
        for found in (name, *self._longer(name)):
            try:
                return self._graph.get_tensor_by_name(found if ":" in found else f"{found}:0")
            except (KeyError, ValueError):
                continue
        return None

    def _longer(self, name: str) -> Iterator[str]:
        node, colon, index = name.partition(":")
        if self._ends is None:
            self._ends = {}
            for operation in self._graph.get_operations():
                parts = operation.name.split("/")
                for start in range(1, len(parts)):
                    self._ends.setdefault("/".join(parts[start:]), []).append(operation.name)
        found = self._ends.get(node, [])
        if len(found) == 1:
            yield found[0] + colon + index

    def describe(self, starts: Sequence[str], ends: Sequence[str]) -> list[dict[str, Any]]:
        """The inputs that some tensors depend on."""
        tensors = {name: self._graph.get_tensor_by_name(place) for name, place in self._inputs.items()}
        fed = _FED
        if not tensors:
            tensors = {str(t.name).removesuffix(":0"): t for t in self._fed(ends) if not _is_flag(t)}
            fed = _FED | _STARTS
        for name in starts:  # flags, too, where they have a value
            found = self.tensor(name) if name not in tensors else None
            if found is not None and found.op.type in fed:
                tensors[name] = found
        return [_described(name, found.shape, found.dtype.as_numpy_dtype) for name, found in tensors.items()]

    def _fed(self, names: Sequence[str]) -> list[Any]:
        """The placeholders that tensors depend on."""
        waiting = [t.op for t in map(self.tensor, names) if t is not None]
        seen: dict[str, Any] = {}
        while waiting:
            operation = waiting.pop()
            if operation.name not in seen:
                seen[operation.name] = operation
                waiting += [t.op for t in operation.inputs]
        return [o.outputs[0] for o in self._graph.get_operations() if o.name in seen and o.type in _FED]

    def run(self, feeds: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
        tensors = {name: found for name in wanted if (found := self.tensor(name)) is not None}
        tensors = {n: t for n, t in tensors.items() if t.dtype not in (self._tf.resource, self._tf.variant)}
        given = {self.tensor(name): array for name, array in feeds.items()}
        for flag in self._fed(list(tensors)):
            if flag not in given and _is_flag(flag):  # whether it trains; the part of numbers that is kept
                given[flag] = np.asarray(flag.dtype.base_dtype == self._tf.float32, flag.dtype.as_numpy_dtype)
        made = self._session.run(list(tensors.values()), given)
        return {name: np.asarray(array) for name, array in zip(tensors, made, strict=True)}


def _is_flag(tensor: Any) -> bool:
    """Whether an input is one number or truth value for all frames."""
    return tensor.dtype.base_dtype.is_bool or tensor.shape.rank == 0


def _described(name: str, shape: Any, dtype: Any) -> dict[str, Any]:
    sizes = [] if getattr(shape, "rank", 1) is None else [-1 if s is None else int(s) for s in shape]
    kind = np.dtype(dtype)
    return {"name": name, "shape": sizes, "dtype": kind.str if kind.names is None and kind.kind != "V" else "object"}


def _session(tf: Any) -> Any:
    tf.compat.v1.disable_eager_execution()
    return tf.compat.v1.Session(graph=tf.Graph(), config=tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1))  # fmt: skip


def _frozen(tf: Any, path: str, _prefix: str, _names: Sequence[str]) -> _Graph:
    session = _session(tf)
    definition = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
    with session.graph.as_default():
        tf.import_graph_def(definition, name="")
    return _Graph(tf, session, {}, {})


def _checkpoint(tf: Any, path: str, prefix: str, _names: Sequence[str]) -> _Graph:
    session = _session(tf)
    with session.graph.as_default():
        saver = tf.compat.v1.train.import_meta_graph(path, clear_devices=True)
        if saver is not None and prefix:
            saver.restore(session, prefix)
    return _Graph(tf, session, {}, {})


def _saved(tf: Any, path: str, _prefix: str, names: Sequence[str]) -> _Graph:
    """With its functions inlined where the loader of TensorFlow 2 takes it, else as TensorFlow 1 has it."""
    signature, *tags = names
    folder = str(Path(path).parent)
    try:
        return _inlined(tf, folder, signature, tags)
    except Exception:  # noqa: BLE001 - the loader's own exceptions, of which there are many
        session = _session(tf)
        with session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(session, tags, folder)
        found = meta.signature_def[signature]
        return _Graph(tf, session, {k: v.name for k, v in found.inputs.items()},
                      {k: v.name for k, v in found.outputs.items()})  # fmt: skip


def _inlined(tf: Any, folder: str, signature: str, tags: Sequence[str]) -> _Graph:
    variables: Any = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    loaded = tf.saved_model.load(folder, list(tags))
    function = loaded.signatures[signature]
    frozen = variables.convert_variables_to_constants_v2(function)
    keys = sorted(function.structured_outputs)
    outputs = {key: t.name for key, t in zip(keys, frozen.outputs, strict=True)}
    taken = [str(t.name).partition(":")[0] for t in frozen.inputs]
    known = sorted(function.structured_input_signature[1])
    inputs: dict[str, str] = {}
    for key in known:
        match = [t for t in taken if t in (key, f"{signature}_{key}")]
        inputs[key] = f"{match[0]}:0" if match else f"{taken[known.index(key)]}:0"
    definition = frozen.graph.as_graph_def()
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    session = tf.compat.v1.Session(graph=graph)
    return _Graph(tf, session, inputs, outputs)


def _listed(value: Any) -> list[Any]:
    return list(value) if type(value) in (list, tuple) else [value]


class _Keras:
    """A model of Keras. Tensors go by names of layers, with those of the models around them before."""

    def __init__(self, path: str) -> None:
        self._keras: Any = importlib.import_module("keras")
        self._model = self._keras.saving.load_model(path, compile=False)
        self._inputs = {str(t.name).partition(":")[0]: t for t in self._model.inputs}

    def describe(self, starts: Sequence[str], _ends: Sequence[str]) -> list[dict[str, Any]]:
        if len(starts) == len(self._inputs) == 1:  # the input of a Sequential has no layer, and no name that is kept
            self._inputs = {starts[0]: next(iter(self._inputs.values()))}
        return [_described(name, t.shape, t.dtype) for name, t in self._inputs.items()]

    def _tensor(self, model: Any, name: str) -> Any:
        layers = {layer.name: layer for layer in model.layers}
        layer, index = name, 0
        if layer not in layers and ":" in name:
            layer, _, number = name.rpartition(":")
            index = int(number) if number.isdecimal() else 0
        if layer in layers:
            parts = _listed(layers[layer].output)
            return parts[index] if index < len(parts) else None
        outer, slash, rest = name.partition("/")
        inner: Any = layers.get(outer)
        if not slash or not hasattr(inner, "layers"):
            return None
        target = self._tensor(inner, rest)
        nodes = inner._inbound_nodes
        if target is None or not nodes:
            return None
        given = nodes[-1].input_tensors
        return self._keras.Model(inner.inputs, target)(given[0] if len(given) == 1 else given)

    def run(self, feeds: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {name: feeds[name] for name in wanted if name in feeds}
        tensors: dict[str, Any] = {}
        for name in wanted:
            try:
                tensor = None if name in found else self._tensor(self._model, name)
            except (AttributeError, ValueError, KeyError, TypeError):  # a layer that has no one output
                tensor = None
            if tensor is not None:
                tensors[name] = tensor
        if tensors:
            whole = self._keras.Model(list(self._inputs.values()), list(tensors.values()))
            given = [np.asarray(feeds[name]) for name in self._inputs]
            made = whole.predict_on_batch(given if len(given) > 1 else given[0])
            found |= {name: np.asarray(array) for name, array in zip(tensors, _listed(made), strict=True)}
        return found


_GRAPHS = {"graph": _frozen, "meta": _checkpoint, "saved": _saved}


def _opened(kind: str, path: str, prefix: str, names: Sequence[str]) -> tuple[Any, str]:
    if kind == "keras":
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        model = _Keras(path)
        return model, f"Keras {importlib.import_module('keras').__version__}"
    tf: Any = importlib.import_module("tensorflow")
    return _GRAPHS[kind](tf, path, prefix, names), f"TensorFlow {tf.__version__}"


def _answer(model: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    if asked["what"] == "describe":
        return {"inputs": model.describe(asked["starts"], asked["ends"])}
    with np.load(asked["feeds"]) as arrays:
        feeds = {name: arrays[f"x{i}"] for i, name in enumerate(asked["names"])}
    found = {n: a for n, a in model.run(feeds, asked["wanted"]).items() if a.dtype.kind in "fiub"}
    np.savez(asked["results"], **{f"y{i}": array for i, array in enumerate(found.values())})
    return {"names": list(found)}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what TensorFlow prints is no answer

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    kind, path, prefix, *names = sys.argv[1:]
    try:
        model, title = _opened(kind, path, prefix, names)
    except Exception as error:  # noqa: BLE001 - TensorFlow's own exceptions
        say({"error": f"{type(error).__name__}: {error}"[:1000]})
        return
    say({"title": title})
    for line in sys.stdin:
        try:
            say(_answer(model, json.loads(line)))
        except Exception as error:  # noqa: BLE001
            say({"error": f"{type(error).__name__}: {error}"[:1000]})


if __name__ == "__main__":
    main()
