# SPDX-License-Identifier: Apache-2.0
"""Predicted against published frame rates, into docs/results-throughput.md.

    python tools/published_table.py PUBLISHED.csv

The CSV has columns arch, model, input_shape, fps_batch1, fps_batch8. Networks are made from their shapes alone;
predictions are the closed form's with the targets as they are, nothing is fitted here.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from headrace.hn import Layer, Network
from headrace.layers import infer_shape
from headrace.passes import fresh_name
from headrace.passes.base import run_passes
from headrace.passes.decompose_softmax import DecomposeSoftmax
from headrace.passes.fuse_elementwise_add import FuseElementwiseAdd
from headrace.targets import Target, list_targets, load_target
from headrace.timing import Allocation, Flow, allocate, flow_of, limits_of, partition

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results-throughput.md"


class Builder:
    """Adds layers by shape."""

    def __init__(self, name: str) -> None:
        self.net = Network(name)
        self.net.add(
            Layer(f"{name}/input_layer1", "input_layer", [], {"shape": [-1, 224, 224, 3]}, (-1, 224, 224, 3)), {}
        )
        self.last = f"{name}/input_layer1"

    def channels(self, name: str) -> int:
        return self.net[name].output_shape[-1]

    def add(self, kind: str, inputs: list[str], attributes: dict[str, Any]) -> str:
        layer = Layer(fresh_name(self.net, kind), kind, inputs, attributes)
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

    def pool(self, x: str, k: int, stride: int, pad: int = 0) -> str:
        return self.add("maxpool", [x], {"kernel_shape": [k, k], "strides": [stride] * 2, "padding": [pad] * 4})

    def head(self, x: str, dense: bool = True) -> Network:
        x = self.add("global_avgpool", [x], {})
        x = self.add("reshape", [x], {"shape": [self.channels(x)]})
        if dense:
            x = self.add("dense", [x], {"kernel_shape": [self.channels(x), 1000]})
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


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> Network:
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
    return b.head(x)


def squeezenet_v1_1() -> Network:
    b = Builder("squeezenet")
    x = b.pool(b.conv(b.last, 64, 3, 2, 0), 3, 2)
    for i, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        x = b.pool(x, 3, 2) if i in (2, 4) else x
        x = b.conv(x, squeeze, 1)
        x = b.add("concat", [b.conv(x, expand, 1), b.conv(x, expand, 3)], {"axis": 2})
    return b.head(b.conv(x, 1000, 1), dense=False)


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


NETWORKS: dict[str, Callable[[], Network]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2_1.0": lambda: mobilenet_v2(1.0),
    "mobilenet_v2_1.4": lambda: mobilenet_v2(1.4),
    "resnet_v1_34": lambda: resnet((3, 4, 6, 3), False),
    "resnet_v1_50": lambda: resnet((3, 4, 6, 3), True),
    "squeezenet_v1.1": squeezenet_v1_1,
    "inception_v1": inception_v1,
}


def predict(flow: Flow, target: Target, batch: int) -> tuple[float, int]:
    """(frames per second, contexts) of the closed form."""
    found = allocate(flow, target, limits_of(target, flow))
    if isinstance(found, Allocation):
        return target.clock_hz / found.period, 1
    plan = partition(flow, target, batch=batch)
    return (batch * target.clock_hz / plan.cycles, len(plan.contexts)) if plan else (0.0, 0)


def rows_of(published: list[dict[str, str]]) -> list[tuple[str, str, int, int, float, float]]:
    """(model, target, batch, contexts, predicted, published) for every published figure at hand."""
    rows: list[tuple[str, str, int, int, float, float]] = []
    for model, make in NETWORKS.items():
        flow = flow_of(make())
        for arch in list_targets():
            for row in published:
                if (row["model"], row["arch"], row["input_shape"]) != (model, arch, "224x224x3"):
                    continue
                for batch in (1, 8):
                    real = float(row[f"fps_batch{batch}"])
                    fps, contexts = predict(flow, load_target(arch), batch)
                    if real > 0 and fps > 0 and not (contexts == 1 and batch == 8):
                        rows.append((model, arch, batch, contexts, fps, real))
    return rows


def page(rows: list[tuple[str, str, int, int, float, float]]) -> str:
    """The table as Markdown."""
    lines = [
        "# Predicted and published throughput",
        "",
        "Made by `tools/published_table.py`; do not edit. Predictions are the closed form's for 224×224×3 frames, with",
        "the target files as they are; nothing was fitted to make this table (their constants are marked public or",
        "fitted). A pipeline that fits one context has one rate for every batch. With several contexts the closed form",
        "charges the filling of each pipeline, as the event simulation does: it is slower than published at batch 1.",
        "",
        "| network | target | batch | contexts | predicted fps | published fps | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, arch, batch, contexts, fps, real in rows:
        shown = "any" if contexts == 1 else str(batch)
        lines.append(
            f"| {model} | {arch} | {shown} | {contexts} | {fps:,.0f} | {real:,.0f} | {100 * (fps / real - 1):+.0f} % |"
        )
    lines.append("")
    for title, keep in (("one context", lambda c: c == 1), ("several contexts", lambda c: c > 1)):
        errors = [abs(math.log(r[4] / r[5])) for r in rows if keep(r[3])]
        if errors:
            lines.append(
                f"Median absolute error, {title}: {100 * (math.exp(median(errors)) - 1):.0f} % ({len(errors)} figures)."
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/published_table.py PUBLISHED.csv")
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        PAGE.write_text(page(rows_of(list(csv.DictReader(file)))), encoding="utf-8")


if __name__ == "__main__":
    main()
