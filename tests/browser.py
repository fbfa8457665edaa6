# SPDX-License-Identifier: Apache-2.0
"""Pages in a real browser: Debian's chromium, driven by Playwright, with everything noted that a page must not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
AXE = ROOT / "ui" / "node_modules" / "axe-core" / "axe.min.js"
_SERIOUS = ("serious", "critical")


def chromium_path() -> str:
    """The browser; skips where there is none, fails with ``CI=true``."""
    found = os.environ.get("HEADRACE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "no chromium: install the Debian package, or set HEADRACE_CHROMIUM"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{reason} (CI=true does not allow its absence)")
        pytest.skip(reason)
    return found


@dataclass
class Watched:
    """A page, and what it did that nobody wants.

    Attributes:
        page: Playwright's.
        faults: errors, warnings of the console, and requests to anywhere else than the page's own origin.
    """

    page: Any
    faults: list[str] = field(default_factory=list)

    def axe(self) -> list[str]:
        """Serious faults for people who use no mouse or no screen, as axe-core finds them."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {node['html'][:120]}"
            for rule in found["violations"]
            if rule["impact"] in _SERIOUS
            for node in rule["nodes"]
        ]


@contextmanager
def browser() -> Iterator[Any]:
    """A browser, gone afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Root, as CI runs, has no sandbox of chromium's; the pages are our own.
        started = driver.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(started: Any, address: str, scheme: str = "light", size: tuple[int, int] = (1300, 950)) -> Iterator[Watched]:
    """A page of ``address`` in a window of its own."""
    context = started.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    context.set_default_timeout(30_000)
    page = context.new_page()
    watched = Watched(page)
    origin = address.partition("#")[0] if address.startswith("file:") else "/".join(address.split("/")[:3])

    def request(sent: Any) -> None:
        if not sent.url.startswith((origin, "blob:", "data:")):
            watched.faults.append(f"request: {sent.url}")

    page.on(
        "console", lambda said: said.type in ("error", "warning") and watched.faults.append(f"console: {said.text}")
    )
    page.on("pageerror", lambda error: watched.faults.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (watched.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", request)
    page.goto(address)
    try:
        yield watched
    finally:
        context.close()
