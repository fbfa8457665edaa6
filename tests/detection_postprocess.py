# SPDX-License-Identifier: Apache-2.0
"""A small SSD that ends in ``TFLite_Detection_PostProcess``, as TensorFlow's exporters write it."""

from __future__ import annotations

import numpy as np

from small_tflite import SmallModel

IMAGE, CLASSES = 32, 4
GRIDS = (8, 4)
SIZES = np.array([[0.2, 0.3], [0.4, 0.2], [0.3, 0.35]], np.float32)  # height, width
OPTIONS = {
    "max_detections": 10, "max_classes_per_detection": 1, "detections_per_class": 100, "use_regular_nms": False,
    "nms_score_threshold": 1e-8, "nms_iou_threshold": 0.5, "num_classes": CLASSES,
    "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
}  # fmt: skip


def encoded(options):
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in options.items():
            if isinstance(value, bool):
                builder.Bool(key, value)
            else:
                (builder.Int if isinstance(value, int) else builder.Float)(key, value)
    return bytes(builder.Finish())


def anchors():
    """Centre and size, y first."""
    rows = []
    for level, grid in enumerate(GRIDS):
        for y in range(grid):
            for x in range(grid):
                rows += [[(y + 0.5) / grid, (x + 0.5) / grid, *(size * (1 + level))] for size in SIZES]
    return np.array(rows, np.float32)


def ssd(custom=None, **changes):
    m, rng = SmallModel(), np.random.default_rng(2)

    def conv(x, channels, kernel, stride=1, spread=1.0, **more):
        _, height, width, before = m.tensors[x]["shape"]
        w = rng.normal(0, spread / np.sqrt(before * kernel * kernel), (channels, kernel, kernel, before))
        b = rng.normal(0, 0.3, channels)
        shape = [1, height // stride, width // stride, channels]
        parts = [x, m.constant(w.astype(np.float32)), m.constant(b.astype(np.float32))]
        return m.op("CONV_2D", parts, shape, stride_h=stride, stride_w=stride, padding="SAME", **more)

    x = m.input(1, IMAGE, IMAGE, 3, name="image")
    boxes, scores, anchor = [], [], len(SIZES)
    for stride, grid in zip((4, 2), GRIDS, strict=True):
        x = conv(x, 12, 3, stride, 2.0, activation="RELU6")
        for made, channels, last in ((boxes, 4, [1, 4]), (scores, CLASSES + 1, [CLASSES + 1])):
            y = conv(x, channels * anchor, 1, 1, 2.0)
            shape = [1, grid * grid * anchor, *last]
            made.append(m.op("RESHAPE", [y, m.ints(shape)], shape))
    count = len(anchors())
    code = m.op("CONCATENATION", boxes, [1, count, 1, 4], axis=1)
    code = m.op("SQUEEZE", [code], [1, count, 4], squeeze_dims=[2])
    score = m.op("LOGISTIC", [m.op("CONCATENATION", scores, [1, count, CLASSES + 1], axis=1)], [1, count, CLASSES + 1])
    options = {k: v for k, v in (OPTIONS | changes).items() if v is not None}
    total = max(int(options["max_detections"] * options["max_classes_per_detection"]), 1)
    shapes = {"boxes": [1, total, 4], "classes": [1, total], "scores": [1, total], "count": [1]}
    outputs = [m.tensor(shape, name=name) for name, shape in shapes.items()]
    data = encoded(options) if custom is None else custom
    m.op("CUSTOM:TFLite_Detection_PostProcess", [code, score, m.constant(anchors())], [], outputs=outputs, custom=data)
    return m.bytes(*outputs)
