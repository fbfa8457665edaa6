# SPDX-License-Identifier: Apache-2.0
"""The table of docs/results.md that holds answers of models on the device to the aims of tests/zoo_accuracy.py."""

from __future__ import annotations

from zoo_accuracy import Judged

TITLE = "## Answers on the device"
WORDS = """

What a user gets, from a file's own inputs to its own outputs (`tests/zoo_accuracy.py`), beside the file's own runtime
on the same inputs: LiteRT (XNNPACK, its default; the LSTM's state reset before each digit), onnxruntime, TensorFlow.
Files of codes are taken without data; the others are calibrated on frames that are never judged.

- `autoencoder_int8` has no labelled sounds: the mean squared error of what comes back; **same** is of its codes.
- PSNR is against the pictures that the small ones were made from, clipped to 0 … 1. `…_16bit`: with
  `quantization_param({conv*}, precision_mode=a8_w8_a16)`, 16 bits between the convolutions.
- `keyword_transformer`: each recording shifted by up to 80 ms, at two volumes; the spectrum and its logarithm, in
  front of a start node that is named, run on the host.
- `yolox_nano`, `picodet_s`: `headrace parse`, `optimize`, `compile`, `run` on JPEG files; AP of its `boxes.json`.
"""


def answers_table(rows: dict[str, Judged]) -> list[str]:
    """Lines of Markdown; none where nothing was measured."""
    if not rows:
        return []
    lines = [
        TITLE,
        *WORDS.splitlines(),
        "",
        "| task | judged on | unit | its runtime | device | same, % | aim | met | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        same = "–" if row.same is None else f"{row.same:g}"
        lines.append(
            f"| {row.task} | {row.judged_on} | {row.unit} | {row.own:g} | {row.device:g} | {same} | {row.aim} | "
            f"{'yes' if row.met else '**no**'} | {row.seconds:.0f} |"
        )
    return [*lines, ""]


__all__ = ["answers_table"]
