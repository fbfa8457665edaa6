# SPDX-License-Identifier: Apache-2.0
"""Links between documents lead somewhere, and commands shown in them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def test_commands_shown_in_documents_exist() -> None:
    shown: list[str] = []
    for document in DOCUMENTS:
        shown += re.findall(r"(?m)^\$ (?:\.venv/bin/)?headrace ([a-z-]+)", document.read_text())
    assert len(shown) > 10
    assert set(shown) <= set(COMMANDS)
