# SPDX-License-Identifier: Apache-2.0
"""How large pages are and how fast they answer, in chromium: the profiler's report of made chains and of given HARs.

usage: python bench/pages.py [HAR ...]       prints a table, and writes bench/out/pages.json

- first picture: from opening the file to the tabs being there; graph: to the graph being drawn
- click: from a click on a row to the details of that layer being shown, median of 20
- frame: milliseconds between two pictures while the graph is dragged, median and 95 % of 120 moves
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import numpy as np  # noqa: E402
from common import OUT  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from browser import browser, opened  # noqa: E402
from headrace.profiler import profile  # noqa: E402
from headrace.profiler.page import profile_page, render_html  # noqa: E402
from headrace.runner import ClientRunner  # noqa: E402

MADE = (300, 1000, 3000)
_FRAMES = """() => new Promise((done) => {
  const times = []; let last = performance.now();
  const canvas = document.querySelector('.graph canvas'); const box = canvas.getBoundingClientRect();
  const send = (kind, y) => canvas.dispatchEvent(new PointerEvent(kind, {bubbles: true, pointerId: 1, clientX: box.x + 300, clientY: box.y + y}));
  canvas.setPointerCapture = () => {};
  send('pointerdown', 10); let step = 0;
  const next = (now) => { times.push(now - last); last = now; send('pointermove', 10 + 4 * step);
    if (++step < 120) requestAnimationFrame(next); else { send('pointerup', 10); done(times.slice(5)); } };
  requestAnimationFrame(next);
})"""  # noqa: E501 - one script


def chain(layers: int) -> bytes:
    """Blocks of two convolutions and a sum, with a branch of its own in every fourth."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32), "w")]
    nodes: list[Any] = []
    last = "x"
    for block in range(layers // 3):
        for part, read in ((0, last), (1, f"c{block}_0")):
            nodes.append(
                helper.make_node("Conv", [read, "w"], [f"c{block}_{part}"], f"conv{block}_{part}", pads=[1] * 4)
            )
        nodes.append(helper.make_node("Add", [f"c{block}_1", last], [f"a{block}"], f"add{block}"))
        last = f"a{block}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 16, 16]) for n in ("x", last)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def measured(started: Any, name: str, runner: ClientRunner, folder: Path) -> dict[str, Any]:
    """One page."""
    path = folder / "page.html"
    path.write_bytes(
        render_html(profile_page(runner.archive, profile(runner.archive, runner.target), Path(f"{name}.har")))
    )
    layers = len(runner.get_hn_model().layers)
    begun = time.perf_counter()
    with opened(started, path.as_uri()) as watched:
        page = watched.page
        page.wait_for_selector("[role=tab]")
        first = time.perf_counter() - begun
        page.locator(".graph .state").wait_for(state="detached", timeout=120_000)
        drawn = time.perf_counter() - begun
        frames = sorted(page.evaluate(_FRAMES))
        clicks: list[float] = []
        rows = page.get_by_role("region", name="layers", exact=True).locator("tbody tr")
        for index in range(1, 21):
            row = rows.nth(index % rows.count())
            layer = row.locator("td").first.inner_text()
            row.evaluate("(row) => row.scrollIntoView()")
            start = time.perf_counter()
            row.evaluate("(row) => row.click()")
            page.locator(".details h3", has_text=layer).first.wait_for()
            clicks.append(time.perf_counter() - start)
        assert watched.faults == [], watched.faults
    return {
        "page": name, "layers": layers, "bytes": path.stat().st_size, "first picture, s": round(first, 2),
        "graph, s": round(drawn, 2), "click, ms": round(1000 * statistics.median(clicks), 1),
        "frame, ms": round(statistics.median(frames), 1),
        "frame at 95 %, ms": round(frames[int(0.95 * len(frames))], 1),
    }  # fmt: skip


def main() -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, browser() as started:
        for har in sys.argv[1:]:
            rows.append(measured(started, Path(har).stem, ClientRunner(har=har), Path(folder)))
        for layers in MADE:
            runner = ClientRunner()
            runner.translate_onnx_model(chain(layers), f"chain{layers}")
            rows.append(measured(started, f"chain{layers}", runner, Path(folder)))
    for row in rows:
        print(json.dumps(row))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "pages.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
