# SPDX-License-Identifier: Apache-2.0
"""Small detectors whose decoding stands in the file, by the public formulas; weights at random, scores well spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZE = 64
STRIDES = (8, 16, 32)
CLASSES = 5


@dataclass(frozen=True)
class Detector:
    """A model and how its boxes are read.

    Attributes:
        model: an ONNX ModelProto; input ``images`` ``[1, 3, SIZE, SIZE]``.
        boxes, scores: of one frame's outputs, as left, top, right, bottom in pixels ``[n, 4]`` and ``[n, CLASSES]``.
    """

    model: Any
    boxes: Callable[[Sequence[np.ndarray]], np.ndarray]
    scores: Callable[[Sequence[np.ndarray]], np.ndarray]


class Graph:
    """ONNX nodes under construction; tensors are names."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        result = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], result, **attributes))
        return result

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def conv(self, x: str, channels: int, width: int, kernel: int = 1, stride: int = 1, scale: float = 1.0) -> str:
        shape = (width, channels, kernel, kernel)
        w = self.random.normal(0, scale / np.sqrt(np.prod(shape[1:])), shape)
        pads = [kernel // 2] * 4
        return self("Conv", x, self.const(w), self.const(self.random.normal(0, 0.3 * scale, width)),
                    strides=[stride] * 2, pads=pads)  # fmt: skip

    def levels(self) -> list[str]:
        """A feature map of 8 channels for each stride."""
        x = self("Relu", self.conv("images", 3, 8, 3, 4, 1.5))
        found = []
        for _ in STRIDES:
            x = self("Relu", self.conv(x, 8, 8, 3, 2, 1.3))
            found.append(x)
        return found

    def reshape(self, x: str, *shape: int) -> str:
        return self("Reshape", x, self.const(shape, np.int64))

    def slice(self, x: str, first: int, last: int, axis: int) -> str:
        values = ([first], [last], [axis])
        return self("Slice", x, *(self.const(v, np.int64) for v in values))

    def model(self, *outputs: str) -> Any:
        from onnx import TensorProto, helper

        entry = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "detector", [entry], ends, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Cells (x, y) ``[n, 2]`` and strides ``[n, 1]``, level by level."""
    cells = [np.stack(np.meshgrid(np.arange(SIZE // s), np.arange(SIZE // s))[:2], -1).reshape(-1, 2) for s in STRIDES]
    return np.concatenate(cells), np.concatenate([np.full((len(c), 1), s) for c, s in zip(cells, STRIDES, strict=True)])


def corners(boxes: np.ndarray) -> np.ndarray:
    """Centre and size as corners."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


def _joined(g: Graph, levels: Sequence[str], channels: int) -> str:
    return g("Concat", *(g.reshape(x, 1, channels, -1) for x in levels), axis=2)


def yolov8(bins: int = 16, free: bool = False, seed: int = 0) -> Detector:
    """One output ``[1, 4 + classes, n]``: centre, size, scores (v8, 11, 12); ``free``: the 20 best, as v10 and 26."""
    g = Graph(seed)
    maps = g.levels()
    boxes = _joined(g, [g.conv(x, 8, 4 * bins, scale=2.0) for x in maps], 4 * bins)
    scores = g("Sigmoid", _joined(g, [g.conv(x, 8, CLASSES, scale=3.0) for x in maps], CLASSES))
    if bins > 1:
        spread = g("Transpose", g.reshape(boxes, 1, 4, bins, -1), perm=[0, 2, 1, 3])
        weights = g.const(np.arange(bins).reshape(1, bins, 1, 1))
        boxes = g.reshape(g("Conv", g("Softmax", spread, axis=1), weights), 1, 4, -1)
    cells, strides = grid()
    points = g.const((cells + 0.5).T[None])
    low = g("Sub", points, g.slice(boxes, 0, 2, 1))
    high = g("Add", points, g.slice(boxes, 2, 4, 1))
    centre = g("Div", g("Add", low, high), g.const(2.0))
    decoded = g("Concat", centre, g("Sub", high, low), axis=1)
    result = g("Concat", g("Mul", decoded, g.const(strides.T[None])), scores, axis=1)
    if free:
        rows = g("Transpose", result, perm=[0, 2, 1])
        best = g("ReduceMax", g.slice(rows, 4, 4 + CLASSES, 2), axes=[2], keepdims=0)
        g("TopK", best, g.const([20], np.int64), axis=1)
        g.nodes[-1].output.append("numbers")
        index = g("Expand", g("Unsqueeze", "numbers", g.const([2], np.int64)), g.const([1, 20, 4 + CLASSES], np.int64))
        result = g("GatherElements", rows, index, axis=1)
        return Detector(g.model(result), lambda o: corners(o[0][0, :, :4]), lambda o: o[0][0, :, 4:])
    return Detector(g.model(result), lambda o: corners(o[0][0, :4].T), lambda o: o[0][0, 4:].T)


def further(kind: str, selected: bool = False, seed: int = 0) -> Any:
    """A model as YOLOv8's for segmentation (``masks``), poses (``points``) and oriented boxes (``angle``);
    ``selected``: of its boxes it gives those that NonMaxSuppression leaves.
    """
    g = Graph(seed)
    maps, bins = g.levels(), 4
    boxes = _joined(g, [g.conv(x, 8, 4 * bins, scale=2.0) for x in maps], 4 * bins)
    scores = g("Sigmoid", _joined(g, [g.conv(x, 8, CLASSES, scale=3.0) for x in maps], CLASSES))
    width = {"masks": 8, "points": 6, "angle": 1}[kind]
    more = _joined(g, [g.conv(x, 8, width, scale=2.0) for x in maps], width)
    spread = g("Transpose", g.reshape(boxes, 1, 4, bins, -1), perm=[0, 2, 1, 3])
    weights = g.const(np.arange(bins).reshape(1, bins, 1, 1))
    sides = g.reshape(g("Conv", g("Softmax", spread, axis=1), weights), 1, 4, -1)
    cells, strides = grid()
    points, pixels = g.const((cells + 0.5).T[None]), g.const(strides.T[None])
    low, high = g.slice(sides, 0, 2, 1), g.slice(sides, 2, 4, 1)
    outputs = []
    if kind == "angle":
        more = g("Mul", g("Sub", g("Sigmoid", more), g.const(0.25)), g.const(np.pi))
        half = g("Div", g("Sub", high, low), g.const(2.0))
        x, y = g.slice(half, 0, 1, 1), g.slice(half, 1, 2, 1)
        cos, sin = g("Cos", more), g("Sin", more)
        moved = [g("Sub", g("Mul", x, cos), g("Mul", y, sin)), g("Add", g("Mul", x, sin), g("Mul", y, cos))]
        centre = g("Add", g("Concat", *moved, axis=1), points)
        decoded = g("Concat", centre, g("Add", low, high), axis=1)
    else:
        low, high = g("Sub", points, low), g("Add", points, high)
        decoded = g("Concat", g("Div", g("Add", low, high), g.const(2.0)), g("Sub", high, low), axis=1)
    if kind == "points":
        table = g.reshape(more, 1, 2, 3, -1)
        cell = g.const(cells.T[None, None])
        places = g(
            "Mul", g("Add", g("Mul", g.slice(table, 0, 2, 2), g.const(2.0)), cell), g.const(strides.T[None, None])
        )
        more = g.reshape(g("Concat", places, g("Sigmoid", g.slice(table, 2, 3, 2)), axis=2), 1, 6, -1)
    if kind == "masks":
        plane = g.conv(g("Resize", maps[0], "", g.const([1, 1, 2, 2]), mode="nearest"), 8, width)
        outputs = [g("Mul", plane, g("Sigmoid", plane))]
    result = g("Concat", g("Mul", decoded, pixels), scores, more, axis=1)
    if selected:
        rows = g("Transpose", decoded, perm=[0, 2, 1])
        limits = [g.const([n], np.int64) for n in (5,)] + [g.const([t]) for t in (0.5, 1.0)]  # nothing is left
        kept = g("NonMaxSuppression", rows, scores, *limits)
        index = g("Squeeze", g.slice(kept, 2, 3, 1), g.const([1], np.int64))
        result = g("Gather", result, index, axis=2)
    return g.model(result, *outputs)


ANCHORS = np.array([[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 19]], [[16, 90], [56, 98], [37, 32]]])


def yolov5_masks() -> Any:
    """A model as YOLOv5's for segmentation: behind the scores of an anchor stand 8 numbers, as many as prototypes."""
    return yolov5(masks=8).model


def yolov5(squared: bool = True, masks: int = 0, seed: int = 0) -> Detector:
    """One output ``[1, n, 5 + classes]`` (v5, v7), or with exponential sizes (v3)."""
    g, each = Graph(seed), 5 + CLASSES + masks
    parts = []
    maps = g.levels()
    for x, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True):
        side = SIZE // stride
        head = g.reshape(g.conv(x, 8, 3 * each, scale=2.5), 1, 3, each, side, side)
        raw = g("Transpose", head, perm=[0, 1, 3, 4, 2])
        y = g("Sigmoid", raw)
        cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1)[None, None]
        xy, wh = g.slice(y, 0, 2, 4), g.slice(y if squared else raw, 2, 4, 4)
        if squared:
            xy = g("Add", g("Mul", xy, g.const(2.0)), g.const(cells - 0.5))
            wh = g("Pow", g("Mul", wh, g.const(2.0)), g.const(2.0))
        else:
            xy, wh = g("Add", xy, g.const(cells)), g("Exp", wh)
        xy, wh = g("Mul", xy, g.const(float(stride))), g("Mul", wh, g.const(anchors[None, :, None, None]))
        last = [g.slice(y, 4, 5 + CLASSES, 4), *([g.slice(raw, 5 + CLASSES, each, 4)] if masks else [])]
        parts.append(g.reshape(g("Concat", xy, wh, *last, axis=4), 1, 3 * side * side, each))
    planes = []
    if masks:
        plane = g.conv(g("Resize", maps[0], "", g.const([1, 1, 2, 2]), mode="nearest"), 8, masks)
        planes = [g("Mul", plane, g("Sigmoid", plane))]
    result = g("Concat", *parts, axis=1)
    return Detector(
        g.model(result, *planes), lambda o: corners(o[0][0, :, :4]), lambda o: o[0][0, :, 4:5] * o[0][0, :, 5:]
    )


def yolox(decoded: bool, seed: int = 0) -> Detector:
    """One output ``[1, n, 5 + classes]``; without decoding, offsets and logarithms of sizes."""
    g = Graph(seed)
    parts = []
    for x in g.levels():
        boxes, third, scores = g.conv(x, 8, 4), g.conv(x, 8, 1, scale=3.0), g.conv(x, 8, CLASSES, scale=3.0)
        parts.append(g("Concat", boxes, g("Sigmoid", third), g("Sigmoid", scores), axis=1))
    rows = g("Transpose", _joined(g, parts, 5 + CLASSES), perm=[0, 2, 1])
    cells, strides = grid()
    if decoded:
        xy = g("Mul", g("Add", g.slice(rows, 0, 2, 2), g.const(cells[None])), g.const(strides[None]))
        wh = g("Mul", g("Exp", g.slice(rows, 2, 4, 2)), g.const(strides[None]))
        rows = g("Concat", xy, wh, g.slice(rows, 4, 5 + CLASSES, 2), axis=2)

    def boxes_of(outputs: Sequence[np.ndarray]) -> np.ndarray:
        t = outputs[0][0, :, :4]
        return corners(t if decoded else np.concatenate([(t[:, :2] + cells) * strides, np.exp(t[:, 2:]) * strides], 1))

    return Detector(g.model(rows), boxes_of, lambda o: o[0][0, :, 4:5] * o[0][0, :, 5:])


def ssd(softmax: bool = True, seed: int = 0) -> Detector:
    """Outputs boxes ``[1, n, 4]`` (corners, parts of the picture) and scores; with a softmax class 0 is none."""
    g = Graph(seed)
    count, priors, boxes, scores = 2, [], [], []
    for x, stride in zip(g.levels(), STRIDES, strict=True):
        side = SIZE // stride
        cells = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) + 0.5) / side
        sizes = np.array([[2.5, 2.0], [1.5, 3.0]]) * stride / SIZE
        whole = np.concatenate(
            [np.repeat(cells[:, :, None], count, 2), np.broadcast_to(sizes, (side, side, count, 2))], -1
        )
        priors.append(whole.reshape(-1, 4))
        for parts, each in ((boxes, 4), (scores, CLASSES)):
            head = g("Transpose", g.conv(x, 8, count * each, scale=2.0), perm=[0, 2, 3, 1])
            parts.append(g.reshape(head, 1, -1, each))
    table = np.concatenate(priors)[None]
    t = g("Concat", *boxes, axis=1)
    xy = g("Mul", g("Mul", g.slice(t, 0, 2, 2), g.const(0.1)), g.const(table[..., 2:]))
    xy = g("Add", xy, g.const(table[..., :2]))
    wh = g("Mul", g("Exp", g("Mul", g.slice(t, 2, 4, 2), g.const(0.2))), g.const(table[..., 2:]))
    half = g("Div", wh, g.const(2.0))
    decoded = g("Concat", g("Sub", xy, half), g("Add", xy, half), axis=2)
    joined = g("Concat", *scores, axis=1)
    found = g("Softmax", joined, axis=2) if softmax else g("Sigmoid", joined)

    def scores_of(outputs: Sequence[np.ndarray]) -> np.ndarray:
        kept = outputs[1][0].copy()
        kept[:, 0] *= not softmax
        return kept

    return Detector(g.model(decoded, found), lambda o: o[0][0] * SIZE, scores_of)


def fcos(seed: int = 0) -> Detector:
    """Outputs boxes ``[1, n, 4]`` in pixels and scores: the root of class times centreness."""
    g = Graph(seed)
    maps = g.levels()
    sides = _joined(g, [g("Relu", g.conv(x, 8, 4, scale=2.0)) for x in maps], 4)
    third = g("Sigmoid", _joined(g, [g.conv(x, 8, 1, scale=3.0) for x in maps], 1))
    scores = g("Sigmoid", _joined(g, [g.conv(x, 8, CLASSES, scale=3.0) for x in maps], CLASSES))
    cells, strides = grid()
    far = g("Mul", sides, g.const(strides.T[None]))
    points = g.const(((cells + 0.5) * strides).T[None])
    pair = g("Sub", points, g.slice(far, 0, 2, 1)), g("Add", points, g.slice(far, 2, 4, 1))
    boxes = g("Transpose", g("Concat", *pair, axis=1), perm=[0, 2, 1])
    found = g("Transpose", g("Sqrt", g("Mul", scores, third)), perm=[0, 2, 1])
    return Detector(g.model(boxes, found), lambda o: o[0][0], lambda o: o[1][0])


def centernet(seed: int = 0) -> Detector:
    """Outputs centres (probabilities), sizes and offsets, in cells; peaks of the centres are boxes."""
    g = Graph(seed)
    x = g.levels()[0]
    scores, sizes, offsets = g("Sigmoid", g.conv(x, 8, CLASSES, scale=3.0)), g.conv(x, 8, 2), g.conv(x, 8, 2)
    side = SIZE // STRIDES[0]
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)

    def boxes_of(outputs: Sequence[np.ndarray]) -> np.ndarray:
        wh, shift = (o[0].reshape(2, -1).T for o in outputs[1:])
        return corners(np.concatenate([cells + shift, wh], 1) * STRIDES[0])

    def scores_of(outputs: Sequence[np.ndarray]) -> np.ndarray:
        heat = outputs[0][0]
        padded = np.pad(heat, ((0, 0), (1, 1), (1, 1)))
        around = np.max([padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)], 0)
        return np.where(heat >= around, heat, 0).reshape(CLASSES, -1).T

    return Detector(g.model(scores, sizes, offsets), boxes_of, scores_of)


def detr(more: bool = False, seed: int = 0) -> Any:
    """Outputs scores ``[1, 64, CLASSES + 1]``, the last of no class and without softmax, and boxes (centre and size,
    parts of the picture); ``more``: what the layers before hold, too, and a sum of it with what these make.
    """
    g = Graph(seed)
    x = g("Transpose", g.reshape(g.levels()[0], 1, 8, 64), perm=[0, 2, 1])
    first = g("MatMul", x, g.const(g.random.normal(0, 1, (8, 8))))
    x = g("Add", x, g("Relu", first)) if more else g("Relu", first)
    scores = g("MatMul", x, g.const(g.random.normal(0, 0.7, (8, CLASSES + 1))))
    boxes = g("Sigmoid", g("MatMul", x, g.const(g.random.normal(0, 0.5, (8, 4)))))
    return g.model(scores, boxes, *([x] if more else []))


#: Of :func:`chosen`: the file's own limits, and the most candidates of a level.
SCORE, OVERLAP, IN_ALL, PER_LEVEL = 0.4, 0.5, 40, 30


def chosen(distances: bool, resized: bool = False, seed: int = 0) -> Any:
    """As torchvision writes RetinaNet and FCOS (``distances``): of each level the scores over a threshold, of these the
    best, whose boxes alone are decoded, cut at the picture's edges, and suppressed in a branch of an If.

    Outputs boxes ``[n, 4]`` (corners, pixels of the input), scores and classes; ``resized``: the network enlarges its
    input first. A distance has another unit than the level's stride.
    """
    g = Graph(seed)
    frame = SIZE * 3 // 2 if resized else SIZE
    x = g("Resize", "images", "", g.const([1, 1, 1.5, 1.5]), mode="linear") if resized else "images"
    x = g("Relu", g.conv(x, 3, 8, 3, 4, 1.5))
    boxes, scores, classes = [], [], []
    for stride in STRIDES:
        x = g("Relu", g.conv(x, 8, 8, 3, 2, 1.3))
        side, each = frame // stride, 1 if distances else 2
        point = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 1, 2) * stride
        sizes = np.array([[1.25, 1.25]] if distances else [[2.5, 2.0], [1.5, 3.0]]) * stride
        anchors = np.concatenate([point - sizes / 2, point + sizes / 2], -1).reshape(-1, 4)

        def flat(x: str, channels: int, each: int = each, side: int = side) -> str:
            x = g("Transpose", g.reshape(x, 1, each, channels, side, side), perm=[0, 3, 4, 1, 2])
            return g.reshape(x, side * side * each, channels)

        found = g("Sigmoid", flat(g.conv(x, 8, each * CLASSES, scale=2.0), CLASSES))
        learned = g.conv(x, 8, 4 * each, scale=1.5)
        if distances:
            third = g("Sigmoid", flat(g.conv(x, 8, 1, scale=3.0), 1))
            found, learned = g("Sqrt", g("Mul", found, third)), g("Relu", learned)
        learned = flat(learned, 4)
        line = g.reshape(found, -1)
        over = g("Transpose", g("NonZero", g("Greater", line, g.const(SCORE))), perm=[1, 0])
        index = g("Squeeze", over, g.const([1], np.int64))
        counts = g("Concat", g.const([PER_LEVEL], np.int64), g("Shape", index), axis=0)
        best = g("TopK", g("GatherND", line, over), g("ReduceMin", counts, keepdims=1))
        g.nodes[-1].output.append(f"{best}_places")
        index = g("Gather", index, f"{best}_places", axis=0)
        scores.append(best)
        classes.append(g("Mod", index, g.const(CLASSES, np.int64)))
        row = g("Div", index, g.const(CLASSES, np.int64))
        t, a = g("Gather", learned, row, axis=0), g("Gather", g.const(anchors), row, axis=0)
        low, high = g.slice(a, 0, 2, 1), g.slice(a, 2, 4, 1)
        size, centre = g("Sub", high, low), g("Mul", g("Add", low, high), g.const(0.5))
        first, second = g.slice(t, 0, 2, 1), g.slice(t, 2, 4, 1)
        if distances:
            low, high = g("Sub", centre, g("Mul", first, size)), g("Add", centre, g("Mul", second, size))
        else:
            centre = g("Add", centre, g("Mul", g("Div", first, g.const(10.0)), size))
            half = g("Mul", g("Mul", g("Exp", g("Div", second, g.const(5.0))), size), g.const(0.5))
            low, high = g("Sub", centre, half), g("Add", centre, half)
        boxes.append(g("Min", g("Max", g("Concat", low, high, axis=1), g.const(0.0)), g.const(float(frame))))
    table, line, labels = g("Concat", *boxes, axis=0), g("Concat", *scores, axis=0), g("Concat", *classes, axis=0)
    kept = g.slice(_suppressed(g, table, line, labels), 0, IN_ALL, 0)
    table = g("Mul", g("Gather", table, kept, axis=0), g.const(SIZE / frame))
    model = g.model(table, g("Gather", line, kept, axis=0), g("Gather", labels, kept, axis=0))
    model.graph.output[2].type.tensor_type.elem_type = 7  # INT64
    return model


def _suppressed(g: Graph, boxes: str, scores: str, labels: str) -> str:
    """The rows that are left, classes suppressed apart, in the branch of an If that is taken where there are boxes."""
    from onnx import TensorProto, helper

    b = Graph(0)
    moved = b("Unsqueeze", b("Mul", b("Cast", labels, to=1), b.const(1000.0)), b.const([1], np.int64))
    table = b("Unsqueeze", b("Add", boxes, moved), b.const([0], np.int64))
    line = b("Unsqueeze", scores, b.const([0, 1], np.int64))
    rows = b("NonMaxSuppression", table, line, b.const([1 << 40], np.int64), b.const([OVERLAP]))
    rows = b("Squeeze", b.slice(rows, 2, 3, 1), b.const([1], np.int64))
    none = Graph(0)
    branches = {"then_branch": (b, rows), "else_branch": (none, none("Identity", none.const(np.zeros(0), np.int64)))}
    graphs = {
        key: helper.make_graph(
            one.nodes, key, [], [helper.make_tensor_value_info(end, TensorProto.INT64, None)], one.weights
        )
        for key, (one, end) in branches.items()
    }
    for one in graphs.values():  # names of a branch are its own
        for item in (*one.node, *one.initializer):
            item.name = f"{one.name}_{item.name}"
        outer = (boxes, scores, labels)
        for node in one.node:
            node.input[:] = [n if n in outer else f"{one.name}_{n}" for n in node.input]
            node.output[:] = [f"{one.name}_{n}" for n in node.output]
        one.output[0].name = f"{one.name}_{one.output[0].name}"
    there = g("Greater", g("Size", scores), g.const(0, np.int64))
    return g("If", there, **graphs)


def classifier(seed: int = 0) -> Any:
    """A network without a head."""
    g = Graph(seed)
    return g.model(g("Softmax", g.reshape(g("GlobalAveragePool", g.levels()[2]), 1, 8), axis=1))
