# SPDX-License-Identifier: Apache-2.0
"""The profiler's report in a browser: what a person does with it, and what it must not do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import browser, chromium_path, opened
from small_onnx import small_model

pytest.importorskip("playwright", reason="playwright is not installed")
MARKUP = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"


def headrace(*arguments: object, cwd: Path) -> str:
    command = [sys.executable, "-m", "headrace", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    chromium_path()
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of every state, and each state's page."""
    folder = tmp_path_factory.mktemp("pages")
    model = small_model()
    model.graph.node[0].name = MARKUP
    (folder / "small.onnx").write_bytes(model.SerializeToString())
    np.save(folder / "calib.npy", np.random.default_rng(0).normal(0, 1, (16, 16, 16, 3)).astype(np.float32))
    headrace("parse", "small.onnx", "-o", "native.har", cwd=folder)
    headrace(
        "optimize", "native.har", "--calib-set-path", "calib.npy", "--min-snr", "0", "-o", "quantized.har", cwd=folder
    )
    headrace("compile", "quantized.har", "--output-har-path", "compiled.har", cwd=folder)
    for state in ("native", "quantized", "compiled"):
        headrace("profile", f"{state}.har", "-o", f"{state}.html", "--no-browser", cwd=folder)
    return folder


def ready(page: Any) -> None:
    """The graph is drawn."""
    page.wait_for_selector(".graph canvas")
    page.locator(".graph .state").wait_for(state="detached")


@pytest.mark.parametrize(
    ("state", "tabs"),
    [
        ("native", ["Model", "Devices"]),
        ("quantized", ["Model", "Optimization", "Devices"]),
        ("compiled", ["Model", "Optimization", "Compilation and run time"]),
    ],
)
def test_a_state_shows_what_it_has(chromium: Any, made: Path, state: str, tabs: list[str]) -> None:
    with opened(chromium, (made / f"{state}.html").as_uri()) as watched:
        page = watched.page
        ready(page)
        assert page.locator("[role=tab]").all_inner_texts() == tabs
        for tab in tabs:
            page.get_by_role("tab", name=tab).click()
            assert page.locator("[role=tabpanel]:visible").count() == 1
            assert watched.axe() == []
        assert watched.faults == []


def test_a_layer_is_picked_everywhere(chromium: Any, made: Path) -> None:
    data = json.loads(headrace("profile", "compiled.har", "--json", cwd=made))
    layer = next(x for x in data["layers"] if x["name"].endswith("/conv2"))
    with opened(chromium, (made / "compiled.html").as_uri()) as watched:
        page = watched.page
        ready(page)
        details = page.get_by_label("the layer that is picked")
        page.get_by_role("region", name="layers", exact=True).get_by_role("row", name="conv2").first.click()
        assert details.locator("h3").first.inner_text() == "conv2"
        assert f"{layer['schedule']['cycles']:,}" in details.inner_text()
        assert f"{layer['accuracy']['snr_db']:.1f} dB" in details.inner_text()
        # A click on the graph: the picked layer was moved to where it can be seen; elsewhere is nothing.
        details.get_by_role("button", name="conv1").first.click()
        assert details.locator("h3").first.inner_text() == "conv1"
        box = page.locator(".graph canvas").bounding_box()
        page.mouse.click(box["x"] + 3, box["y"] + box["height"] - 3)
        assert "Pick a layer" in details.inner_text()
        assert watched.faults == []


def test_search_keys_and_tables(chromium: Any, made: Path) -> None:
    with opened(chromium, (made / "compiled.html").as_uri(), "dark") as watched:
        page = watched.page
        ready(page)
        search = page.get_by_role("searchbox")
        search.fill("CONV")
        assert page.get_by_role("status").first.inner_text().endswith("found")
        search.press("Enter")
        assert page.get_by_label("the layer that is picked").locator("h3").first.inner_text() == "conv1"
        page.get_by_role("tab", name="Model").focus()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("tab", name="Optimization").get_attribute("aria-selected") == "true"
        assert page.url.endswith("#accuracy")
        table = page.get_by_role("region", name="accuracy of layers")
        table.get_by_role("button", name="layer").click()
        assert table.get_by_role("columnheader", name="layer").get_attribute("aria-sort") == "ascending"
        page.reload()
        assert page.get_by_role("tab", name="Optimization").get_attribute("aria-selected") == "true"
        assert watched.axe() == []
        page.get_by_role("button", name="Light").click()
        assert page.locator("html").get_attribute("data-theme") == "light"
        assert watched.faults == []


def test_names_are_text(chromium: Any, made: Path) -> None:
    """A node of the file is called like markup: it is shown, and it is not run."""
    with opened(chromium, (made / "native.html").as_uri()) as watched:
        page = watched.page
        ready(page)
        assert MARKUP in page.inner_text("body")
        assert page.locator("img").count() == 0
        assert watched.faults == []
    assert "onerror" not in (made / "native.html").read_text().partition("headrace-data")[2][:200]


def test_a_page_asks_nobody(made: Path) -> None:
    """Neither its policy nor its text names a place elsewhere to fetch from."""
    text = (made / "compiled.html").read_text()
    assert "default-src 'none'" in text
    assert text == (made / "compiled.html").read_text()
    for word in ('src="http', 'href="http', "@import", "url(http"):
        assert word not in text
    layers = len(json.loads(headrace("profile", "compiled.har", "--json", cwd=made))["layers"])
    assert len(text.encode()) <= 1_500_000 + 2_000 * layers


def test_the_same_bytes_each_time(made: Path, tmp_path: Path) -> None:
    headrace("profile", made / "compiled.har", "-o", tmp_path / "again.html", "--no-browser", cwd=tmp_path)
    assert (tmp_path / "again.html").read_bytes() == (made / "compiled.html").read_bytes()


def test_two_networks_side_by_side(chromium: Any, made: Path) -> None:
    headrace("compare", "native.har", "compiled.har", "-o", "difference.html", cwd=made)
    found = json.loads(headrace("compare", "native.har", "compiled.har", "--json", cwd=made))
    with opened(chromium, (made / "difference.html").as_uri()) as watched:
        page = watched.page
        rows = page.get_by_role("region", name="networks").get_by_role("row")
        rows.first.wait_for()
        assert rows.count() == 1 + len(found["totals"])
        changes = sum(len(pair["changes"]) for pair in found["changed"])
        assert page.get_by_role("region", name="changes of layers").get_by_role("row").count() == 1 + changes
        assert watched.axe() == []
        assert watched.faults == []
