# SPDX-License-Identifier: Apache-2.0
"""What a script's ``nms_postprocess`` makes of an archive: boxes as the head was found, or as the line says."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from headrace.hn import Network, nms
from headrace.hn.archive import Archive
from headrace.hn.files import read_bytes
from headrace.hn.nms import NmsConfiguration
from headrace.hn.nms_request import NmsRequest, configured
from headrace.script.plan import ScriptPlan


def take_boxes(
    archive: Archive,
    network: Network,
    planned: Callable[[], ScriptPlan],
    after: NmsRequest | None,
    script: str | os.PathLike[str],
) -> None:
    """Change what makes boxes; an error changes nothing.

    Args:
        archive: changed.
        network: as parsed.
        planned: gives the plan of the script before.
        after: what the script says now; None: nothing.
        script: the new one, path or text: files that it names stand beside it, or where the command runs.

    Raises:
        InputFileError: the configuration's file cannot be read.
        ScriptError, NotBuiltYetError: see :func:`headrace.hn.nms_request.configured`.
    """
    before = planned().boxes if "nms_postprocess" in archive.model_script else None
    if after is not None and after == before and after.path is not None:
        return  # read when the line was new; its file may be gone
    found = archive.nms if before is None else archive.nms_found
    said: NmsConfiguration | None = None
    if after is not None:
        if after.path is not None:
            content = read_bytes(_beside(script, after.path), "NMS configuration", nms.MAX_BYTES)
            after = replace(after, content=content)
        said = configured(after, network, found)
    archive.nms, archive.nms_found = (found, None) if said is None else (said, found)


def _beside(script: str | os.PathLike[str], path: str) -> Path:
    is_file = not isinstance(script, str) or not any(c in script for c in "\n(")
    beside = Path(script).parent / path
    return beside if is_file and beside.exists() else Path(path)
