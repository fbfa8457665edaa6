# SPDX-License-Identifier: Apache-2.0
"""Adds tiny models as Keras 2 writes them to tests/golden/keras_samples.zip, with what it computes.

usage: python tests/make_keras2_samples.py tests/golden/keras_samples.zip   (with TensorFlow and tf_keras installed)
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from make_keras_samples import entry


def samples():
    """Name → (model, shape of its input)."""
    import tensorflow as tf
    import tf_keras as keras

    L = keras.layers

    def nested():
        parts = [L.Conv2D(4, 3, input_shape=(8, 8, 3)), L.BatchNormalization(), L.Activation("hard_sigmoid")]
        inner, start = keras.Sequential(parts, name="inner"), L.Input((8, 8, 3))
        x = L.Concatenate()([inner(start), inner(L.ReLU()(start))])
        return keras.Model(start, [L.Dense(3, activation="softmax")(L.Flatten()(x)), x])

    def functions():
        start = L.Input((6, 6, 4))
        x = 2.0 - start[:, 1:5, ::2, :]
        mean = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
        x = tf.transpose(tf.sigmoid(x - mean) / (tf.exp(mean) + 1.0), [0, 3, 1, 2])
        x = tf.reshape(x, [-1, 4, 12])
        a, b = tf.split(tf.concat([x, tf.square(x)], axis=-1), 2, axis=-1)
        rows = tf.maximum(b[:, 0], b[..., -1, :])
        picture = tf.nn.leaky_relu(tf.math.pow(tf.nn.relu6(start), 2.0) - 0.5, alpha=0.1)
        return keras.Model(start, [
            tf.clip_by_value(a, 0.0, 0.5), rows, tf.stack([b[:, 1], b[:, 2]], axis=1),
            tf.squeeze(tf.expand_dims(tf.nn.softmax(rows), 1), axis=1), tf.matmul(a, b, transpose_b=True),
            tf.pad(start, [[0, 0], [1, 1], [2, 0], [0, 0]]), picture,
        ])  # fmt: skip

    def steps():
        start = L.Input((6, 4))
        return keras.Model(start, L.GRU(4)(L.Bidirectional(L.LSTM(3, return_sequences=True))(start)) * 2.0 + 1.0)

    return {"keras2_nested": nested, "keras2_functions": functions, "keras2_steps": steps}


def main():
    import tf_keras

    tf_keras.utils.set_random_seed(3)
    with zipfile.ZipFile(sys.argv[1], "a") as archive, tempfile.TemporaryDirectory() as folder:
        for name, make in samples().items():
            model, random = make(), np.random.RandomState(4)
            for variable in model.weights:
                positive = "variance" in variable.name or "gamma" in variable.name
                made = random.uniform(0.5, 1.5, variable.shape) if positive else random.normal(0, 0.3, variable.shape)
                variable.assign(made)
            x = random.uniform(-1, 1, (2, *model.inputs[0].shape[1:])).astype(np.float32)
            outputs = model(x, training=False)
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            stream = io.BytesIO()
            np.savez(stream, x0=x, **{f"y{k}": np.asarray(y) for k, y in enumerate(outputs)})
            archive.writestr(entry(f"{name}.npz"), stream.getvalue())
            model.save(Path(folder) / f"{name}.h5")
            archive.writestr(entry(f"{name}.h5"), (Path(folder) / f"{name}.h5").read_bytes())


if __name__ == "__main__":
    main()
