# SPDX-License-Identifier: Apache-2.0
"""Predicted against published frame rates, into docs/results-throughput.md.

    python tools/published_table.py PUBLISHED.csv

The CSV has columns arch, model, input_shape, fps_batch1, fps_batch8. Networks are made from their shapes alone;
predictions are the closed form's with the targets as they are, nothing is fitted here. A network is partitioned once,
for single frames: of 138 public model scripts eight ask for a batch, so both published rates are most likely those of
one program.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from headrace.hn import Layer, Network, infer_shape
from headrace.layers import InputLayer, read_operation
from headrace.mapping import (
    Allocation,
    ContextPlan,
    Partition,
    StageGraph,
    allocate_one_context,
    cut_into_contexts,
    limits_of,
    stages_of,
)
from headrace.passes import fresh_name
from headrace.passes.decompose_softmax import DecomposeSoftmax
from headrace.passes.fuse_elementwise_add import FuseElementwiseAdd
from headrace.passes.rewriting import run_passes
from headrace.targets import Target, list_targets, load_target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results-throughput.md"


class Builder:
    """Adds layers by shape."""

    def __init__(self, name: str, size: int = 224) -> None:
        self.net = Network(name)
        shape = (-1, size, size, 3)
        self.net.add(Layer(f"{name}/input_layer1", InputLayer(shape=shape), [], shape), {})
        self.last = f"{name}/input_layer1"

    def channels(self, name: str) -> int:
        return self.net[name].output_shape[-1]

    def add(self, kind: str, inputs: list[str], attributes: dict[str, Any]) -> str:
        operation = read_operation(kind, attributes, self.net.name)
        layer = Layer(fresh_name(self.net, operation), operation, inputs)
        self.net.add(layer, {})
        layer.output_shape = infer_shape(self.net, layer)
        return layer.name

    def conv(self, x: str, cout: int, k: int, stride: int = 1, pad: int | None = None, act: str = "relu") -> str:
        p = k // 2 if pad is None else pad
        shape = [k, k, self.channels(x), cout]
        attributes = {"kernel_shape": shape, "strides": [stride] * 2, "padding": [p] * 4, "activation": act}
        return self.add("conv", [x], attributes)

    def depthwise(self, x: str, stride: int) -> str:
        c = self.channels(x)
        attributes = {"kernel_shape": [3, 3, 1, c], "groups": c, "strides": [stride] * 2, "padding": [1] * 4}
        return self.add("dw", [x], attributes | {"activation": "relu6"})

    def grouped(self, x: str, stride: int, width: int) -> str:
        """A 3×3 convolution in groups of ``width`` channels."""
        c = self.channels(x)
        attributes = {"kernel_shape": [3, 3, width, c], "groups": c // width, "strides": [stride] * 2}
        return self.add("conv", [x], attributes | {"padding": [1] * 4, "activation": "relu"})

    def upsample(self, x: str) -> str:
        _, height, width, _ = self.net[x].output_shape
        return self.add("resize_nearest", [x], {"sizes": [2 * height, 2 * width], "scales": [2.0, 2.0]})

    def pool(self, x: str, k: int, stride: int, pad: int = 0) -> str:
        return self.add("maxpool", [x], {"kernel_shape": [k, k], "strides": [stride] * 2, "padding": [pad] * 4})

    def head(self, x: str, classes: int = 1000) -> Network:
        """The end of a classifier; without classes there is no fully connected layer."""
        x = self.add("avgpool", [x], {"kernel_shape": list(self.net[x].output_shape[1:3])})
        x = self.add("reshape", [x], {"shape": [self.channels(x)]})
        if classes:
            x = self.add("dense", [x], {"kernel_shape": [self.channels(x), classes]})
        return self.outputs(x)

    def outputs(self, *tensors: str) -> Network:
        for x in tensors:
            self.add("output_layer", [x], {})
        run_passes(self.net, (DecomposeSoftmax(), FuseElementwiseAdd()))
        return self.net


def mobilenet_v1() -> Network:
    b = Builder("mobilenet_v1")
    x = b.conv(b.last, 32, 3, 2)
    for width, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ):
        x = b.conv(b.depthwise(x, stride), width, 1)
    return b.head(x)


def mobilenet_v2(multiplier: float) -> Network:
    def wide(c: float) -> int:
        value = max(8, int(c * multiplier + 4) // 8 * 8)
        return value if value >= 0.9 * c * multiplier else value + 8

    b = Builder("mobilenet_v2")
    x = b.conv(b.last, wide(32), 3, 2)
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, count, first in rows:
        for i in range(count):
            y = b.conv(x, expand * b.channels(x), 1) if expand > 1 else x
            y = b.conv(b.depthwise(y, first if i == 0 else 1), wide(width), 1, act="linear")
            x = b.add("ew_add", [y, x], {}) if i else y
    return b.head(b.conv(x, max(1280, wide(1280)), 1))


def resnet(blocks: tuple[int, ...], bottleneck: bool, classes: int = 1000) -> Network:
    b = Builder("resnet")
    x = b.pool(b.conv(b.last, 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for i in range(count):
            stride = 2 if stage and not i else 1
            out = width * 4 if bottleneck else width
            skip = x if b.channels(x) == out and stride == 1 else b.conv(x, out, 1, stride, act="linear")
            if bottleneck:
                y = b.conv(b.conv(b.conv(x, width, 1), width, 3, stride), out, 1, act="linear")
            else:
                y = b.conv(b.conv(x, width, 3, stride), out, 3, act="linear")
            x = b.add("ew_add", [y, skip], {"activation": "relu"})
    return b.head(x, classes)


def squeezenet_v1_1() -> Network:
    b = Builder("squeezenet")
    x = b.pool(b.conv(b.last, 64, 3, 2, 0), 3, 2)
    for i, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        x = b.pool(x, 3, 2) if i in (2, 4) else x
        x = b.conv(x, squeeze, 1)
        x = b.add("concat", [b.conv(x, expand, 1), b.conv(x, expand, 3)], {"axis": 2})
    return b.head(b.conv(x, 1000, 1), 0)


INCEPTION = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


def inception_v1() -> Network:
    b = Builder("inception")
    x = b.pool(b.conv(b.last, 64, 7, 2), 3, 2, 1)
    x = b.pool(b.conv(b.conv(x, 64, 1), 192, 3), 3, 2, 1)
    for i, (a, c, d, e, f, g) in enumerate(INCEPTION):
        x = b.pool(x, 3, 2, 1) if i in (2, 7) else x
        parts = [b.conv(x, a, 1), b.conv(b.conv(x, c, 1), d, 3), b.conv(b.conv(x, e, 1), f, 3)]
        x = b.add("concat", [*parts, b.conv(b.pool(x, 3, 1, 1), g, 1)], {"axis": 2})
    return b.head(x)


def regnetx(group: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> Network:
    b = Builder("regnetx")
    x = b.conv(b.last, 32, 3, 2)
    for width, depth in zip(widths, depths, strict=True):
        for i in range(depth):
            stride = 1 if i else 2
            skip = x if i else b.conv(x, width, 1, 2, act="linear")
            y = b.conv(b.grouped(b.conv(x, width, 1), stride, group), width, 1, act="linear")
            x = b.add("ew_add", [y, skip], {"activation": "relu"})
    return b.head(x)


def yolov3(size: int) -> Network:
    b = Builder("yolov3", size)
    x = b.conv(b.last, 32, 3)
    stages: list[str] = []
    for width, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        x = b.conv(x, width, 3, 2)
        for _ in range(count):
            x = b.add("ew_add", [b.conv(b.conv(x, width // 2, 1), width, 3), x], {})
        stages.append(x)
    ends: list[str] = []
    for width, lateral in ((512, ""), (256, stages[-2]), (128, stages[-3])):
        if lateral:
            x = b.add("concat", [b.upsample(b.conv(x, width, 1)), lateral], {"axis": 2})
        for _ in range(2):
            x = b.conv(b.conv(x, width, 1), 2 * width, 3)
        x = b.conv(x, width, 1)
        ends.append(b.conv(b.conv(x, 2 * width, 3), 255, 1, act="linear"))
    return b.outputs(*ends)


def tiny_yolov3() -> Network:
    b = Builder("tiny_yolov3", 416)
    x, middle = b.last, ""
    for width in (16, 32, 64, 128, 256):
        middle = b.conv(x, width, 3)
        x = b.pool(middle, 2, 2)
    x = b.conv(b.conv(b.conv(x, 512, 3), 1024, 3), 256, 1)
    first = b.conv(b.conv(x, 512, 3), 255, 1, act="linear")
    x = b.add("concat", [b.upsample(b.conv(x, 128, 1)), middle], {"axis": 2})
    return b.outputs(first, b.conv(b.conv(x, 256, 3), 255, 1, act="linear"))


NETWORKS: dict[str, Callable[[], Network]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2_1.0": lambda: mobilenet_v2(1.0),
    "mobilenet_v2_1.4": lambda: mobilenet_v2(1.4),
    "person_attr_resnet_v1_18": lambda: resnet((2, 2, 2, 2), False, 35),
    "resnet_v1_34": lambda: resnet((3, 4, 6, 3), False),
    "resnet_v1_50": lambda: resnet((3, 4, 6, 3), True),
    "squeezenet_v1.1": squeezenet_v1_1,
    "inception_v1": inception_v1,
    "regnetx_800mf": lambda: regnetx(16, (64, 128, 288, 672), (1, 3, 7, 5)),
    "regnetx_1.6gf": lambda: regnetx(24, (72, 168, 408, 912), (2, 4, 10, 2)),
    "tiny_yolov3": tiny_yolov3,
    "yolov3_416": lambda: yolov3(416),
    "yolov3": lambda: yolov3(608),
}


Row = tuple[str, str, int, int, float, float, bool]
HEADER = """# Predicted and published throughput

Made by `tools/published_table.py`; do not edit. Predictions are the closed form's with the target files as they are
(their constants are marked public, deduced or fitted). A network is partitioned once, for single frames, and both
rates are of that program. A pipeline that fits one context has one rate for every batch; where the published rates of
batch 1 and 8 are equal too, the row says "any". A star: published in several contexts, predicted in one, or the other
way round.

| network | target | batch | contexts | predicted fps | published fps | error |
|---|---|---|---|---|---|---|
"""


NOTES = """
What is known of the outliers; nothing was fitted to them.

- `hailo15l` (stars): in the published table itself 3 of 60 networks have one rate for both batches there, none above
  0.66 M parameters (`hailo8` 48 of 92, `hailo8l` 26 of 91, `hailo15h` 29 of 95). Hardly anything stays loaded, even
  0.21 M parameters (zero_dce, 75 and 83 fps); no public fact says why. By our rules mobilenet_v1 and squeezenet fit its
  three clusters.
- Large pictures on `hailo8l`: a further frame of a batch takes 12.2 ms for yolov3_416 and 49.2 ms for yolov3 (608×608,
  2.1 times the work); on `hailo8` 8.8 and 12.6 ms. yolov4_leaky (512×512) is alike: 29.2 ms there, 8.1 on `hailo8`.
  Something beyond work and clusters grows with the picture on the smaller device (rows in memory, or tensors that leave
  it); how is not public.
- inception_v1 on `hailo8l`: the published first frame takes 3.2 ms, which is its weights over the link (1.9), a frame
  (0.8) and 0.5 more, one after the other. Ours overlap, as the published rates of resnet_v1_34 demand (6.2 ms for
  6.2 ms of weights).
"""


def predict(flow: StageGraph, target: Target) -> Partition | None:
    """The closed form's contexts for single frames; one context where the network fits."""
    found = allocate_one_context(flow, target, limits_of(target, flow))
    if isinstance(found, Allocation):
        only = ContextPlan(0, len(flow.stages), found, 0, 0, 0, 0, 0)
        return Partition((only,), 1, found.lower_bound, 0, 1, True)
    return cut_into_contexts(flow, target)


def rows_of(published: list[dict[str, str]]) -> list[Row]:
    """(model, target, batch, contexts, predicted, published, contexts agree) for every published figure at hand."""
    rows: list[Row] = []
    for model, make in NETWORKS.items():
        flow = stages_of(make())
        size = "x".join(str(v) for v in (flow.inputs[0].height, flow.inputs[0].width, 3))
        for arch in list_targets():
            target = load_target(arch)
            for row in published:
                real = [float(row[f"fps_batch{b}"] or 0) for b in (1, 8)]
                if (row["model"], row["arch"], row["input_shape"]) != (model, arch, size) or min(real) <= 0:
                    continue
                plan = predict(flow, target)
                if plan is None:
                    continue
                contexts = len(plan.contexts)
                resident = abs(real[1] / real[0] - 1) < 0.03
                for batch, rate in zip((1, 8), real, strict=True):
                    fps = batch * target.clock_hz / plan.cycles_of(batch)
                    if batch == 1 or not (resident and contexts == 1):
                        shown = 0 if resident and contexts == 1 else batch
                        rows.append((model, arch, shown, contexts, fps, rate, resident == (contexts == 1)))
    return rows


def page(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines: list[str] = []
    for model, arch, batch, contexts, fps, real, agree in rows:
        star, error = "" if agree else " *", f"{100 * (fps / real - 1):+.0f} %"
        lines.append(f"| {model} | {arch} | {batch or 'any'} | {contexts}{star} | {fps:,.0f} | {real:,.0f} | {error} |")
    lines.append("")
    kinds: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("one context, predicted and published", lambda r: r[3] == 1 and r[6]),
        ("several contexts, predicted and published, batch 1", lambda r: r[3] > 1 and r[6] and r[2] == 1),
        ("several contexts, predicted and published, batch 8", lambda r: r[3] > 1 and r[6] and r[2] == 8),
        ("contexts not as published (stars)", lambda r: not r[6]),
    )
    for title, keep in kinds:
        errors = [abs(math.log(r[4] / r[5])) for r in rows if keep(r)]
        if errors:
            middle = 100 * (math.exp(median(errors)) - 1)
            lines.append(f"- Median absolute error, {title}: {middle:.0f} % ({len(errors)} figures).")
    return HEADER + "\n".join(lines) + "\n" + NOTES


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/published_table.py PUBLISHED.csv")
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        PAGE.write_text(page(rows_of(list(csv.DictReader(file)))), encoding="utf-8")


if __name__ == "__main__":
    main()
