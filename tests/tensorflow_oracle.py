# SPDX-License-Identifier: Apache-2.0
"""Results of a TensorFlow file, by TensorFlow, in an interpreter that has it: HEADRACE_TENSORFLOW, else this one.

As a program: MODEL FEEDS.npz RESULTS.npz NAME … computes the named outputs; arrays of the feeds go by names of inputs.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def interpreter() -> str | None:
    """The Python that has TensorFlow, or None."""
    found = os.environ.get("HEADRACE_TENSORFLOW")
    return found or (sys.executable if importlib.util.find_spec("tensorflow") else None)


def results(model: Path, feeds: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
    """What TensorFlow computes of a frozen graph, a SavedModel or a checkpoint."""
    python = interpreter()
    if python is None:
        raise RuntimeError("no interpreter with TensorFlow: set HEADRACE_TENSORFLOW")
    with tempfile.TemporaryDirectory() as folder:
        given, made = f"{folder}/feeds.npz", f"{folder}/results.npz"
        np.savez(given, **feeds)
        command = [python, str(Path(__file__).resolve()), str(model), given, made, *wanted]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        with np.load(made) as arrays:
            return [arrays[f"y{i}"] for i in range(len(wanted))]


def _tensor(graph, name):
    return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")


def _session(tf, model, feeds, wanted):
    compat, graph = tf.compat.v1, tf.Graph()
    with graph.as_default(), compat.Session(graph=graph) as session:
        if model.is_dir():
            meta = next(model.glob("*.meta"))
            compat.train.import_meta_graph(str(meta), clear_devices=True).restore(session, str(meta)[: -len(".meta")])
        else:
            definition = compat.GraphDef.FromString(model.read_bytes())
            tf.import_graph_def(definition, name="")
        given = {_tensor(graph, name): array for name, array in feeds.items()}
        return session.run([_tensor(graph, name) for name in wanted], given)


def _saved_model(tf, model, feeds, wanted):
    """By the loader of TensorFlow 1, which does not look for optimizers that the file remembers."""
    compat, graph = tf.compat.v1, tf.Graph()
    with graph.as_default(), compat.Session(graph=graph) as session:
        meta = compat.saved_model.load(session, ["serve"], str(model))
        signature = meta.signature_def["serving_default"]
        given = {_tensor(graph, signature.inputs[name].name): array for name, array in feeds.items()}
        return session.run([_tensor(graph, signature.outputs[name].name) for name in wanted], given)


def main() -> None:
    import tensorflow as tf

    model, given, made, *wanted = sys.argv[1:]
    path = Path(model)
    with np.load(given, allow_pickle=True) as arrays:  # ours, a moment ago; text is an array of objects
        feeds = {name: arrays[name] for name in arrays.files}
    run = _saved_model if (path / "saved_model.pb").exists() else _session
    np.savez(made, **{f"y{i}": value for i, value in enumerate(run(tf, path, feeds, wanted))})


if __name__ == "__main__":
    main()
