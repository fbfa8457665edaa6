# SPDX-License-Identifier: Apache-2.0
"""Pages of the user interface (``ui/``) with data in them: one HTML file each, which asks nobody for anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from importlib.resources import files
from typing import Literal

from headrace.errors import Diagnostic, NotBuiltYetError
from headrace.hn.outputs import page_mark
from headrace.reports.record import Report

PageName = Literal["report", "compare"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{mark}
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page needs JavaScript: its tables and graphs are made of the data in it.</noscript>
<div id="page"></div>
<script type="text/plain" id="headrace-data">{data}</script>
<script>{script}</script>
<!-- Third-party parts of the script and their licences:
{licences}
-->
</body>
</html>
"""


def page(name: PageName, title: str, data: Report) -> bytes:
    """A page as one HTML file.

    Names in ``data`` come from model files: they stand in it compressed, as base64, and become text, never markup. The
    page's policy lets only its own script run, and nothing be fetched.

    Args:
        name: which page of the user interface.
        title: as the browser shows it.
        data: what the page shows.

    Returns:
        The file, the same bytes for the same data.

    Raises:
        NotBuiltYetError: ``E-PAGES-MISSING``: this installation has no pages.
    """
    script, style = part(f"{name}.js"), part(f"{name}.css")
    packed = gzip.compress(json.dumps(data.as_dict(), ensure_ascii=False, separators=(",", ":")).encode(), 9, mtime=0)
    return _PAGE.format(
        policy=html.escape(_policy(script), quote=False),
        mark=page_mark(name),
        title=html.escape(title),
        style=style,
        data=base64.b64encode(packed).decode(),
        script=script,
        licences=part("LICENSES.txt").replace("--", "- -"),
    ).encode()


def part(name: str) -> str:
    """A file of the built user interface.

    Raises:
        NotBuiltYetError: ``E-PAGES-MISSING``.
    """
    found = files("headrace.pages").joinpath("bundle", name)
    if not found.is_file():
        rule = "this installation has no pages: they are built where npm's packages can be fetched"
        need = "the user interface, built into headrace/pages/bundle"
        levers = ("python tools/build_ui.py, in a checkout", "--json or a name that ends in .json, .csv or .txt")
        raise NotBuiltYetError(Diagnostic("E-PAGES-MISSING", name, rule, "nothing", need, levers))
    text = found.read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script") if name.endswith(".js") else text


def _policy(script: str) -> str:
    """Nothing but this script, and the worker in it that lays graphs out; elements have styles of their own."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}' blob:; worker-src blob:; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


__all__ = ["PageName", "page", "part"]
