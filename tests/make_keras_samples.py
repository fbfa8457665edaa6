# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/keras_samples.zip: tiny models as Keras writes them, inputs, and what Keras computes.

usage: python tests/make_keras_samples.py tests/golden/keras_samples.zip   (with TensorFlow and Keras 3 installed)

Per sample NAME.npz (x0, x1 … and y0, y1 …), NAME.keras, and of some NAME.h5.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

FUNCTIONS = [
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "sigmoid", "hard_sigmoid", "silu", "hard_silu", "softplus",
    "softsign", "tanh", "exponential", "softmax", "mish", "log_sigmoid", "squareplus", "celu", "hard_tanh",
    "tanh_shrink", "linear",
]  # fmt: skip
#: Those whose .h5 file is kept too.
BOTH = {"conv2d", "norms", "shared", "several", "nested", "operations", "frozen", "attention", "lstm", "bidirectional"}


def samples():
    """Name → function that makes a model."""
    import keras
    from keras import Input, Model, Sequential, ops

    L = keras.layers

    def chain(shape, *layers):
        return Sequential([Input(shape), *layers])

    def graph(shape, function, **more):
        entry = Input(shape, **more)
        return Model(entry, function(entry))

    def shared():
        entry, twice = Input((8, 8, 2)), L.Conv2D(3, 3, padding="same", name="twice")
        a = L.BatchNormalization()(twice(entry))
        moved = L.Cropping2D(((1, 1), (0, 2)))(L.ZeroPadding2D(((1, 1), (2, 0)))(twice(entry)))
        return Model(entry, L.Add()([a, moved, twice(L.ReLU()(entry))]))

    def several():
        a, b = Input((6, 6, 2), name="left"), Input((6, 6, 2), name="right")
        x = L.Conv2D(4, 3, name="conv")(L.Concatenate(name="both")([a, b]))
        mean, most = L.GlobalAveragePooling2D(name="mean")(x), L.GlobalMaxPooling2D(keepdims=True, name="most")(x)
        return Model([a, b], [mean, most, L.Subtract()([a, b])])

    def nested():
        parts = [Input((6, 6, 3)), L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU()]
        inner, between = Sequential(parts, name="inner"), Input((6, 6, 3))
        middle = Model(between, [inner(between), L.AveragePooling2D(3, 1)(between)], name="middle")
        entry = Input((6, 6, 3))
        p, q = middle(entry)
        r, s = middle(L.ReLU()(entry))
        return Model(entry, [L.Concatenate()([p, q]), L.Maximum()([p, r]), s])

    def operations():
        entry = Input((6, 6, 4))
        x = (entry * 2.0 + 1.0)[:, 1:5, ::2, :]
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        x = ops.transpose(ops.sigmoid(x - mean) / (ops.exp(mean) + 1), (0, 3, 1, 2))
        x = ops.reshape(x, (-1, 4, 12))
        a, b = ops.split(ops.concatenate([x, ops.square(x)], axis=-1), 2, axis=-1)
        rows = ops.maximum(b[:, 0], b[..., -1, :])
        return Model(entry, [ops.clip(a, 0.0, 0.5), rows, ops.stack([b[:, 1], b[:, 2]], axis=1)])

    def frozen():
        def parts(entry):
            x = L.Conv2D(3, 2, name="c2")(L.BatchNormalization(name="b1")(entry))
            return L.BatchNormalization(name="b2")(x)

        inner = graph((5, 5, 2), parts)
        inner.layers[1].trainable = False
        return chain((5, 5, 2), inner, L.Flatten(), L.Dense(3, activation="softmax"))

    def attention():
        entry = Input((6, 8))
        x = L.MultiHeadAttention(2, 4, name="heads")(entry, entry)
        x = L.LayerNormalization()(L.Add()([x, entry]))
        y = L.MultiHeadAttention(1, 3, value_dim=2, use_bias=False)(entry, x, use_causal_mask=True)
        return Model(entry, [x, L.Attention(use_scale=True)([x, entry]), y])

    def more_layers():
        image, steps = Input((8, 9, 4)), Input((6, 4))
        x = L.SpectralNormalization(L.Conv2D(4, 3))(L.CenterCrop(6, 7)(image))
        y = L.RNN(L.LSTMCell(5), return_sequences=True)(steps)
        z = L.RNN(L.GRUCell(3))(y)
        scores = L.AdditiveAttention()([y, L.Dense(5)(steps)])
        pooled = [kind(4)(image) for kind in (L.AdaptiveAveragePooling2D,) if hasattr(L, "AdaptiveAveragePooling2D")]
        return Model(
            [image, steps], [x, y, z, scores, *[L.ReLU()(L.AdaptiveMaxPooling2D((2, 3))(image))][: len(pooled)]]
        )

    def more_operations():
        x = Input((6, 8))
        made = [ops.std(x, axis=1), ops.logsumexp(x, axis=-1), ops.normalize(x, axis=-1), ops.cumsum(x, axis=1),
                ops.roll(x, 2, axis=1), ops.repeat(x, 2, axis=2), ops.take(x, [3, 0, 3], axis=1), ops.glu(x, axis=-1),
                ops.hard_shrink(x, 0.3), ops.soft_shrink(x, 0.3), ops.threshold(x, 0.1, -0.5),
                ops.log2(ops.abs(x) + 1.0), ops.einsum("bij,bkj->bik", x, ops.relu(x)), ops.var(x, axis=2)]  # fmt: skip
        return Model(x, made)

    def merges(i):
        pooled = L.GlobalAveragePooling2D(keepdims=True)(i)
        rows = [L.Reshape((4, 12))(i), L.Reshape((-1, 12))(L.ReLU()(i))]
        average = L.Average()([i, L.ReLU()(i), L.Activation("tanh")(i)])
        return [average, L.Multiply()([i, pooled]), L.Minimum()([i, L.ReLU()(i)]), L.Dot(axes=(2, 2))(rows)]

    def shapes(i):
        idle = L.Dropout(0.5)(L.GaussianNoise(0.1)(L.SpatialDropout2D(0.3)(i)))
        return [
            L.Permute((3, 1, 2))(i), L.Reshape((8, -1))(i), L.RepeatVector(3)(L.Flatten()(i)),
            L.UpSampling2D((2, 3))(i), L.UpSampling2D(2, interpolation="bilinear")(i), L.Resizing(6, 9)(i),
            L.Resizing(3, 8, interpolation="nearest")(i), idle,
        ]  # fmt: skip

    def first(i):
        padded = L.ReLU()(L.ZeroPadding2D(1, data_format="channels_first")(i))
        larger = L.UpSampling2D(2, data_format="channels_first")(i)
        return [
            L.BatchNormalization(axis=1)(padded), L.Flatten(data_format="channels_first")(i),
            L.GlobalAveragePooling2D(data_format="channels_first")(larger),
        ]  # fmt: skip

    def activation_layers(i):
        slope = {"alpha_initializer": "uniform"}
        layers = [
            L.ReLU(3.0), L.ReLU(negative_slope=0.1), L.LeakyReLU(0.2), L.ELU(0.5), L.PReLU(shared_axes=[1, 2], **slope),
            L.PReLU(**slope), L.Softmax(), L.ReLU(threshold=0.3),
        ]  # fmt: skip
        return L.Concatenate()([layer(i) for layer in layers])

    def pools(i):
        layers = [
            L.MaxPooling2D(2), L.AveragePooling2D(3, 2, padding="same"), L.MaxPooling2D((3, 2), 1, padding="same"),
            L.GlobalAveragePooling2D(), L.GlobalMaxPooling2D(),
        ]  # fmt: skip
        return L.Concatenate()([L.Flatten()(layer(i)) for layer in layers])

    return {
        "conv2d": lambda: chain(
            (9, 8, 3), L.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            L.Conv2D(6, (1, 2), groups=2, dilation_rate=(1, 2), use_bias=False), L.Conv2D(2, 1, activation="softmax"),
        ),
        "conv1d": lambda: chain(
            (12, 3), L.ZeroPadding1D(3), L.Conv1D(4, 3, padding="causal", dilation_rate=2),
            L.Conv1D(4, 3, strides=2, padding="same", activation="tanh"), L.DepthwiseConv1D(3), L.MaxPooling1D(2),
            L.SeparableConv1D(3, 2), L.UpSampling1D(2), L.Cropping1D(1), L.ZeroPadding1D((0, 2)),
        ),
        "conv3d": lambda: chain(
            (4, 6, 6, 2), L.Conv3D(3, (2, 3, 3), padding="same", activation="relu"), L.MaxPooling3D((1, 2, 2)),
            L.GlobalAveragePooling3D(),
        ),
        "depthwise": lambda: chain(
            (9, 9, 3), L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, activation="relu6"),
            L.SeparableConv2D(5, 3, padding="same", depth_multiplier=2),
        ),
        "transpose": lambda: chain(
            (4, 5, 3), L.Conv2DTranspose(4, 3, strides=2, padding="same"),
            L.Conv2DTranspose(3, 4, strides=3, activation="sigmoid"),
            L.Conv2DTranspose(2, (3, 2), strides=2, padding="same", output_padding=1),
            L.Conv2DTranspose(2, 1, strides=2),
        ),
        "transpose1d": lambda: chain((5, 3), L.Conv1DTranspose(4, 3, strides=2, padding="same")),
        "dense": lambda: chain(
            (4, 6), L.Dense(5, activation="elu"), L.Flatten(), L.Dense(7, activation="gelu"), L.Dense(3, use_bias=False)
        ),
        "norms": lambda: chain(
            (5, 5, 8), L.BatchNormalization(scale=False), L.LayerNormalization(axis=(1, 2, 3)), L.GroupNormalization(4),
            L.LayerNormalization(center=False), L.UnitNormalization(), L.RMSNormalization(),
        ),
        "norm_axes": lambda: chain(
            (5, 6), L.BatchNormalization(axis=1), L.BatchNormalization(), L.Flatten(), L.BatchNormalization()
        ),
        "activations": lambda: graph((3, 3, 6), lambda i: L.Concatenate()([L.Activation(a)(i) for a in FUNCTIONS])),
        "activation_layers": lambda: graph((4, 4, 6), activation_layers),
        "pools": lambda: graph((7, 7, 3), pools),
        "merges": lambda: graph((4, 4, 3), merges),
        "shapes": lambda: graph((4, 6, 2), shapes),
        "scaling": lambda: chain(
            (5, 5, 3), L.Rescaling(1 / 127.5, offset=-1), L.Rescaling([0.5, 0.2, 0.1]),
            L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 0.5]), L.RandomFlip(), L.Conv2D(2, 3),
        ),
        "channels_first": lambda: graph((3, 8, 8), first),
        "shared": shared, "several": several, "nested": nested, "operations": operations, "frozen": frozen,
        "attention": attention,
        "steps": lambda: chain(
            (4, 6, 6, 2), L.TimeDistributed(L.Conv2D(3, 3, activation="relu")), L.TimeDistributed(L.Flatten()),
            L.TimeDistributed(L.Dense(3)),
        ),
        "einsum": lambda: chain(
            (5, 6), L.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d", activation="relu")
        ),
        "lstm": lambda: chain((6, 4), L.LSTM(5, return_sequences=True), L.LSTM(3, go_backwards=True)),
        "gru": lambda: chain(
            (6, 4), L.GRU(5, return_sequences=True, go_backwards=True), L.GRU(3, reset_after=False)
        ),
        "rnn": lambda: chain((6, 4), L.SimpleRNN(5, return_sequences=True), L.SimpleRNN(3, activation="relu")),
        "bidirectional": lambda: chain(
            (6, 4), L.Bidirectional(L.LSTM(3, return_sequences=True)), L.Bidirectional(L.GRU(2), merge_mode="sum")
        ),
        "more_layers": more_layers,
        "more_operations": more_operations,
        "embedding": lambda: graph(
            (6,), lambda i: L.GlobalAveragePooling1D()(L.Conv1D(3, 2)(L.Embedding(10, 4)(i))), dtype="int32"
        ),
    }  # fmt: skip


def randomize(model, random):
    """Weights unlike those that layers begin with."""
    for variable in model.weights:
        name, shape = variable.path.split("/")[-1], variable.shape
        if "seed" in name or "int" in str(variable.dtype):
            continue
        positive = "variance" in name or name == "gamma"
        variable.assign(random.uniform(0.5, 1.5, shape) if positive else random.normal(0, 0.3, shape))


def without_times(data):
    """A .keras file whose bytes do not depend on when it was made."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name))
    return out.getvalue()


def entry(name):
    made = zipfile.ZipInfo(name)
    made.compress_type = zipfile.ZIP_DEFLATED
    return made


def main():
    import keras

    keras.utils.set_random_seed(7)
    with zipfile.ZipFile(sys.argv[1], "w") as archive, tempfile.TemporaryDirectory() as folder:
        for name, make in samples().items():
            model, random = make(), np.random.RandomState(3)
            randomize(model, random)
            inputs = [
                random.randint(0, 10, (2, *i.shape[1:])).astype(i.dtype)
                if "int" in i.dtype
                else random.uniform(-1, 1, (2, *i.shape[1:])).astype(np.float32)
                for i in model.inputs
            ]
            outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            arrays = {f"x{k}": x for k, x in enumerate(inputs)} | {
                f"y{k}": np.asarray(y) for k, y in enumerate(outputs)
            }
            stream = io.BytesIO()
            np.savez(stream, **arrays)
            archive.writestr(entry(f"{name}.npz"), stream.getvalue())
            for suffix in ("keras", "h5") if name in BOTH else ("keras",):
                path = Path(folder) / f"{name}.{suffix}"
                model.save(path)
                data = path.read_bytes()
                archive.writestr(entry(path.name), without_times(data) if suffix == "keras" else data)


if __name__ == "__main__":
    main()
